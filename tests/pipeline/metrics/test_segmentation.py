import math
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score

from saccade.pipeline.metrics.segmentation import confusion, segmentation_metrics


def maps(seed: int = 0, classes: int = 3) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    dice = np.random.default_rng(seed)
    truth = dice.integers(0, classes, (7, 9))
    return np.where(dice.random((7, 9)) < 0.6, truth, dice.integers(0, classes, (7, 9))), truth


def test_measures_of_two_classes_by_hand() -> None:
    """Of 6 true pixels of the first class 4 are found, of 2 of the second 1."""
    metrics = segmentation_metrics(np.array([[4, 2], [1, 1]]))

    assert metrics["pixel_accuracy"] == pytest.approx(5 / 8)
    assert metrics["mean_accuracy"] == pytest.approx((4 / 6 + 1 / 2) / 2)
    assert metrics["iu"] == pytest.approx([4 / 7, 1 / 4])
    assert metrics["mean_iu"] == pytest.approx((4 / 7 + 1 / 4) / 2)
    assert metrics["frequency_weighted_iu"] == pytest.approx((6 * 4 / 7 + 2 / 4) / 8)
    assert metrics["dice"] == pytest.approx([8 / 11, 2 / 5])
    assert metrics["mean_dice"] == pytest.approx((8 / 11 + 2 / 5) / 2)


def test_a_class_that_is_nowhere_counts_nowhere_and_one_that_is_only_predicted_has_nothing() -> (
    None
):
    """Four pixels of the first class, one taken for the third; nobody speaks of the second."""
    metrics = segmentation_metrics(np.array([[3, 0, 1], [0, 0, 0], [0, 0, 0]]))

    assert metrics["mean_accuracy"] == 0.75
    assert metrics["iu"] == pytest.approx([0.75, math.nan, 0], nan_ok=True)
    assert metrics["mean_iu"] == 0.375
    assert metrics["frequency_weighted_iu"] == 0.75
    assert metrics["dice"] == pytest.approx([6 / 7, math.nan, 0], nan_ok=True)


def test_a_perfect_map_has_one_everywhere() -> None:
    _, truth = maps()
    metrics = segmentation_metrics(confusion(truth, truth, 3))

    assert metrics.pop("iu") == metrics.pop("dice") == [1, 1, 1]
    assert set(metrics.values()) == {1}


def test_the_measures_are_those_that_others_compute() -> None:
    predicted, truth = (each.ravel() for each in maps())
    metrics = segmentation_metrics(confusion(predicted, truth, 3))

    assert metrics["pixel_accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert metrics["mean_iu"] == pytest.approx(jaccard_score(truth, predicted, average="macro"))
    weighted = jaccard_score(truth, predicted, average="weighted")
    assert metrics["frequency_weighted_iu"] == pytest.approx(weighted)
    assert metrics["mean_dice"] == pytest.approx(f1_score(truth, predicted, average="macro"))


def test_tables_count_true_classes_in_rows_and_add_up() -> None:
    predicted, truth = maps()
    whole = confusion(predicted, truth, 3)

    np.testing.assert_array_equal(whole, confusion_matrix(truth.ravel(), predicted.ravel()))
    parts = [confusion(predicted[:, cut], truth[:, cut], 3) for cut in (slice(4), slice(4, 9))]
    np.testing.assert_array_equal(sum(parts), whole)


def test_what_is_unknown_does_not_count_whatever_it_was_taken_for() -> None:
    predicted = np.array([[0, 1], [1, 200]], np.uint8)
    truth = np.array([[0, 0], [255, 255]], np.uint8)

    assert confusion(predicted, truth, 2).tolist() == [[1, 1], [0, 0]]
    assert confusion(predicted[:1], truth[:1], 2, ignored=0).sum() == 0


def test_bytes_are_counted_beyond_what_a_byte_holds() -> None:
    """20 classes make 400 pairs."""
    same = np.full((3, 3), 19, np.uint8)

    assert confusion(same, same, 20)[19, 19] == 9


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        ([[0, 1]], [[0], [1]], "maps must have one shape, got (1, 2) and (2, 1)"),
        ([0, 2], [0, 1], "wanted predicted classes from 0 to 1, found 0 to 2"),
        ([0, 1], [0, -1], "wanted true classes from 0 to 1, found -1 to 0"),
    ],
)
def test_maps_that_do_not_fit_are_refused(
    predicted: list[int], truth: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        confusion(np.array(predicted), np.array(truth), 2)


def test_nothing_to_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        segmentation_metrics(np.zeros((2, 2), int))
