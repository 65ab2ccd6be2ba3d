"""One object of what several tiles saw of it.

An object belongs to the tile whose core holds the centre of its box. That rule alone counts each
object once as long as all tiles see the same box. Networks do not: a box comes out a pixel further
left where it lies at the left of the tile, and an object on a seam then belongs to two tiles, or
to none. So a tile also proposes what lies just beyond its core, and where boxes of one class that
two tiles found overlap by much, the better one stays: first one that belongs to its tile, then the
one with the higher score, then that of the earlier tile. Boxes of the same tile are left to the
network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from saccade.pipeline.objects.batch import centres_of

_CHUNK = 1 << 15  # boxes that are in a tree together


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What tiles propose, in the order of tiles and of what each found.

    Attributes:
        boxes_l0: float64 (n, 4) left, top, right, bottom.
        scores: float32 (n,).
        classes: int64 (n,).
        tiles: int64 (n,), which tile found each; never falling.
        owned: bool (n,), whether the tile's core holds the centre.
    """

    boxes_l0: NDArray[np.float64]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    tiles: NDArray[np.int64]
    owned: NDArray[np.bool_]

    @property
    def centres_l0(self) -> NDArray[np.float64]:
        """(n, 2) the middle of each box."""
        return centres_of(self.boxes_l0)

    def take(self, chosen: NDArray[np.bool_]) -> Candidates:
        """Some of the candidates."""
        return Candidates(
            self.boxes_l0[chosen],
            self.scores[chosen],
            self.classes[chosen],
            self.tiles[chosen],
            self.owned[chosen],
        )


def one_of_each(found: Candidates, most_iou: float) -> NDArray[np.bool_]:
    """Which candidates stay when each object is counted once.

    Memory: a few numbers for each candidate and for each pair of boxes of two tiles that overlap
    by more than `most_iou`.

    Args:
        found: the candidates.
        most_iou: boxes of two tiles that overlap by more, in intersection over union, are one.

    Returns:
        bool (n,). The same whatever order pairs are found in.
    """
    pairs = _overlapping(found, most_iou)
    rank = np.empty(len(found.scores), np.int64)
    rank[np.lexsort((-found.scores.astype(np.float64), ~found.owned))] = np.arange(len(rank))
    better = np.where(rank[pairs[:, 0]] < rank[pairs[:, 1]], pairs[:, 0], pairs[:, 1])
    worse = pairs.sum(axis=1) - better
    stays = np.ones(len(rank), bool)
    # From the best on, so that what has fallen itself makes nothing fall.
    for i in np.lexsort((rank[worse], rank[better])).tolist():
        if stays[better[i]]:
            stays[worse[i]] = False
    return stays


def _overlapping(found: Candidates, most_iou: float) -> NDArray[np.int64]:
    """Pairs (m, 2) of candidates of one class and two tiles that are one object."""
    boxes = found.boxes_l0
    order = np.argsort(boxes[:, 1], kind="stable")  # by their upper edges
    tops, bottoms = boxes[order, 1], boxes[order, 3]
    pairs = [np.empty((0, 2), np.int64)]
    for first in range(0, len(order), _CHUNK):
        own = order[first : first + _CHUNK]
        last = int(np.searchsorted(tops, bottoms[first : first + _CHUNK].max(), side="left"))
        others = order[first : max(last, first + len(own))]
        tree = shapely.STRtree(shapely.box(*boxes[own].T))
        i, j = tree.query(shapely.box(*boxes[others].T))
        once = first + j < first + i  # each pair when its lower box is asked for
        mine, other = own[j[once]], others[i[once]]
        same = (found.classes[mine] == found.classes[other]) & (
            found.tiles[mine] != found.tiles[other]
        )
        near = np.stack([mine[same], other[same]], axis=1)
        pairs.append(near[_iou(boxes[near[:, 0]], boxes[near[:, 1]]) > most_iou])
    return np.concatenate(pairs)


def _iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of boxes, row by row."""
    low = np.maximum(boxes[:, :2], others[:, :2])
    high = np.minimum(boxes[:, 2:], others[:, 2:])
    shared = (high - low).clip(min=0).prod(axis=1)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, others)]
    overlap: NDArray[np.float64] = shared / (areas[0] + areas[1] - shared)
    return overlap
