"""The levels of a pyramid: which there are, and writing them in pieces of bounded size.

Memory, whatever the slide: one shard of the level at hand and its compressed copy, one block of
source pixels per thread, and, for the tissue, one coarse level of at most `_TISSUE_PX` pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from saccade.tiling.area import halve, halve_fraction
from saccade.tiling.grid import CellGrid
from saccade.tiling.slide import Slide
from saccade.tiling.tissue import TissueSettings, tissue_mask

_CHUNK = 512  # what a viewer fetches
_SHARD = 2048  # what becomes one file
_SOURCE = 2048  # side of the source area that one read may cover, in pixels as they are decoded
_STORED = 4096  # the same, in pixels as they are stored
_TISSUE_MPP = 8.0
_TISSUE_PX = 1 << 22

Window = tuple[slice, slice]
Tick = Callable[[], None]


@dataclass(frozen=True, slots=True)
class PyramidSettings:
    """How a pyramid is built.

    Attributes:
        finest_mpp: micrometres per pixel of its finest level; the slide's own mpp if coarser.
        smallest_px: levels are added until the longer side of the last has at most this length.
        tissue: what counts as tissue.

    Raises:
        ValueError: if `finest_mpp` is not positive, or `smallest_px` outside 1 to 2048; more
            would leave a large slide without a level that fits into memory.
    """

    finest_mpp: float = 4.0
    smallest_px: int = 512
    tissue: TissueSettings = field(default_factory=TissueSettings)

    def __post_init__(self) -> None:
        if not 0 < self.finest_mpp < math.inf:
            raise ValueError(f"finest_mpp must be positive, got {self.finest_mpp}.")
        if not 1 <= self.smallest_px <= _SHARD:
            raise ValueError(f"smallest_px must be 1 to {_SHARD}, got {self.smallest_px}.")


@dataclass(frozen=True, slots=True)
class PyramidLevel:
    """One resolution of a pyramid: (rows, cols), and micrometres per pixel in x and y."""

    shape: tuple[int, int]
    mpp: float


def plan_levels(slide: Slide, settings: PyramidSettings) -> tuple[PyramidLevel, ...]:
    """Levels from the finest on, each half the one before, lengths rounded up."""
    mpp = max(settings.finest_mpp, *slide.mpp)
    levels = [PyramidLevel(CellGrid.covering(slide.size_l0, slide.downsample_for(mpp)).shape, mpp)]
    while max(levels[-1].shape) > settings.smallest_px:
        rows, cols = levels[-1].shape
        levels.append(PyramidLevel((-(-rows // 2), -(-cols // 2)), levels[-1].mpp * 2))
    return tuple(levels)


def create_array(
    group: zarr.Group, number: int, shape: tuple[int, ...], axes: tuple[str, ...]
) -> zarr.Array[Any]:
    """An array for one level, a single file where it fits into a shard."""
    shard = [min(_SHARD, -(-length // _CHUNK) * _CHUNK) for length in shape[-2:]]
    channels = shape[:-2]
    array: zarr.Array[Any] = group.create_array(
        str(number),
        shape=shape,
        dtype="uint8",
        chunks=(*(1 for _ in channels), _CHUNK, _CHUNK),
        shards=(*channels, *shard),
        compressors=ZstdCodec(level=3),
        fill_value=0,
        dimension_names=axes,
    )
    return array


def count_blocks(slide: Slide, level: PyramidLevel) -> int:
    """How often `write_finest` will tick."""
    block = _block_px(slide, level.mpp)
    shards = (_shape(window) for window in _windows(level.shape, _SHARD))
    return sum(-(-rows // block) * -(-cols // block) for rows, cols in shards)


def write_finest(
    slide: Slide, array: zarr.Array[Any], level: PyramidLevel, *, workers: int, tick: Tick
) -> None:
    """Read the slide at the scale of `level` block by block; write each shard once."""
    scale = slide.downsample_for(level.mpp)
    block = _block_px(slide, level.mpp)
    with ThreadPoolExecutor(workers) as pool:
        for rows, cols in _windows(level.shape, _SHARD):
            pixels = np.empty((*_shape((rows, cols)), 3), np.uint8)
            # `tick` stays in this thread: a progress bar need not be thread-safe.
            for _ in pool.map(
                lambda part, pixels=pixels, x=cols.start, y=rows.start: _read_into(
                    pixels, part, slide, (x, y), scale, level.mpp
                ),
                _windows(pixels.shape[:2], block),
            ):
                tick()
            array[:, rows, cols] = np.moveaxis(pixels, 2, 0)


def _read_into(
    pixels: NDArray[np.uint8],
    part: Window,
    slide: Slide,
    corner: tuple[int, int],
    scale: tuple[float, float],
    mpp: float,
) -> None:
    rows, cols = _shape(part)
    x_l0, y_l0 = (corner[0] + part[1].start) * scale[0], (corner[1] + part[0].start) * scale[1]
    pixels[part] = slide.read(x_l0, y_l0, (cols, rows), mpp)


def write_half(finer: zarr.Array[Any], coarser: zarr.Array[Any]) -> None:
    """Write 2 x 2 means of one level as the next."""
    for rows, cols in _windows(coarser.shape[1:], _SHARD):
        pixels = np.empty((3, *_shape((rows, cols))), np.uint8)
        for part, _ in _windows((pixels.shape[1], 1), _CHUNK):
            above = slice(2 * (rows.start + part.start), 2 * (rows.start + part.stop))
            pixels[:, part] = halve(
                np.asarray(finer[:, above, 2 * cols.start : 2 * cols.stop], np.uint8)
            )
        coarser[:, rows, cols] = pixels


def tissue_level(levels: tuple[PyramidLevel, ...]) -> int:
    """Number of the level on which tissue is looked for: fine enough to see it, not larger."""
    for number, level in enumerate(levels):
        if level.mpp >= _TISSUE_MPP * (1 - 1e-6) and math.prod(level.shape) <= _TISSUE_PX:
            return number
    return len(levels) - 1


def find_tissue(
    array: zarr.Array[Any], mpp: float, settings: TissueSettings
) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Tissue mask of a level, and the level's pixels (rows, cols, 3)."""
    rgb = np.ascontiguousarray(np.moveaxis(np.asarray(array[:], np.uint8), 0, 2))
    return tissue_mask(rgb, mpp, settings=settings), rgb


def write_labels(arrays: list[zarr.Array[Any]], mask: NDArray[np.bool_], at: int) -> None:
    """Write `mask`, which is of level `at`, to all levels.

    Finer levels repeat its pixels; on coarser ones a pixel is tissue if half of it is.
    """
    for number in range(at + 1):
        for window in _windows(arrays[number].shape, _SHARD):
            rows, cols = (np.arange(part.start, part.stop) >> (at - number) for part in window)
            arrays[number][window] = mask[np.ix_(rows, cols)].astype(np.uint8)
    fraction = mask.astype(np.float32)
    for array in arrays[at + 1 :]:
        fraction = halve_fraction(fraction)
        array[:] = (fraction >= 0.5).astype(np.uint8)


def _block_px(slide: Slide, mpp: float) -> int:
    """Side of the blocks to read, so that each covers a bounded area of the level it is read from.

    A power of two, so that blocks fill shards exactly.
    """
    raster = slide.raster_for(mpp)
    reduction = max(max(slide.downsample_for(mpp)) / raster.downsample, 1.0)
    side = min(_SOURCE, _STORED / raster.shrink) / reduction
    doublings = max(0, math.floor(math.log2(side) + 1e-9))
    return min(_SHARD, 1 << doublings)


def _windows(shape: tuple[int, ...], side: int) -> Iterator[Window]:
    """Squares of `side` that cover (rows, cols), row by row; smaller at the far edges."""
    rows, cols = shape
    for row in range(0, rows, side):
        for col in range(0, cols, side):
            yield slice(row, min(row + side, rows)), slice(col, min(col + side, cols))


def _shape(window: Window) -> tuple[int, int]:
    rows, cols = window
    return rows.stop - rows.start, cols.stop - cols.start
