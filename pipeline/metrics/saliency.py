"""How good a predicted map of attention is, held against where people looked.

Maps are (rows, cols). Fixations are a map, too: how many fell on each pixel. The conventions are
those of the MIT/Tuebingen benchmark; the measures are compared by Bylinskii et al., "What do
different evaluation metrics tell us about saliency models?", PAMI 2019,
https://arxiv.org/abs/1604.03605:

- `nss`, `auc_judd` and `shuffled_auc` only ask for the order, or the contrast, of a map's values at
  fixations; they take any map. A map that says nothing has 0, 1/2 and 1/2.
- `cc`, `sim` and `kld` compare a map with another one, such as blurred fixations.
- `information_gain` takes a map as probabilities; it is 0 for the baseline itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating[Any]] | NDArray[np.integer[Any]] | NDArray[np.bool_]

_EPSILON = float(np.finfo(np.float64).eps)  # 2.2204e-16, as the benchmark; training has its own


def nss(saliency: Map, fixations: Map) -> float:
    """Normalised scanpath saliency: mean at fixations of the map in its standard deviations.

    Args:
        saliency: predicted map.
        fixations: how many fell on each pixel.

    Raises:
        ValueError: if the maps differ in shape, or there is no fixation.
    """
    _require_fixations(saliency, fixations)
    return float((_standardised(saliency) * fixations).sum() / np.sum(fixations))


def cc(saliency: Map, density: Map) -> float:
    """Pearson's correlation of two maps; 0 if one of them is the same everywhere."""
    _require_alike(saliency, density)
    return float((_standardised(saliency) * _standardised(density)).mean())


def sim(saliency: Map, density: Map) -> float:
    """Similarity: what two maps have in common, each brought to the sum 1; 1 if they are equal."""
    _require_alike(saliency, density)
    return float(np.minimum(_distribution(saliency), _distribution(density)).sum())


def kld(saliency: Map, density: Map) -> float:
    """Kullback-Leibler divergence of the true density from the predicted one, in nats."""
    _require_alike(saliency, density)
    p, q = _distribution(saliency), _distribution(density)
    return float((q * np.log(_EPSILON + q / (_EPSILON + p))).sum())


def auc_judd(saliency: Map, fixations: Map) -> float:
    """Chance that a fixated pixel has a higher value than any pixel of the map; ties count half.

    Every pixel is a negative, the fixated ones included.

    Raises:
        ValueError: if the maps differ in shape, or there is no fixation.
    """
    return shuffled_auc(saliency, fixations, np.ones(np.shape(saliency)))


def shuffled_auc(saliency: Map, fixations: Map, others: Map) -> float:
    """Chance that a fixated pixel has a higher value than one that was fixated in other images.

    A map that only knows where people tend to look, whatever the image, has 1/2.

    Args:
        saliency: predicted map.
        fixations: how many fell on each pixel of this image.
        others: how many fell there in other images, brought to the shape of this one.

    Raises:
        ValueError: if the maps differ in shape, or there is no fixation here or there.
    """
    _require_fixations(saliency, fixations)
    _require_fixations(saliency, others)
    values, places = np.unique(saliency, return_inverse=True)
    hits, misses = (
        np.bincount(places.ravel(), weights=np.ravel(each), minlength=len(values))
        for each in (fixations, others)
    )
    below = np.cumsum(misses) - misses
    return float((hits * (below + misses / 2)).sum() / hits.sum() / misses.sum())


def information_gain(saliency: Map, fixations: Map, baseline: Map) -> float:
    """Bits a fixation by which a map predicts fixations better than another map, such as a prior.

    Args:
        saliency: predicted density, of any sum.
        fixations: how many fell on each pixel.
        baseline: density to be better than.

    Raises:
        ValueError: if the maps differ in shape, or there is no fixation.
    """
    _require_fixations(saliency, fixations)
    _require_alike(baseline, fixations)
    gain = np.log2(_EPSILON + _distribution(saliency)) - np.log2(_EPSILON + _distribution(baseline))
    return float((gain * fixations).sum() / np.sum(fixations))


def _standardised(values: Map) -> NDArray[np.float64]:
    """With mean 0 and standard deviation 1; 0 everywhere if there is no deviation."""
    centred = np.asarray(values, np.float64) - np.mean(values, dtype=np.float64)
    if np.ptp(values.astype(np.float64)) == 0:
        return np.zeros_like(centred)
    return np.asarray(centred / centred.std())


def _distribution(values: Map) -> NDArray[np.float64]:
    """With the sum 1: moved up if anything is negative; even if nothing is left to divide by."""
    plain = np.asarray(values, np.float64)
    plain = plain - min(0.0, float(plain.min()))
    total = plain.sum()
    return np.asarray(plain / total if total > 0 else np.full_like(plain, 1 / plain.size))


def _require_alike(one: Map, other: Map) -> None:
    if np.shape(one) != np.shape(other):
        raise ValueError(f"maps must have one shape, got {np.shape(one)} and {np.shape(other)}.")


def _require_fixations(saliency: Map, fixations: Map) -> None:
    _require_alike(saliency, fixations)
    if not float(np.sum(fixations)) > 0 or float(np.min(fixations)) < 0:
        raise ValueError("wanted counts of fixations, at least one in all; found none.")
