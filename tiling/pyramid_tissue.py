"""The tissue mask of a pyramid: found on one coarse level, written for all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from saccade.tiling.area import area_mean, halve_fraction, nearest
from saccade.tiling.chunk_codec import ZSTD
from saccade.tiling.pyramid_levels import PyramidLevel, Shape
from saccade.tiling.shards import ShardedArray
from saccade.tiling.tissue import TissueSettings, tissue_mask

Mask = NDArray[np.bool_]


def pixels_of(array: zarr.Array[Any]) -> NDArray[np.uint8]:
    """A whole level as (rows, cols, 3)."""
    return np.ascontiguousarray(np.moveaxis(np.asarray(array[:], np.uint8), 0, 2))


def find_tissue(rgb: NDArray[np.uint8], level: PyramidLevel, settings: TissueSettings) -> Mask:
    """Tissue mask (rows, cols) of a level's pixels; what is not square is looked at squared."""
    x, y = level.mpp_xy
    if math.isclose(x, y, rel_tol=1e-6):
        return tissue_mask(rgb, level.mpp, settings=settings)
    ratio = level.mpp / y, level.mpp / x
    shape = math.ceil(level.shape[0] / ratio[0]), math.ceil(level.shape[1] / ratio[1])
    square = area_mean(lambda first, last: rgb[first:last], level.shape, shape, ratio)
    mask = tissue_mask(np.rint(square).astype(np.uint8), level.mpp, settings=settings)
    return nearest(mask, level.shape, (1 / ratio[0], 1 / ratio[1]))


def write_masks(arrays: Sequence[ShardedArray], mask: Mask, at: int) -> None:
    """Write `mask`, which is of level `at`, to all levels.

    Finer levels repeat its pixels; on coarser ones a pixel is tissue if half of it is.
    """
    for number in range(at + 1):
        _write(arrays[number], mask, at - number)
    fraction = mask.astype(np.float32)
    for array in arrays[at + 1 :]:
        fraction = halve_fraction(fraction)
        _write(array, fraction >= 0.5, 0)


def _write(array: ShardedArray, mask: Mask, doublings: int) -> None:
    """Write a mask in pixels that are repeated so many times over; most chunks are all alike."""
    (rows, cols), (high, wide) = array.shape, array.chunk
    ones = ZSTD.encoded(np.ones((high, wide), np.uint8), (high, wide))
    for row, col in product(range(-(-rows // high)), range(-(-cols // wide))):
        top, left = row * high, col * wide
        size = min(high, rows - top), min(wide, cols - left)
        part = _part(mask, (top, left), size, doublings)
        if part.all() and size == (high, wide):
            array.put((row, col), ones)
        elif not part.any():
            array.put((row, col), None)
        else:
            array.put(
                (row, col),
                ZSTD.encoded(_repeated(part, (top, left), size, doublings), (high, wide)),
            )


def _part(mask: Mask, corner: tuple[int, int], size: Shape, doublings: int) -> Mask:
    """The pixels of `mask` that touch a rectangle of the larger image."""
    rows, cols = (
        slice(at >> doublings, (at + n - 1 >> doublings) + 1)
        for at, n in zip(corner, size, strict=True)
    )
    return mask[rows, cols]


def _repeated(
    part: Mask, corner: tuple[int, int], size: Shape, doublings: int
) -> NDArray[np.uint8]:
    """The rectangle itself; `part` begins with the pixel that its corner lies in."""
    times = 1 << doublings
    top, left = (at % times for at in corner)
    wide = part.view(np.uint8).repeat(times, axis=1)[:, left : left + size[1]]
    return wide.repeat(times, axis=0)[top : top + size[0]]
