import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.tiling.grid import CellGrid, TileGrid

LENGTH = st.integers(1, 40)
SIDE = st.floats(0.1, 50, allow_nan=False)


@st.composite
def tile_grids(draw: st.DrawFn) -> TileGrid:
    """Any valid grid small enough to paint, tiles larger than the area included."""
    side = draw(LENGTH)
    step = draw(st.integers(1, side))
    return TileGrid(area_l0=(draw(LENGTH), draw(LENGTH)), side_l0=side, step_l0=step)


@st.composite
def cell_grids(draw: st.DrawFn) -> CellGrid:
    origin = st.floats(-1e4, 1e4, allow_nan=False)
    return CellGrid(
        shape=(draw(LENGTH), draw(LENGTH)),
        cell_l0=(draw(SIDE), draw(SIDE)),
        origin_l0=(draw(origin), draw(origin)),
    )


@given(tile_grids())
def test_tiles_cover_every_pixel_and_start_inside(grid: TileGrid) -> None:
    width, height = grid.area_l0
    painted = np.zeros((height, width), bool)
    for x, y in grid.origins_l0:
        assert 0 <= x < width
        assert 0 <= y < height
        painted[y : y + grid.side_l0, x : x + grid.side_l0] = True
    assert painted.all()


@given(tile_grids())
def test_one_row_or_column_less_would_leave_pixels_out(grid: TileGrid) -> None:
    for count, length in zip(grid.shape, reversed(grid.area_l0), strict=True):
        reach = (count - 2) * grid.step_l0 + grid.side_l0
        assert count == 1 or reach < length


def test_origins_run_row_by_row() -> None:
    grid = TileGrid(area_l0=(300, 200), side_l0=100, step_l0=100)

    assert grid.origins_l0.tolist() == [
        [0, 0], [100, 0], [200, 0],
        [0, 100], [100, 100], [200, 100],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side_l0": 0}, "lengths must be positive"),
        ({"area_l0": (0, 10)}, "lengths must be positive"),
        ({"step_l0": 17}, "step_l0=17 is longer than side_l0=16"),
    ],
)
def test_impossible_tile_grids_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TileGrid(**{"area_l0": (64, 64), "side_l0": 16, "step_l0": 16} | change)


@given(cell_grids())
def test_centres_are_where_the_affine_puts_the_middle_of_each_cell(grid: CellGrid) -> None:
    rows, cols = grid.shape
    col, row = np.meshgrid(np.arange(cols), np.arange(rows))
    middles = np.stack([col.ravel() + 0.5, row.ravel() + 0.5, np.ones(len(grid))])

    centres = grid.centres_l0(np.arange(len(grid)))

    np.testing.assert_allclose(centres, (grid.affine_l0 @ middles).T, rtol=0, atol=1e-8)


def test_cells_run_row_by_row_with_x_before_y() -> None:
    grid = CellGrid(shape=(2, 3), cell_l0=(10, 100), origin_l0=(1000, 2000))

    assert grid.centres_l0(np.array([0, 1, 3])).tolist() == [
        [1005, 2050], [1015, 2050], [1005, 2150],
    ]  # fmt: skip
    assert len(grid) == 6


@given(st.tuples(LENGTH, LENGTH), st.tuples(SIDE, SIDE))
def test_covering_takes_the_fewest_cells_that_reach_the_far_edges(
    size_l0: tuple[int, int], cell_l0: tuple[float, float]
) -> None:
    grid = CellGrid.covering(size_l0, cell_l0)

    for count, length, side in zip(reversed(grid.shape), size_l0, cell_l0, strict=True):
        assert count * side >= length - 1e-5 * side
        assert count == 1 or (count - 1) * side < length


def test_covering_is_not_fooled_by_rounding() -> None:
    # 49 * (1 / 49) is a little less than one, and 7 / 0.1 a little more or less than 70.
    assert CellGrid.covering((7, 49), (0.1, 49 * (1 / 49))).shape == (49, 70)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (0, 3)}, "must be positive and finite"),
        ({"cell_l0": (1.0, 0.0)}, "must be positive and finite"),
        ({"cell_l0": (float("nan"), 1.0)}, "must be positive and finite"),
        ({"cell_l0": (1.0, float("inf"))}, "must be positive and finite"),
        ({"origin_l0": (0.0, float("nan"))}, "origin must be finite"),
    ],
)
def test_impossible_cell_grids_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CellGrid(**{"shape": (2, 3), "cell_l0": (1.0, 1.0)} | change)


@pytest.mark.parametrize("index", [-1, 6])
def test_cells_that_are_not_there_are_refused(index: int) -> None:
    with pytest.raises(IndexError, match="cells 0 to 5"):
        CellGrid(shape=(2, 3), cell_l0=(1, 1)).centres_l0(np.array([0, index]))


def test_no_cells_have_no_centres() -> None:
    grid = CellGrid(shape=(2, 3), cell_l0=(1, 1))

    assert grid.centres_l0(np.array([], int)).shape == (0, 2)
