"""Which tiles of a pass are done, and the statistic of each: one record a tile, appended.

A record is written after the tile's pixels and counts only if it is whole, so that a process may
be killed at any moment: at worst a batch is computed again, to the same bytes.
"""

from __future__ import annotations

import struct
from pathlib import Path

import google_crc32c
import numpy as np

from saccade.pipeline.stages.statistics import Statistic, Vector

_HEAD, _CHECK = struct.Struct("<QI"), struct.Struct("<I")  # tile, length of the vector; CRC-32C


class Journal:
    """A file of records.

    Memory: a number for each tile; vectors are read when they are merged.

    Args:
        path: of the file; what a killed process left half-written at its end is cut off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[int, int] = {}
        path.touch()
        with path.open("r+b") as file:
            file.truncate(self._read(file.read()))

    def __contains__(self, tile: int) -> bool:
        return tile in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, tile: int, vector: Vector) -> None:
        """Note that a tile is done."""
        body = _HEAD.pack(tile, len(vector)) + vector.astype("<f8").tobytes()
        with self._path.open("ab") as file:
            self._places[tile] = file.tell()
            file.write(body + _CHECK.pack(google_crc32c.value(body)))

    def merged(self, kind: type[Statistic]) -> Statistic:
        """The statistic of all tiles, merged in the order of their numbers.

        Always in that order: sums of floating-point numbers depend on it.

        Raises:
            ValueError: if no tile is done.
        """
        found: Statistic | None = None
        with self._path.open("rb") as file:
            for _, place in sorted(self._places.items()):
                file.seek(place)
                _, length = _HEAD.unpack(file.read(_HEAD.size))
                vector = np.frombuffer(file.read(8 * length), "<f8").astype(np.float64)
                part = kind.from_vector(vector)
                found = part if found is None else found.merge(part)
        if found is None:
            raise ValueError(f"{self._path.name}: no tile is done, so there is nothing to merge.")
        return found

    def _read(self, data: bytes) -> int:
        """Find the records; return where the last whole one ends."""
        place = 0
        while place + _HEAD.size <= len(data):
            tile, length = _HEAD.unpack_from(data, place)
            end = place + _HEAD.size + 8 * length
            if end + _CHECK.size > len(data):
                break
            if _CHECK.unpack_from(data, end)[0] != google_crc32c.value(data[place:end]):
                break
            self._places[tile] = place
            place = end + _CHECK.size
        return place
