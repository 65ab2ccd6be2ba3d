"""What a network has to make of a tile: the class of each pixel, and where objects touch."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.annotations.truth import SlideTruth


def rim_of(instances: NDArray[np.integer], reach_px: float) -> NDArray[np.bool_]:
    """Pixels of an object that lie near to another one: within `reach_px` from centre to centre.

    Args:
        instances: number of the object of each pixel, 0 for none, (rows, cols).
        reach_px: 1 for pixels that touch another object by an edge.

    >>> rim_of(np.array([[1, 1, 1, 2, 2, 0, 3]]), 1.0).astype(int)
    array([[0, 0, 1, 1, 0, 0, 0]])
    """
    reach = math.floor(reach_px)
    padded = np.pad(instances, reach)
    rows, cols = instances.shape
    near = np.zeros(instances.shape, bool)
    for down, across in product(range(2 * reach + 1), repeat=2):
        if (down - reach) ** 2 + (across - reach) ** 2 <= reach_px**2:
            other = padded[down : down + rows, across : across + cols]
            near |= (other != instances) & (other > 0)
    return near & (instances > 0)


def target_of(
    truth: SlideTruth,
    corner_l0: tuple[float, float],
    size_px: int,
    mpp: float,
    *,
    rim_um: float = 0.0,
    instances: int | None = None,
) -> NDArray[np.uint8]:
    """The class of each pixel of a tile, 255 where none is known.

    Args:
        truth: of the slide.
        corner_l0: upper-left corner (x, y) of the tile, in level-0 pixels.
        size_px: its side.
        mpp: micrometres per pixel of it.
        rim_um: how near objects are to each other in a rim; 0 for no rim. The number of the rim's
            class comes after all classes of `truth`.
        instances: number of the class that has a rim.
    """
    if not rim_um:
        return truth.labels(*corner_l0, (size_px, size_px), mpp)
    reach_px = rim_um / mpp
    # What touches an object at the edge of the tile may lie beyond it.
    margin = math.floor(reach_px)
    x, y = (
        corner - margin * step
        for corner, step in zip(corner_l0, truth.downsample(mpp), strict=True)
    )
    wider = size_px + 2 * margin, size_px + 2 * margin
    labels = truth.labels(x, y, wider, mpp)
    objects = np.where(labels == instances, truth.instances(x, y, wider, mpp), 0)
    labels[rim_of(objects, reach_px)] = truth.classes
    return labels[margin : margin + size_px, margin : margin + size_px]
