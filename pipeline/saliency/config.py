"""The settings of a saliency run; a file of them begins with `kind: saliency`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from saccade.pipeline.config import PyramidConfig, ViewConfig
from saccade.pipeline.config_checks import require, require_not_negative, require_training


@dataclass(frozen=True, slots=True)
class TargetsConfig:
    """What the maps have to look like.

    Attributes:
        kind: `fixations`, points where people looked; `density`, images of such maps;
            `annotations`, outlines in GeoJSON; `attention`, that of a trained model.
        folder: that holds `<slide>.csv`, an image `<slide>.png`, `.tif` or `.tiff`, or
            `<slide>.geojson`; not asked for `attention`.
        blur_um: standard deviation of the Gaussian that points and outlines are blurred by. For
            points it is how far from where somebody looked they may have seen.
        teacher: model.safetensors of `saccade train` whose attention is to be learned.
    """

    kind: Literal["fixations", "density", "annotations", "attention"] = "fixations"
    folder: str = "targets"
    blur_um: float = 200.0
    teacher: str | None = None

    def __post_init__(self) -> None:
        require_not_negative("targets.blur_um", self.blur_um)
        require(
            (self.teacher is not None) == (self.kind == "attention"),
            "targets.teacher, a model.safetensors, goes with targets.kind attention and with no "
            f"other; got kind {self.kind} and teacher {self.teacher}.",
        )


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The MSI-Net.

    Attributes:
        width: channels of the first block; the others are as many times wider as the paper's. 64
            is the paper's.
        convolutions: of each block of the encoder, at most; 3 is the paper's, a VGG16.
        vgg16: file of a VGG16's weights, of torchvision or timm, to begin from.
        weights: a saliency model to begin from, of the same width and convolutions.
    """

    width: int = 64
    convolutions: int = 3
    vgg16: str | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        require(
            self.width >= 2 and self.width % 2 == 0,
            f"network.width must be even and positive, got {self.width}.",
        )
        require(
            1 <= self.convolutions <= 3,
            f"network.convolutions must be 1, 2 or 3, got {self.convolutions}.",
        )
        require(
            not (self.vgg16 and self.weights),
            "network.vgg16 and network.weights exclude each other; choose one.",
        )
        require(
            not self.vgg16 or (self.width, self.convolutions) == (64, 3),
            "network.vgg16 fits a network of width 64 with 3 convolutions only; got width "
            f"{self.width} with {self.convolutions}.",
        )


@dataclass(frozen=True, slots=True)
class SaliencyTrainingConfig:
    """How the network is fitted.

    Attributes:
        epochs: passes over the training slides.
        batch: slides a step.
        learning_rate: of AdamW, at its highest. The paper's is 1e-5, from a trained VGG16.
        schedule: `cosine` falls to zero over the run, `constant` stays.
        warmup_epochs: over which the rate rises from zero.
        weight_decay: of AdamW; biases do not decay.
        clip_norm: bound on the global norm of the gradient; 0 for none.
        turn: how a training slide may be shown: `all` eight symmetries of the square, `mirror` left
            to right, as photographs, or `none`.
        early_stopping: epochs without a better validation loss before training ends; 0 for never.
        seed: of initialisation, order and turns.
    """

    epochs: int = 20
    batch: int = 1
    learning_rate: float = 1e-5
    schedule: Literal["cosine", "constant"] = "constant"
    warmup_epochs: int = 0
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    turn: Literal["all", "mirror", "none"] = "all"
    early_stopping: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        require_training(self)


@dataclass(frozen=True, slots=True)
class SaliencyConfig:
    """Everything that a saliency run can be told."""

    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    view: ViewConfig = field(default_factory=ViewConfig)
    targets: TargetsConfig = field(default_factory=TargetsConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: SaliencyTrainingConfig = field(default_factory=SaliencyTrainingConfig)
