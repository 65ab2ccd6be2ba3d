import re

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.pipeline.metrics.detection import average_precision, box_overlap, centre_hits

NONE = np.zeros((0, 4))
NO_SCORES = np.zeros(0)
NO_CENTRES = np.zeros((0, 2))


def squares(*corners: float, side: float = 10) -> NDArray[np.float64]:
    """Boxes side by side, from these x on."""
    return np.array([[x, 0, x + side, side] for x in corners], float)


def test_overlap_counts_areas_between_edges() -> None:
    others = np.array([[0, 0, 10, 5], [5, 5, 15, 15], [10, 0, 20, 10], [15, 15, 25, 25]])

    assert box_overlap(squares(0), others).tolist() == [[0.5, 25 / 175, 0, 0]]
    assert box_overlap(NONE, squares(0, 20)).shape == (0, 2)
    assert box_overlap(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0]]


def test_average_precision_by_hand() -> None:
    """Right, wrong, right, wrong, with four to find in two images.

    Recall 1/4 comes at a precision of 1, 2/4 at 2/3; no more is found.
    """
    boxes = [squares(0, 60), squares(100, 300)]
    scores = [np.array([0.9, 0.8]), np.array([0.7, 0.6])]
    truths = [squares(0, 20), squares(100, 200)]

    assert average_precision(boxes, scores, truths) == pytest.approx(1 / 4 + 2 / 3 / 4)


def test_a_later_rise_of_precision_counts_for_lower_recalls_too() -> None:
    """Wrong, right, right: precision 0, 1/2, 2/3. At all recalls up to 1 the best is 2/3."""
    boxes, scores = [squares(50, 0, 20)], [np.array([3, 2, 1])]

    assert average_precision(boxes, scores, [squares(0, 20)]) == pytest.approx(2 / 3)


def test_the_second_box_of_an_object_is_wrong_even_if_another_object_is_near() -> None:
    boxes = [np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], float)]
    scores = [np.array([0.7, 0.9, 0.8])]  # the second box comes first, and is the right one
    truths = [np.array([[0, 0, 10, 9], [0, 0, 10, 8], [20, 0, 30, 10]], float)]

    assert average_precision(boxes, scores, truths) == pytest.approx(2 / 3)


@pytest.mark.parametrize(("overlap", "wanted"), [(0.5, 1), (0.51, 0)])
def test_just_enough_overlap_is_enough(overlap: float, wanted: float) -> None:
    half = np.array([[0, 0, 10, 5]])

    assert average_precision([half], [np.ones(1)], [squares(0)], overlap=overlap) == wanted


def test_boxes_of_the_same_score_count_together() -> None:
    """Of the first two one is right, and so is the third; else their order would matter."""
    for corners in ((0, 50, 20), (50, 0, 20)):
        precision = average_precision([squares(*corners)], [np.array([2, 2, 1])], [squares(0, 20)])
        assert precision == pytest.approx(2 / 3)


def test_images_without_objects_cost_precision_only() -> None:
    found, scores = [squares(0), squares(0)], [np.array([0.5]), np.array([0.9])]

    assert average_precision(found, scores, [squares(0), NONE]) == 0.5
    assert average_precision([squares(0), NONE], [np.ones(1), NO_SCORES], [squares(0), NONE]) == 1
    assert average_precision([NONE], [NO_SCORES], [squares(0)]) == 0


def test_lists_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("no image has an object")):
        average_precision([squares(0)], [np.ones(1)], [NONE])
    with pytest.raises(ValueError, match=re.escape("of the same images, got 1, 1 and 2")):
        average_precision([squares(0)], [np.ones(1)], [NONE, NONE])
    with pytest.raises(ValueError, match=re.escape("image 0 has 1 boxes, but 2 scores")):
        average_precision([squares(0)], [np.ones(2)], [NONE])


def centres(*xs: float) -> NDArray[np.float64]:
    return np.array([[x, 0] for x in xs], float)


def test_hits_by_hand() -> None:
    """Of three found, two are near one of the four that are there."""
    hits = centre_hits([centres(1, 50), centres(7)], [centres(0, 20, 30), centres(0)], distance=7)

    assert (hits.found, hits.wrong, hits.missed) == (2, 1, 2)
    assert (hits.precision, hits.recall) == (2 / 3, 1 / 2)
    assert hits.f1 == pytest.approx(4 / 7)


def test_as_many_pairs_as_can_be_are_made_even_if_a_nearer_one_has_to_part() -> None:
    """5 is nearest to 6, but then 0 and 12 would have nobody within 7."""
    assert centre_hits([centres(0, 6)], [centres(5, 12)], distance=7).found == 2
    assert centre_hits([centres(6, 0)], [centres(12, 5)], distance=7).found == 2


def test_two_pairs_are_better_than_a_close_one_even_if_that_has_the_least_sum_of_distances() -> (
    None
):
    """1 and 10.3 apart, or 6 and 5.4."""
    found, there = [np.array([[0, 0], [7, 0]])], [np.array([[1, 0], [-2, 5]])]

    assert centre_hits(found, there, distance=7).found == 2


def test_an_object_is_found_once_only() -> None:
    hits = centre_hits([centres(0, 1, 2)], [centres(1)], distance=7)

    assert (hits.found, hits.wrong, hits.missed) == (1, 2, 0)


def test_distance_is_measured_in_the_plane_and_the_bound_belongs_to_it() -> None:
    found, there = [np.array([[3, 4]])], [np.array([[0, 0]])]

    assert centre_hits(found, there, distance=5).found == 1
    assert centre_hits(found, there, distance=4.999).found == 0
    assert centre_hits(found, found, distance=0).f1 == 1


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    assert centre_hits([NO_CENTRES], [NO_CENTRES], distance=7).f1 == 1
    assert centre_hits([], [], distance=7).f1 == 1
    wrong = centre_hits([centres(1)], [NO_CENTRES], distance=7)
    assert (wrong.f1, wrong.precision, wrong.recall) == (0, 0, 0)
    assert centre_hits([NO_CENTRES], [centres(1)], distance=7).f1 == 0


def test_images_have_to_be_the_same_and_the_distance_no_less_than_zero() -> None:
    with pytest.raises(ValueError, match=re.escape("got 1 and 0 images and 7")):
        centre_hits([NO_CENTRES], [], distance=7)
    with pytest.raises(ValueError, match=re.escape("0 images and -1")):
        centre_hits([], [], distance=-1)
