"""How good a class for each pixel is, from one table of how often which was taken for which.

Tables of tiles and of slides add up to that of all of them, so that large images need no more
memory than small ones. The measures are those of Long, Shelhamer and Darrell, "Fully Convolutional
Networks for Semantic Segmentation", CVPR 2015, https://arxiv.org/abs/1411.4038, section 5, and
Dice's coefficient.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORED = 255
"""The class of pixels of which nothing is known, as PASCAL VOC has it."""


def confusion(
    predicted: NDArray[np.integer],
    truth: NDArray[np.integer],
    classes: int,
    *,
    ignored: int | None = IGNORED,
) -> NDArray[np.int64]:
    """Count pixels of each true class (rows) that were taken for each class (columns).

    Args:
        predicted: class of each pixel, of any shape.
        truth: likewise.
        classes: number of classes.
        ignored: true class of pixels that do not count, whatever they were taken for; None if all
            count.

    Raises:
        ValueError: if the maps differ in shape, or a class that counts is not below `classes`.

    >>> confusion(np.array([0, 1, 1, 1]), np.array([0, 0, 1, 255]), classes=2)
    array([[1, 1],
           [0, 1]])
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"maps must have one shape, got {predicted.shape} and {truth.shape}.")
    counts = np.ones(truth.shape, bool) if ignored is None else truth != ignored
    pair = [each[counts].astype(np.int64) for each in (truth, predicted)]
    for name, values in zip(("true", "predicted"), pair, strict=True):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(
                f"wanted {name} classes from 0 to {classes - 1}, found "
                f"{values.min()} to {values.max()}; `ignored` names one that shall not count."
            )
    return np.bincount(pair[0] * classes + pair[1], minlength=classes**2).reshape(classes, classes)


def segmentation_metrics(table: NDArray[np.integer]) -> dict[str, Any]:
    """Measures of a table of true and predicted classes.

    Args:
        table: (classes, classes), as `confusion` counts them; the sum of several, if wanted.

    Returns:
        `pixel_accuracy`: of all pixels; `mean_accuracy`: of the pixels of a class, mean over the
        classes; `mean_iu`: intersection over union of a class's true and predicted pixels, mean
        over the classes; `frequency_weighted_iu`: the same, weighed by true pixels; `mean_dice`:
        twice the intersection over the sum of both, mean over the classes; `iu` and `dice` of each
        class. A class that is neither true nor predicted anywhere has NaN, and does not count in
        means; one that is predicted only has 0, and no accuracy.

    Raises:
        ValueError: if the table is empty.
    """
    counts = np.asarray(table, np.float64)
    if not counts.sum() > 0:
        raise ValueError("wanted at least one pixel that counts; there is none.")
    right, true, named = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    iu = _ratio(right, true + named - right)
    dice = _ratio(2 * right, true + named)
    return {
        "pixel_accuracy": float(right.sum() / counts.sum()),
        "mean_accuracy": float(np.nanmean(_ratio(right, true))),
        "mean_iu": float(np.nanmean(iu)),
        "frequency_weighted_iu": float(np.nansum(true * iu) / counts.sum()),
        "mean_dice": float(np.nanmean(dice)),
        "iu": iu.tolist(),
        "dice": dice.tolist(),
    }


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of nothing, NaN."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
