import math

import numpy as np
import pytest

from saccade.pipeline.metrics.labels import label_metrics

NAN = math.nan


def test_metrics_of_four_slides_by_hand() -> None:
    """Of `a` three of four pairs are in order; of `b` only two slides are known."""
    probabilities = np.array([[0.9, 0.2], [0.4, 0.7], [0.6, 0.1], [0.1, 0.5]])
    truth = np.array([[1, 0], [1, 1], [0, NAN], [0, NAN]])
    metrics = label_metrics(probabilities, truth, ("a", "b"))

    a, b = metrics["by_name"]["a"], metrics["by_name"]["b"]
    assert (a["auc"], b["auc"], metrics["auc"]) == (0.75, 1, 0.875)
    assert a["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert (a["accuracy"], b["accuracy"]) == (0.5, 1)
    assert metrics["accuracy"] == pytest.approx(4 / 6)  # over what is known, not over labels
    assert a["f1"] == pytest.approx(0.5)
    right = [0.9, 0.4, 0.4, 0.9, 0.8, 0.7]
    assert metrics["loss"] == pytest.approx(-np.log(right).mean())


def test_a_label_on_all_slides_has_no_ranking_and_one_of_which_nothing_is_known_has_nothing() -> (
    None
):
    probabilities = np.array([[0.9, 0.2], [0.4, 0.7]])
    metrics = label_metrics(probabilities, np.array([[1, NAN], [1, NAN]]), ("a", "b"))

    assert set(metrics) == {"loss", "accuracy", "by_name"}
    assert set(metrics["by_name"]) == {"a"}
    assert set(metrics["by_name"]["a"]) == {"loss", "accuracy"}
