"""How good found objects are, held against those that are there: by their boxes, or their centres.

Boxes are (x1, y1, x2, y2), the edges of a rectangle, in any unit; boxes of whole pixels need
`saccade.models.detection.edges_of` first. All measures are of one class, over any number of
images, which count together: an image with many objects counts for more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

Numbers = NDArray[np.floating[Any]] | NDArray[np.integer[Any]]


def average_precision(
    boxes: Sequence[Numbers],
    scores: Sequence[Numbers],
    truths: Sequence[Numbers],
    *,
    overlap: float = 0.5,
) -> float:
    """Area under the curve of precision and recall; AP50 by default.

    Boxes of all images are taken by falling score. Each is right if the truth that it overlaps most
    (IoU) is overlapped by at least `overlap`, and not by a box before; so the second box of an
    object is wrong. At each recall counts the highest precision there or at any higher recall, at
    all points (PASCAL VOC from 2010 on, Everingham et al., IJCV 2015, section 4.2), not at eleven.

    Args:
        boxes: those found in each image, (n, 4).
        scores: of these, (n,). Boxes of the same score count together, whatever their order.
        truths: boxes of the objects of each image, (m, 4).
        overlap: IoU from which on a box is that of an object.

    Raises:
        ValueError: if the lists do not fit together, or there is no object at all, so that there is
            no recall.
    """
    _require_alike(boxes, scores, truths)
    objects = sum(map(len, truths))
    if objects == 0:
        raise ValueError("no image has an object; average precision needs at least one.")
    score = np.concatenate([np.asarray(each, np.float64) for each in scores])
    right = np.concatenate(
        [_right(*of_image, overlap) for of_image in zip(boxes, scores, truths, strict=True)]
    )
    order = np.argsort(-score, kind="stable")
    last_of_score = np.flatnonzero(np.diff(score[order], append=np.nan) != 0)
    hits = np.cumsum(right[order])[last_of_score]
    precision, recall = hits / (1 + last_of_score), hits / objects
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * best_from_here).sum())


def box_overlap(boxes: Numbers, others: Numbers) -> NDArray[np.float64]:
    """Intersection over union of each box (n, 4) with each of the others (m, 4), as (n, m)."""
    a = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    b = np.asarray(others, np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(min=0).prod(axis=2)
    union = sum((each[..., 2:] - each[..., :2]).prod(axis=2) for each in (a, b)) - common
    overlap: NDArray[np.float64] = np.zeros(common.shape)
    np.divide(common, union, out=overlap, where=union > 0)
    return overlap


@dataclass(frozen=True, slots=True)
class Hits:
    """How many objects were found, how many were not, and how much was found that is none.

    Attributes:
        found: pairs of a found centre and a true one.
        wrong: found centres without a true one.
        missed: true centres without a found one.
    """

    found: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of what was found that is there; 0 if nothing was found."""
        return self.found / max(1, self.found + self.wrong)

    @property
    def recall(self) -> float:
        """Share of what is there that was found; 0 if nothing is there."""
        return self.found / max(1, self.found + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 1 if nothing is there and nothing was found."""
        twice = 2 * self.found
        return (
            twice / (twice + self.wrong + self.missed) if twice + self.wrong + self.missed else 1.0
        )


def centre_hits(centres: Sequence[Numbers], truths: Sequence[Numbers], *, distance: float) -> Hits:
    """Pair found centres with true ones, each with one at most, and count.

    In each image as many pairs are made as can be, and of all ways to do so that with the least sum
    of distances is taken (Hungarian method). So the count hangs on no order, and two centres in one
    object are one hit and one that is wrong.

    Args:
        centres: found in each image, (n, 2).
        truths: centres of the objects of each image, (m, 2).
        distance: how far from each other the two of a pair may be, in the unit of the centres.

    Raises:
        ValueError: if there are not as many images with truths as with centres, or the distance is
            negative.
    """
    if len(centres) != len(truths) or distance < 0:
        raise ValueError(
            "need found and true centres of the same images and a distance of 0 or more, "
            f"got {len(centres)} and {len(truths)} images and {distance}."
        )
    pairs = sum(_pairs(*of_image, distance) for of_image in zip(centres, truths, strict=True))
    return Hits(pairs, sum(map(len, centres)) - pairs, sum(map(len, truths)) - pairs)


def _pairs(centres: Numbers, truths: Numbers, distance: float) -> int:
    apart = cdist(np.reshape(centres, (-1, 2)), np.reshape(truths, (-1, 2)))
    near = apart <= distance
    # One pair too far apart costs more than all others together: as few as possible are made.
    too_far = (1 + distance) * (1 + min(apart.shape))
    rows, cols = linear_sum_assignment(np.where(near, apart, too_far))
    return int(near[rows, cols].sum())


def _right(boxes: Numbers, scores: Numbers, truths: Numbers, overlap: float) -> NDArray[np.bool_]:
    """Which boxes of an image are the first of an object."""
    right = np.zeros(len(boxes), bool)
    if not len(boxes) or not len(truths):
        return right
    covered = box_overlap(boxes, truths)
    nearest, best = covered.argmax(axis=1), covered.max(axis=1)
    taken = set()
    for number in np.argsort(-np.asarray(scores, np.float64), kind="stable"):
        if best[number] >= overlap and nearest[number] not in taken:
            taken.add(nearest[number])
            right[number] = True
    return right


def _require_alike(
    boxes: Sequence[Numbers], scores: Sequence[Numbers], truths: Sequence[Numbers]
) -> None:
    if not len(boxes) == len(scores) == len(truths):
        raise ValueError(
            "need boxes, scores and truths of the same images, "
            f"got {len(boxes)}, {len(scores)} and {len(truths)}."
        )
    for number, (found, score) in enumerate(zip(boxes, scores, strict=True)):
        if len(found) != len(score):
            raise ValueError(
                f"image {number} has {len(found)} boxes, but {len(score)} scores of them."
            )
