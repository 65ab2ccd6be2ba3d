"""How good a detector is on tiles whose objects are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from saccade.models.detector import Found, Known
from saccade.pipeline.metrics.detection import Hits, average_precision, centre_hits

_SCORES = tuple(round(0.05 * step, 2) for step in range(1, 20))
LOWEST_SCORE = _SCORES[0]
"""Less likely objects need not be found to be judged."""


def judge(
    found: Sequence[Found], known: Sequence[Known], *, classes: int, near_px: float
) -> dict[str, float]:
    """Hold what was found against what is there.

    Args:
        found: in each tile, with all scores from `LOWEST_SCORE` on.
        known: objects of each tile.
        classes: how many there are.
        near_px: how far from a true centre a found one may lie.

    Returns:
        `ap50`, average precision at an IoU of 0.5, the mean over those classes of which there is an
        object; `f1` of centres over all classes, at the `score` from which on it is highest, and
        `precision` and `recall` there. Nothing if there is no object at all.
    """
    present = [i for i in range(classes) if any((each.classes == i).any() for each in known)]
    if not present:
        return {}
    of_class = [_of_class(found, known, number) for number in range(classes)]
    precisions = [average_precision(*of_class[number]) for number in present]
    hits = {score: _hits(of_class, score, near_px) for score in _SCORES}
    score, best = max(hits.items(), key=lambda item: item[1].f1)
    return {
        "ap50": float(np.mean(precisions)),
        "f1": best.f1,
        "precision": best.precision,
        "recall": best.recall,
        "score": score,
    }


_OfClass = tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], list[NDArray[np.float32]]]
"""Boxes found, their scores, and true boxes, of each tile."""


def _of_class(found: Sequence[Found], known: Sequence[Known], number: int) -> _OfClass:
    boxes = [each.boxes[each.classes == number].cpu().numpy() for each in found]
    scores = [each.scores[each.classes == number].cpu().numpy() for each in found]
    truths = [each.boxes[each.classes == number].cpu().numpy() for each in known]
    return boxes, scores, truths


def _hits(of_class: Sequence[_OfClass], score: float, near_px: float) -> Hits:
    """Hits of all classes together, of what was found at least as likely as `score`."""
    parts = []
    for boxes, scores, truths in of_class:
        kept = [_centres(b[s >= score]) for b, s in zip(boxes, scores, strict=True)]
        parts.append(centre_hits(kept, [_centres(b) for b in truths], distance=near_px))
    return Hits(
        found=sum(each.found for each in parts),
        wrong=sum(each.wrong for each in parts),
        missed=sum(each.missed for each in parts),
    )


def _centres(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    centres: NDArray[np.float64] = boxes.astype(np.float64).reshape(-1, 2, 2).mean(axis=1)
    return centres
