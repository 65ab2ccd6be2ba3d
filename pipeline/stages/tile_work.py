"""What the passes of a stage do with a batch of tiles, in whichever process.

The numbers of a core are written where they belong, one file for each core; what the stage wants to
know of the whole view is handed back, a statistic for each tile.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

from saccade.pipeline.stages.ahead import Batch
from saccade.pipeline.stages.field import Field, create_field
from saccade.pipeline.stages.limit import Limit
from saccade.pipeline.stages.scene import Pixels
from saccade.pipeline.stages.stage import Stage
from saccade.pipeline.stages.statistics import Vector
from saccade.pipeline.stages.tile_plan import Tile

Pass = Literal["survey", "decode"]
Entry = tuple[int, Vector]
"""Number of a tile that is done, and its statistic."""

VALUES = "values.zarr"


class TileWork:
    """The work of one run.

    Args:
        stage: the network.
        device: that it is on.
        limit: where to work; everywhere if None.
        folder: in which `create_values` made the arrays.
    """

    def __init__(self, stage: Stage, device: str, limit: Limit | None, folder: Path) -> None:
        self._stage, self._device, self._limit = stage, device, limit
        values = zarr.open_group(folder / VALUES, mode="r+")["0"]
        assert isinstance(values, zarr.Array)
        self.values = values

    def encode(self, pixels: Pixels) -> Tensor:
        """Features of the pixels (tiles, rows, cols, channels) of a batch."""
        tiles = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return self._stage.encode(tiles.to(self._device))

    def do(self, of: Pass, batch: Batch, features: Tensor, survey: Vector | None) -> list[Entry]:
        """Do what a pass does with a batch.

        Args:
            of: the pass.
            batch: the tiles.
            features: what `encode` gave.
            survey: the statistic of the whole view, for the second pass.
        """
        if of == "survey":
            return list(self._survey(batch, features))
        return list(self._decode(batch, features, survey))

    def _survey(self, batch: Batch, features: Tensor) -> Iterable[Entry]:
        """The statistic of the features of each tile."""
        kind = self._stage.survey
        assert kind is not None
        for tile, each in zip(batch, features, strict=True):
            yield tile.number, kind.of(self._core(each, tile, self._stage.spec.stride)).vector

    def _decode(self, batch: Batch, features: Tensor, survey: Vector | None) -> Iterable[Entry]:
        """Write the output of each tile; its statistic."""
        kind, closing = self._stage.survey, self._stage.closing
        known = None if kind is None or survey is None else kind.from_vector(survey)
        for tile, each in zip(batch, self._stage.decode(features, known), strict=True):
            found = self._write(each, tile)
            yield tile.number, np.empty(0) if closing is None else closing.of(found).vector

    def _core(self, values: Tensor, tile: Tile, cell_px: int) -> NDArray[Any]:
        """(channels, cells) of a tile's core that are wanted, of values in cells of that size."""
        inside = self._cut(values, tile, cell_px)
        if self._limit is None:
            return inside.reshape(len(inside), -1)
        return inside[:, self._limit.in_cells(tile.core, cell_px)]

    @staticmethod
    def _cut(values: Tensor, tile: Tile, cell_px: int) -> NDArray[Any]:
        """(channels, rows, cols) of a tile's core."""
        rows, cols = tile.core.seen_from(tile.read).in_cells(cell_px).slices
        return values[:, rows, cols].cpu().numpy()

    def _write(self, values: Tensor, tile: Tile) -> NDArray[Any]:
        """Write a core; (channels, cells) that are wanted of it."""
        cell_px = self._stage.spec.cell_px
        inside = self._cut(values, tile, cell_px).astype(self._stage.spec.dtype)
        if self._limit is not None:
            inside[:, ~self._limit.in_cells(tile.core, cell_px)] = np.nan
        rows, cols = tile.core.in_cells(cell_px).slices
        self.values[:, rows, cols] = inside
        return self._core(values, tile, cell_px)


def create_values(folder: Path, like: Field, stage: Stage, tile_px: int) -> None:
    """Make the array of the output, not normalised, one shard a core.

    So each shard is written once, whole, by its tile alone.
    """
    spec = stage.spec
    create_field(folder / VALUES, like, spec.dtype, shard_px=tile_px // spec.cell_px)
