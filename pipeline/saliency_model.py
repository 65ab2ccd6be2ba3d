"""The file of a saliency model: an MSI-Net's weights, and the scale of its views."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

import saccade
from saccade.models.saliency import MSINet
from saccade.models.vgg16 import VGG16_DEPTHS, VGG16_WIDTHS
from saccade.pipeline.errors import ModelFileError
from saccade.pipeline.weights_file import load_network, read_header, write_weights

_FORMAT = "saccade-saliency"
_FORMAT_VERSION = 1
_WANTED = "a saliency model, as `saccade train` writes it with `kind: saliency`"


@dataclass(frozen=True, slots=True)
class SaliencyCard:
    """What a saliency model is, apart from its weights.

    Attributes:
        mpp: micrometres per pixel of the views it looks at; None if it was trained on pictures
            without a scale, such as photographs.
        widths: channels of the blocks of its encoder, as `MSINet` takes them.
        depths: convolutions of each block.
        context_width: channels of the branches that look at the context.
        decoder_widths: channels of the decoder.
        code: version of Saccade that wrote it.
        training: what is worth knowing of the training: epoch, validation metrics, targets.
    """

    mpp: float | None
    widths: tuple[int, ...] = VGG16_WIDTHS
    depths: tuple[int, ...] = VGG16_DEPTHS
    context_width: int = 256
    decoder_widths: tuple[int, ...] = (128, 64, 32)
    code: str = saccade.__version__
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mpp is not None and not 0 < self.mpp < math.inf:
            raise ValueError(f"mpp must be positive and finite, or None; got {self.mpp}.")

    def build(self) -> MSINet:
        """The network, with fresh weights."""
        return MSINet(
            widths=self.widths,
            depths=self.depths,
            context_width=self.context_width,
            decoder_widths=self.decoder_widths,
        )


def save_saliency_model(path: Path, weights: Mapping[str, Tensor], card: SaliencyCard) -> None:
    """Write the model file, `weights` being a state_dict; it appears whole or not at all."""
    header = {"format": _FORMAT, "version": _FORMAT_VERSION, **dataclasses.asdict(card)}
    write_weights(path, weights, header)


def load_saliency_model(path: Path, device: str = "cpu") -> tuple[MSINet, SaliencyCard]:
    """Read a model file; the model is in evaluation mode.

    Raises:
        ModelFileError: if the file is missing, is no saliency model, or is of a newer format.
    """
    card = read_saliency_card(path)
    model = load_network(path, card.build, name="network")
    return model.to(device).eval(), card


def read_saliency_card(path: Path) -> SaliencyCard:
    """Read what a saliency model says of itself.

    Raises:
        ModelFileError: if the file is missing, is no saliency model, or is of a newer format.
    """
    header = read_header(path, kind=_FORMAT, newest=_FORMAT_VERSION, wanted=_WANTED)
    try:
        return SaliencyCard(
            mpp=None if header["mpp"] is None else float(header["mpp"]),
            widths=tuple(map(int, header["widths"])),
            depths=tuple(map(int, header["depths"])),
            context_width=int(header["context_width"]),
            decoder_widths=tuple(map(int, header["decoder_widths"])),
            code=str(header["code"]),
            training=dict(header["training"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{path.name}: its description is incomplete or damaged ({error})."
        ) from error
