from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.pipeline.stages.field import Field, create_field
from saccade.pipeline.stages.mosaic import BLOCK, Mosaic, overlaps
from saccade.tiling.grid import CellGrid

SIDE, CELL = 32.0, 8.0  # level-0 pixels: a tile has 4 x 4 cells
Corners = list[tuple[int, int]]


def mosaic(
    folder: Path, corners: Corners, *, shape: tuple[int, int] = (12, 10), cells: tuple[float, ...]
) -> Mosaic:
    grid = CellGrid(shape, (CELL, CELL))
    names = tuple(f"c{i}" for i in range(len(cells)))
    like = Field(
        np.zeros((len(cells), *shape)), np.zeros(shape), grid, (0.5, 0.5), "feature mask", names
    )
    arrays = create_field(folder / "m.zarr", like, np.float32, shard_px=BLOCK)
    return Mosaic(grid, np.array(corners), (SIDE, SIDE), cells, *arrays)


def laid(
    folder: Path, corners: Corners, maps: list[NDArray[np.float32]], **options: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The field of tiles with one map each, whose cells are the field's own."""
    made = mosaic(folder, corners, cells=(1.0,), **options)
    for i, each in enumerate(maps):
        made.add(i, [each])
    assert not made._begun  # what is written is let go
    return np.asarray(made.values[0]), np.asarray(made.valid[:]).astype(bool)


def numbered() -> NDArray[np.float32]:
    return np.arange(16, dtype=np.float32).reshape(4, 4)


def test_a_map_lies_where_its_tile_lies(tmp_path: Path) -> None:
    values, valid = laid(tmp_path, [(16, 40)], [numbered()])

    assert np.array_equal(values[5:9, 2:6], numbered())
    assert valid[5:9, 2:6].all()
    assert valid.sum() == 16
    assert np.isnan(values[~valid]).all()


def test_tiles_come_in_any_order_and_across_blocks(tmp_path: Path) -> None:
    """Four blocks meet in the second tile; the first lies alone."""
    at = BLOCK - 2
    corners = [(16, 40), (at * 8, at * 8)]
    made = mosaic(tmp_path, corners, shape=(BLOCK + 5, BLOCK + 3), cells=(1.0,))
    made.add(1, [numbered()])
    made.add(0, [numbered() + 100])

    values = np.asarray(made.values[0])
    assert np.array_equal(values[5:9, 2:6], numbered() + 100)
    assert np.array_equal(values[at : at + 4, at : at + 4], numbered())
    assert np.isfinite(values).sum() == 32


def test_a_tile_between_cells_gives_means_of_its_neighbours(tmp_path: Path) -> None:
    """Half a cell to the right: each cell is the mean of two; the ends have half of one."""
    values, valid = laid(tmp_path, [(20, 40)], [numbered()])

    row = values[5, 2:7].tolist()
    assert row == [0, 0.5, 1.5, 2.5, 3]
    assert valid[5, 2:7].all()
    assert valid.sum() == 20


def test_less_than_half_of_a_cell_is_none(tmp_path: Path) -> None:
    values, valid = laid(tmp_path, [(21, 40)], [numbered()])  # 5 of 8 pixels into cell 2

    assert valid[5].tolist() == [False] * 3 + [True] * 4 + [False] * 3
    # Five eighths of each from one cell of the map, three eighths from the next one.
    assert values[5, 3:7].tolist() == pytest.approx([3 / 8, 11 / 8, 19 / 8, 3])


def test_where_tiles_overlap_their_mean_counts(tmp_path: Path) -> None:
    values, _ = laid(tmp_path, [(0, 0), (16, 0)], [numbered(), numbered() + 10])

    assert values[0, :6].tolist() == [0, 1, (2 + 10) / 2, (3 + 11) / 2, 12, 13]


def test_what_lies_beyond_the_slide_is_left_out(tmp_path: Path) -> None:
    values, valid = laid(tmp_path, [(-16, -8), (64, 80)], [numbered(), numbered()])

    assert np.array_equal(values[:3, :2], numbered()[1:, 2:])
    assert np.array_equal(values[10:, 8:], numbered()[:2, :2])
    assert valid.sum() == 6 + 4


def test_coarser_maps_are_laid_over_the_same_cells(tmp_path: Path) -> None:
    made = mosaic(tmp_path, [(16, 40)], cells=(1.0, 2.0, 3.0))
    two, beyond = numbered()[:2, :2], numbered()[:2, :2]
    made.add(0, [numbered(), two, beyond])

    values = np.asarray(made.values[:])[:, 5:9, 2:6]
    assert np.array_equal(values[0], numbered())
    assert np.array_equal(values[1], two.repeat(2, axis=0).repeat(2, axis=1))
    # Cells of three: the second ones reach beyond the tile, and are cut off there.
    assert values[2].tolist() == [[0, 0, 0, 1]] * 3 + [[4, 4, 4, 5]]


def test_memory_is_that_of_a_band(tmp_path: Path) -> None:
    """Tiles row by row down a field four blocks high: two rows of blocks are begun at most."""
    corners = [(0, y * 8) for y in range(0, 4 * BLOCK, 4)]
    made = mosaic(tmp_path, corners, shape=(4 * BLOCK, 8), cells=(1.0,))
    most = 0
    for i in range(len(corners)):
        made.add(i, [numbered()])
        most = max(most, len(made._begun))

    assert most == 1
    assert np.isfinite(np.asarray(made.values[0, :, :4])).all()


@given(
    start=st.floats(-3, 9, allow_nan=False),
    cell=st.floats(0.1, 4),
    count=st.integers(1, 8),
    cut=st.floats(0.1, 1),
)
def test_cells_are_shared_out_whole(start: float, cell: float, count: int, cut: float) -> None:
    """What other cells cover of a line of cells is their own length, up to where they are cut."""
    end = start + cut * count * cell
    shares = overlaps(range(-5, 50), (start, end), cell, count)

    edges = np.minimum(start + cell * np.arange(count + 1), end)
    assert shares.sum(axis=0) == pytest.approx(np.diff(edges), abs=1e-9)
    assert shares.sum(axis=1).max() <= 1 + 1e-9
