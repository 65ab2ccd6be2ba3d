"""Boxes of whole pixels: overlap, code and suppression, by hand and over many boxes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.models.boxes import clip, decode_boxes, encode_boxes, iou, smooth_l1, suppress


def boxes(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@st.composite
def some_box(draw: st.DrawFn) -> tuple[float, float, float, float]:
    x, y = draw(st.floats(-1000, 1000)), draw(st.floats(-1000, 1000))
    return x, y, x + draw(st.floats(0, 61)), y + draw(st.floats(0, 61))  # may grow 62-fold


def test_overlap_counts_pixels_the_last_ones_included() -> None:
    one = boxes((0, 0, 9, 9))

    overlap = iou(one, boxes((0, 0, 9, 9), (0, 0, 9, 4), (9, 9, 18, 18), (10, 0, 19, 9)))

    assert overlap.tolist() == [[1, 0.5, 1 / 199, 0]]


def test_overlap_with_nothing_has_no_columns() -> None:
    assert iou(boxes((0, 0, 1, 1)), torch.zeros(0, 4)).shape == (1, 0)


def test_a_code_by_hand() -> None:
    """10 x 20 pixels around (5, 10), and 20 x 10 around (15, 5)."""
    code = encode_boxes(boxes((5, 0, 24, 9)), boxes((0, 0, 9, 19)))

    assert code[0].tolist() == pytest.approx([1, -0.25, math.log(2), -math.log(2)])


def test_a_code_of_nothing_is_the_box_itself() -> None:
    start = boxes((3, 4, 10, 30))

    assert encode_boxes(start, start).tolist() == [[0, 0, 0, 0]]
    assert decode_boxes(torch.zeros(1, 4, dtype=torch.float64), start).tolist() == start.tolist()


@given(some_box(), some_box())
def test_decoding_gives_back_what_was_encoded(
    box: tuple[float, float, float, float], start: tuple[float, float, float, float]
) -> None:
    wanted, from_there = boxes(box), boxes(start)
    back = decode_boxes(encode_boxes(wanted, from_there), from_there)

    torch.testing.assert_close(back, wanted, rtol=0, atol=1e-9)


def test_no_box_grows_beyond_a_bound() -> None:
    start = boxes((0, 0, 15, 15))
    grown = decode_boxes(torch.tensor([[0, 0, 99, math.log(2)]], dtype=torch.float64), start)

    assert grown[0].tolist() == pytest.approx([8 - 500, -8, 8 + 500 - 1, 23])


def test_clipping_keeps_the_last_row_and_column() -> None:
    clipped = clip(boxes((-3, -1, 40, 10), (5, 5, 31, 19), (90, 90, 99, 99)), (32, 20))

    assert clipped.tolist() == [[0, 0, 31, 10], [5, 5, 31, 19], [31, 19, 31, 19]]


@pytest.mark.parametrize("rows", [3, 5, 7])
def test_a_box_stays_if_it_is_covered_by_just_as_much_as_is_allowed(rows: int) -> None:
    """10 x 10 pixels, so many rows of them, and one row more than that."""
    two = boxes((0, 0, 9, 9), (0, 0, 9, rows - 1), (0, 0, 9, rows)).float()
    scores = torch.tensor([0.9, 0.8])

    assert suppress(two[:2], scores, rows / 10).tolist() == [0, 1]
    assert suppress(two[[0, 2]], scores, rows / 10).tolist() == [0]


def test_the_best_comes_first_and_suppresses_what_is_worse_only() -> None:
    three = boxes((0, 0, 9, 9), (0, 0, 9, 8), (0, 0, 7, 8)).float()  # 0.9, 0.72 and 0.8 in common

    assert suppress(three, torch.tensor([0.1, 0.9, 0.5]), 0.75).tolist() == [1]
    assert suppress(three, torch.tensor([0.9, 0.8, 0.5]), 0.75).tolist() == [0, 2]


def test_smooth_l1_by_hand() -> None:
    """Parabola up to 1 / sigma^2, where it has the value and the slope of the straight part."""
    found = boxes((0, 0.5, 1, -3))
    nothing = torch.zeros_like(found)

    assert float(smooth_l1(found, nothing, sigma=1)) == pytest.approx(0.125 + 0.5 + 2.5)
    ninth = boxes((1 / 9, -1 / 18, 0, 1))
    wanted = 0.5 * 9 * (1 / 81 + 1 / 324) + 1 - 0.5 / 9
    assert float(smooth_l1(ninth, nothing, sigma=3)) == pytest.approx(wanted)
    assert float(smooth_l1(nothing, ninth, sigma=3)) == pytest.approx(wanted)
