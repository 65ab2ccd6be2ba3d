"""The file of a detector: its weights, the scale of its tiles, and the names of what it finds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

import saccade
from saccade.models.detector import Detector
from saccade.pipeline.detection.network import build_detector
from saccade.pipeline.errors import ModelFileError
from saccade.pipeline.weights_file import load_network, read_header, write_weights

_FORMAT = "saccade-detection"
_FORMAT_VERSION = 1
_WANTED = "a detector, as `saccade train` writes it with `kind: detection`"


@dataclass(frozen=True, slots=True)
class DetectionCard:
    """What a detector is, apart from its weights.

    Attributes:
        mpp: micrometres per pixel of the tiles it looks at.
        classes: names of what it finds, in its order; background is none of them.
        network: its name, as `build_detector` takes it.
        options: of the network, plain values.
        tile_px: side of the tiles it was trained on, in pixels.
        code: version of Saccade that wrote it.
        training: what is worth knowing of the training: epoch, validation metrics.
    """

    mpp: float
    classes: tuple[str, ...]
    network: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tile_px: int = 256
    code: str = saccade.__version__
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.mpp < math.inf:
            raise ValueError(f"mpp must be positive and finite, got {self.mpp}.")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes need one name or more, each once; got {self.classes}.")
        if self.tile_px < 1:
            raise ValueError(f"tile_px must be at least 1, got {self.tile_px}.")

    def build(self) -> Detector:
        """The detector, with fresh weights."""
        return build_detector(self.network, classes=len(self.classes), options=self.options)


def save_detection_model(path: Path, weights: Mapping[str, Tensor], card: DetectionCard) -> None:
    """Write the model file, `weights` being a state_dict; it appears whole or not at all."""
    header = {"format": _FORMAT, "version": _FORMAT_VERSION, **dataclasses.asdict(card)}
    write_weights(path, weights, header)


def load_detection_model(path: Path, device: str = "cpu") -> tuple[Detector, DetectionCard]:
    """Read a model file; the detector is in evaluation mode.

    Raises:
        ModelFileError: if the file is missing, is no detector, or is of a newer format.
    """
    card = read_detection_card(path)
    model = load_network(path, card.build, name="network")
    return model.to(device).eval(), card


def read_detection_card(path: Path) -> DetectionCard:
    """Read what a detector says of itself.

    Raises:
        ModelFileError: if the file is missing, is no detector, or is of a newer format.
    """
    header = read_header(path, kind=_FORMAT, newest=_FORMAT_VERSION, wanted=_WANTED)
    try:
        return DetectionCard(
            mpp=float(header["mpp"]),
            classes=tuple(map(str, header["classes"])),
            network=str(header["network"]),
            options=dict(header["options"]),
            tile_px=int(header["tile_px"]),
            code=str(header["code"]),
            training=dict(header["training"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{path.name}: its description is incomplete or damaged ({error})."
        ) from error
