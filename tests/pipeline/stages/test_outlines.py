"""Outlines are what they outline: cell by cell, and without a fault."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from saccade.pipeline.stages.outlines import outlines

LABELS = arrays(
    np.int32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)
)


@given(LABELS)
def test_every_label_is_outlined_exactly(labels: np.ndarray) -> None:
    found, shapes = outlines(labels)

    assert found.tolist() == [label for label in np.unique(labels) if label]
    rows, cols = np.indices(labels.shape)
    for label, shape in zip(found, shapes, strict=True):
        assert shape.is_valid
        assert shape.area == np.count_nonzero(labels == label)
        inside = shapely.contains_xy(shape, cols + 0.5, rows + 0.5)
        np.testing.assert_array_equal(inside, labels == label)


def test_straight_lines_have_no_points_between_their_ends() -> None:
    labels = np.zeros((6, 9), int)
    labels[1:5, 2:8] = 7
    labels[2:4, 4:6] = 0

    _, (shape,) = outlines(labels)

    assert shape.geom_type == "Polygon"
    assert shape.equals(shapely.box(2, 1, 8, 5) - shapely.box(4, 2, 6, 4))
    assert shapely.get_num_coordinates(shape) == 10


@pytest.mark.parametrize(
    "rows",
    [
        ["111", "1.1", "11."],  # closed by a corner alone: outside and hole meet there
        ["1111", "1..1", "1.11", "111."],
        [".111.", "11.11", "1.1.1", "11.11", ".111."],
        ["11111", "1.1.1", "11111", "1.1.1", "11111"],
        ["11111", "1.111", "11.11", "111.1", "11111"],  # holes that meet at corners
    ],
)
def test_what_touches_itself_at_a_corner_is_valid(rows: list[str]) -> None:
    labels = np.array([[int(cell == "1") for cell in row] for row in rows])
    _, (shape,) = outlines(labels)

    assert shape.is_valid
    assert shape.area == labels.sum()


def test_cells_that_meet_at_a_corner_are_two_areas() -> None:
    _, (shape,) = outlines(np.array([[1, 0], [0, 1]]))
    assert shape.geom_type == "MultiPolygon"
    assert shape.is_valid


def test_nothing_has_no_outline() -> None:
    found, shapes = outlines(np.zeros((3, 4), int))
    assert len(found) == len(shapes) == 0
