"""One pass over a slide: blocks are read side by side, and all levels are made of them in memory.

A block is read and climbs: its pixels are encoded, halved, and encoded again, as long as they fill
whole chunks. What is left then waits in one thread for its neighbours, and climbs with them. No
level is read back. Blocks come in Z-order, which keeps neighbours together, so little waits.

Memory: a block for each worker and about as many that are done, encoded, the shards that are begun,
and of each level the few chunks that are not yet whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.tiling.area import halve
from saccade.tiling.chunk_codec import ChunkCodec
from saccade.tiling.pyramid_levels import Shape
from saccade.tiling.shards import Place, ShardedArray
from saccade.tiling.threads import in_turn

Window = tuple[slice, slice]
Planes = NDArray[np.uint8]
"""(3, rows, cols)."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """An encoded chunk of a level; None where it is left out."""

    level: int
    place: Place
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Piece:
    """Pixels of a level, and where (row, col) their upper left corner lies in it."""

    level: int
    corner: tuple[int, int]
    pixels: Planes

    def half(self) -> Piece:
        """The same of the next level; the corner is even."""
        row, col = self.corner
        return Piece(self.level + 1, (row // 2, col // 2), halve(self.pixels))


@dataclass(frozen=True, slots=True)
class Found:
    """What reading a block or climbing gave: chunks, and pixels that have not been encoded."""

    chunks: list[Chunk]
    piece: Piece | None


class Blocks(Protocol):
    """How a slide is read."""

    shape: Shape
    """(rows, cols) of what is covered by blocks."""

    block: Shape
    """(rows, cols) of a block; those at the far edges are smaller."""

    def read(self, window: Window) -> Found:
        """What becomes of a block: chunks that are done, pixels that are not."""


class Climber:
    """Makes levels out of pieces of the finest.

    Args:
        shapes: (rows, cols) of each level.
        arrays: where their chunks go.
        codec: of what is encoded here.
    """

    def __init__(
        self, shapes: Sequence[Shape], arrays: Sequence[ShardedArray], codec: ChunkCodec
    ) -> None:
        self._shapes, self._arrays, self._codec = shapes, arrays, codec
        self._waiting: dict[tuple[int, int, int], tuple[Planes, int]] = {}

    def climb(self, found: Found) -> Found:
        """Encode and halve as far as there are whole chunks; from any thread."""
        chunks, piece = [*found.chunks], found.piece
        while piece is not None and self._is_whole(piece):
            chunks += self._encoded(piece)
            piece = piece.half() if piece.level + 1 < len(self._shapes) else None
        return Found(chunks, piece)

    def settle(self, found: Found) -> None:
        """Hand chunks on, and let pieces climb that are whole now; from one thread only."""
        while True:
            for chunk in found.chunks:
                self._arrays[chunk.level].put(chunk.place, chunk.data)
            whole = None if found.piece is None else self._joined(found.piece)
            if whole is None:
                return
            found = self.climb(Found([], whole))

    def take_rest(self, window: Window) -> Found:
        """What waits for its neighbours: chunks of files and a piece that are not complete.

        Args:
            window: of the finest level, whose pieces alone were settled here. Its corner is a
                corner of chunks, on all levels until it has less than a chunk of one.
        """
        chunks = [
            Chunk(level, place, data)
            for level, array in enumerate(self._arrays)
            for place, data in array.take_rest()
        ]
        if not self._waiting:
            return Found(chunks, None)
        (((level, row, col), (pixels, _)),) = self._waiting.items()
        cell = self._cell(level)
        rows, cols = (
            slice((part.start >> level) - at * n, -(-part.stop >> level) - at * n)
            for part, at, n in zip(window, (row, col), cell, strict=True)
        )
        corner = row * cell[0] + rows.start, col * cell[1] + cols.start
        return Found(chunks, Piece(level, corner, pixels[:, rows, cols]))

    def _cell(self, level: int) -> Shape:
        return self._arrays[level].chunk[1], self._arrays[level].chunk[2]

    def _is_whole(self, piece: Piece) -> bool:
        """Whether it consists of whole chunks, or parts of chunks with nothing else in them."""
        ends = (at + n for at, n in zip(piece.corner, piece.pixels.shape[1:], strict=True))
        cell, shape = self._cell(piece.level), self._shapes[piece.level]
        return all(
            at % side == 0 and (end % side == 0 or end == limit)
            for at, end, side, limit in zip(piece.corner, ends, cell, shape, strict=True)
        )

    def _encoded(self, piece: Piece) -> Iterator[Chunk]:
        high, wide = self._cell(piece.level)
        _, rows, cols = piece.pixels.shape
        for row, col in product(range(0, rows, high), range(0, cols, wide)):
            place = (piece.corner[0] + row) // high, (piece.corner[1] + col) // wide
            for i, plane in enumerate(piece.pixels[:, row : row + high, col : col + wide]):
                yield Chunk(piece.level, (i, *place), self._codec.encoded(plane, (high, wide)))

    def _joined(self, piece: Piece) -> Piece | None:
        """The whole chunk that a piece completes."""
        cell, shape = self._cell(piece.level), self._shapes[piece.level]
        row, col = (at // side for at, side in zip(piece.corner, cell, strict=True))
        top, left = row * cell[0], col * cell[1]
        size = min(cell[0], shape[0] - top), min(cell[1], shape[1] - left)
        key = piece.level, row, col
        pixels, missing = self._waiting.get(key) or (
            np.empty((3, *size), np.uint8),
            size[0] * size[1],
        )
        _, high, wide = piece.pixels.shape
        y, x = piece.corner[0] - top, piece.corner[1] - left
        pixels[:, y : y + high, x : x + wide] = piece.pixels
        if missing > high * wide:
            self._waiting[key] = pixels, missing - high * wide
            return None
        self._waiting.pop(key, None)
        return Piece(piece.level, (top, left), pixels)


def run_pass(
    blocks: Blocks,
    windows: Sequence[Window],
    climber: Climber,
    *,
    workers: int,
    tick: Callable[[], None],
) -> None:
    """Read every block once, and write every level; `tick` after each block, in this thread."""
    work = in_turn(lambda window: climber.climb(blocks.read(window)), windows, workers)
    for found in work:
        climber.settle(found)
        tick()


def count_blocks(shape: Shape, block: Shape) -> int:
    """How many blocks cover (rows, cols)."""
    return math.prod(-(-length // side) for length, side in zip(shape, block, strict=True))


def windows_in_z_order(shape: Shape, block: Shape) -> list[Window]:
    """Blocks that cover (rows, cols): four neighbours first, then the next four beside them ..."""
    (rows, cols), (high, wide) = shape, block
    places = product(range(-(-rows // high)), range(-(-cols // wide)))
    return [
        (
            slice(row * high, min((row + 1) * high, rows)),
            slice(col * wide, min((col + 1) * wide, cols)),
        )
        for row, col in sorted(places, key=_z_order)
    ]


def _z_order(place: tuple[int, int]) -> int:
    """The bits of row and column in turn."""
    row, col = place
    bits = range(max(row, col).bit_length())
    return sum((row >> i & 1) << 2 * i + 1 | (col >> i & 1) << 2 * i for i in bits)
