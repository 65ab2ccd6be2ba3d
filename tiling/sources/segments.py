"""Decoded segments (tiles, strips) of a file, kept while somebody still waits for them."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import chain
from threading import Lock

from saccade.tiling.colour import Samples

_KEPT_BYTES = 2**26  # decoded segments kept: neighbours in a row of tiles share them
_HELD_BYTES = 2**28  # more than a row of tiles across the widest slides


class SegmentCache:
    """The segments decoded last, up to a number of bytes, and those that are held.

    A reader that knows what it will want holds it: until it lets go, a segment stays once it is
    decoded, whatever else is read. Both kinds are bounded; a segment that finds no room is
    decoded again.

    Args:
        most_bytes: of segments that nobody holds; one segment is kept however large it is.
        most_held_bytes: of segments that are held.
    """

    def __init__(self, most_bytes: int = _KEPT_BYTES, most_held_bytes: int = _HELD_BYTES) -> None:
        self._most, self._most_held = most_bytes, most_held_bytes
        self._bytes = self._held_bytes = 0
        self._kept: OrderedDict[Hashable, Samples] = OrderedDict()
        self._held: dict[Hashable, Samples] = {}
        self._wanted: Counter[Hashable] = Counter()
        self._making: dict[Hashable, Future[Samples]] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Samples], *, keep: bool = True) -> Samples:
        """Return what is kept under `key`, made now if it is not there.

        Several threads that want the same get what the first of them makes.

        Args:
            key: of the segment.
            make: decodes it.
            keep: keep what is made even if nobody holds it.
        """
        with self._lock:
            if key in self._held:
                return self._held[key]
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            making = self._making.get(key)
            if making is None:
                mine = self._making[key] = Future()
        return making.result() if making is not None else self._make(key, make, mine, keep=keep)

    def _make(
        self, key: Hashable, make: Callable[[], Samples], mine: Future[Samples], *, keep: bool
    ) -> Samples:
        try:
            made = make()  # outside the lock: threads decode side by side
        except BaseException as error:
            mine.set_exception(error)
            with self._lock:
                del self._making[key]
            raise
        with self._lock:
            del self._making[key]
            if keep or key in self._wanted:
                self._keep(key, made)
        mine.set_result(made)
        return made

    def __contains__(self, key: Hashable) -> bool:
        """Whether `get` would find a segment, or somebody who makes it just now."""
        with self._lock:
            return key in self._held or key in self._kept or key in self._making

    def hold(self, keys: Iterable[Hashable]) -> None:
        """Announce that segments will be wanted; once for each time that they are let go."""
        with self._lock:
            for key in keys:
                self._wanted[key] += 1
                if self._wanted[key] == 1 and key in self._kept:
                    segment = self._kept.pop(key)
                    self._bytes -= segment.nbytes
                    self._keep(key, segment)

    def let_go(self, keys: Iterable[Hashable]) -> None:
        """Take back an announcement."""
        with self._lock:
            for key in keys:
                self._wanted[key] -= 1
                if self._wanted[key] > 0:
                    continue
                del self._wanted[key]
                if key in self._held:
                    segment = self._held.pop(key)
                    self._held_bytes -= segment.nbytes
                    self._keep(key, segment)

    def clear(self) -> None:
        """Forget all segments."""
        with self._lock:
            self._kept.clear()
            self._held.clear()
            self._bytes = self._held_bytes = 0

    def _keep(self, key: Hashable, segment: Samples) -> None:
        if key in self._wanted and self._held_bytes + segment.nbytes <= self._most_held:
            self._held[key] = segment
            self._held_bytes += segment.nbytes
            return
        self._kept[key] = segment
        self._bytes += segment.nbytes
        while self._bytes > self._most and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


def shared_order(cache: SegmentCache, needs: Sequence[Sequence[Hashable]]) -> Iterator[int]:
    """Indices of reads, by the first segment each needs; what is shared stays until it was used.

    Going through the file row by row of segments, no more than about one such row has to be kept.

    Args:
        cache: where the reads get their segments.
        needs: for every read, the segments under it in the order of the file.
    """
    waiting = dict(enumerate(needs))
    cache.hold(chain.from_iterable(needs))
    try:
        for i in sorted(waiting, key=lambda i: tuple(needs[i][:1])):
            yield i
            cache.let_go(waiting.pop(i))
    finally:  # somebody may stop half way
        cache.let_go(chain.from_iterable(waiting.values()))
