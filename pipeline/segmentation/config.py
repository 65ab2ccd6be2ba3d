"""The settings of a segmentation run; a file of them begins with `kind: segmentation`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.config import AugmentConfig
from saccade.pipeline.config_checks import (
    require,
    require_not_negative,
    require_positive,
    require_training,
)

RIM = "rim"
"""Name of the class of pixels where two objects touch."""


@dataclass(frozen=True, slots=True)
class SegmentationTilesConfig:
    """The tiles that are learned from.

    Attributes:
        size_px: side of a tile, in its own pixels.
        mpp: micrometres per pixel of a tile.
        per_epoch: tiles drawn for an epoch, from all training slides together.
        uniform: share of them drawn from any pixel whose class is known; the others are dealt to
            the classes, each as often as any other.
        validation: tiles of each validation slide that are looked at, at most.
    """

    size_px: int = 256
    mpp: float = 0.5
    per_epoch: int = 1000
    uniform: float = 0.25
    validation: int = 64

    def __post_init__(self) -> None:
        require(self.size_px >= 16, f"tiles.size_px must be at least 16, got {self.size_px}.")
        require_positive("tiles.mpp", self.mpp)
        for name in ("per_epoch", "validation"):
            value = getattr(self, name)
            require(value >= 1, f"tiles.{name} must be at least 1, got {value}.")
        require(0 <= self.uniform <= 1, f"tiles.uniform must be in [0, 1], got {self.uniform}.")


@dataclass(frozen=True, slots=True)
class SegmentationNetworkConfig:
    """The network.

    Attributes:
        name: `fcn8s`, `fcn16s`, `fcn32s`, `fcn:NAME` on a trunk of timm, or `smp:ARCH/ENCODER`.
        options: of the network, such as `{finest: 4}`.
        weights: local file to begin from: a segmentation model with the same network, or weights of
            the trunk alone, as timm and torchvision have them.
    """

    name: str = "fcn:resnet18"
    options: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None

    def __post_init__(self) -> None:
        require(bool(self.name), "network.name is empty; wanted such as fcn:resnet18.")


@dataclass(frozen=True, slots=True)
class ObjectsConfig:
    """What is split into objects.

    Attributes:
        of: the class whose pixels are; with annotations of kind `instances` their class if None,
            and otherwise none.
        rim_um: the network also learns where objects touch: pixels of an object that lie this near
            to another one, in micrometres. They keep objects apart, and count as their class
            otherwise. 0 for no rim.
    """

    of: str | None = None
    rim_um: float = 0.0

    def __post_init__(self) -> None:
        require_not_negative("objects.rim_um", self.rim_um)


@dataclass(frozen=True, slots=True)
class SegmentationTrainingConfig:
    """How the network is fitted.

    Attributes:
        epochs: of `tiles.per_epoch` tiles each.
        batch: tiles a step.
        learning_rate: of AdamW, at its highest.
        schedule: `cosine` falls to zero over the run, `constant` stays.
        warmup_epochs: over which the rate rises from zero.
        weight_decay: of AdamW; norms and biases do not decay.
        finetune: what of the trunk learns: `all`, its `last_block`, or nothing if `frozen`.
        layer_decay: by how much slower each layer of the trunk learns than the one after it; 1 for
            alike.
        clip_norm: bound on the global norm of the gradient; 0 for none.
        class_weights: `balanced` counts each class in the cross entropy by the inverse of its share
            of the known pixels, `none` each pixel alike.
        dice: weight of Dice's loss beside cross entropy; 0 for cross entropy alone.
        early_stopping: epochs without a better validation loss before training ends; 0 for never.
        seed: of initialisation, tiles and changes.
        workers: threads that read tiles.
    """

    epochs: int = 50
    batch: int = 8
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_epochs: int = 1
    weight_decay: float = 0.01
    finetune: Literal["all", "last_block", "frozen"] = "all"
    layer_decay: float = 1.0
    clip_norm: float = 1.0
    class_weights: Literal["balanced", "none"] = "none"
    dice: float = 1.0
    early_stopping: int = 0
    seed: int = 0
    workers: int = 2

    def __post_init__(self) -> None:
        require_training(self)
        require(self.workers >= 1, f"training.workers must be at least 1, got {self.workers}.")
        require_not_negative("training.dice", self.dice)
        require(
            0 < self.layer_decay <= 1,
            f"training.layer_decay must be in (0, 1], got {self.layer_decay}.",
        )


@dataclass(frozen=True, slots=True)
class SegmentationConfig:
    """Everything that a segmentation run can be told."""

    annotations: AnnotationsConfig = field(default_factory=AnnotationsConfig)
    tiles: SegmentationTilesConfig = field(default_factory=SegmentationTilesConfig)
    network: SegmentationNetworkConfig = field(default_factory=SegmentationNetworkConfig)
    objects: ObjectsConfig = field(default_factory=ObjectsConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: SegmentationTrainingConfig = field(default_factory=SegmentationTrainingConfig)

    def __post_init__(self) -> None:
        names, split = self.annotations.classes, self.objects.of
        require(
            split is None or split in names[1:],
            "objects.of must be a class of annotations.classes after the background, one of "
            f"{', '.join(names[1:])}; got {split}.",
        )
        if self.objects.rim_um:
            require(
                self.instances is not None,
                "objects.rim_um says how far objects keep from each other, and objects.of names no "
                "class that is split into objects.",
            )
            require(RIM not in names, f"annotations.classes may not hold {RIM}, which is objects'.")

    @property
    def instances(self) -> str | None:
        """Name of the class that is split into objects."""
        if self.objects.of is None and self.annotations.kind == "instances":
            return self.annotations.classes[1]
        return self.objects.of

    @property
    def classes(self) -> tuple[str, ...]:
        """What the network tells apart: the classes, and the rim behind them if it is learned."""
        return (*self.annotations.classes, *([RIM] if self.objects.rim_um else []))
