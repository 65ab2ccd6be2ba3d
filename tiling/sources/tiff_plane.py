"""One image inside a TIFF file, decoded only where it is looked at."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from math import ceil, floor
from typing import Any, Protocol

import numpy as np
from tifffile import TiffFrame, TiffPage

from saccade.tiling.colour import Samples
from saccade.tiling.slide import Rect
from saccade.tiling.sources.file_bytes import FileBytes
from saccade.tiling.sources.segments import SegmentCache

MOST_SEGMENT_PIXELS = 2**27  # of one tile or strip, which can only be decoded whole

IntRect = tuple[int, int, int, int]
"""(x, y, width, height) in whole pixels of an image."""


class Plane(Protocol):
    """One image of the file."""

    size: tuple[int, int]
    """(width, height)."""

    def read(self, x: int, y: int, width: int, height: int) -> Samples:
        """Return (height, width, samples) as stored; the rectangle lies inside the image."""

    def segments_under(self, rect: Rect) -> Sequence[Hashable]:
        """What has to be decoded for a rectangle, in the order of the image; it may overhang."""


class SegmentedPlane:
    """An image in tiles, or in compressed strips: those that are touched are decoded whole.

    Args:
        page: the image; its offsets are read once, here.
        file: where its bytes are.
        cache: shared by all planes of the file.
        whole_jpegs: refuse JPEG streams that end early; the decoder would make up the rest.

    Raises:
        ValueError: if a segment is too large to be decoded whole, or of a kind no codec reads.
    """

    def __init__(
        self,
        page: TiffPage | TiffFrame,
        file: FileBytes,
        cache: SegmentCache,
        *,
        whole_jpegs: bool = False,
    ) -> None:
        key = page.keyframe if page.keyframe is not None else page
        assert isinstance(key, TiffPage)
        self.size = key.imagewidth, key.imagelength
        self._planes, _, _, _, self._contig = key.shaped
        self._tile = _segment_size(key)
        self._across = -(-key.imagewidth // self._tile[0])
        self._down = -(-key.imagelength // self._tile[1])
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        self._sparse = 0 in self._offsets or 0 in self._counts
        self._id = page.offset
        self._decode = key.decode
        self._tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
        self._missing = _value_where_nothing_is_stored(key)
        self._dtype = np.dtype(key.dtype)
        self._file, self._cache = file, cache
        self._whole_jpegs = whole_jpegs and key.compression == 7

    def read(self, x: int, y: int, width: int, height: int) -> Samples:
        """Return (height, width, samples) as stored; maybe a view of what others read, too."""
        if self._planes == 1 and len(places := list(self._places(x, y, width, height))) == 1:
            ((row, col),) = places
            top, left = y - row * self._tile[1], x - col * self._tile[0]
            segment = self._segment(row * self._across + col)
            return segment[top : top + height, left : left + width]
        samples = np.empty((height, width, self._planes * self._contig), self._dtype)
        wide, high = self._tile
        for plane in range(self._planes):
            out = samples[..., plane * self._contig : (plane + 1) * self._contig]
            for row, col in self._places(x, y, width, height):
                segment = self._segment((plane * self._down + row) * self._across + col)
                _paste(out, segment, (col * wide - x, row * high - y))
        return samples

    def segments_under(self, rect: Rect) -> Sequence[tuple[int, int]]:
        """What has to be decoded for a rectangle, in the order of the image; it may overhang."""
        x, y, width, height = rect
        right, bottom = min(ceil(x + width), self.size[0]), min(ceil(y + height), self.size[1])
        left, top = max(floor(x), 0), max(floor(y), 0)
        return [
            (self._id, (plane * self._down + row) * self._across + col)
            for plane in range(self._planes)
            for row, col in self._places(left, top, right - left, bottom - top)
        ]

    def leaves_out(self, x: int, y: int, width: int, height: int) -> bool:
        """Whether nothing is stored for a part of the rectangle, as sparse files have it."""
        return self.is_sparse and any(
            not self._offsets[i] or not self._counts[i]
            for _, i in self.segments_under((x, y, width, height))
        )

    @property
    def is_sparse(self) -> bool:
        """Whether nothing is stored for some segment."""
        return self._sparse

    def fullest_rect(self, most_px: int) -> IntRect:
        """Up to `most_px` a side amid the segment that takes most bytes: there is much to see."""
        index = int(np.argmax(self._counts)) % (self._down * self._across)
        row, col = divmod(index, self._across)
        left, top = col * self._tile[0], row * self._tile[1]
        width = min(self._tile[0], self.size[0] - left)
        height = min(self._tile[1], self.size[1] - top)
        size = min(width, most_px), min(height, most_px)
        return left + (width - size[0]) // 2, top + (height - size[1]) // 2, *size

    def _places(self, x: int, y: int, width: int, height: int) -> Iterator[tuple[int, int]]:
        """(row, col) of the segments under a rectangle."""
        wide, high = self._tile
        for row in range(y // high, -(-(y + height) // high)):
            for col in range(x // wide, -(-(x + width) // wide)):
                yield row, col

    def _segment(self, index: int) -> Samples:
        return self._cache.get((self._id, index), lambda: self._decoded(index))

    def _decoded(self, index: int) -> Samples:
        with self._file.tally.timed(1, self._tile[0] * self._tile[1]):
            offset, count = self._offsets[index], self._counts[index]
            data = self._file.read(offset, count) if count else None
            if data is not None and len(data) < count:
                raise ValueError(f"segment {index} is cut short: {len(data)} of {count} bytes")
            if data is not None and self._whole_jpegs and not _ends_at_its_end(data):
                raise ValueError(f"segment {index} is cut short: its JPEG stream ends early")
            samples = self._samples_of(data, index)
        samples.flags.writeable = False  # others will read it, too
        return samples

    def _samples_of(self, data: bytes | None, index: int) -> Samples:
        decoded, _, shape = self._decode(data, index, **self._tables)
        if decoded is None:  # sparse files leave out what is empty
            return np.full(tuple(shape[1:]), self._missing, self._dtype)
        (segment,) = decoded  # of depth one
        return np.asarray(segment)


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
        self.size = size
        self._samples, self._dtype, self._file = samples, dtype, file
        self._strips, self._rows_per_strip = strips, rows_per_strip

    def read(self, x: int, y: int, width: int, height: int) -> Samples:
        """Return (height, width, samples) as stored."""
        with self._file.tally.timed(0, width * height):
            return self._read(x, y, width, height)

    def segments_under(self, rect: Rect) -> Sequence[Hashable]:
        """None: nothing has to be decoded."""
        return ()

    def _read(self, x: int, y: int, width: int, height: int) -> Samples:
        planes, contig = self._samples
        samples = np.empty((height, width, planes * contig), self._dtype.newbyteorder("="))
        pixel = contig * self._dtype.itemsize
        for plane in range(planes):
            for row, offset in enumerate(self._rows(plane, y, height, pixel)):
                data = self._file.read(offset + x * pixel, width * pixel)
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


def _segment_size(key: TiffPage) -> tuple[int, int]:
    width, height = (
        (key.tilewidth, key.tilelength)
        if key.is_tiled
        else (key.imagewidth, min(key.rowsperstrip, key.imagelength))
    )
    if width * height > MOST_SEGMENT_PIXELS:
        raise ValueError(
            f"compressed tiles or strips of {width} x {height} pixels, which can only be decoded "
            f"whole; {MOST_SEGMENT_PIXELS} pixels are allowed"
        )
    return width, height


def _ends_at_its_end(jpeg: bytes) -> bool:
    """Whether the first end-of-image marker is also the last thing stored, but for padding.

    Inside of compressed data there can be none: a byte of 255 is always followed by 0 there.
    """
    end = jpeg.find(b"\xff\xd9")
    return end >= 0 and not jpeg[end + 2 :].strip(b"\x00\xff")


def _value_where_nothing_is_stored(key: TiffPage) -> int:
    """White for colour; black for grey, where most such images are fluorescence."""
    colour = key.photometric in (2, 6) and np.dtype(key.dtype).kind == "u"
    return int(np.iinfo(np.dtype(key.dtype)).max) if colour else 0


def _paste(out: Samples, segment: Samples, corner: tuple[int, int]) -> None:
    """Put the part of `segment` that overlaps `out` in place; `corner` (x, y) is in `out`."""
    x, y = corner
    rows = slice(max(y, 0), min(y + segment.shape[0], out.shape[0]))
    cols = slice(max(x, 0), min(x + segment.shape[1], out.shape[1]))
    out[rows, cols] = segment[rows.start - y : rows.stop - y, cols.start - x : cols.stop - x]
