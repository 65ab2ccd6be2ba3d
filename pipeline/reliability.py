"""Whether probabilities are what they say: of slides called with 80 %, are 80 % right?

Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
https://arxiv.org/abs/1706.04599, section 2: reliability diagrams and expected calibration error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Slides whose predicted class has a probability in (`above`, `up_to`].

    Attributes:
        above: lower edge.
        up_to: upper edge.
        slides: how many.
        confidence: mean probability of the predicted class.
        accuracy: share of them that are right.
    """

    above: float
    up_to: float
    slides: int
    confidence: float
    accuracy: float


def reliability(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], bins: int = BINS
) -> list[Bin]:
    """Slides by the probability of their predicted class; bins without slides are left out.

    Args:
        probabilities: (slides, classes), rows sum to 1.
        labels: (slides,) class indices.
        bins: of equal width.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return [
        Bin(
            above=each / bins,
            up_to=(each + 1) / bins,
            slides=int((number == each).sum()),
            confidence=float(confidence[number == each].mean()),
            accuracy=float(right[number == each].mean()),
        )
        for each in np.unique(number).tolist()
    ]


def calibration_error(table: list[Bin]) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over the slides.

    With few slides in a bin it is large by chance: compare it between models on the same slides,
    and read the number of slides beside it.
    """
    slides = sum(each.slides for each in table)
    return sum(each.slides * abs(each.confidence - each.accuracy) for each in table) / slides
