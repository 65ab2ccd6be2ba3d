"""An image of a TIFF in tiles or compressed strips, each decoded once for all who want it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import ceil, floor

import numpy as np
from tifffile import TiffFrame, TiffPage

from saccade.tiling.colour import Samples
from saccade.tiling.source import RGB, Cut, IntRect, Rect
from saccade.tiling.sources.file_bytes import FileBytes
from saccade.tiling.sources.segment_decoder import SegmentDecoder
from saccade.tiling.sources.segments import SegmentCache
from saccade.tiling.threads import in_parts

_BATCH = 16  # segments whose bytes are asked for at once


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where the segments of an image lie, in its pixels or those of the image decoded smaller."""

    wide: int
    high: int

    def places(self, rect: IntRect) -> Iterator[tuple[int, int]]:
        """(row, col) of the segments under a rectangle."""
        x, y, width, height = rect
        for row in range(y // self.high, -(-(y + height) // self.high)):
            for col in range(x // self.wide, -(-(x + width) // self.wide)):
                yield row, col

    def corner(self, row: int, col: int, origin: tuple[int, int]) -> tuple[int, int]:
        """Upper left corner (x, y) of a segment, as seen from `origin`."""
        return col * self.wide - origin[0], row * self.high - origin[1]

    def is_inside(self, row: int, col: int, rect: IntRect) -> bool:
        """Whether a segment lies in the rectangle whole."""
        left, top = self.corner(row, col, rect[:2])
        fits = left + self.wide <= rect[2] and top + self.high <= rect[3]
        return left >= 0 and top >= 0 and fits


class SegmentedPlane:
    """An image in tiles, or in compressed strips: those that are touched are decoded whole.

    Wherever `shrink` is given, all numbers are pixels of the image that many times smaller.

    Args:
        page: the image; its offsets are read once, here.
        file: where its bytes are.
        cache: shared by all planes of the file.
        strict: refuse JPEG streams that are damaged where the decoder could make up the rest.

    Raises:
        ValueError: if a segment is too large to be decoded whole, or of a kind no codec reads.
    """

    def __init__(
        self,
        page: TiffPage | TiffFrame,
        file: FileBytes,
        cache: SegmentCache,
        *,
        strict: bool = False,
    ) -> None:
        key = page.keyframe if page.keyframe is not None else page
        assert isinstance(key, TiffPage)
        self.size = key.imagewidth, key.imagelength
        self._decoder = SegmentDecoder(page, strict=strict)
        self.tile_px = self._decoder.size
        self._planes = key.shaped[0]
        self._across = -(-key.imagewidth // self.tile_px[0])
        self._down = -(-key.imagelength // self.tile_px[1])
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        self._id = page.offset
        self._file, self._cache = file, cache
        self.shrinks = self._decoder.shrinks if self._planes == 1 else (1,)
        self._grids = {n: _Grid(self.tile_px[0] // n, self.tile_px[1] // n) for n in self.shrinks}
        self.is_rgb = self._decoder.samples == 3 and self._decoder.dtype == np.uint8
        self.is_rgb = self.is_rgb and self._planes == 1 and key.photometric in (2, 6)

    @cached_property
    def is_sparse(self) -> bool:
        """Whether nothing is stored for some segment."""
        return 0 in self._offsets or 0 in self._counts

    def has_jpeg(self) -> bool:
        """Whether segments are JPEG streams of three 8-bit samples, decoded alike by everybody."""
        if self.shrinks == (1,):
            return False  # without a look
        index = int(np.argmax(self._counts))
        (data,) = self._stored([index])
        try:
            return self._decoder.is_jpeg(data, index)
        # Codecs raise errors of any kind on damaged data; whoever reads it will hear of it.
        except Exception:
            return False

    def jpegs(self, places: Sequence[tuple[int, int]]) -> list[bytes | None]:
        """Segments as streams of their own; None for what is left out, cut short or smaller."""
        indices = [self._index(row, col) for row, col in places]
        return [
            self._decoder.jpeg_of_full_size(data) if data and len(data) >= self._counts[i] else None
            for i, data in zip(indices, self._stored(indices), strict=True)
        ]

    def read(self, x: int, y: int, width: int, height: int, *, shrink: int = 1) -> Samples:
        """Return (height, width, samples) as stored; maybe a view of what others read, too."""
        rect, grid = (x, y, width, height), self._grids[shrink]
        places = list(grid.places(rect))
        if self._planes == len(places) == 1:
            left, top = grid.corner(*places[0], (x, y))
            segment = self._segment(*places[0], 0, shrink, {}, keep=True)
            return segment[-top : height - top, -left : width - left]
        count = self._decoder.samples
        samples = np.empty((height, width, self._planes * count), self._decoder.dtype)
        for plane in range(self._planes):
            out = samples[..., plane * count : (plane + 1) * count]
            stored = self._fetched(places, plane, shrink)
            for row, col in places:
                # What lies inside is of no use to a neighbour.
                keep = not grid.is_inside(row, col, rect)
                segment = self._segment(row, col, plane, shrink, stored, keep=keep)
                _paste(out, segment, *grid.corner(row, col, (x, y)))
        return samples

    def read_many(self, cuts: Sequence[Cut], *, shrink: int = 1, workers: int = 1) -> set[int]:
        """Fill cuts, all inside an image that `is_rgb`; decode each segment once.

        Args:
            cuts: what is wanted.
            shrink: one of `shrinks`.
            workers: threads to decode in.

        Returns:
            Numbers of the cuts that could not be filled, because a segment is damaged.
        """
        wants: dict[int, list[int]] = {}
        for number, cut in enumerate(cuts):
            height, width, _ = cut.out.shape
            for row, col in self._grids[shrink].places((cut.x, cut.y, width, height)):
                wants.setdefault(self._index(row, col), []).append(number)
        indices = sorted(wants, key=self._offsets.__getitem__)
        missed = in_parts(
            lambda part: self._scatter(part, wants, cuts, shrink), indices, workers, least=_BATCH
        )
        return set(chain.from_iterable(missed))

    def _scatter(
        self, indices: Sequence[int], wants: dict[int, list[int]], cuts: Sequence[Cut], shrink: int
    ) -> set[int]:
        """Decode segments one after the other into the cuts; return the cuts that miss one."""
        missed: set[int] = set()
        grid = self._grids[shrink]
        scratch = np.empty((grid.high, grid.wide, 3), np.uint8)  # fresh memory each would cost more
        for start in range(0, len(indices), _BATCH):
            batch = indices[start : start + _BATCH]
            with self._file.tally.timed(len(batch), len(batch) * grid.wide * grid.high):
                stored = self._stored(batch)
                for index, data in zip(batch, stored, strict=True):
                    mine = [cuts[number] for number in wants[index]]
                    try:
                        self._deal(index, data, mine, shrink, scratch)
                    # Codecs raise errors of any kind on damaged data; the caller decides.
                    except Exception:
                        missed.update(wants[index])
        return missed

    def _deal(
        self, index: int, data: bytes, cuts: Sequence[Cut], shrink: int, scratch: RGB
    ) -> None:
        """Decode a segment, and put it wherever it is wanted."""
        row, col = divmod(index, self._across)
        grid, first = self._grids[shrink], cuts[0]
        fits = len(cuts) == 1 and first.out.shape == scratch.shape and first.out.flags.c_contiguous
        fits = fits and grid.corner(row, col, (first.x, first.y)) == (0, 0)
        segment = self._decode(data, index, shrink, first.out if fits else scratch)
        if segment is not first.out:
            for cut in cuts:
                _paste(cut.out, segment, *grid.corner(row, col, (cut.x, cut.y)))

    def segments_under(self, rect: Rect, *, shrink: int = 1) -> Sequence[tuple[int, int, int]]:
        """What has to be decoded for a rectangle, in the order of the image; it may overhang."""
        x, y, width, height = rect
        limits = [-(-length // shrink) for length in self.size]
        right, bottom = min(ceil(x + width), limits[0]), min(ceil(y + height), limits[1])
        left, top = max(floor(x), 0), max(floor(y), 0)
        return [
            (self._id, shrink, self._index(row, col, plane))
            for plane in range(self._planes)
            for row, col in self._grids[shrink].places((left, top, right - left, bottom - top))
        ]

    def leaves_out(self, rect: IntRect, *, shrink: int = 1) -> bool:
        """Whether nothing is stored for a part of the rectangle, as sparse files have it."""
        return self.is_sparse and any(
            not self._offsets[index] or not self._counts[index]
            for _, _, index in self.segments_under(rect, shrink=shrink)
        )

    def fullest_rect(self, most_px: int) -> IntRect:
        """Up to `most_px` a side amid the segment that takes most bytes: there is much to see."""
        index = int(np.argmax(self._counts)) % (self._down * self._across)
        row, col = divmod(index, self._across)
        left, top = col * self.tile_px[0], row * self.tile_px[1]
        width = min(self.tile_px[0], self.size[0] - left)
        height = min(self.tile_px[1], self.size[1] - top)
        size = min(width, most_px), min(height, most_px)
        return left + (width - size[0]) // 2, top + (height - size[1]) // 2, *size

    def _index(self, row: int, col: int, plane: int = 0) -> int:
        return (plane * self._down + row) * self._across + col

    def _fetched(
        self, places: Sequence[tuple[int, int]], plane: int, shrink: int
    ) -> dict[int, bytes]:
        """The bytes of segments that are not decoded yet, asked for at once."""
        indices = [self._index(row, col, plane) for row, col in places]
        wanted = [i for i in indices if (self._id, shrink, i) not in self._cache]
        return dict(zip(wanted, self._stored(wanted), strict=True))

    def _segment(
        self,
        row: int,
        col: int,
        plane: int,
        shrink: int,
        stored: Mapping[int, bytes],
        *,
        keep: bool,
    ) -> Samples:
        index = self._index(row, col, plane)
        return self._cache.get(
            (self._id, shrink, index),
            lambda: self._decoded(index, shrink, stored.get(index)),
            keep=keep,
        )

    def _decoded(self, index: int, shrink: int, data: bytes | None) -> Samples:
        with self._file.tally.timed(1, self.tile_px[0] * self.tile_px[1] // shrink**2):
            if data is None:
                (data,) = self._stored([index])
            samples = self._decode(data, index, shrink)
        samples.flags.writeable = False  # others will read it, too
        return samples

    def _decode(self, data: bytes, index: int, shrink: int, out: RGB | None = None) -> Samples:
        if len(data) < self._counts[index]:
            raise ValueError(
                f"segment {index} is cut short: {len(data)} of {self._counts[index]} bytes"
            )
        return self._decoder.decode(data, index, shrink=shrink, out=out)

    def _stored(self, indices: Sequence[int]) -> list[bytes]:
        """Bytes of segments; empty where the file leaves one out."""
        return self._file.read_many([(self._offsets[i], self._counts[i]) for i in indices])


def _paste(out: Samples, segment: Samples, x: int, y: int) -> None:
    """Put the part of `segment` that overlaps `out` in place; its corner is (x, y) in `out`."""
    rows = slice(max(y, 0), min(y + segment.shape[0], out.shape[0]))
    cols = slice(max(x, 0), min(x + segment.shape[1], out.shape[1]))
    out[rows, cols] = segment[rows.start - y : rows.stop - y, cols.start - x : cols.stop - x]
