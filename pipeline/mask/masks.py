"""Masks of tiles: read in pieces, run through the encoder, reduced to a number for each place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.models.attention_sampling import AttentionSampling
from saccade.models.residual_attention import watched_masks
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.pieces import in_batches
from saccade.pipeline.reading import SlideRef, TileReader
from saccade.tiling.places import Places


@dataclass(frozen=True, slots=True)
class TileMasks:
    """One tile and what the encoder's masks say of it.

    Attributes:
        number: of the tile among the places.
        pixels: uint8 (side, side, 3).
        maps: for each size of cells, the finest first, (rows, cols): means over the channels, and
            over the masks of this size.
    """

    number: int
    pixels: NDArray[np.uint8]
    maps: Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class MaskMaker:
    """An encoder that is watched.

    Attributes:
        model: the sampler, in evaluation mode.
        cells_px: sides of the masks' cells in pixels of a tile, the finest first.
    """

    model: AttentionSampling
    cells_px: tuple[float, ...]

    @classmethod
    def of(cls, model: AttentionSampling, side_px: int) -> MaskMaker:
        """Find the sizes of an encoder's masks for tiles of this side, from an empty one."""
        maps = _maps_of(model, np.zeros((1, side_px, side_px, 3), np.uint8))
        return cls(model, tuple(cell_of(side_px, each.shape[-1]) for each in maps))

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the sizes."""
        return tuple(f"mask_{cell:g}px" for cell in self.cells_px)

    def along(
        self, slide: SlideRef, places: Places, reader: TileReader, batch: int
    ) -> Iterator[TileMasks]:
        """Tiles and masks, row by row over the slide, the next ones being read meanwhile.

        Raises:
            SlideError: if the tiles cannot be read.
            DivergedError: if a mask is not a number.
        """
        x, y = places.corners_l0.T
        order = np.lexsort((x, y))
        with closing(in_batches(slide, places.corners_l0, order, reader, batch)) as batches:
            for numbers, tiles in batches:
                maps = _maps_of(self.model, tiles)
                for i, (number, pixels) in enumerate(zip(numbers.tolist(), tiles, strict=True)):
                    yield TileMasks(number, pixels, [each[i] for each in maps])


def cell_of(side_px: int, count: int) -> float:
    """Side of a mask's cells in pixels of a tile.

    Networks halve: cells of a tile that they do not divide evenly are a power of two, and the last
    ones reach beyond its edge.

    >>> cell_of(64, 8), cell_of(224, 16), cell_of(100, 13)
    (8.0, 14.0, 8.0)
    """
    return side_px / count if side_px % count == 0 else 2.0 ** round(math.log2(side_px / count))


@torch.inference_mode()
def _maps_of(model: AttentionSampling, tiles: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Masks of tiles (n, side, side, 3), by the size of their cells: (n, rows, cols) each."""
    device = next(model.parameters()).device
    with watched_masks(model.encoder) as masks:
        model.encode(torch.from_numpy(tiles).permute(0, 3, 1, 2)[None].to(device))
    by_size: dict[int, list[Tensor]] = {}
    for mask in masks:
        by_size.setdefault(mask.shape[-1], []).append(mask.float().mean(dim=1))
    finest_first = sorted(by_size.items(), reverse=True)
    maps = [torch.stack(same).mean(dim=0).cpu().numpy() for _, same in finest_first]
    if not all(np.isfinite(each).all() for each in maps):
        raise DivergedError(
            "the masks of the model are not numbers. Its training diverged: train again with a "
            "lower training.learning_rate."
        )
    return maps
