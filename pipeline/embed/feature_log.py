"""Features as they are made: batch after batch at the end of a file, each behind a checksum.

A process may be killed at any moment: what it left half-written is cut off, and the next one goes
on after the last whole batch.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

_HEAD, _CHECK = struct.Struct("<I"), struct.Struct("<I")  # rows; CRC-32C of head and rows


class FeatureLog:
    """A file of blocks of rows, float32.

    Memory: a block.

    Args:
        path: of the file.
        dims: length of a row.

    Attributes:
        rows: in the file so far.
    """

    def __init__(self, path: Path, dims: int) -> None:
        self._path, self._dims = path, dims
        path.touch()
        self.rows, end = 0, 0
        with path.open("rb") as file:
            while (block := self._next(file)) is not None:
                self.rows, end = self.rows + len(block), file.tell()
        os.truncate(path, end)

    def add(self, features: NDArray[np.float32]) -> None:
        """Append rows (n, dims)."""
        body = _HEAD.pack(len(features)) + features.astype("<f4").tobytes()
        with self._path.open("ab") as file:
            file.write(body + _CHECK.pack(google_crc32c.value(body)))
        self.rows += len(features)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The rows, in the blocks that they came in."""
        with self._path.open("rb") as file:
            while (block := self._next(file)) is not None:
                yield block

    def _next(self, file: BinaryIO) -> NDArray[np.float32] | None:
        """The block that begins here; None if it is not whole."""
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        size = 4 * self._dims * _HEAD.unpack(head)[0]
        # A damaged head may say any size; the file has no more than it has.
        left = os.fstat(file.fileno()).st_size - file.tell()
        if size + _CHECK.size > left:
            return None
        body, check = file.read(size), file.read(_CHECK.size)
        if _CHECK.unpack(check)[0] != google_crc32c.value(head + body):
            return None
        return np.frombuffer(body, "<f4").reshape(-1, self._dims).astype(np.float32)
