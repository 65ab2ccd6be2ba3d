"""How good predictions are, from class probabilities and labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from saccade.pipeline.reliability import calibration_error, reliability


def classification_metrics(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer]
) -> dict[str, float]:
    """Loss, Brier score, calibration error, accuracy, balanced accuracy and AUC.

    Args:
        probabilities: (slides, classes), rows sum to 1.
        labels: (slides,) class indices.

    Returns:
        `brier` is the mean over slides of the squared distance of probabilities and label, summed
        over the classes: 0 at best, 2 at worst. `auc` is of the second class for two classes,
        else the mean of one class against the rest; it is left out where a class is absent, since
        it does not exist then.
    """
    predicted = probabilities.argmax(axis=1)
    present, classes = np.unique(labels), probabilities.shape[1]
    recalls = [float((predicted[labels == label] == label).mean()) for label in present]
    metrics = {
        "loss": float(log_loss(labels, probabilities, labels=range(classes))),
        "brier": float(
            brier_score_loss(labels, probabilities, labels=range(classes), scale_by_half=False)
        ),
        "calibration_error": calibration_error(reliability(probabilities, labels)),
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float(np.mean(recalls)),
    }
    if len(present) == classes:
        scores = probabilities[:, 1] if classes == 2 else probabilities
        metrics["auc"] = float(roc_auc_score(labels, scores, multi_class="ovr"))
    return metrics


def auc_interval(
    scores: NDArray[np.floating], labels: NDArray[np.integer], *, draws: int = 2000
) -> tuple[float, float]:
    """95 % interval of the AUC by bootstrap, each class drawn by itself (seeded).

    Args:
        scores: (slides,) of class 1.
        labels: (slides,) of 0 and 1, both present.
        draws: bootstrap samples.
    """
    dice = np.random.default_rng(0)
    negative, positive = scores[labels == 0], scores[labels == 1]
    aucs = []
    for _ in range(draws):
        low = dice.choice(negative, len(negative))[:, None]
        high = dice.choice(positive, len(positive))[None]
        aucs.append(float(((high > low) + 0.5 * (high == low)).mean()))
    lower, upper = np.quantile(aucs, [0.025, 0.975])
    return float(lower), float(upper)
