"""The grid that tiles lie on, found again from their corners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.tiling.grid import CellGrid

# Corners are whole pixels, and moved by up to half a pixel of what is read.
_LOOSE_L0 = 1.0
_LOOSE = 0.02  # of a step


@dataclass(frozen=True, slots=True, eq=False)
class GriddedTiles:
    """Tiles on a grid that reaches no further than they do.

    Attributes:
        grid: its cells are as wide as the tiles' steps.
        cells: int64 (tiles, 2), row and column of each.
    """

    grid: CellGrid
    cells: NDArray[np.int64]


def regrid(corners_l0: NDArray[np.integer[Any]], step_l0: float) -> GriddedTiles:
    """Find the grid of tiles side by side.

    The step is found more exactly than it is said: tiles of 128 px at 0.5 um/px span 254.27 pixels
    of a slide of 0.2517 um/px, which files round to 254.

    Args:
        corners_l0: (tiles, 2), upper-left corners (x, y) in level-0 pixels.
        step_l0: from one tile to the next, about.

    Raises:
        ValueError: if there are no tiles, they do not lie on one grid, or two lie on the same cell.

    >>> found = regrid(np.array([[10, 20], [265, 20], [519, 274]]), 254)
    >>> found.cells.tolist()
    [[0, 0], [0, 1], [1, 2]]
    >>> found.grid.shape, [round(each, 6) for each in found.grid.cell_l0]
    ((2, 3), [254.5, 254.0])
    """
    if not len(corners_l0) or not step_l0 > 0:
        raise ValueError(f"wanted tiles and a positive step, got {len(corners_l0)} and {step_l0}.")
    col, x_l0, width = _along(np.asarray(corners_l0[:, 0], np.float64), step_l0, "x")
    row, y_l0, height = _along(np.asarray(corners_l0[:, 1], np.float64), step_l0, "y")
    cells = np.stack([row, col], axis=1)
    if len(np.unique(cells, axis=0)) < len(cells):
        raise ValueError("several tiles lie on the same place of the grid.")
    shape = int(row.max()) + 1, int(col.max()) + 1
    return GriddedTiles(CellGrid(shape, (width, height), (x_l0, y_l0)), cells)


def _along(
    places: NDArray[np.float64], said: float, axis: str
) -> tuple[NDArray[np.int64], float, float]:
    """Number of each place along an axis, where the first lies, and the step."""
    known, which = np.unique(places, return_inverse=True)
    # From one place to the next a step that is a little off does no harm; from end to end it would.
    number = np.concatenate([[0.0], np.cumsum(np.rint(np.diff(known) / said))])
    step, origin = np.polyfit(number, known, 1) if number[-1] else (said, known.mean())
    off = max(np.abs(known - (origin + number * step)).max(), abs(step - said))
    if off > max(_LOOSE_L0, _LOOSE * said):
        raise ValueError(
            f"along {axis}, they lie up to {off:.0f} pixels off a grid of {said:g} pixels a step."
        )
    return number[which].astype(np.int64), float(origin), float(step)
