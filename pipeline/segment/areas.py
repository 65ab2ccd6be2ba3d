"""How much of what was judged is of which class: over all of it, by region, and as a small map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from saccade.pipeline.segment.class_map import BLOCK_PX, ClassMap, Part
from saccade.pipeline.stages.limit import Mask
from saccade.pipeline.stages.region_of_interest import Region, Within
from saccade.pipeline.stages.tile_plan import Window
from saccade.tiling.grid import CellGrid

_MOST_PX = 2048  # side of the small map

ALL = "all"
"""What the whole of what was judged is called, beside the names of regions."""


@dataclass(frozen=True, slots=True, eq=False)
class SmallMap:
    """Mean probabilities of the classes over squares of cells.

    Attributes:
        values: float32 (classes, rows, cols); NaN where nothing counts.
        grid: the squares on level 0: where something was judged, and no more.
        share: float32 (rows, cols), how much of each square counts.
    """

    values: NDArray[np.float32]
    grid: CellGrid
    share: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Areas:
    """What a class map holds.

    Attributes:
        names: of the regions; the first is `ALL`.
        cells: int64 (regions, classes), cells that count.
        small: the map, small enough for a picture.
    """

    names: tuple[str, ...]
    cells: NDArray[np.int64]
    small: SmallMap


class Places:
    """Regions, to ask in which of them something lies.

    Args:
        regions: that somebody outlined.
        grid: the cells of the map.
    """

    def __init__(self, regions: Sequence[Region], grid: CellGrid) -> None:
        self.names = (ALL, *(each.name for each in regions))
        self._masks: list[Mask] = [Within(each.shape, grid) for each in regions]
        self._tree = shapely.STRtree([each.shape for each in regions])
        self._grid = grid

    def masks_at(self, window: Window) -> list[tuple[int, NDArray[np.bool_]]]:
        """Numbers of the regions that a window touches, from 1, and which cells are theirs."""
        box = shapely.transform(shapely.box(*_edges(window)), self._to_l0)
        near = sorted(self._tree.query(box).tolist())
        return [(number + 1, self._masks[number].in_cells(window, 1)) for number in near]

    def counted(self, points: NDArray[np.floating]) -> NDArray[np.int64]:
        """How many of some points (n, 2), (column, row) of the map, lie in each region."""
        counts = np.zeros(len(self.names), np.int64)
        counts[0] = len(points)
        if len(points):
            _, of = self._tree.query(shapely.points(self._to_l0(points)), predicate="within")
            counts[1:] = np.bincount(of, minlength=len(counts) - 1)
        return counts

    def _to_l0(self, cells: NDArray[np.floating]) -> NDArray[np.float64]:
        cell, origin = np.array(self._grid.cell_l0), np.array(self._grid.origin_l0)
        found: NDArray[np.float64] = np.asarray(cells, np.float64) * cell + origin
        return found


def areas_of(of: ClassMap, places: Places) -> Areas:
    """Go through a class map once.

    Memory: a block, and the small map.
    """
    cells = np.zeros((len(places.names), len(of.classes)), np.int64)
    small = _Shrinking(of)
    for window in of.windows():
        part = of.read(window)
        cells[0] += _by_class(part, part.counts, len(of.classes))
        for number, mask in places.masks_at(window):
            cells[number] += _by_class(part, part.counts & mask, len(of.classes))
        small.add(part)
    return Areas(places.names, cells, small.finished())


def _by_class(part: Part, some: NDArray[np.bool_], classes: int) -> NDArray[np.int64]:
    return np.bincount(part.labels[some], minlength=classes)


class _Shrinking:
    """Gathers the small map, block by block."""

    def __init__(self, of: ClassMap) -> None:
        edges = np.array([_edges(window) for window in of.windows()])
        self._left, self._top = edges[:, :2].min(axis=0).tolist()
        width, height = (edges[:, 2:].max(axis=0) - (self._left, self._top)).tolist()
        self._factor = 1
        while max(width, height) > _MOST_PX * self._factor and self._factor < BLOCK_PX:
            self._factor *= 2
        self._shape = -(-height // self._factor), -(-width // self._factor)
        self._sums = np.zeros((len(of.classes), *self._shape), np.float32)
        self._counts = np.zeros(self._shape, np.float32)
        self._grid = of.field.grid

    def add(self, part: Part) -> None:
        """Add a block, which begins at a multiple of the factor."""
        top, left = part.window.top - self._top, part.window.left - self._left
        values = np.where(part.counts, part.shown, 0)
        sums = _summed(np.concatenate([values, part.counts[None]]), self._factor)
        rows, cols = (
            slice(start // self._factor, start // self._factor + length)
            for start, length in zip((top, left), sums.shape[1:], strict=True)
        )
        self._sums[:, rows, cols], self._counts[rows, cols] = sums[:-1], sums[-1]

    def finished(self) -> SmallMap:
        """Means of what was added."""
        with np.errstate(invalid="ignore"):
            values = np.where(self._counts > 0, self._sums / self._counts, np.float32(np.nan))
        (width, height), (x, y) = self._grid.cell_l0, self._grid.origin_l0
        grid = CellGrid(
            self._shape,
            (width * self._factor, height * self._factor),
            (x + width * self._left, y + height * self._top),
        )
        share = (self._counts / self._factor**2).astype(np.float32)
        return SmallMap(values.astype(np.float32), grid, share)


def _summed(values: NDArray[np.floating], factor: int) -> NDArray[np.float32]:
    """Sums over squares; the last ones may reach beyond the values."""
    channels, rows, cols = values.shape
    whole = np.pad(values, ((0, 0), (0, -rows % factor), (0, -cols % factor)))
    squares = whole.reshape(channels, whole.shape[1] // factor, factor, -1, factor)
    sums: NDArray[np.float32] = squares.sum(axis=(2, 4), dtype=np.float64).astype(np.float32)
    return sums


def _edges(window: Window) -> tuple[int, int, int, int]:
    return window.left, window.top, window.right, window.bottom
