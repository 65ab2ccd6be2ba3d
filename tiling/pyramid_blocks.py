"""Reading a slide for its pyramid: at the scale of a thumbnail, or level 0 as it is stored."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from numpy.typing import NDArray

from saccade.tiling.area import halve
from saccade.tiling.errors import PyramidError
from saccade.tiling.jpeg_codec import encode_jpeg
from saccade.tiling.pyramid_levels import (
    Cut,
    PyramidLevel,
    PyramidSettings,
    Shape,
    full_cut,
    thumbnail_cut,
)
from saccade.tiling.pyramid_pass import Blocks, Chunk, Found, Piece, Planes, Window
from saccade.tiling.slide import Slide
from saccade.tiling.source import RGB, StoredTiles

_SOURCE = 2048  # side of the source area that one read may cover, in pixels as they are decoded
_STORED = 4096  # the same, in pixels as they are stored
_LARGEST = 2048  # side of a block, in its own pixels
_MCU = 16  # JPEG codes squares of up to this side; so are TIFF's tiles multiples of it


def blocks_of(
    slide: Slide, levels: tuple[PyramidLevel, ...], settings: PyramidSettings
) -> tuple[Blocks, Cut]:
    """How a slide is read for a pyramid, and how the levels are cut.

    Raises:
        PyramidError: if JPEG tiles are to be copied and there are none.
    """
    if not settings.full:
        return ThumbnailBlocks(slide, levels[0]), thumbnail_cut()
    tiles = slide.stored_tiles()
    if settings.codec != "zstd" and tiles is not None and _can_be_copied(tiles):
        copied = CopiedBlocks(slide, tiles, len(levels) > 1)
        return copied, full_cut(copied.block, copied.tile)
    if settings.codec == "jpeg":
        raise PyramidError(
            f"{slide.name}: codec jpeg copies JPEG tiles, but level 0 of this slide does not "
            "consist of such (8 bits, three colours). Choose zstd, or auto."
        )
    stored = StoredBlocks(slide, None if tiles is None else tiles.tile_px)
    return stored, full_cut(stored.block, None)


class ThumbnailBlocks:
    """Reads a slide at the scale of a level.

    A block covers at most 2048 x 2048 pixels as they are decoded and 4096 x 4096 as they are
    stored, of whatever level of the slide serves.
    """

    def __init__(self, slide: Slide, level: PyramidLevel) -> None:
        self._slide, self._mpp = slide, level.mpp
        self._scale = slide.downsample_for(level.mpp)
        self.shape = level.shape
        side = self._side()
        self.block = side, side

    def read(self, window: Window) -> Found:
        """The pixels of a block."""
        rows, cols = _shape(window)
        x_l0, y_l0 = window[1].start * self._scale[0], window[0].start * self._scale[1]
        if rows == cols:  # the same pixels, and tiles of the file are decoded straight into place
            corner = np.array([[x_l0, y_l0]])
            (pixels,) = self._slide.read_tiles(corner, cols, self._mpp)
        else:
            pixels = self._slide.read(x_l0, y_l0, (cols, rows), self._mpp)
        return Found([], Piece(0, _corner(window), _planes(pixels)))

    def _side(self) -> int:
        """A power of two, so that blocks fill chunks and shards exactly."""
        raster = self._slide.raster_for(self._mpp)
        reduction = max(max(self._scale) / raster.downsample, 1.0)
        side = min(_SOURCE, _STORED / raster.shrink) / reduction
        return min(_LARGEST, 1 << max(0, math.floor(math.log2(side) + 1e-9)))


class StoredBlocks:
    """Reads the pixels of level 0, in blocks of whole tiles of the file where that can be."""

    def __init__(self, slide: Slide, tile_px: tuple[int, int] | None) -> None:
        self._slide = slide
        self.shape = slide.size_l0[1], slide.size_l0[0]
        nests = tile_px is not None and all(_nests(n, _SOURCE) for n in tile_px)
        wide, high = tile_px if tile_px is not None and nests else (_SOURCE, _SOURCE)
        self.block = _filled(high, _SOURCE), _filled(wide, _SOURCE)

    def read(self, window: Window) -> Found:
        """The pixels of a block."""
        pixels = _planes(self._slide.read_stored(_rect(window)))
        return Found([], Piece(0, _corner(window), pixels))


class CopiedBlocks:
    """Copies the JPEG tiles of level 0, and has level 1 from the decoder, at half the size.

    Where the slide ends after an odd row or column, the decoder would mix what the last tiles hold
    beyond it into the last pixels; that row of tiles, or that block, is decoded whole and halved. A
    tile that the file leaves out, or that is smaller than the others, is encoded anew from what the
    slide shows.
    """

    def __init__(self, slide: Slide, tiles: StoredTiles, wants_half: bool) -> None:
        self._slide, self._tiles, self._wants_half = slide, tiles, wants_half
        wide, high = tiles.tile_px
        self.shape = slide.size_l0[1], slide.size_l0[0]
        self.tile = high, wide
        self.block = _filled(high, _STORED), _filled(wide, _STORED)

    def read(self, window: Window) -> Found:
        """The tiles of a block, and its pixels on level 1."""
        rows, cols = (
            range(part.start // side, -(-part.stop // side))
            for part, side in zip(window, self.tile, strict=True)
        )
        places = list(product(rows, cols))
        chunks = [
            Chunk(0, (0, *place), self._anew(*place) if stream is None else stream)
            for place, stream in zip(places, self._tiles.jpegs(places), strict=True)
        ]
        return Found(chunks, self._half(window) if self._wants_half else None)

    def _half(self, window: Window) -> Piece:
        x, y, width, height = _rect(window)
        if width % 2 == height % 2 == 0:
            return Piece(1, (y // 2, x // 2), self._halved(x, y, width, height))
        rows = range(y, y + height, self.tile[0])  # of tiles; all at once would take much memory
        halves = [self._halved(x, row, width, min(self.tile[0], y + height - row)) for row in rows]
        return Piece(1, (y // 2, x // 2), np.concatenate(halves, axis=1))

    def _halved(self, x: int, y: int, width: int, height: int) -> Planes:
        if width % 2 or height % 2:
            return halve(_planes(self._slide.read_stored((x, y, width, height))))
        half = x // 2, y // 2, width // 2, height // 2
        return _planes(self._slide.read_stored(half, shrink=2))

    def _anew(self, row: int, col: int) -> bytes | None:
        """A tile encoded from what the slide shows; None if that is white, as what is left out."""
        high, wide = self.tile
        top, left = row * high, col * wide
        rows, cols = min(high, self.shape[0] - top), min(wide, self.shape[1] - left)
        pixels = self._slide.read_stored((left, top, cols, rows))
        if (pixels == 255).all():
            return None
        return encode_jpeg(np.pad(pixels, ((0, high - rows), (0, wide - cols), (0, 0)), "edge"))


def _can_be_copied(tiles: StoredTiles) -> bool:
    return all(_nests(n, _STORED) for n in tiles.tile_px) and tiles.has_jpeg()


def _nests(tile: int, most: int) -> bool:
    """Whether blocks of whole tiles can be halved down to the size of a chunk."""
    return tile % _MCU == 0 and tile <= most


def _filled(tile: int, most: int) -> int:
    """As many tiles as have room, by doubling: more than half of `most`."""
    return tile << int(math.log2(most / tile))


def _shape(window: Window) -> Shape:
    rows, cols = window
    return rows.stop - rows.start, cols.stop - cols.start


def _corner(window: Window) -> tuple[int, int]:
    return window[0].start, window[1].start


def _rect(window: Window) -> tuple[int, int, int, int]:
    (rows, cols), (y, x) = _shape(window), _corner(window)
    return x, y, cols, rows


def _planes(pixels: RGB) -> Planes:
    planes: NDArray[np.uint8] = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    return planes
