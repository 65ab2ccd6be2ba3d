"""The settings of a detection run; a file of them begins with `kind: detection`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.config import AugmentConfig
from saccade.pipeline.config_checks import require, require_positive, require_training


@dataclass(frozen=True, slots=True)
class DetectionTilesConfig:
    """The tiles that are learned from.

    Attributes:
        size_px: side of a tile, in its own pixels.
        mpp: micrometres per pixel of a tile.
        per_epoch: tiles drawn for an epoch, from all training slides together.
        uniform: share of them drawn from any pixel whose class is known; the others are dealt to
            the classes, the background being one, each as often as any other.
        least_share: of an object's box that has to lie in a tile for it to count there.
        validation: tiles of each validation slide that are looked at, at most.
    """

    size_px: int = 256
    mpp: float = 0.5
    per_epoch: int = 1000
    uniform: float = 0.25
    least_share: float = 0.3
    validation: int = 64

    def __post_init__(self) -> None:
        require(self.size_px >= 32, f"tiles.size_px must be at least 32, got {self.size_px}.")
        require_positive("tiles.mpp", self.mpp)
        for name in ("per_epoch", "validation"):
            value = getattr(self, name)
            require(value >= 1, f"tiles.{name} must be at least 1, got {value}.")
        for name in ("uniform", "least_share"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"tiles.{name} must be in [0, 1], got {value}.")


@dataclass(frozen=True, slots=True)
class DetectionNetworkConfig:
    """The detector.

    Attributes:
        name: `faster_rcnn:NAME` on a model of timm, `torchvision:NAME`, or `window:NAME`.
        options: of the detector, such as `{sides_px: [12, 24, 48]}`.
        weights: local file to begin from: a detector with the same network, or anything that holds
            the weights of its trunk, such as a segmentation model on the same model of timm.
    """

    name: str = "faster_rcnn:resnet18"
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None


@dataclass(frozen=True, slots=True)
class DetectionTrainingConfig:
    """How the detector is fitted.

    Attributes:
        epochs: of `tiles.per_epoch` tiles each.
        batch: tiles a step.
        optimizer: `adamw`, or `sgd` with a momentum of 0.9.
        learning_rate: at its highest.
        schedule: `cosine` falls to zero over the run, `constant` stays.
        warmup_epochs: over which the rate rises from zero.
        weight_decay: of kernels; norms and biases do not decay.
        finetune: what of the trunk learns: `all`, its `last_block`, or nothing if `frozen`.
        layer_decay: by how much slower each layer of the trunk learns than the one after it; 1 for
            alike.
        clip_norm: bound on the global norm of the gradient; 0 for none.
        near_um: a found centre is right if it lies this near to that of an object: for the F1 of
            the validation tiles.
        early_stopping: epochs without a better AP50 of the validation tiles before training ends; 0
            for never.
        seed: of initialisation, tiles, changes and draws of regions.
        workers: threads that read tiles.
    """

    epochs: int = 50
    batch: int = 4
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: int = 1
    weight_decay: float = 0.01
    finetune: Literal["all", "last_block", "frozen"] = "all"
    layer_decay: float = 1.0
    clip_norm: float = 1.0
    near_um: float = 3.0
    early_stopping: int = 0
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        require_training(self)
        require_positive("training.near_um", self.near_um)
        require(self.workers >= 1, f"training.workers must be at least 1, got {self.workers}.")
        require(
            0 < self.layer_decay <= 1,
            f"training.layer_decay must be in (0, 1], got {self.layer_decay}.",
        )


@dataclass(frozen=True, slots=True)
class DetectionConfig:
    """Everything that a detection run can be told."""

    annotations: AnnotationsConfig = field(default_factory=AnnotationsConfig)
    tiles: DetectionTilesConfig = field(default_factory=DetectionTilesConfig)
    network: DetectionNetworkConfig = field(default_factory=DetectionNetworkConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: DetectionTrainingConfig = field(default_factory=DetectionTrainingConfig)

    @property
    def classes(self) -> tuple[str, ...]:
        """What is found: the classes of the annotations after the background."""
        return self.annotations.classes[1:]
