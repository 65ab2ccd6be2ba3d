"""The tiles of one slide in pieces, of which the next is read while this one is worked on."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.reading import SlideRef, TileReader, TileRequest
from saccade.tiling.errors import SlideError

_PIECE_BYTES = 1 << 25  # of tiles that are read together: source tiles they share are decoded once


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a slide's tiles, by their numbers."""

    numbers: NDArray[np.intp]
    requests: Sequence[TileRequest]

    @classmethod
    def of(cls, slide: SlideRef, corners_l0: NDArray[np.int64], numbers: NDArray[np.intp]) -> Piece:
        """The tiles of these numbers, of those with these corners."""
        return cls(numbers, [TileRequest(slide, corners_l0[numbers])])


def in_batches(
    slide: SlideRef,
    corners_l0: NDArray[np.int64],
    order: NDArray[np.intp],
    reader: TileReader,
    batch: int,
) -> Generator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """Read tiles and give them batch by batch, in memory that does not grow with their number.

    Args:
        slide: the slide.
        corners_l0: of its tiles.
        order: their numbers, as they are to come; only these are read.
        reader: of tiles.
        batch: tiles of a batch; the last one may have fewer.

    Yields:
        Numbers (n,), and tiles (n, side, side, 3).

    Raises:
        SlideError: if the tiles cannot be read.
    """
    count = max(1, _PIECE_BYTES // (batch * 3 * reader.size_px**2)) * batch
    pieces = (
        Piece.of(slide, corners_l0, order[start : start + count])
        for start in range(0, len(order), count)
    )
    with closing(reader.ahead(pieces, 1)) as read:
        for piece, (found,) in read:
            if isinstance(found, SlideError):
                raise found
            for start in range(0, len(found), batch):
                some = slice(start, start + batch)
                yield piece.numbers[some], found[some]
