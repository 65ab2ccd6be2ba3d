"""The detector of a run: its first weights, and what its file says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from saccade.models.detector import Detector
from saccade.pipeline.detection.config import DetectionConfig
from saccade.pipeline.detection.model_file import DetectionCard
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.model_file import load_encoder_weights
from saccade.pipeline.seeds import seed_for


def card_of(config: DetectionConfig, training: Mapping[str, Any] | None = None) -> DetectionCard:
    """What the file of a run's model says."""
    return DetectionCard(
        mpp=config.tiles.mpp,
        classes=config.classes,
        network=config.network.name,
        options=config.network.options,
        tile_px=config.tiles.size_px,
        training=training or {},
    )


def fresh_detector(config: DetectionConfig) -> Detector:
    """The detector with the weights that training begins from.

    Raises:
        ConfigError: if there is no such detector, or the file holds weights of another one.
        ModelFileError: if the file of weights cannot be read.
    """
    torch.manual_seed(seed_for("initialisation", config.training.seed))
    try:
        detector = card_of(config).build()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"network.name {config.network.name}: {error}") from error
    if config.network.weights:
        weights = load_encoder_weights(Path(config.network.weights))
        whole, trunk = (_find(part, weights) for part in (detector, detector.backbone))
        if whole is None and trunk is None:
            raise ConfigError(
                f"network.weights: {config.network.weights} holds neither this detector nor its "
                f"trunk, the first layers of {config.network.name}."
            )
        if whole is not None:
            detector.load_state_dict(whole)
        elif trunk is not None:
            detector.backbone.load_state_dict(trunk)
    return detector


def _find(part: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The weights of a part, wherever among others they are, by their names and shapes.

    timm names the stages of a trunk `stages_0` where the whole model's are `stages.0`.
    """
    own = {name.replace(".", "_"): (name, value.shape) for name, value in part.state_dict().items()}
    there = {name.replace(".", "_"): value for name, value in weights.items()}
    first = next(iter(own))
    for key in there:
        prefix = key.removesuffix(first)
        found = {name: there.get(prefix + flat) for flat, (name, _) in own.items()}
        if key.endswith(first) and all(
            value is not None and value.shape == shape
            for value, (_, shape) in zip(found.values(), own.values(), strict=True)
        ):
            return {name: value for name, value in found.items() if value is not None}
    return None
