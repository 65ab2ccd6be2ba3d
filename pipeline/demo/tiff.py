"""Writes stains as a pyramidal TIFF: JPEG tiles, levels 1, 1/4, 1/16, as OpenSlide opens it."""

from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from saccade.pipeline.demo.draw import GLASS_PX, Drawing, draw_glass
from saccade.pipeline.demo.stains import colours

TILE_PX = 256
_STEP = 4
_QUALITY = 80


def write_pyramid(path: Path, drawing: Drawing, *, mpp: float) -> None:
    """Write the drawing; tiles of bare glass are compressed once and written many times."""
    levels = [np.empty((n, n, 3), np.uint8) for n in _lower_sides(len(drawing.stains))]
    with tifffile.TiffWriter(path) as tiff:
        _write_level(tiff, _finest_tiles(drawing, levels[0]), len(drawing.stains), mpp, reduced=0)
        for i, level in enumerate(levels):
            if i:
                level[...] = _smaller(levels[i - 1])
            _write_level(tiff, _tiles(level), len(level), mpp * _STEP ** (i + 1), reduced=1)


def _lower_sides(side_px: int) -> list[int]:
    """Return the sides of the levels below the finest; the last is the last to fill a tile."""
    sides = [side_px // _STEP]
    while sides[-1] // _STEP >= TILE_PX:
        sides.append(sides[-1] // _STEP)
    return sides


def _write_level(
    tiff: tifffile.TiffWriter, tiles: Iterator[bytes], side_px: int, mpp: float, *, reduced: int
) -> None:
    per_cm = 10_000 / mpp
    tiff.write(
        tiles,
        shape=(side_px, side_px, 3),
        dtype=np.uint8,
        tile=(TILE_PX, TILE_PX),
        photometric="rgb",  # stored as YCbCr; naming that here would make a magenta slide
        compression="jpeg",
        subfiletype=reduced,
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
        metadata=None,
        software=False,
    )


def _finest_tiles(drawing: Drawing, smaller: NDArray[np.uint8]) -> Iterator[bytes]:
    """Yield the tiles of level 0 row by row, and fill the level below on the way."""
    table, glass = drawing.stain.table(), draw_glass()
    bare: dict[tuple[int, int], tuple[bytes, NDArray[np.uint8]]] = {}
    side = len(drawing.stains)
    for y in range(0, side, TILE_PX):
        for x in range(0, side, TILE_PX):
            stains = drawing.stains[y : y + TILE_PX, x : x + TILE_PX]
            at = y % GLASS_PX, x % GLASS_PX
            is_bare = not stains.any()
            if is_bare and at in bare:
                data, small = bare[at]
            else:
                shine = glass[at[0] : at[0] + TILE_PX, at[1] : at[1] + TILE_PX]
                rgb = colours(np.minimum(stains, 240) + shine, table)
                data, small = _compress(rgb), _smaller(rgb)
            if is_bare:
                bare[at] = data, small
            half = TILE_PX // _STEP
            row, col = y // _STEP, x // _STEP
            smaller[row : row + half, col : col + half] = small
            yield data


def _tiles(level: NDArray[np.uint8]) -> Iterator[bytes]:
    """Yield the tiles of a level row by row; those at the far edges are padded."""
    over = -len(level) % TILE_PX
    padded = np.pad(level, ((0, over), (0, over), (0, 0)), mode="edge")
    for y in range(0, len(padded), TILE_PX):
        for x in range(0, len(padded), TILE_PX):
            yield _compress(padded[y : y + TILE_PX, x : x + TILE_PX])


def _compress(rgb: NDArray[np.uint8]) -> bytes:
    data = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(rgb),
        level=_QUALITY,
        colorspace="RGB",
        outcolorspace="YCBCR",
        subsampling="420",
    )
    return bytes(data)


def _smaller(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return means over blocks of 4 x 4, rounded half up."""
    height, width = (n // _STEP for n in rgb.shape[:2])
    rows = np.zeros((height, _STEP * width, 3), np.uint16)
    total = np.full((height, width, 3), _STEP**2 // 2, np.uint16)
    for i in range(_STEP):
        rows += rgb[i::_STEP]
    for i in range(_STEP):
        total += rows[:, i::_STEP]
    return np.asarray(total // np.uint16(_STEP**2), np.uint8)
