"""How the areas of a class are split into objects: a watershed from the depths of the areas.

The core of an object is the area, less the rim, where the model has learned one; a cell is as deep
as it is far from what is no core. Each peak of depth that rises by `LEAST_RISE` cells over the
saddles around it is an object. The core is flooded from the peaks, the deepest cells first (Meyer
1991, with markers), then objects grow by one cell at a time into what is left of the area. Areas
are those that hang together by edges; none has less than one object. What becomes of an area
depends on nothing but the area: cells of one depth are taken row by row, not as they come.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

from saccade.pipeline.segment.objects import Mask, Split
from saccade.pipeline.segmentation.model_file import SegmentationCard

LEAST_RISE = 1.25

_CORNERS = np.ones((3, 3), bool)


def split_of(card: SegmentationCard) -> Split | None:
    """The rule for a model; None if none of its classes consists of objects."""
    if card.instances is None:
        return None
    inside = card.classes.index(card.instances)
    rim = None if card.rim is None else card.classes.index(card.rim)

    def split(scores: NDArray[np.float32], mask: Mask) -> NDArray[np.int32]:
        core = mask if rim is None else mask & (scores[inside] > scores[rim])
        return split_by_depth(mask, core)

    return split


def split_by_depth(mask: Mask, core: Mask) -> NDArray[np.int32]:
    """Number the objects of a mask (rows, cols) from 1, by the depth of its cells in their core."""
    areas, count = ndimage.label(mask)
    depth = ndimage.distance_transform_edt(core)
    peaks, _ = ndimage.label(h_maxima(depth, LEAST_RISE).astype(bool) & core, structure=_CORNERS)
    # Peaks of areas that meet at a corner are two.
    marked = peaks.astype(np.int64) * (count + 1) + areas
    without = np.ones(count + 1, bool)
    without[np.unique(areas[peaks > 0])] = False
    marked = np.where((peaks > 0) | (without[areas] & mask), marked, 0)
    _, markers = np.unique(np.append(marked, 0), return_inverse=True)
    markers = markers[:-1].reshape(mask.shape)
    flooded = watershed(_ranks(-depth), markers, mask=core | (markers > 0))
    return _grown(np.where(markers > 0, markers, flooded), mask).astype(np.int32)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of each cell in the order of values, row by row among equals."""
    ranks = np.empty(values.size, np.int64)
    ranks[np.argsort(values, axis=None, kind="stable")] = np.arange(values.size)
    return ranks.reshape(values.shape)


def _grown(numbers: NDArray[np.integer], mask: Mask) -> NDArray[np.int64]:
    """Let objects grow into the rest of the mask, all of them by a cell at a time."""
    grown = np.pad(np.asarray(numbers, np.int64), 1)
    left = np.flatnonzero(np.pad(mask, 1) & (grown == 0))
    flat, beside = grown.ravel(), (-grown.shape[1], -1, 1, grown.shape[1])
    while len(left):
        # Of several objects the one above, then the one on the left takes the cell.
        taken = np.zeros(len(left), np.int64)
        for step in beside:
            taken = np.where(taken > 0, taken, flat[left + step])
        if not taken.any():
            break
        flat[left] = taken
        left = left[taken == 0]
    return grown[1:-1, 1:-1]
