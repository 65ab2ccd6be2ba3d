"""The file of a model over features: its weights, its classes, and what features it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

import saccade
from saccade.models.slide_heads import BagHead, GridHead, SlideHead
from saccade.pipeline.bags.config import HeadConfig
from saccade.pipeline.bags.feature_file import TileFeatures
from saccade.pipeline.errors import ConfigError, FeaturesError, ModelFileError
from saccade.pipeline.weights_file import load_network, read_header, write_weights

_FORMAT = "saccade-features"
_FORMAT_VERSION = 1
_WANTED = "a model over features, as `saccade train` writes it with `kind: features`"


@dataclass(frozen=True, slots=True)
class BagCard:
    """What a model over features is, apart from its weights.

    Attributes:
        classes: names, in the order of the outputs.
        features: how many a tile has.
        encoder: what made those that it was trained on; empty if their files did not say.
        model: the head.
        code: version of Saccade that wrote it.
        training: what is worth knowing of the training: epoch, metrics.
    """

    classes: tuple[str, ...]
    features: int
    encoder: str
    model: HeadConfig
    code: str = saccade.__version__
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def build(self) -> SlideHead:
        """The head, with fresh weights."""
        sizes = {
            "features": self.features,
            "classes": len(self.classes),
            "width": self.model.width,
        }
        if self.model.head == "abmil":
            return BagHead(**sizes)
        return GridHead(**sizes, side=self.model.side)

    def check(self, tiles: TileFeatures, name: str) -> None:
        """Refuse features of another kind.

        Raises:
            FeaturesError: if their number, or the encoder that made them, is another.
        """
        found = tiles.features.shape[1]
        if found != self.features:
            raise FeaturesError(
                f"{name}: has {found} features a tile, and the other slides {self.features}; "
                "make the features of all slides with one encoder."
            )
        if self.encoder and tiles.encoder and tiles.encoder != self.encoder:
            raise FeaturesError(
                f"{name}: its features were made by {tiles.encoder}, those of the other slides by "
                f"{self.encoder}; make the features of all slides with one encoder."
            )


def save_bag_model(path: Path, weights: Mapping[str, Tensor], card: BagCard) -> None:
    """Write the model file, `weights` being a state_dict; it appears whole or not at all."""
    header = {"format": _FORMAT, "version": _FORMAT_VERSION, **dataclasses.asdict(card)}
    write_weights(path, weights, header)


def load_bag_model(path: Path, device: str = "cpu") -> tuple[SlideHead, BagCard]:
    """Read a model file; the model is in evaluation mode.

    Raises:
        ModelFileError: if the file is missing, is no model over features, or is of a newer format.
    """
    card = _read_card(path)
    model = load_network(path, card.build, name="head")
    return model.to(device).eval(), card


def _read_card(path: Path) -> BagCard:
    header = read_header(path, kind=_FORMAT, newest=_FORMAT_VERSION, wanted=_WANTED)
    try:
        return BagCard(
            classes=tuple(map(str, header["classes"])),
            features=int(header["features"]),
            encoder=str(header["encoder"]),
            model=HeadConfig(**header["model"]),
            code=str(header["code"]),
            training=dict(header["training"]),
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise ModelFileError(
            f"{path.name}: its description is incomplete or damaged ({error})."
        ) from error
