"""One image inside a TIFF file, decoded only where it is looked at."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from tifffile import TiffFrame, TiffPage

from saccade.tiling.colour import Samples
from saccade.tiling.source import Rect
from saccade.tiling.sources.file_bytes import FileBytes
from saccade.tiling.sources.segmented_plane import SegmentedPlane
from saccade.tiling.sources.segments import SegmentCache


class Plane(Protocol):
    """One image of the file."""

    size: tuple[int, int]
    """(width, height)."""

    tile_px: tuple[int, int]
    """(width, height) of what is decoded at once; `size` where nothing has to be."""

    shrinks: tuple[int, ...]
    """By how much smaller it can be decoded, 1 first."""

    def read(self, x: int, y: int, width: int, height: int, *, shrink: int = 1) -> Samples:
        """Return (height, width, samples) as stored; the rectangle lies inside the image.

        With `shrink`, all numbers are pixels of the image that many times smaller.
        """

    def segments_under(self, rect: Rect, *, shrink: int = 1) -> Sequence[Hashable]:
        """What has to be decoded for a rectangle, in the order of the image; it may overhang."""


class RawPlane:
    """An uncompressed image in strips: of every row, only the columns asked for are read.

    Args:
        size: (width, height).
        samples: (separate planes, samples of a pixel beside one another).
        dtype: as stored, byte order included.
        strips: offsets of the strips, plane by plane.
        rows_per_strip: rows in each but the last.
        file: where the bytes are.
    """

    def __init__(
        self,
        size: tuple[int, int],
        samples: tuple[int, int],
        dtype: np.dtype[Any],
        strips: tuple[int, ...],
        rows_per_strip: int,
        file: FileBytes,
    ) -> None:
        self.size = self.tile_px = size
        self.shrinks: tuple[int, ...] = (1,)
        self._samples, self._dtype, self._file = samples, dtype, file
        self._strips, self._rows_per_strip = strips, rows_per_strip

    def read(self, x: int, y: int, width: int, height: int, *, shrink: int = 1) -> Samples:
        """Return (height, width, samples) as stored."""
        assert shrink == 1, "nothing is decoded that could be decoded smaller"
        with self._file.tally.timed(0, width * height):
            return self._read(x, y, width, height)

    def segments_under(self, rect: Rect, *, shrink: int = 1) -> Sequence[Hashable]:
        """None: nothing has to be decoded."""
        return ()

    def _read(self, x: int, y: int, width: int, height: int) -> Samples:
        planes, contig = self._samples
        samples = np.empty((height, width, planes * contig), self._dtype.newbyteorder("="))
        pixel = contig * self._dtype.itemsize
        for plane in range(planes):
            rows = [
                (offset + x * pixel, width * pixel)
                for offset in self._rows(plane, y, height, pixel)
            ]
            for row, data in enumerate(self._file.read_many(rows)):
                if len(data) < width * pixel:
                    raise ValueError(f"row {y + row} is cut short")
                line = np.frombuffer(data, self._dtype).reshape(width, contig)
                samples[row, :, plane * contig : (plane + 1) * contig] = line
        return samples

    def _rows(self, plane: int, first: int, count: int, pixel: int) -> Iterator[int]:
        """Offset of each row."""
        strips = -(-self.size[1] // self._rows_per_strip)
        for row in range(first, first + count):
            strip, below = divmod(row, self._rows_per_strip)
            yield self._strips[plane * strips + strip] + below * self.size[0] * pixel


def plane_of(page: TiffPage | TiffFrame, file: FileBytes, cache: SegmentCache) -> Plane:
    """The cheapest way to read an image.

    Raises:
        ValueError: if no codec here reads it, or a segment is too large to be decoded whole.
    """
    key = page.keyframe if page.keyframe is not None else page
    assert isinstance(key, TiffPage)
    if not _is_raw(key) or 0 in page.dataoffsets:
        return SegmentedPlane(page, file, cache)
    return raw_plane(key, page.dataoffsets, key.rowsperstrip, file)


def raw_plane(key: TiffPage, strips: tuple[int, ...], rows: int, file: FileBytes) -> RawPlane:
    """An uncompressed image like `key`, in strips at the given offsets."""
    planes, _, height, width, contig = key.shaped
    dtype = np.dtype(key.dtype).newbyteorder(key.parent.byteorder)
    return RawPlane((width, height), (planes, contig), dtype, strips, min(rows, height), file)


def _is_raw(key: TiffPage) -> bool:
    whole_bytes = key.dtype is not None and key.bitspersample == 8 * np.dtype(key.dtype).itemsize
    plain = key.compression == 1 and key.predictor == 1 and key.fillorder == 1
    return plain and whole_bytes and not key.is_tiled and not key.is_subsampled
