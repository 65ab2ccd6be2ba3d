"""The file of a segmentation model: a network's weights, its name, its classes and its scale."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import saccade
from saccade.pipeline.errors import ModelFileError
from saccade.pipeline.segmentation.network import segmentation_network
from saccade.pipeline.weights_file import load_network, read_header, write_weights

_FORMAT = "saccade-segmentation"
_FORMAT_VERSION = 1
_WANTED = "a segmentation model, as `saccade train` writes it with `kind: segmentation`"


@dataclass(frozen=True, slots=True)
class SegmentationCard:
    """What a segmentation model is, apart from its weights.

    Attributes:
        mpp: micrometres per pixel of the tiles it looks at.
        classes: names of what it scores, in their order; the first is the background.
        network: its name, as `segmentation_network` takes it.
        options: of the network.
        tile_px: side of the tiles it was trained on.
        instances: name of the class whose pixels are split into objects; None if none is.
        rim: name of the class of pixels where two objects touch, which is a part of `instances`
            that only keeps them apart; None if there is no such class.
        code: version of Saccade that wrote it.
        training: what is worth knowing of the training: epoch, validation metrics.
    """

    mpp: float
    classes: tuple[str, ...]
    network: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tile_px: int = 256
    instances: str | None = None
    rim: str | None = None
    code: str = saccade.__version__
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.mpp < math.inf:
            raise ValueError(f"mpp must be positive and finite, got {self.mpp}.")
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ValueError(
                f"classes must be two different names or more, the background first; got "
                f"{self.classes}."
            )
        if self.tile_px < 1:
            raise ValueError(f"tile_px must be positive, got {self.tile_px}.")
        for name in ("instances", "rim"):
            if (value := getattr(self, name)) is not None and value not in self.classes[1:]:
                raise ValueError(
                    f"{name} must be a class after the background, one of "
                    f"{', '.join(self.classes[1:])}; got {value}."
                )
        if self.rim is not None and self.instances in (None, self.rim):
            raise ValueError(f"a rim is part of another class of instances; got {self.instances}.")

    @property
    def shown(self) -> tuple[str, ...]:
        """Names of the classes that a map shows: all but the rim, which counts as `instances`."""
        return tuple(name for name in self.classes if name != self.rim)

    def build(self) -> nn.Module:
        """The network, with fresh weights."""
        return segmentation_network(
            self.network, classes=len(self.classes), options=dict(self.options)
        )


def save_segmentation_model(
    path: Path, weights: Mapping[str, Tensor], card: SegmentationCard
) -> None:
    """Write the model file, `weights` being a state_dict; it appears whole or not at all."""
    header = {"format": _FORMAT, "version": _FORMAT_VERSION, **dataclasses.asdict(card)}
    write_weights(path, weights, header)


def load_segmentation_model(path: Path, device: str = "cpu") -> tuple[nn.Module, SegmentationCard]:
    """Read a model file; the network, a `Segmenter`, is in evaluation mode.

    Raises:
        ModelFileError: if the file is missing, is no segmentation model, is of a newer format, or
            needs a library that is not installed.
    """
    card = read_segmentation_card(path)
    try:
        network = load_network(path, card.build, name="network")
    except ImportError as error:
        raise ModelFileError(f"{path.name}: {error}") from error
    return network.to(device).eval(), card


def read_segmentation_card(path: Path) -> SegmentationCard:
    """Read what a segmentation model says of itself.

    Raises:
        ModelFileError: if the file is missing, is no segmentation model, or is of a newer format.
    """
    header = read_header(path, kind=_FORMAT, newest=_FORMAT_VERSION, wanted=_WANTED)
    try:
        return SegmentationCard(
            mpp=float(header["mpp"]),
            classes=tuple(map(str, header["classes"])),
            network=str(header["network"]),
            options=dict(header["options"]),
            tile_px=int(header["tile_px"]),
            instances=None if header["instances"] is None else str(header["instances"]),
            rim=None if header["rim"] is None else str(header["rim"]),
            code=str(header["code"]),
            training=dict(header["training"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{path.name}: its description is incomplete or damaged ({error})."
        ) from error
