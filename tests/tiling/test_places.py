import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.tiling.places import Places, corners_l0, patch_starts, together

COORDINATE = st.floats(-1e6, 1e6, allow_nan=False)
SIDE = st.floats(0.01, 1e4, allow_nan=False)


def places(**change: object) -> Places:
    values: dict[str, object] = {
        "corners_l0": np.array([[0, 0], [-5, 7]]),
        "side_px": 32,
        "mpp": 0.5,
        "side_l0": (64.0, 64.0),
        "cells": np.array([3, 1]),
        "probability": np.array([0.25, 0.125]),
    }
    return Places(**values | change)  # type: ignore[arg-type]


@given(st.lists(st.tuples(COORDINATE, COORDINATE)), st.tuples(SIDE, SIDE))
def test_a_tile_is_centred_to_half_a_pixel(
    centres: list[tuple[float, float]], side_l0: tuple[float, float]
) -> None:
    wanted = np.array(centres).reshape(-1, 2)

    corners = corners_l0(wanted, side_l0)

    assert corners.dtype == np.int64
    assert np.abs(corners + np.array(side_l0) / 2 - wanted).max(initial=0) <= 0.5 + 1e-9


def test_halves_go_to_the_even_side() -> None:
    centres = np.array([[2.5, 3.5], [-2.5, -3.5]])

    assert corners_l0(centres, (2.0, 2.0)).tolist() == [[2, 2], [-4, -4]]


def test_arrays_are_copies_that_cannot_be_written_to() -> None:
    corners = np.array([[0, 0], [-5, 7]])
    drawn = places(corners_l0=corners)
    corners[:] = 1

    assert drawn.corners_l0.tolist() == [[0, 0], [-5, 7]]
    with pytest.raises(ValueError, match="read-only"):
        drawn.cells[0] = 2


def test_places_travel_to_other_processes() -> None:
    there = pickle.loads(pickle.dumps(places()))

    assert there.cells.tolist() == [3, 1]
    assert len(there) == 2


def test_no_places_are_fine() -> None:
    none = places(corners_l0=np.empty((0, 2), int), cells=np.empty(0, int), probability=[])

    assert len(none) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corners_l0": np.array([[0, 0]])}, r"got \(1, 2\), \(2,\) and \(2,\)"),
        ({"corners_l0": np.array([[0.5, 0], [1, 1]])}, "corners_l0 must be whole numbers"),
        ({"cells": np.array([3.0, 1.0])}, "cells must be whole numbers"),
        ({"cells": np.array([3, -1])}, "cells must not be negative"),
        ({"side_px": 0}, "must be positive"),
        ({"mpp": float("nan")}, "must be positive"),
        ({"side_l0": (64.0, -1.0)}, "must be positive"),
        ({"probability": np.array([0.5, 1.5])}, r"probability must lie in \[0, 1\]"),
        ({"probability": np.array([0.5, np.nan])}, r"probability must lie in \[0, 1\]"),
        ({"probability": np.array([0.5])}, r"and \(1,\)"),
    ],
)
def test_impossible_places_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        places(**change)


# Printed by the authors' own program (idiap/attention-sampling, TensorFlow); -12.5 becomes -12.
@pytest.mark.parametrize(
    ("low", "high", "patch", "index", "start"),
    [
        (
            (180, 180), (1500, 1500), (50, 50),
            [[0, 0], [0, 179], [90, 45], [179, 179], [1, 2], [3, 4]],
            [[-21, -21], [-21, 1471], [729, 354], [1471, 1471], [-12, -4], [4, 12]],
        ),
        (
            (100, 100), (500, 500), (27, 27),
            [[0, 0], [50, 50], [99, 99]],
            [[-11, -11], [239, 239], [484, 484]],
        ),
    ],
)  # fmt: skip
def test_patches_start_where_the_reference_lets_them_start(
    low: tuple[int, int],
    high: tuple[int, int],
    patch: tuple[int, int],
    index: list[list[int]],
    start: list[list[int]],
) -> None:
    starts = patch_starts(np.array(index), grid=low, low=low, high=high, patch=patch)

    assert starts.dtype == np.int64
    assert starts.tolist() == start


def test_a_grid_coarser_than_the_view_spreads_over_the_whole_image() -> None:
    index = np.array([[0, 0], [3, 3], [6, 6]])

    starts = patch_starts(index, grid=(7, 7), low=(15, 15), high=(100, 100), patch=(15, 15))

    assert starts.tolist() == [[0, 0], [42, 42], [85, 85]]


def test_what_an_unpadded_network_loses_is_left_out_on_both_sides() -> None:
    first, last = patch_starts(
        np.array([[0, 0], [9, 9]]),
        grid=(10, 10), low=(20, 20), high=(200, 200), patch=(10, 10), receptive_field=10,
    )  # fmt: skip

    # 5 of 20 view pixels are lost on each side: 50 to 150 is left for ten cells of 10 pixels.
    assert first.tolist() == [50, 50]
    assert last.tolist() == [140, 140]


sizes = st.integers(8, 400)


@given(sizes, sizes, st.integers(1, 8), st.integers(1, 64), st.data())
def test_patches_are_centred_on_their_cell(
    rows: int, cols: int, factor: int, patch: int, data: st.DataObject
) -> None:
    index = np.array([[data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))]])

    starts = patch_starts(
        index,
        grid=(rows, cols),
        low=(rows, cols),
        high=(rows * factor, cols * factor),
        patch=(patch, patch),
    )

    assert np.abs(starts + patch / 2 - (index + 0.5) * factor).max() <= 0.5 + 1e-3


def test_places_of_several_draws_come_once_where_they_came_first() -> None:
    grid = np.array([[7, 2, 9], [2, 4, 7], [1, 9, 4]])
    draws = [
        Places(
            corners_l0=np.stack([cells * 10, cells], axis=1),
            side_px=8,
            mpp=0.5,
            side_l0=(8.0, 8.0),
            cells=cells,
            probability=cells / 100,
        )
        for cells in grid
    ]
    places, numbers = together(draws)

    assert places.cells.tolist() == [7, 2, 9, 4, 1]
    assert [each.tolist() for each in numbers] == [[0, 1, 2], [1, 3, 0], [4, 2, 3]]
    for draw, number in zip(draws, numbers, strict=True):
        again = places.take(number)
        for name in ("cells", "corners_l0", "probability"):
            assert np.array_equal(getattr(again, name), getattr(draw, name))
