"""Reading a box of a raster: in blocks where it is large, over the background at the edges."""

from __future__ import annotations

import numpy as np

from saccade.tiling.rasters import Raster
from saccade.tiling.resample import Box, block_means, resample
from saccade.tiling.source import RGB, Rect, Source

_MOST_PIXELS = 2**23  # read at once: 100 MB on the way through, and block edges cost little
_WHOLE = 1e-6  # pixels: so little is what is left of dividing and multiplying by a downsample


def rasters_of(source: Source, number: int) -> list[Raster]:
    """A level as it is, and decoded smaller wherever its decoder can."""
    level = source.info.levels[number]
    shrinks = source.shrinks(number)
    return [raster_of(source, number, n) for n in shrinks if n <= min(level.width, level.height)]


def raster_of(source: Source, number: int, shrink: int = 1) -> Raster:
    """A level as it is, or decoded smaller."""
    level = source.info.levels[number]
    size, downsample = (level.width // shrink, level.height // shrink), level.downsample
    if shrink > 1:
        return Raster(number, shrink, *size, downsample * shrink)
    return Raster(
        number, 1, *size, downsample, source.pitch_px(number), source.begins_whole(number)
    )


def wanted_box(
    raster: Raster,
    corner_l0: tuple[float, float],
    size_px: tuple[int, int],
    scale: tuple[float, float],
) -> Box:
    """`Raster.box`, so that blocks it may be cut into are treated alike."""
    box = raster.box(corner_l0, size_px, scale)
    return box if box.area_px <= _MOST_PIXELS else box.divisible()


def fill(pixels: RGB, source: Source, raster: Raster, box: Box) -> None:
    """Write what `box` shows into `pixels`, in blocks if it covers too much at once."""
    level = source.info.levels[raster.level]
    if not box.touches(level.width / raster.shrink, level.height / raster.shrink):
        pixels[:] = source.info.background
    elif box.area_px <= _MOST_PIXELS:
        patch = read_padded(source, raster, box.outer_px)
        pixels[:] = resample(patch, box.inner_px, box.size_px)
    elif box.size_px == (1, 1):
        finer = np.empty((2, 2, 3), np.uint8)
        fill(finer, source, raster, box.halved())
        pixels[:] = finer.mean(axis=(0, 1)).round()
    else:
        for window, half in box.halves():
            fill(pixels[window], source, raster, half)


def read_padded(source: Source, raster: Raster, rect_px: Rect) -> RGB:
    """Read (x, y, width, height) of a raster; what lies outside the level is background."""
    shrink = raster.shrink
    x, y, width, height = rect_px
    if max(abs(x - round(x)), abs(y - round(y))) > _WHOLE:
        # Cut off at the edge of the level, it would begin elsewhere.
        return source.read_level(raster.level, x, y, (width, height))
    x, y = round(x), round(y)
    left, right = max(0, -x), min(width, raster.width - x)
    top, bottom = max(0, -y), min(height, raster.height - y)
    inside = right > left and bottom > top
    if inside and (left, top, right, bottom) == (0, 0, width, height):
        return source.read_shrunk(raster.level, (x, y, width, height), shrink)
    padded = np.empty((height, width, 3), np.uint8)
    padded[:] = source.info.background
    if inside:
        part = x + left, y + top, right - left, bottom - top
        padded[top:bottom, left:right] = source.read_shrunk(raster.level, part, shrink)
    if shrink > 1:
        _fill_far_edges(padded, source, raster, (x, y))
    return padded


def _fill_far_edges(padded: RGB, source: Source, raster: Raster, corner: tuple[int, int]) -> None:
    """Write the last column and row where the level fills their pixels only in part."""
    level, shrink = source.info.levels[raster.level], raster.shrink
    whole, block = raster_of(source, raster.level), (shrink, shrink)
    (x, y), (height, width, _) = corner, padded.shape
    if level.width % shrink and 0 <= (col := raster.width - x) < width:
        strip = (raster.width * shrink, y * shrink, shrink, height * shrink)
        padded[:, col] = block_means(read_padded(source, whole, strip), block)[:, 0]
    if level.height % shrink and 0 <= (row := raster.height - y) < height:
        strip = (x * shrink, raster.height * shrink, width * shrink, shrink)
        padded[row] = block_means(read_padded(source, whole, strip), block)[0]
