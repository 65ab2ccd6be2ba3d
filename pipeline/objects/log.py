"""Objects as they are found: tile after tile at the end of a file, each behind a checksum.

A process may be killed at any moment: what it left half-written is cut off, and the next one finds
which tiles are done.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from saccade.pipeline.objects.batch import ObjectBatch

_HEAD, _CHECK = struct.Struct("<QII"), struct.Struct("<I")  # tile, objects, corners; CRC-32C


class ObjectLog:
    """A file of records, one a tile; a tile without any object has one, too.

    Memory: two numbers for each tile, and the objects of one.

    Args:
        path: of the file.
        measurements: names of the numbers that each object comes with.
    """

    def __init__(self, path: Path, measurements: Sequence[str] = ()) -> None:
        self._path, self._names = path, tuple(measurements)
        self._places: dict[int, int] = {}
        self.objects = 0
        path.touch()
        end = 0
        with path.open("rb") as file:
            while (record := self._next(file)) is not None:
                tile, found = record
                self._places[tile], end = end, file.tell()
                self.objects += len(found)
        os.truncate(path, end)

    def __contains__(self, tile: int) -> bool:
        return tile in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, found: Mapping[int, ObjectBatch]) -> None:
        """Append the objects of tiles, by the tiles' numbers; those that are there already stay.

        Raises:
            ValueError: if objects come with other measurements than the log has.
        """
        new = {tile: each for tile, each in found.items() if tile not in self._places}
        with self._path.open("ab") as file:
            for tile, each in new.items():
                place = file.tell()
                file.write(self._record(tile, each))
                self._places[tile] = place
                self.objects += len(each)

    def blocks(self) -> Iterator[tuple[int, ObjectBatch]]:
        """Tiles with their objects, in the order of the tiles' numbers.

        Always in that order, whatever run added them when.
        """
        with self._path.open("rb") as file:
            for _, place in sorted(self._places.items()):
                file.seek(place)
                record = self._next(file)
                assert record is not None, f"{self._path} was changed by somebody else"
                yield record

    def _record(self, tile: int, found: ObjectBatch) -> bytes:
        if set(found.measurements) != set(self._names):
            raise ValueError(
                f"objects of this log have the measurements {list(self._names)}, got "
                f"{list(found.measurements)}."
            )
        columns = [found.scores, *(found.measurements[name] for name in self._names)]
        body = b"".join(
            [
                _HEAD.pack(tile, len(found), len(found.points_l0)),
                found.lengths.astype("<u4").tobytes(),
                found.classes.astype("<u4").tobytes(),
                *(each.astype("<f4").tobytes() for each in columns),
                found.points_l0.astype("<f8").tobytes(),
            ]
        )
        return body + _CHECK.pack(google_crc32c.value(body))

    def _next(self, file: BinaryIO) -> tuple[int, ObjectBatch] | None:
        """The record that begins here; None if it is not whole."""
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        tile, count, corners = _HEAD.unpack(head)
        size = 4 * count * (3 + len(self._names)) + 16 * corners
        # A damaged head may say any size; the file has no more than it has.
        if size + _CHECK.size > os.fstat(file.fileno()).st_size - file.tell():
            return None
        body, check = file.read(size), file.read(_CHECK.size)
        if _CHECK.unpack(check)[0] != google_crc32c.value(head + body):
            return None
        return tile, self._batch(body, count)

    def _batch(self, body: bytes, count: int) -> ObjectBatch:
        whole = np.frombuffer(body, "<u4", 2 * count)
        columns = np.frombuffer(body, "<f4", (1 + len(self._names)) * count, 8 * count)
        numbers = columns.astype(np.float32).reshape(1 + len(self._names), count)
        points = np.frombuffer(body, "<f8", offset=4 * count * (3 + len(self._names)))
        return ObjectBatch(
            points.astype(np.float64).reshape(-1, 2),
            whole[:count].astype(np.int64),
            whole[count:].astype(np.int64),
            numbers[0],
            dict(zip(self._names, numbers[1:], strict=True)),
        )
