"""An array in memory as a slide of one level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from saccade.tiling.source import RGB, Level, SlideInfo, Source


class ArraySource(Source):
    """Reads an array.

    Args:
        pixels: uint8 (rows, cols, 3).
        info: facts, where the caller knows more than the array tells.

    Raises:
        ValueError: if the array is of another type or shape, or empty.
    """

    def __init__(self, pixels: RGB, info: SlideInfo | None = None) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise ValueError(
                "an array in memory must be uint8 with shape (rows, cols, 3), "
                f"got {pixels.dtype} {pixels.shape}."
            )
        rows, cols, _ = pixels.shape
        self._pixels = pixels
        self.info = info or SlideInfo(levels=(Level(cols, rows, 1.0),), reader="array")

    def pitch_px(self, level: int) -> float:
        """Whole pixels."""
        return 1.0

    def read_level(self, level: int, x_px: float, y_px: float, size_px: tuple[int, int]) -> RGB:
        """Return a copy of the rectangle."""
        x, y = int(x_px), int(y_px)
        return self._pixels[y : y + size_px[1], x : x + size_px[0]].copy()

    def associated_images(self) -> Mapping[str, RGB]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing to release: the array is the caller's."""
