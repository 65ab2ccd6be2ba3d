"""The bytes of a file, read from many threads at once, and counted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from saccade.tiling.counting import ReadCount, Tally


class FileBytes:
    """A file's bytes, for any number of threads at once: no position is shared.

    Attributes:
        tally: what was read and decoded of the file.
    """

    _descriptor = -1

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self.tally = Tally()

    def read(self, offset: int, count: int) -> bytes:
        """Return `count` bytes; fewer only where the file ends."""
        (data,) = self.read_many([(offset, count)])
        return data

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of several (offset, count), in their order."""
        found = [self._read(offset, count) for offset, count in ranges]
        self.tally.add(ReadCount(compressed_bytes=sum(map(len, found))))
        return found

    def _read(self, offset: int, count: int) -> bytes:
        data = os.pread(self._descriptor, count, offset)
        while len(data) < count:
            more = os.pread(self._descriptor, count - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def close(self) -> None:
        """Release the file; twice is once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()
