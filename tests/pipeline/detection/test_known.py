"""Boxes of a tile's objects are those of their pixels, however it lies, cuts, or is turned."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.pipeline.annotations.truth import IGNORED, TrueObjects
from saccade.pipeline.augment import turn
from saccade.pipeline.detection.known import boxes_of, known_in_tile, share_within, turn_boxes


class Drawn:
    """A truth that is a map of numbers at level 0, each object's class being given."""

    def __init__(self, numbers: NDArray[np.int32], classes: list[int]) -> None:
        self.numbers, self.classes = numbers, 3
        _, boxes = boxes_of(numbers)
        self.objects = TrueObjects(np.array(classes, np.uint8), boxes.astype(np.float64))

    def downsample(self, mpp: float) -> tuple[float, float]:
        return mpp, mpp

    def instances(
        self, x_l0: float, y_l0: float, size_px: tuple[int, int], mpp: float
    ) -> NDArray[np.int32]:
        cols, rows = (
            np.floor(corner + (np.arange(size) + 0.5) * mpp).astype(int)
            for corner, size in zip((x_l0, y_l0), size_px, strict=True)
        )
        padded = np.pad(self.numbers, 100)
        return padded[np.ix_(rows + 100, cols + 100)]

    def labels(
        self, x_l0: float, y_l0: float, size_px: tuple[int, int], mpp: float
    ) -> NDArray[np.uint8]:
        return np.zeros(size_px[::-1], np.uint8)


def numbers() -> NDArray[np.int32]:
    """Five objects, of which one has a hole and one is in two parts."""
    drawn = np.zeros((40, 40), np.int32)
    drawn[2:10, 4:9] = 1
    drawn[4:6, 5:7] = 0
    drawn[12:20, 30:38] = 2
    drawn[25, 3], drawn[30:32, 9:12] = 3, 3
    drawn[22:28, 16:24] = 4
    drawn[34:36, 20:22] = 5
    return drawn


CLASSES = [1, 2, 1, 2, 1]


@given(
    st.integers(-10, 30), st.integers(-10, 30), st.integers(0, 7), st.sampled_from([0.0, 0.3, 1.0])
)
def test_boxes_go_around_the_pixels_that_a_tile_shows(
    x: int, y: int, symmetry: int, least_share: float
) -> None:
    truth = Drawn(numbers(), CLASSES)

    known = known_in_tile(truth, (x, y), 20, 1.0, least_share=least_share)

    boxes = turn_boxes(known.boxes, symmetry, 20).tolist()
    window = truth.instances(x, y, (20, 20), 1.0)
    turned = turn(torch.from_numpy(window), symmetry).numpy()
    wanted = []
    for number, full in enumerate(truth.objects.boxes_l0, start=1):
        rows, cols = np.nonzero(turned == number)
        left = (np.minimum(full[2:], (x + 20, y + 20)) - np.maximum(full[:2], (x, y))).clip(0)
        if len(rows) and left.prod() >= least_share * (full[2:] - full[:2]).prod():
            box = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
            wanted.append((list(map(float, box)), CLASSES[number - 1] - 1))
    assert list(zip(boxes, known.classes.tolist(), strict=True)) == wanted


def test_at_another_scale_boxes_are_of_the_tiles_own_pixels() -> None:
    known = known_in_tile(Drawn(numbers(), CLASSES), (0, 0), 20, 2.0, least_share=0.5)

    assert known.boxes.tolist()[:2] == [[2, 1, 4, 5], [15, 6, 19, 10]]


def test_background_and_what_does_not_count_are_no_objects() -> None:
    known = known_in_tile(Drawn(numbers(), [0, IGNORED, 1, 2, 0]), (0, 0), 40, 1.0, least_share=0)

    assert known.classes.tolist() == [0, 1]


def test_a_tile_without_objects_has_none() -> None:
    known = known_in_tile(Drawn(numbers(), CLASSES), (50, 50), 8, 1.0, least_share=0)
    assert known.boxes.shape == (0, 4)


def test_large_numbers_take_no_more_than_small_ones() -> None:
    found = boxes_of(np.array([[0, 2**30], [5, 2**30]]))
    assert found[0].tolist() == [5, 2**30]
    assert found[1].tolist() == [[0, 1, 1, 2], [1, 0, 2, 2]]


@pytest.mark.parametrize(
    ("box", "share"), [((0, 0, 4, 4), 1), ((-4, 0, 4, 4), 0.5), ((-2, -2, 2, 2), 0.25)]
)
def test_shares_are_those_of_areas(box: tuple[float, ...], share: float) -> None:
    assert share_within(np.array([box], float), (0, 0), np.array([8.0, 8.0])) == [share]
