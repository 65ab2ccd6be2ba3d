"""Regular grids over a slide, as arithmetic on level-0 coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEARLY_NOTHING = 1e-6
"""Cells. 7680 um / 4 um may come out as 1920.0000000000002; that is no reason for a 1921st."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Square tiles on a regular grid that covers an area of the slide.

    Tile `i` sits at row `i // cols`, column `i % cols`. Tiles may overhang the right and the
    bottom edge of the area, none starts outside it, and every pixel of the area is in at least
    one tile.

    Attributes:
        area_l0: (width, height) to cover, in level-0 pixels.
        side_l0: edge length of a tile, in level-0 pixels.
        step_l0: distance between neighbouring origins, in level-0 pixels; less than `side_l0`
            makes tiles overlap. More would leave gaps, so it is refused.

    Raises:
        ValueError: if a length is not positive, or `step_l0` exceeds `side_l0`.

    >>> grid = TileGrid(area_l0=(1000, 600), side_l0=256, step_l0=256)
    >>> grid.shape, len(grid)
    ((3, 4), 12)
    >>> grid.origins_l0[5]
    array([256, 256])
    """

    area_l0: tuple[int, int]
    side_l0: int
    step_l0: int

    def __post_init__(self) -> None:
        if min(*self.area_l0, self.side_l0, self.step_l0) <= 0:
            raise ValueError(f"lengths must be positive, got {self}.")
        if self.step_l0 > self.side_l0:
            raise ValueError(
                f"step_l0={self.step_l0} is longer than side_l0={self.side_l0}; "
                "tiles would leave gaps between them."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols): the fewest tiles that reach the far edges."""
        width, height = self.area_l0
        return self._count(height), self._count(width)

    def _count(self, length_l0: int) -> int:
        return 1 + max(0, -(-(length_l0 - self.side_l0) // self.step_l0))

    def __len__(self) -> int:
        rows, cols = self.shape
        return rows * cols

    @property
    def origins_l0(self) -> NDArray[np.int64]:
        """Upper-left corners (x, y) of all tiles, row by row; shape (tiles, 2)."""
        row, col = np.divmod(np.arange(len(self), dtype=np.int64), self.shape[1])
        return np.stack([col, row], axis=1) * self.step_l0


@dataclass(frozen=True, slots=True)
class CellGrid:
    """Rectangular cells side by side: the pixels of a view, or of a map made from it.

    Cell `i` sits at row `i // cols`, column `i % cols`. Cells need not be whole numbers of
    level-0 pixels, and the last row and column may reach beyond the slide.

    Attributes:
        shape: (rows, cols).
        cell_l0: (x, y) level-0 pixels that one cell spans.
        origin_l0: (x, y) of the upper-left corner of cell 0.

    Raises:
        ValueError: if a length is not positive and finite, or the origin is not finite.

    >>> grid = CellGrid(shape=(2, 3), cell_l0=(16.0, 8.0))
    >>> grid.centres_l0(np.array([0, 5]))
    array([[ 8.,  4.],
           [40., 12.]])
    """

    shape: tuple[int, int]
    cell_l0: tuple[float, float]
    origin_l0: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or not all(0 < side < math.inf for side in self.cell_l0):
            raise ValueError(f"rows, cols and cell sides must be positive and finite, got {self}.")
        if not all(map(math.isfinite, self.origin_l0)):
            raise ValueError(f"the origin must be finite, got {self}.")

    @classmethod
    def covering(cls, size_l0: tuple[int, int], cell_l0: tuple[float, float]) -> CellGrid:
        """Return the fewest cells from the origin that cover (width, height) of a slide."""
        cols, rows = (
            max(1, math.ceil(length / side - _NEARLY_NOTHING))
            for length, side in zip(size_l0, cell_l0, strict=True)
        )
        return cls(shape=(rows, cols), cell_l0=cell_l0)

    def __len__(self) -> int:
        rows, cols = self.shape
        return rows * cols

    @property
    def affine_l0(self) -> NDArray[np.float64]:
        """Matrix (2, 3) that takes (column, row, 1) to level-0 (x, y).

        Whole numbers are corners of cells: the centre of cell (row, col) is (col + .5, row + .5).
        """
        (width, height), (x, y) = self.cell_l0, self.origin_l0
        return np.array([[width, 0, x], [0, height, y]], np.float64)

    def centres_l0(self, index: NDArray[np.integer]) -> NDArray[np.float64]:
        """Centres (x, y) of cells in level-0 pixels, shape (n, 2).

        Args:
            index: (n,) numbers of cells, row by row.

        Raises:
            IndexError: if the grid has no such cell.
        """
        if np.size(index) and not 0 <= np.min(index) <= np.max(index) < len(self):
            raise IndexError(f"the grid has cells 0 to {len(self) - 1}, got {index}.")
        row, col = np.divmod(np.asarray(index, np.int64), self.shape[1])
        middle = np.stack([col, row], axis=1) + 0.5
        centres: NDArray[np.float64] = middle * np.array(self.cell_l0) + np.array(self.origin_l0)
        return centres
