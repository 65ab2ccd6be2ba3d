"""What reading took: source tiles, compressed bytes, decoded pixels, seconds and requests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True, slots=True)
class ReadCount:
    """How much was decoded.

    Attributes:
        tiles: source tiles (strips, chunks) decoded; one that is decoded twice counts twice.
        compressed_bytes: read from the file by Saccade itself; what OpenSlide and Zarr read on
            their own is not known and not in it. Of a remote slide all that travelled, the index
            and, where ranges nearly touch, what lies between them included.
        pixels: decoded, whether they were asked for or lay in the same source tile.
        seconds: spent reading and decoding, summed over threads.
        requests: to the server of a remote slide, failed attempts included as far as they are
            known; 0 for a local one.
    """

    tiles: int = 0
    compressed_bytes: int = 0
    pixels: int = 0
    seconds: float = 0.0
    requests: int = 0

    def __add__(self, other: ReadCount) -> ReadCount:
        return ReadCount(
            self.tiles + other.tiles,
            self.compressed_bytes + other.compressed_bytes,
            self.pixels + other.pixels,
            self.seconds + other.seconds,
            self.requests + other.requests,
        )

    def __sub__(self, other: ReadCount) -> ReadCount:
        return ReadCount(
            self.tiles - other.tiles,
            self.compressed_bytes - other.compressed_bytes,
            self.pixels - other.pixels,
            self.seconds - other.seconds,
            self.requests - other.requests,
        )


class Tally:
    """Counts up, from any number of threads."""

    def __init__(self) -> None:
        self._count = ReadCount()
        self._lock = Lock()

    @property
    def count(self) -> ReadCount:
        """All there was so far."""
        return self._count

    def add(self, more: ReadCount) -> None:
        """Count `more`."""
        with self._lock:
            self._count += more

    @contextmanager
    def timed(self, tiles: int, pixels: int) -> Iterator[None]:
        """Count tiles and pixels that are decoded inside the `with`, and how long it takes."""
        start = time.perf_counter()
        yield
        self.add(ReadCount(tiles, 0, pixels, time.perf_counter() - start))
