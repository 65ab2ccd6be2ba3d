import numpy as np
import pytest

from saccade.pipeline.metrics.classification import auc_interval, classification_metrics


def test_two_classes() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.6, 0.4]])

    metrics = classification_metrics(probabilities, np.array([0, 0, 1, 1]))

    # Pairs (negative, positive) in the right order: (.1, .8), (.1, .4), (.6, .8), not (.6, .4).
    assert metrics["auc"] == 0.75
    assert metrics["accuracy"] == metrics["balanced_accuracy"] == 0.5
    assert metrics["loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.4]).mean())


def test_balanced_accuracy_counts_classes_alike() -> None:
    probabilities = np.array([[0.9, 0.1]] * 4)

    metrics = classification_metrics(probabilities, np.array([0, 0, 0, 1]))

    assert metrics["accuracy"] == 0.75
    assert metrics["balanced_accuracy"] == 0.5


def test_no_auc_where_a_class_is_absent() -> None:
    metrics = classification_metrics(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]))

    assert "auc" not in metrics


def test_three_classes_are_one_against_the_rest() -> None:
    metrics = classification_metrics(np.eye(3) * 0.7 + 0.1, np.arange(3))

    assert metrics["auc"] == 1.0


def test_the_interval_holds_the_auc_and_narrows_with_slides() -> None:
    dice = np.random.default_rng(1)
    labels = np.arange(400) % 2
    scores = labels + dice.normal(size=400)

    few, many = auc_interval(scores[:30], labels[:30]), auc_interval(scores, labels)
    auc = classification_metrics(np.stack([-scores, scores], 1) * 0.01 + 0.5, labels)["auc"]

    assert few[0] <= many[0] <= auc <= many[1] <= 1
    assert many[1] - many[0] < few[1] - few[0]
