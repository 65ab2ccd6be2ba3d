"""One image inside a TIFF file, decoded only where it is looked at."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
from tifffile import TiffFrame, TiffPage

from saccade.tiling.colour import Samples

MOST_SEGMENT_PIXELS = 2**27  # of one tile or strip, which can only be decoded whole
_KEPT_BYTES = 2**26  # decoded segments kept: neighbours in a row of tiles share them


class FileBytes:
    """A file's bytes, for any number of threads at once: no position is shared."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes; fewer only where the file ends."""
        data = os.pread(self._descriptor, count, offset)
        while len(data) < count and (more := self._more(offset, count, data)):
            data += more
        return data

    def _more(self, offset: int, count: int, data: bytes) -> bytes:
        return os.pread(self._descriptor, count - len(data), offset + len(data))

    def close(self) -> None:
        """Release the file; twice is once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SegmentCache:
    """The segments decoded last, up to a number of bytes."""

    def __init__(self, most_bytes: int = _KEPT_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[object, Samples] = OrderedDict()
        self._lock = Lock()

    def get(self, key: object, make: Callable[[], Samples]) -> Samples:
        """Return what is kept under `key`, made now if it is not there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()  # outside the lock: threads decode side by side
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += made.nbytes
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return made


class Plane(Protocol):
    """One image of the file."""

    size: tuple[int, int]
    """(width, height)."""

    def read(self, x: int, y: int, width: int, height: int) -> Samples:
        """Return (height, width, samples) as stored; the rectangle lies inside the image."""


class SegmentedPlane:
    """An image in tiles, or in compressed strips: those that are touched are decoded whole.

    Args:
        page: the image; its offsets are read once, here.
        file: where its bytes are.
        cache: shared by all planes of the file.

    Raises:
        ValueError: if a segment is too large to be decoded whole, or of a kind no codec reads.
    """

    def __init__(self, page: TiffPage | TiffFrame, file: FileBytes, cache: SegmentCache) -> None:
        key = page.keyframe if page.keyframe is not None else page
        assert isinstance(key, TiffPage)
        self.size = key.imagewidth, key.imagelength
        self._planes, _, _, _, self._contig = key.shaped
        self._tile = _segment_size(key)
        self._across = -(-key.imagewidth // self._tile[0])
        self._down = -(-key.imagelength // self._tile[1])
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        self._id = page.offset
        self._decode = key.decode
        self._tables = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
        self._missing = _value_where_nothing_is_stored(key)
        self._dtype = np.dtype(key.dtype)
        self._file, self._cache = file, cache

    def read(self, x: int, y: int, width: int, height: int) -> Samples:
        """Return (height, width, samples) as stored."""
        samples = np.empty((height, width, self._planes * self._contig), self._dtype)
        wide, high = self._tile
        for plane in range(self._planes):
            out = samples[..., plane * self._contig : (plane + 1) * self._contig]
            for row in range(y // high, -(-(y + height) // high)):
                for col in range(x // wide, -(-(x + width) // wide)):
                    segment = self._segment((plane * self._down + row) * self._across + col)
                    _paste(out, segment, (col * wide - x, row * high - y))
        return samples

    def _segment(self, index: int) -> Samples:
        return self._cache.get((self._id, index), lambda: self._decoded(index))

    def _decoded(self, index: int) -> Samples:
        offset, count = self._offsets[index], self._counts[index]
        data = self._file.read(offset, count) if count else None
        if data is not None and len(data) < count:
            raise ValueError(f"segment {index} is cut short: {len(data)} of {count} bytes")
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
