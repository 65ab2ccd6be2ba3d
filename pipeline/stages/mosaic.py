"""Maps of single tiles, put together by where the tiles lie into one field.

Each cell of the field gets the mean of the maps' cells that lie over it, by area: exactly a map's
number where a tile lies on the field's grid, and a mean of neighbours where it lies between. Cells
that tiles cover by less than half hold nothing.

Memory is that of the blocks that are begun and not finished: a band of them across the slide, for
tiles that come row by row.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from saccade.tiling.grid import CellGrid

BLOCK = 256
"""Cells: side of a block, and of what is written as one file."""

_NEARLY_NOTHING = 1e-6
_LEAST_COVERED = 0.5  # of a cell, for it to hold a number

Block = tuple[int, int]


Span = tuple[slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Mosaic:
    """Puts maps of square tiles into the arrays of a field.

    Attributes:
        grid: of the field.
        corners_l0: (n, 2) upper-left corners (x, y) of all tiles, in level-0 pixels.
        side_l0: (x, y) level-0 pixels that a tile spans.
        cells: of each channel, the side of its maps' cells by that of the field's. The last row
            and column of a map may reach beyond the tile; what lies there counts for nothing.
        values: (channels, rows, cols) to be filled, in shards of `BLOCK` cells.
        valid: (rows, cols), likewise.
    """

    grid: CellGrid
    corners_l0: NDArray[np.int64]
    side_l0: tuple[float, float]
    cells: Sequence[float]
    values: zarr.Array[Any]
    valid: zarr.Array[Any]
    _left: Counter[Block] = field(init=False, default_factory=Counter)
    _begun: dict[Block, NDArray[np.float32]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for tile in range(len(self.corners_l0)):
            self._left.update(_blocks_of(self._span(tile)))

    def add(self, tile: int, maps: Sequence[NDArray[np.float32]]) -> None:
        """Lay the maps of a tile, (rows, cols) for each channel; each tile has to come once."""
        span = self._span(tile)
        channels = zip(maps, self.cells, strict=True)
        sums = [self._laid(tile, each, cell, span) for each, cell in channels]
        covered = self._laid(tile, np.ones_like(maps[0]), self.cells[0], span)
        self._spread(np.stack([*sums, covered]), span)
        for block in _blocks_of(span):
            self._left[block] -= 1
            if not self._left[block]:
                self._write(block, self._begun.pop(block))

    def _ends(self, tile: int, axis: int) -> tuple[float, float]:
        """Where a tile begins and ends along x or y, in cells of the field."""
        start = float(self.corners_l0[tile, axis]) - self.grid.origin_l0[axis]
        cell = self.grid.cell_l0[axis]
        return start / cell, (start + self.side_l0[axis]) / cell

    def _span(self, tile: int) -> Span:
        """Rows and columns of the field that a tile lies over, at least in part."""
        parts = []
        for axis, most in ((1, self.grid.shape[0]), (0, self.grid.shape[1])):
            start, end = self._ends(tile, axis)
            first = min(max(0, math.floor(start + _NEARLY_NOTHING)), most)
            last = max(first, min(most, math.ceil(end - _NEARLY_NOTHING)))
            parts.append(slice(first, last))
        return parts[0], parts[1]

    def _laid(
        self, tile: int, of: NDArray[np.float32], cell: float, span: Span
    ) -> NDArray[np.float64]:
        """Sums over the field's cells of a map's numbers, by the area that they share."""
        rows, cols = (
            overlaps(range(part.start, part.stop), self._ends(tile, axis), cell, count)
            for part, axis, count in zip(span, (1, 0), of.shape, strict=True)
        )
        sums: NDArray[np.float64] = rows @ of @ cols.T
        return sums

    def _spread(self, sums: NDArray[np.float64], span: Span) -> None:
        """Add to each block what lies in it."""
        for number in _blocks_of(span):
            empty = np.zeros((len(sums), BLOCK, BLOCK), np.float32)
            block = self._begun.setdefault(number, empty)
            (to_rows, rows), (to_cols, cols) = map(_shared, span, number)
            block[:, to_rows, to_cols] += sums[:, rows, cols]

    def _write(self, number: Block, sums: NDArray[np.float32]) -> None:
        covered = sums[-1]
        valid = covered >= _LEAST_COVERED - _NEARLY_NOTHING
        means = np.where(valid, sums[:-1] / np.where(valid, covered, 1), np.nan)
        top, left = number[0] * BLOCK, number[1] * BLOCK
        rows, cols = (
            min(BLOCK, most - start)
            for most, start in zip(self.grid.shape, (top, left), strict=True)
        )
        place = slice(top, top + rows), slice(left, left + cols)
        self.values[:, place[0], place[1]] = means[:, :rows, :cols].astype(np.float32)
        self.valid[place] = valid[:rows, :cols].astype(np.uint8)


def overlaps(
    cells: range, ends: tuple[float, float], cell: float, count: int
) -> NDArray[np.float64]:
    """How much of each of some cells of a line is covered by each of `count` others.

    Args:
        cells: numbers of the cells, each of length 1.
        ends: where the others begin, and where the last of them is cut off.
        cell: length of each of the others.
        count: of the others.

    Returns:
        (cells, count) lengths.

    >>> overlaps(range(0, 3), (0.5, 2.5), cell=1.0, count=2)
    array([[0.5, 0. ],
           [0.5, 0.5],
           [0. , 0.5]])
    """
    edges = np.minimum(ends[0] + np.arange(count + 1) * cell, ends[1])
    first = np.array(cells, np.float64)[:, None]
    shared = np.minimum(first + 1, edges[1:]) - np.maximum(first, edges[:-1])
    positive: NDArray[np.float64] = np.maximum(shared, 0.0)
    return positive


def _blocks_of(span: Span) -> list[Block]:
    rows, cols = (range(part.start // BLOCK, -(-part.stop // BLOCK)) for part in span)
    return list(product(rows, cols))


def _shared(span: slice, block: int) -> tuple[slice, slice]:
    """What a span has in common with a block: its place there, and in the span."""
    start = block * BLOCK
    first, last = max(span.start, start), min(span.stop, start + BLOCK)
    return slice(first - start, last - start), slice(first - span.start, last - span.start)
