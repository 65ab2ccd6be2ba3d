"""What every kind of annotation says of a slide, in any window at any scale.

A pixel of a window shows what lies under its centre. A centre on the edge between two pixels of an
image, or exactly on an outline, belongs to what begins there, to the right or below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.metrics.segmentation import IGNORED

__all__ = ["IGNORED", "Centres", "SlideTruth", "TrueObjects", "within"]

# Of a pixel: what a centre may lie before an edge and still count as on it. Rounding of scales
# such as 0.6 / 0.1 would put it on either side.
_NEARLY = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class TrueObjects:
    """The objects of a slide; the first has number 1 in maps of instances.

    Attributes:
        classes: uint8 (n,), number of the class of each; 0 of an area of background, `IGNORED` of
            one that does not count.
        boxes_l0: float64 (n, 4), edges (x1, y1, x2, y2) of all of each, in level-0 pixels.
    """

    classes: NDArray[np.uint8]
    boxes_l0: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.classes)


class SlideTruth(Protocol):
    """What is known of a slide. Windows may overhang it; nothing is known beyond its edge."""

    @property
    def classes(self) -> int:
        """How many there are, the background being one of them."""

    @property
    def objects(self) -> TrueObjects:
        """The objects."""

    def downsample(self, mpp: float) -> tuple[float, float]:
        """(x, y) level-0 pixels that one pixel at `mpp` spans."""

    def labels(
        self, x_l0: float, y_l0: float, size_px: tuple[int, int], mpp: float
    ) -> NDArray[np.uint8]:
        """The class of each pixel, `IGNORED` (255) where none is known.

        Args:
            x_l0: left edge of the window, in level-0 pixels.
            y_l0: top edge, likewise.
            size_px: (width, height) of the result.
            mpp: micrometres per pixel of the result.

        Returns:
            (rows, cols).

        Raises:
            TargetError: if the file cannot be decoded.
        """

    def instances(
        self, x_l0: float, y_l0: float, size_px: tuple[int, int], mpp: float
    ) -> NDArray[np.int32]:
        """The number of the object of each pixel, 0 for none; arguments as for `labels`."""


@dataclass(frozen=True, slots=True, eq=False)
class Centres:
    """Where the centres of a window's pixels lie, in pixels of an image that covers a slide.

    Attributes:
        rows: int64 (rows of the window,), row of the image under each; may lie outside it.
        cols: likewise.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        corner_l0: tuple[float, float],
        size_px: tuple[int, int],
        downsample: tuple[float, float],
        *,
        image_px: tuple[float, float] = (1.0, 1.0),
    ) -> Centres:
        """The centres of a window.

        Args:
            corner_l0: its upper-left corner (x, y).
            size_px: (width, height).
            downsample: (x, y) level-0 pixels that one of its pixels spans.
            image_px: (x, y) level-0 pixels that one pixel of the image spans.
        """
        cols, rows = (
            np.floor((corner + (np.arange(size) + 0.5) * step) / pixel + _NEARLY).astype(np.int64)
            for corner, size, step, pixel in zip(
                corner_l0, size_px, downsample, image_px, strict=True
            )
        )
        return cls(rows, cols)

    def inside(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """The part (rows, cols) of the window that lies in an image of (rows, cols)."""
        rows, cols = (
            slice(*np.searchsorted(each, (0, length)).tolist())
            for each, length in zip((self.rows, self.cols), shape, strict=True)
        )
        return rows, cols


def within(size_px: tuple[int, int], value: int) -> NDArray[np.int32]:
    """A map of a window that says the same everywhere, to be written into."""
    return np.full(size_px[::-1], value, np.int32)
