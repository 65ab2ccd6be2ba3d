"""How good predictions are, from probabilities of labels that do not exclude each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, log_loss, roc_auc_score

NAMED = 0.5
"""From this probability on, a label is named."""


def label_metrics(
    probabilities: NDArray[np.floating], truth: NDArray[np.floating], names: Sequence[str]
) -> dict[str, Any]:
    """Loss and accuracy of all that is known; of each label, and as means over labels, the rest.

    Args:
        probabilities: (slides, labels).
        truth: (slides, labels), 1, 0, or NaN where unknown; unknown labels do not count.
        names: of the labels.

    Returns:
        `loss`, `accuracy`; `auc`, `average_precision` and `f1`, means over the labels that have
        them; and `by_name`, all of it for each label of which anything is known. A label that all
        slides have, or none, has no `auc`, `average_precision` or `f1`.
    """
    known = ~np.isnan(truth)
    by_name = {
        name: _of_a_label(probabilities[known[:, i], i], truth[known[:, i], i])
        for i, name in enumerate(names)
        if known[:, i].any()
    }
    means = {
        name: float(np.mean([of[name] for of in by_name.values() if name in of]))
        for name in ("auc", "average_precision", "f1")
        if any(name in of for of in by_name.values())
    }
    all_labels = _right(probabilities[known], truth[known])
    return {**all_labels, **means, "by_name": by_name}


def _right(probabilities: NDArray[np.floating], has: NDArray[np.floating]) -> dict[str, float]:
    return {
        "loss": float(log_loss(has, probabilities, labels=[0, 1])),
        "accuracy": float(((probabilities >= NAMED) == has).mean()),
    }


def _of_a_label(probabilities: NDArray[np.floating], has: NDArray[np.floating]) -> dict[str, float]:
    metrics = _right(probabilities, has)
    if 0 < has.sum() < len(has):
        metrics["auc"] = float(roc_auc_score(has, probabilities))
        metrics["average_precision"] = float(average_precision_score(has, probabilities))
        metrics["f1"] = float(f1_score(has, probabilities >= NAMED, zero_division=0))
    return metrics
