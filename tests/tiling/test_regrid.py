"""The grid of tiles, found again from corners that were rounded."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.tiling.regrid import regrid


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    step=st.floats(20, 2000),
    origin=st.tuples(st.floats(-50, 5000), st.floats(-50, 5000)),
    seed=st.integers(0, 99),
)
def test_rounded_corners_give_their_rows_and_columns_back(
    shape: tuple[int, int], step: float, origin: tuple[float, float], seed: int
) -> None:
    """Tiles here and there over a large grid, of a step that files round to whole pixels."""
    dice = np.random.default_rng(seed)
    cells = np.unique(dice.integers(0, shape, (60, 2)), axis=0)
    cells -= cells.min(axis=0)
    dice.shuffle(cells)
    corners = np.rint(cells[:, ::-1] * step + np.array(origin)).astype(np.int64)

    found = regrid(corners, round(step))

    assert np.array_equal(found.cells, cells)
    assert found.grid.shape == tuple(cells.max(axis=0) + 1)
    row, col = found.cells.T
    centres = found.grid.centres_l0(row * found.grid.shape[1] + col)
    corner = centres - np.array(found.grid.cell_l0) / 2
    assert np.abs(corner - corners).max() <= 1


@pytest.mark.parametrize(
    ("corners", "step", "message"),
    [
        ([[0, 0], [100, 0], [250, 0]], 100, "along x, they lie up to"),
        ([[0, 0], [0, 100], [0, 100 + 37]], 100, "along y, they lie up to"),
        ([[0, 0], [140, 0]], 100, "along x, they lie up to 40 pixels off a grid of 100"),
        ([[0, 0], [0, 0]], 100, "several tiles lie on the same place"),
        ([], 100, "wanted tiles and a positive step"),
        ([[0, 0]], 0, "wanted tiles and a positive step"),
    ],
)
def test_tiles_that_lie_on_no_grid_are_refused(
    corners: list[list[int]], step: float, message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        regrid(np.array(corners, np.int64).reshape(-1, 2), step)
