"""A field on another grid keeps its mass, wherever the grids lie."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.pipeline.errors import RegionError
from saccade.pipeline.stages.field import Field
from saccade.pipeline.stages.proposal import field_on_grid
from saccade.tiling.grid import CellGrid


def field(density: np.ndarray, cell: float = 8.0, **changes: object) -> Field:
    settings = {
        "values": density[None],
        "valid": np.ones(density.shape, bool),
        "grid": CellGrid(density.shape, (cell, cell)),
        "slide_mpp": (0.5, 0.5),
        "kind": "density",
        "channels": ("saliency",),
    }
    return Field(**(settings | changes))


VALUES = np.random.default_rng(0).random((12, 18))


def test_on_its_own_grid_it_is_itself() -> None:
    found = field_on_grid(field(VALUES), CellGrid((12, 18), (8.0, 8.0)))
    np.testing.assert_allclose(np.exp(found), VALUES / VALUES.sum())


def test_on_coarser_cells_it_sums() -> None:
    found = field_on_grid(field(VALUES), CellGrid((4, 6), (24.0, 24.0)))
    blocks = VALUES.reshape(4, 3, 6, 3).sum(axis=(1, 3))
    np.testing.assert_allclose(np.exp(found), blocks / blocks.sum())


@given(cell=st.floats(0.7, 50), x=st.floats(-9, 9), y=st.floats(-9, 9))
def test_a_density_that_is_even_stays_even(cell: float, x: float, y: float) -> None:
    """Cells of the grid count by the area in which they meet the field."""
    rows, cols = int(100 // cell) + 1, int(150 // cell) + 1
    grid = CellGrid((rows, cols), (cell, cell), (x, y))
    found = np.exp(field_on_grid(field(np.ones((12, 18))), grid))

    def shared(start: float, count: int, length: float) -> np.ndarray:
        edges = np.clip(start + cell * np.arange(count + 1), 0, length)
        return np.diff(edges)

    area = np.outer(shared(y, rows, 96), shared(x, cols, 144))
    np.testing.assert_allclose(found, area / area.sum(), atol=1e-12)


def test_what_is_not_valid_gives_nothing() -> None:
    valid = np.ones(VALUES.shape, bool)
    valid[:6] = False
    found = field_on_grid(field(VALUES, valid=valid), CellGrid((12, 18), (8.0, 8.0)))
    assert np.isneginf(found[:6]).all()
    np.testing.assert_allclose(np.exp(found).sum(), 1)


def test_what_cannot_be_a_proposal_is_refused() -> None:
    grid = CellGrid((12, 18), (8.0, 8.0))
    with pytest.raises(ValueError, match="may not be negative"):
        field_on_grid(field(VALUES - 0.5), grid)
    with pytest.raises(RegionError, match="has nothing where tiles could be drawn"):
        field_on_grid(field(np.zeros((12, 18))), grid)
    with pytest.raises(RegionError, match="has nothing where tiles could be drawn"):
        field_on_grid(field(VALUES), CellGrid((2, 2), (8.0, 8.0), (1e6, 1e6)))
    two = field(VALUES, values=np.stack([VALUES, VALUES]), channels=("a", "b"))
    with pytest.raises(ValueError, match="say which"):
        field_on_grid(two, grid)
