"""Zarr shards put together chunk by chunk, from chunks that are encoded already.

zarr-python encodes what it is given, so JPEG tiles could not be copied through it, and each chunk
costs it more than zstd does. The form is simple enough to be written directly. Source: the Zarr
specification, codec `sharding_indexed` version 1.0: the chunks one after the other, then an index
of 64-bit little-endian numbers, offset and length of each chunk in C order (all bits set where a
chunk is left out), and its CRC-32C.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr

Place = tuple[int, ...]
"""Number of a chunk (or shard) along each axis."""

_LEFT_OUT = 2**64 - 1
_PARTIAL = ".partial-"
_BUFFER = 2**18  # bytes: small chunks are written together


class ShardedArray:
    """The chunks of one array: kept until their shard is complete, then written as one file.

    The bytes of a shard depend on its chunks alone, not on the order in which they come, and its
    file appears whole: two processes that write the same one do not harm each other. Memory: the
    encoded chunks of the shards that are begun.

    Args:
        array: in a folder, made by zarr-python with shards; what its chunks hold is the caller's
            to encode.

    Raises:
        ValueError: if the array has no shards.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        if array.shards is None:
            raise ValueError(f"{array.path}: an array with shards was wanted.")
        self.shape, self.chunk, self._shard = array.shape, array.chunks, array.shards
        self._folder = Path(str(array.store_path).removeprefix("file://"))
        self._encode_key = array.metadata.encode_chunk_key
        self._begun: dict[Place, dict[Place, bytes | None]] = {}

    @property
    def open_shards(self) -> int:
        """How many are begun and not complete."""
        return len(self._begun)

    def put(self, place: Place, data: bytes | None) -> None:
        """Add a chunk, once each; None leaves it out, and readers see the fill value there."""
        per_shard = self._chunks_per_shard
        shard = tuple(i // n for i, n in zip(place, per_shard, strict=True))
        chunks = self._begun.setdefault(shard, {})
        chunks[tuple(i % n for i, n in zip(place, per_shard, strict=True))] = data
        if len(chunks) == self._count(shard):
            del self._begun[shard]
            self._write(shard, chunks)

    def take_rest(self) -> Iterator[tuple[Place, bytes | None]]:
        """The chunks of shards that are not complete, for somebody else to put."""
        per_shard = self._chunks_per_shard
        while self._begun:
            shard, chunks = self._begun.popitem()
            for place, data in chunks.items():
                axes = zip(shard, per_shard, place, strict=True)
                yield tuple(i * n + at for i, n, at in axes), data

    @property
    def _chunks_per_shard(self) -> Place:
        return tuple(s // c for s, c in zip(self._shard, self.chunk, strict=True))

    def _count(self, shard: Place) -> int:
        """Chunks of a shard that lie inside the array, in full or in part."""
        axes = zip(shard, self._chunks_per_shard, self.shape, self.chunk, strict=True)
        return math.prod(min(n, -(-length // c) - i * n) for i, n, length, c in axes)

    def _write(self, shard: Place, chunks: dict[Place, bytes | None]) -> None:
        parts = pack_shard(chunks, self._chunks_per_shard)
        if not parts:
            return
        path = self._folder / self._encode_key(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{_PARTIAL}{secrets.token_hex(4)}-{path.name}")
        with partial.open("wb", buffering=_BUFFER) as file:
            file.writelines(parts)
        partial.replace(path)


def remove_partial_shards(folder: Path) -> None:
    """Remove what processes that were killed left half-written anywhere in a folder."""
    for path in folder.rglob(f"{_PARTIAL}*"):
        path.unlink(missing_ok=True)


def pack_shard(chunks: dict[Place, bytes | None], chunks_per_shard: Place) -> list[bytes]:
    """A shard, in parts: encoded chunks, then the index; nothing if all are left out."""
    index = np.full((*chunks_per_shard, 2), _LEFT_OUT, "<u8")
    parts, offset = [], 0
    for place in product(*map(range, chunks_per_shard)):
        data = chunks.get(place)
        if data is not None:
            index[place] = offset, len(data)
            offset += len(data)
            parts.append(data)
    if not parts:
        return []
    ending = index.tobytes()
    return [*parts, ending, google_crc32c.value(ending).to_bytes(4, "little")]
