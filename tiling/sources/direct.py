"""Slides that OpenSlide opens, with the pixels taken straight from their TIFF tiles.

OpenSlide pastes tiles together with a drawing library, and that costs several times what decoding
them does. Where a level is nothing but a tiled TIFF image, its tiles are decoded here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffFile, TiffFileError, TiffPage

from saccade.tiling.colour import to_rgb
from saccade.tiling.counting import ReadCount
from saccade.tiling.resample import block_means
from saccade.tiling.source import RGB, Cut, IntRect, Rect, Source, StoredTiles
from saccade.tiling.sources.file_bytes import FileBytes
from saccade.tiling.sources.openslide import OpenSlideSource
from saccade.tiling.sources.segmented_plane import SegmentedPlane
from saccade.tiling.sources.segments import SegmentCache, shared_order
from saccade.tiling.sources.tiff import TiffSource

MOST_APART = 2  # grey levels by which the pixels of two decoders may differ

# Formats whose levels are plain TIFF images: tiles neither overlap nor lie on a larger canvas.
_GENERIC = "generic-tiff"
_PLAIN_VENDORS = {"aperio", _GENERIC}
# Raw, LZW, JPEG, deflate (twice), Aperio's JPEG 2000 (YCbCr, RGB), JPEG 2000, zstd.
_COMPRESSIONS = {1, 5, 7, 8, 32946, 33003, 33005, 34712, 50000}
_WHOLE = 1e-6  # pixels
_PROBE_PX = 128
_PIECE_PX = 256  # of a level decoded smaller, tried by themselves when the whole fails

logger = logging.getLogger(__name__)


class DirectSource(Source):
    """Decodes the tiles of a TIFF; asks OpenSlide for all that is not a matter of decoding.

    These are the facts of the slide, levels that are something else than a tiled TIFF image, tiles
    that the file leaves out, reads that begin between the pixels of a level, and whatever fails.
    When a level is first read, a tile of it is compared with what OpenSlide shows.

    Args:
        path: the file.
        slow: the same file through OpenSlide.
        tif: its index; read here, and not kept.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(self, path: Path, slow: OpenSlideSource, tif: TiffFile) -> None:
        self._path, self._slow = path, slow
        self._file, self._cache = FileBytes(path), SegmentCache()
        self._planes: dict[int, SegmentedPlane | None] = {}
        self._lock = Lock()
        self._images = self._images_of(tif)
        self.info = slow.info

    def pitch_px(self, level: int) -> float:
        """One level-0 pixel, as OpenSlide has it."""
        return self._slow.pitch_px(level)

    def begins_whole(self, level: int) -> bool:
        """Wherever tiles are decoded here."""
        return self._plane(level) is not None or self._slow.begins_whole(level)

    def is_direct(self, level: int) -> bool:
        """Whether tiles of a level are decoded here."""
        return self._plane(level) is not None

    def shrinks(self, level: int) -> tuple[int, ...]:
        """What the decoder of the tiles offers."""
        plane = self._plane(level)
        return (1,) if plane is None else plane.shrinks

    def tile_px(self, level: int) -> tuple[int, int]:
        """Tiles of the TIFF, or what OpenSlide says."""
        plane = self._plane(level)
        return self._slow.tile_px(level) if plane is None else plane.tile_px

    def read_level(self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]) -> RGB:
        """Decode the tiles that the rectangle touches, or have OpenSlide do it."""
        rect = round(x_px), round(y_px), *size_px
        begins_between = max(abs(x_px - rect[0]), abs(y_px - rect[1])) > _WHOLE
        found = None if begins_between else self._decoded(level, rect, 1)
        return self._slow.read_level(level, x_px, y_px, size_px) if found is None else found

    def read_shrunk(self, level: int, rect: IntRect, shrink: int) -> RGB:
        """Decode the tiles that the rectangle touches smaller; or take means where that fails."""
        x, y, width, height = rect
        if shrink == 1:
            return self.read_level(level, x, y, (width, height))
        if (found := self._decoded(level, rect, shrink)) is not None:
            return found
        if max(width, height) <= _PIECE_PX:
            size = width * shrink, height * shrink
            whole = self.read_level(level, x * shrink, y * shrink, size)
            return block_means(whole, (shrink, shrink))
        return self._pieced(level, rect, shrink)

    def _decoded(self, level: int, rect: IntRect, shrink: int) -> RGB | None:
        """What the tiles show; None if OpenSlide has to be asked."""
        plane = self._plane(level)
        if plane is None or plane.leaves_out(rect, shrink=shrink):
            return None
        try:
            return to_rgb(plane.read(*rect, shrink=shrink))
        # Codecs raise errors of any kind on damaged data. What OpenSlide makes of it, goes.
        except Exception as error:
            logger.debug("%s: %s of level %d (%s)", self._path.name, rect, level, error)
            return None

    def _pieced(self, level: int, rect: IntRect, shrink: int) -> RGB:
        x, y, width, height = rect
        pixels = np.empty((height, width, 3), np.uint8)
        for top in range(0, height, _PIECE_PX):
            for left in range(0, width, _PIECE_PX):
                size = min(_PIECE_PX, width - left), min(_PIECE_PX, height - top)
                piece = self.read_shrunk(level, (x + left, y + top, *size), shrink)
                pixels[top : top + size[1], left : left + size[0]] = piece
        return pixels

    def read_many(
        self, level: int, cuts: Sequence[Cut], *, shrink: int = 1, workers: int = 1
    ) -> None:
        """Decode each tile under the cuts once, and paste it wherever it is wanted."""
        plane = self._plane(level)
        missed: Iterable[int] = range(len(cuts))
        if plane is not None and plane.is_rgb and not plane.is_sparse:
            missed = plane.read_many(cuts, shrink=shrink, workers=workers)
        super().read_many(level, [cuts[i] for i in missed], shrink=shrink, workers=workers)

    def stored_tiles(self, level: int) -> StoredTiles | None:
        """Those of levels whose tiles are decoded here."""
        return self._plane(level)

    def _plane(self, level: int) -> SegmentedPlane | None:
        """The image that shows the same as OpenSlide; None if there is none."""
        if level not in self._planes:
            with self._lock:
                if level not in self._planes:
                    self._planes[level] = self._checked(level)
        return self._planes[level]

    def _checked(self, level: int) -> SegmentedPlane | None:
        plane = self._images.get(level)
        if plane is None:
            return None
        try:
            return plane if _agrees(plane, level, self._slow) else None
        # Codecs raise errors of any kind on damaged data.
        except Exception as error:
            logger.debug("%s: level %d through OpenSlide (%s)", self._path.name, level, error)
            self._slow.reopen()  # after an error OpenSlide reads nothing any more
            return None

    def in_order(self, level: int, rects: Sequence[Rect], *, shrink: int = 1) -> Iterator[int]:
        """Along the tiles of the file, each decoded once."""
        plane = self._plane(level)
        if plane is None:
            return self._slow.in_order(level, rects)
        needs = [plane.segments_under(rect, shrink=shrink) for rect in rects]
        return shared_order(self._cache, needs)

    def _images_of(self, tif: TiffFile) -> dict[int, SegmentedPlane]:
        """For each level the tiled image of its size, if there is one."""
        sizes = {(level.width, level.height): i for i, level in enumerate(self._slow.info.levels)}
        images: dict[int, SegmentedPlane] = {}
        try:
            for page in tif.pages:
                assert isinstance(page, TiffPage)  # frames come only where they are asked for
                level = sizes.get((page.imagewidth, page.imagelength))
                if level is not None and level not in images and _is_plain(page):
                    images[level] = SegmentedPlane(page, self._file, self._cache, strict=True)
        # tifffile raises errors of any kind on what it does not understand; OpenSlide did.
        except Exception as error:
            logger.debug("%s: read through OpenSlide (%s)", self._path.name, error)
        return images

    def associated_images(self) -> Mapping[str, RGB]:
        """Those of OpenSlide."""
        return self._slow.associated_images()

    def counts(self) -> ReadCount:
        """What was decoded here and by OpenSlide."""
        return self._file.tally.count + self._slow.counts()

    def close(self) -> None:
        """Release the file."""
        self._file.close()
        self._slow.close()


def open_direct(path: Path) -> Source:
    """Open what OpenSlide opens; decode its tiles here where that shows the same pixels.

    An OME-TIFF that OpenSlide takes for any other tiled TIFF is read by our own reader.

    Raises:
        openslide.OpenSlideError: if OpenSlide refuses the file.
        UnreadableSlideError: if it is a damaged OME-TIFF.
    """
    slow = OpenSlideSource(path)
    if slow.info.vendor not in _PLAIN_VENDORS:
        return slow
    try:
        with TiffFile(path) as tif:
            if not (tif.is_ome and slow.info.vendor == _GENERIC):
                return DirectSource(path, slow, tif)
    except TiffFileError as error:
        logger.debug("%s: read through OpenSlide (%s)", path.name, error)
        return slow
    slow.close()
    return TiffSource(path)


def _is_plain(page: TiffPage) -> bool:
    """Whether decoding is all it takes to see an image: 8-bit RGB or grey, in tiles, upright."""
    colours = (page.samplesperpixel, page.photometric) in ((3, 2), (3, 6), (1, 1))
    packed = page.photometric != 6 or page.compression in (7, 33003, 33005, 34712)
    eight = page.dtype == np.uint8 and page.bitspersample == 8 and page.imagedepth == 1
    together = page.samplesperpixel == 1 or page.planarconfig == 1
    upright = page.tags.valueof(274) in (None, 1)
    known = page.is_tiled and page.compression in _COMPRESSIONS
    return bool(known and colours and packed and eight and together and upright)


def _agrees(plane: SegmentedPlane, level: int, peer: OpenSlideSource) -> bool:
    """Compare one tile with OpenSlide: the one with most in it, whose colours tell most.

    Where the downsample is no whole number, OpenSlide cannot begin in that tile exactly. There
    its mean is compared, and the upper left corner of the level pixel by pixel.
    """
    fullest = _away(plane, level, peer, plane.fullest_rect(_PROBE_PX))
    if peer.begins_whole(level):
        return bool(np.abs(fullest).max() <= MOST_APART)
    # A tile that is left out could not be had from OpenSlide at the very same place.
    if plane.is_sparse or np.abs(fullest.mean(axis=(0, 1))).max() > MOST_APART:
        return False
    corner = 0, 0, min(_PROBE_PX, plane.size[0]), min(_PROBE_PX, plane.size[1])
    return bool(np.abs(_away(plane, level, peer, corner)).max() <= MOST_APART)


def _away(
    plane: SegmentedPlane, level: int, peer: OpenSlideSource, rect: IntRect
) -> NDArray[np.int16]:
    """What is decoded here less what OpenSlide shows."""
    x, y, width, height = rect
    shown = peer.read_level(level, x, y, (width, height))
    return to_rgb(plane.read(*rect)).astype(np.int16) - shown
