"""Parts of tiles in the slide's own pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.tiling.cuts import Cuts
from saccade.tiling.places import Places

CORNERS_L0 = np.array([[100, 200], [-40, 7]])
SIDE_L0 = (64.0, 32.0)  # pixels of level 0 that are not square
WHOLE = [[1.0, 0, 0], [0, 1, 0]]


def cuts(*where: list[list[float]]) -> Cuts:
    places = Places(
        corners_l0=CORNERS_L0[: len(where)],
        side_px=16,
        mpp=0.5,
        side_l0=SIDE_L0,
        cells=np.arange(len(where)),
        probability=np.full(len(where), 0.1),
    )
    return Cuts(places, np.array(where))


def numbers(found: Cuts, tile: int = 0) -> list[float]:
    return [float(column[tile]) for column in found.columns.values()]


def test_the_whole_of_each_tile_is_the_tile() -> None:
    found = cuts(WHOLE, WHOLE)

    assert found.outlines_l0.tolist() == [
        [[100, 200], [164, 200], [164, 232], [100, 232]],
        [[-40, 7], [24, 7], [24, 39], [-40, 39]],
    ]
    assert numbers(found) == [132, 216, 64, 32, 0]
    assert numbers(found, 1) == [-8, 23, 64, 32, 0]


def test_half_of_a_tile_lies_where_it_was_cut() -> None:
    """The right half of the upper half."""
    found = cuts([[0.5, 0, 0.5], [0, 0.5, -0.5]])

    assert found.outlines[0].tolist() == [[0.5, 0], [1, 0], [1, 0.5], [0.5, 0.5]]
    assert found.outlines_l0[0].tolist() == [[132, 200], [164, 200], [164, 216], [132, 216]]
    assert numbers(found) == [148, 208, 32, 16, 0]


def test_a_quarter_turn_begins_at_the_upper_right() -> None:
    """Right of the cut is down in the tile: its sides are those of the tile, exchanged."""
    found = cuts([[0, -1, 0], [1, 0, 0]])

    assert found.outlines[0].tolist() == [[1, 0], [1, 1], [0, 1], [0, 0]]
    assert numbers(found) == [132, 216, 32, 64, 90]


@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6), st.floats(-1, 1), st.floats(-1, 1))
def test_points_of_a_cut_lie_between_its_corners_as_in_the_map(
    numbers: list[float], x: float, y: float
) -> None:
    where = np.array(numbers).reshape(2, 3)
    found = cuts(where.tolist())

    (in_tile,) = where @ np.array([[x], [y], [1]])[None]
    wanted = CORNERS_L0[0] + (in_tile[:, 0] + 1) / 2 * SIDE_L0
    left, right = (1 - x) / 2, (1 + x) / 2
    upper_left, upper_right, lower_right, lower_left = found.outlines_l0[0]
    upper = left * upper_left + right * upper_right
    lower = left * lower_left + right * lower_right
    np.testing.assert_allclose((1 - y) / 2 * upper + (1 + y) / 2 * lower, wanted, atol=1e-9)


@pytest.mark.parametrize(
    ("where", "found"),
    [([WHOLE], "shape \\(1, 2, 3\\)"), ([WHOLE, [[np.nan, 0, 0]] * 2], "finite")],
)
def test_maps_that_cannot_be_are_refused(where: list[list[list[float]]], found: str) -> None:
    with pytest.raises(ValueError, match=found):
        Cuts(cuts(WHOLE, WHOLE).places, np.array(where))
