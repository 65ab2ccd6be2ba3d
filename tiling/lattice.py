"""Where tiles may begin so that they fit what a file stores: its pixels, or its own tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Snap = Literal["none", "pixel", "tile"]
"""What tiles are moved to: nothing, the pixels that are read, or the source's own tiles."""

_NEARLY_NOTHING = 1e-6
"""Level-0 pixels."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """The pixels that tiles are read from, and the source tiles that these are stored in.

    A read may take in more than the tile itself, which its filter needs. It begins `before_l0`
    before the tile and spans `span_l0`. Pairs are (x, y), all lengths level-0 pixels.

    Attributes:
        size_l0: of the slide.
        side_l0: of a tile.
        pixel_l0: side of a pixel that is read; tiles begin at multiples of it.
        source_l0: sides of a source tile; None to have tiles begin at any pixel.
        before_l0: how far before a tile its read begins.
        span_l0: what a read covers.

    Raises:
        ValueError: if a length is not positive, or source tiles and reads are not in whole pixels.

    >>> lattice = Lattice((4096, 4096), (256.0, 256.0), pixel_l0=2)
    >>> lattice.snap(np.array([[101, 200], [-51, 3840]]))
    array([[ 100,  200],
           [ -52, 3840]])
    """

    size_l0: tuple[int, int]
    side_l0: tuple[float, float]
    pixel_l0: int
    source_l0: tuple[int, int] | None = None
    before_l0: tuple[int, int] = (0, 0)
    span_l0: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        source = () if self.source_l0 is None else (*self.source_l0, *self.span_l0)
        lengths = (*self.size_l0, *self.side_l0, self.pixel_l0, *source)
        if not all(0 < length < math.inf for length in lengths) or min(self.before_l0) < 0:
            raise ValueError(f"lengths of a lattice must be positive, got {self}.")
        if any(length % self.pixel_l0 for length in (*source, *self.before_l0)):
            raise ValueError(f"source tiles and reads must be in whole pixels, got {self}.")

    def snap(self, corners_l0: NDArray[np.integer]) -> NDArray[np.int64]:
        """Move tiles to where they fit; one that lies inside the slide stays inside.

        To a pixel a tile moves by half of one at most; by less than one at the far edge. To
        source tiles it moves just as far as makes its read touch as few of them as a read of that
        size can, whichever way is shorter: where it does so already, not at all.

        Args:
            corners_l0: (n, 2) upper-left corners (x, y).

        Returns:
            (n, 2) corners to read at.
        """
        corners = np.asarray(corners_l0, np.int64).reshape(-1, 2)
        return np.stack([self._along(axis, corners[:, axis]) for axis in (0, 1)], axis=1)

    def _along(self, axis: int, start: NDArray[np.int64]) -> NDArray[np.int64]:
        pixel = self.pixel_l0
        last = math.floor((self.size_l0[axis] - self.side_l0[axis] + _NEARLY_NOTHING) / pixel)
        most = last * pixel
        inside = (start >= 0) & (start + self.side_l0[axis] <= self.size_l0[axis] + _NEARLY_NOTHING)
        snapped = np.rint(start / pixel).astype(np.int64) * pixel
        snapped = np.where(inside, np.minimum(snapped, most), snapped)
        if self.source_l0 is None:
            return snapped
        return self._to_source(axis, snapped, inside, most)

    def _to_source(
        self, axis: int, start: NDArray[np.int64], inside: NDArray[np.bool_], most: int
    ) -> NDArray[np.int64]:
        """Move starts on pixels by as little as makes reads touch the fewest source tiles."""
        assert self.source_l0 is not None
        source, span = self.source_l0[axis], self.span_l0[axis]
        room = -span % source  # how far into a source tile a read may begin
        over = (start - self.before_l0[axis]) % source - room
        back, forth = start - over, start + source - room - over
        can_back, can_forth = (~inside | (to >= 0) & (to <= most) for to in (back, forth))
        go_back = can_back & ((over <= forth - start) | ~can_forth)
        moved = np.where(go_back, back, np.where(can_forth, forth, start))
        return np.where(over > 0, moved, start)
