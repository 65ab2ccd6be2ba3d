"""The settings of a run over features of tiles; a file of them begins with `kind: features`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from saccade.pipeline.config import SplitsConfig
from saccade.pipeline.config_checks import require, require_training


@dataclass(frozen=True, slots=True)
class FeaturesConfig:
    """Where the features lie.

    Attributes:
        folder: that holds `<slide>/features.h5`, `<slide>/embedding/features.h5` or `<slide>.h5`.
    """

    folder: str = "features"


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """What judges a slide by them.

    Attributes:
        head: `spatial_output`, a spatially attentive output layer over the grid of tiles, or
            `abmil`, gated attention over tiles in any place.
        width: channels between features and attention.
        side: tiles across which the convolutions of `spatial_output` reach, odd; 1 judges each
            tile by itself.
    """

    head: Literal["spatial_output", "abmil"] = "spatial_output"
    width: int = 128
    side: int = 3

    def __post_init__(self) -> None:
        require(self.width >= 1, f"model.width must be at least 1, got {self.width}.")
        require(
            self.side >= 1 and self.side % 2 == 1,
            f"model.side must be odd and positive, got {self.side}.",
        )


@dataclass(frozen=True, slots=True)
class BagTrainingConfig:
    """How it is fitted.

    Attributes:
        epochs: passes over the training slides.
        batch: slides a step.
        learning_rate: of AdamW, at its highest.
        schedule: `cosine` falls to zero over the run, `constant` stays.
        warmup_epochs: over which the rate rises from zero.
        weight_decay: of AdamW; norms and biases do not decay.
        clip_norm: bound on the global norm of the gradient; 0 for none.
        class_weights: `balanced` counts each class equally, `none` each slide.
        early_stopping: epochs without a better validation loss before training ends; 0 for never.
        seed: of initialisation and order.
    """

    epochs: int = 50
    batch: int = 1
    learning_rate: float = 2e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: int = 0
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    class_weights: Literal["balanced", "none"] = "balanced"
    early_stopping: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        require_training(self)


@dataclass(frozen=True, slots=True)
class BagsConfig:
    """Everything that a run over features can be told."""

    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    model: HeadConfig = field(default_factory=HeadConfig)
    splits: SplitsConfig = field(default_factory=SplitsConfig)
    training: BagTrainingConfig = field(default_factory=BagTrainingConfig)
