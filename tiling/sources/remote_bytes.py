"""The bytes of a remote file, for any number of threads: a range travels once, many at a time."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Lock

from saccade.tiling.byte_cache import ByteCache
from saccade.tiling.counting import Tally
from saccade.tiling.remote import Url
from saccade.tiling.sources.file_bytes import FileBytes
from saccade.tiling.sources.remote_ranges import Range, ranges_of

BLOCK = 2**16  # bytes of the index that are read at once: a directory and its small tables
_GAP = 2**10  # ranges so near to one another are one request; some writers leave 8 bytes between
_SPAN = 2**22  # bytes of one request at most, where it is several ranges
_AHEAD = 2**22  # bytes that are fetched in one go of what was announced
_KEPT = 2**25  # bytes in memory: what was fetched ahead, and the index


class RemoteBytes(FileBytes):
    """A remote file's bytes, read as those of a local one.

    Two threads that want the same range at the same time wait for the same request. What was read
    last is kept, up to 32 MB; in the byte cache of the machine, too, if that is on and the server
    tells versions of the file apart.

    Attributes:
        stamp: the version of the file; all bytes are of it.
        tally: requests, bytes that travelled, and what was decoded.

    Raises:
        SlideNotFoundError: if there is nothing at that place.
        UnreadableSlideError: if it cannot be read by ranges.
    """

    def __init__(self, url: Url) -> None:
        self.tally = Tally()
        self._ranges = ranges_of(url, self.tally)
        self.stamp, head = self._ranges.begin(BLOCK)
        cache = ByteCache.from_environment() if self.stamp.tells else None
        self._cache, self._key = cache, f"{url} {self.stamp}"
        self._kept, self._flying = _Kept(), dict[Range, Future[bytes]]()
        self._kept.put((0, len(head)), head)
        self._announced: list[_Announcement] = []
        self._lock = Lock()

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes; fewer only where the file ends."""
        (data,) = self.read_many([(offset, count)])
        return data

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """Return the bytes of several (offset, count), in their order, fetched in one go."""
        wanted = [self._clipped(*each) for each in ranges]
        with self._lock:
            ready, waited, mine = self._claim(wanted)
        self._fetch(mine)
        return [ready[each] if each in ready else waited[each].result() for each in wanted]

    @contextmanager
    def announced(self, ranges: Sequence[Range]) -> Iterator[None]:
        """Say what will be read inside the `with`, in this order.

        The first that is missing brings those along that come after it.
        """
        announcement = _Announcement([self._clipped(*each) for each in ranges])
        with self._lock:
            self._announced.append(announcement)
        try:
            yield
        finally:
            with self._lock:
                self._announced.remove(announcement)

    def close(self) -> None:
        """Forget what was kept; connections belong to the process."""
        if hasattr(self, "_kept"):  # not if the file could not be opened
            self._kept = _Kept()

    def _clipped(self, offset: int, count: int) -> Range:
        start = min(max(offset, 0), self.stamp.size)
        return start, max(0, min(count, self.stamp.size - start))

    def _claim(
        self, wanted: Sequence[Range]
    ) -> tuple[dict[Range, bytes], dict[Range, Future[bytes]], dict[Range, Future[bytes]]]:
        """What is there, what to wait for, and the part of that which is fetched by the caller."""
        ready: dict[Range, bytes] = {}
        waited: dict[Range, Future[bytes]] = {}
        mine: dict[Range, Future[bytes]] = {}
        for each in wanted:
            data = b"" if not each[1] else self._kept.get(each)
            if data is not None:
                ready[each] = data
                continue
            for other in (each, *self._following(each)):
                if other not in self._flying and (other == each or other not in self._kept):
                    mine[other] = self._flying[other] = Future()
            waited[each] = self._flying[each]
        return ready, waited, mine

    def _following(self, missing: Range) -> Sequence[Range]:
        return next((a.after(missing) for a in self._announced if missing in a.places), ())

    def _fetch(self, mine: dict[Range, Future[bytes]]) -> None:
        try:
            for each, data in self._arriving(list(mine)):
                with self._lock:
                    self._kept.put(each, data)
                    del self._flying[each]
                mine[each].set_result(data)
        except BaseException as error:
            with self._lock:
                failed = [each for each in mine if self._flying.pop(each, None) is not None]
            for each in failed:
                mine[each].set_exception(error)
            raise

    def _arriving(self, wanted: Sequence[Range]) -> Iterator[tuple[Range, bytes]]:
        missing = []
        for each in wanted:
            data = self._cache.get(self._key_of(each)) if self._cache else None
            if data is not None and len(data) == each[1]:
                yield each, data
            else:
                missing.append(each)
        spans = merged(missing)
        for (start, _), data, parts in zip(
            spans, self._ranges.fetch(list(spans)) if spans else (), spans.values(), strict=True
        ):
            for offset, count in parts:
                part = data[offset - start : offset - start + count]
                if self._cache:
                    self._cache.put(self._key_of((offset, count)), part)
                yield (offset, count), part

    def _key_of(self, each: Range) -> str:
        return f"{self._key} {each}"


def merged(ranges: Sequence[Range]) -> dict[Range, list[Range]]:
    """Requests for ranges that touch or nearly touch, and the ranges in each.

    >>> merged([(100, 50), (0, 100), (5000, 10)])
    {(0, 150): [(0, 100), (100, 50)], (5000, 10): [(5000, 10)]}
    """
    spans: list[tuple[int, int, list[Range]]] = []
    for offset, count in sorted(set(ranges)):
        if spans:
            start, end, parts = spans[-1]
            last = max(end, offset + count)
            if offset <= end + _GAP and last - start <= _SPAN:
                spans[-1] = start, last, [*parts, (offset, count)]
                continue
        spans.append((offset, offset + count, [(offset, count)]))
    return {(start, end - start): parts for start, end, parts in spans}


class _Announcement:
    def __init__(self, ranges: Sequence[Range]) -> None:
        self._ranges = list(dict.fromkeys(each for each in ranges if each[1]))
        self.places = {each: i for i, each in enumerate(self._ranges)}

    def after(self, missing: Range) -> list[Range]:
        """What is next in line, as much as is fetched in one go."""
        first = self.places[missing]
        room, last = _AHEAD - missing[1], first + 1
        while last < len(self._ranges) and (room := room - self._ranges[last][1]) >= 0:
            last += 1
        return self._ranges[first + 1 : last]


class _Kept:
    """The ranges used last, up to a number of bytes."""

    def __init__(self) -> None:
        self._parts: OrderedDict[Range, bytes] = OrderedDict()
        self._bytes = 0

    def __contains__(self, each: Range) -> bool:
        return each in self._parts

    def get(self, each: Range) -> bytes | None:
        if each in self._parts:
            self._parts.move_to_end(each)
        return self._parts.get(each)

    def put(self, each: Range, data: bytes) -> None:
        if each not in self._parts:
            self._parts[each] = data
            self._bytes += len(data)
        while self._bytes > _KEPT and len(self._parts) > 1:
            self._bytes -= len(self._parts.popitem(last=False)[1])


class BlockFile(io.RawIOBase):
    """A remote file as a stream, for whoever reads an index: in blocks, which are kept.

    However long a read is, what is missing of it travels in one go.
    """

    def __init__(self, file: RemoteBytes) -> None:
        super().__init__()
        self._file, self._size, self._position = file, file.stamp.size, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, which may lie behind the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; less of it where the file ends."""
        start = self._position
        end = min(start + len(buffer), self._size)
        if end <= start:
            return 0
        first, last = start // BLOCK, -(-end // BLOCK)
        blocks = b"".join(
            self._file.read_many([(block * BLOCK, BLOCK) for block in range(first, last)])
        )
        data = blocks[start - first * BLOCK : end - first * BLOCK]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
