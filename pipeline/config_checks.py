"""What settings may be: each check raises a `ConfigError` that names the key."""

from __future__ import annotations

import math
from typing import Any

from saccade.pipeline.errors import ConfigError


def require(holds: bool, message: str) -> None:
    """Refuse what does not hold."""
    if not holds:
        raise ConfigError(message)


def require_positive(name: str, value: float) -> None:
    """Refuse zero, what is below, and what is no finite number."""
    require(0 < value < math.inf, f"{name} must be positive and finite, got {value}.")


def require_not_negative(name: str, value: float) -> None:
    """Refuse what is below zero, and what is no finite number."""
    require(0 <= value < math.inf, f"{name} must be finite and not negative, got {value}.")


def require_training(settings: Any) -> None:
    """What holds of the section `training` of every kind of run that takes one slide at a time."""
    for name in ("epochs", "batch"):
        value = getattr(settings, name)
        require(value >= 1, f"training.{name} must be at least 1, got {value}.")
    require_positive("training.learning_rate", settings.learning_rate)
    for name in ("warmup_epochs", "weight_decay", "clip_norm", "early_stopping"):
        require_not_negative(f"training.{name}", getattr(settings, name))
