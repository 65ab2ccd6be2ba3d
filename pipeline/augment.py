"""Random changes of a slide that leave its label as it is, alike for its view and its tiles.

A slide is shown turned, restained and under another lamp as one piece: attention sees the turned
view, and the encoder sees the tiles as that view would have them. Places stay in the slide's own
frame throughout; only pixels and maps are turned, and turned back.

Stain adds up in optical density (Beer and Lambert), so it is changed there: the density of a pixel
is split into the three stains of Ruifrok and Johnston ("Quantification of histochemical staining by
color deconvolution", Anal. Quant. Cytol. Histol. 23, 2001: haematoxylin, eosin, diaminobenzidine),
each is made stronger or weaker, and they are put together again. Tellez et al. (IEEE Trans. Med.
Imaging 37, 2018) augment like this, but also add to each stain; here nothing is added, so that
white stays white.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as colours

from saccade.pipeline.config import AugmentConfig

_DARKEST = 1 / 255
_STAINS = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density in red, green and blue of haematoxylin, eosin and diaminobenzidine."""

STAINS = torch.nn.functional.normalize(_STAINS.double(), dim=1)
"""The same, each of length one, (stains, channels)."""


def turn(image: Tensor, symmetry: int) -> Tensor:
    """Give an image (..., rows, cols) one of the eight symmetries of the square.

    From 4 on it is mirrored left to right; then it makes `symmetry % 4` quarter turns to the left.
    """
    mirrored = image.flip(-1) if symmetry >= 4 else image
    return _quarter_turns(mirrored, symmetry % 4)


def turn_back(image: Tensor, symmetry: int) -> Tensor:
    """Undo `turn`.

    >>> image = torch.arange(6).view(2, 3)
    >>> all(turn_back(turn(image, each), each).equal(image) for each in range(8))
    True
    """
    back = _quarter_turns(image, -symmetry % 4)
    return back.flip(-1) if symmetry >= 4 else back


def _quarter_turns(image: Tensor, turns: int) -> Tensor:
    # torch copies for none, too, into another order of pixels in memory.
    return torch.rot90(image, turns, (-2, -1)) if turns else image


@dataclass(frozen=True, slots=True)
class Change:
    """How a slide is shown at one step; as it is, if nothing is said.

    Attributes:
        symmetry: 0 to 7, see `turn`.
        stain: (stains,) log of the factor on each stain; None leaves them.
        brightness: factor on all channels.
        saturation: factor on what sets a colour off from grey.
        tile_stain: (tiles, stains) what each tile has of its own beside `stain`; None for nothing.
    """

    symmetry: int = 0
    stain: Tensor | None = None
    brightness: float = 1.0
    saturation: float = 1.0
    tile_stain: Tensor | None = None

    @classmethod
    def draw(cls, config: AugmentConfig, *, tiles: int, generator: torch.Generator) -> Self:
        """Draw a change at random.

        As much is drawn whatever the strengths are, so that one does not shift the others.

        Args:
            config: how strong it is.
            tiles: of the slide, at most.
            generator: on the CPU.
        """
        symmetry = int(torch.randint(8, (), generator=generator))
        stain, (bright, vivid) = (torch.randn(n, generator=generator) for n in (3, 2))
        each = torch.randn(tiles, 3, generator=generator)
        return cls(
            symmetry=symmetry if config.turn else 0,
            stain=config.stain * stain if config.stain else None,
            brightness=float((config.colour * bright).exp()),
            saturation=float((config.colour * vivid).exp()),
            tile_stain=config.tile_stain * each if config.tile_stain else None,
        )

    def of_view(self, view: Tensor) -> Tensor:
        """The colours of a view, bytes (3, rows, cols), that has been turned already."""
        return self._colour(view, self.stain)

    def of_tiles(self, tiles: Tensor) -> Tensor:
        """Turn and colour tiles, bytes (n, 3, side, side), in the order of their draw."""
        gains = self.stain
        if self.tile_stain is not None:
            own = self.tile_stain[: len(tiles)]
            gains = own if gains is None else own + gains
        return self._colour(turn(tiles, self.symmetry), gains)

    def _colour(self, pixels: Tensor, gains: Tensor | None) -> Tensor:
        """Bytes again: what a scanner hands over has no finer grades either."""
        if gains is None and self.brightness == self.saturation == 1:
            return pixels
        light = pixels.float() / 255
        if gains is not None:
            light = restain(light, gains)
        if self.saturation != 1:
            light = colours.adjust_saturation(light, self.saturation)
        if self.brightness != 1:
            light = colours.adjust_brightness(light, self.brightness)
        return (light * 255).round().clamp(0, 255).to(torch.uint8)


UNCHANGED = Change()


def unchanged(slides: Sequence[object]) -> list[Change]:
    """Show each slide as it is."""
    return [UNCHANGED] * len(slides)


def restain(light: Tensor, gains: Tensor) -> Tensor:
    """Make each stain stronger or weaker.

    Args:
        light: (..., 3, rows, cols) in [0, 1].
        gains: (..., stains) log of the factor on each stain.

    Returns:
        Of the shape of `light`, in [0, 1].
    """
    split = torch.linalg.inv(STAINS)
    # Channels to stains, each stain by its factor, and back: one matrix, (..., channels, channels).
    mixed = (split * gains.double().exp()[..., None, :] @ STAINS).to(light)[..., None, None]
    density = light.clamp(min=_DARKEST).log_().neg_()
    changed = torch.zeros_like(density)
    for i in range(3):  # no matrix product: a GPU may do those with fewer digits
        changed.addcmul_(density[..., i : i + 1, :, :], mixed[..., i, :, :, :])
    return changed.neg_().exp_().clamp_(max=1)
