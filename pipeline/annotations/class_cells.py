"""Where on a slide each class lies: pixels of each class, counted in cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.annotations.truth import IGNORED, SlideTruth
from saccade.tiling import Slide

CELL_PX = 64
_MOST_PX = 1 << 24  # of a slide that are looked at
_STRIP_CELLS = 16


@dataclass(frozen=True, slots=True, eq=False)
class ClassCells:
    """Pixels of each class in square cells from the slide's origin.

    Attributes:
        truth: of the slide.
        mpp: micrometres per pixel that was counted at.
        cell_l0: (x, y) level-0 pixels that a cell spans.
        counts: int64 (rows, cols, classes), what is not known left out.
    """

    truth: SlideTruth
    mpp: float
    cell_l0: tuple[float, float]
    counts: NDArray[np.int64]

    def place_l0(self, rng: np.random.Generator, wanted: int | None) -> tuple[float, float]:
        """Draw a pixel, all alike, of a class, or of any class if None; its centre (x, y).

        Raises:
            ValueError: if there is none.
        """
        counts = self.counts.sum(axis=2) if wanted is None else self.counts[..., wanted]
        if not counts.any():
            raise ValueError(f"no pixel is of class {wanted}.")
        cell = int(rng.choice(counts.size, p=counts.ravel() / counts.sum()))
        row, col = divmod(cell, counts.shape[1])
        corner = col * self.cell_l0[0], row * self.cell_l0[1]
        labels = self.truth.labels(*corner, (CELL_PX, CELL_PX), self.mpp)
        of_class = labels != IGNORED if wanted is None else labels == wanted
        pixel = rng.choice(np.flatnonzero(of_class))
        down, across = divmod(int(pixel), CELL_PX)
        return (
            corner[0] + (across + 0.5) / CELL_PX * self.cell_l0[0],
            corner[1] + (down + 0.5) / CELL_PX * self.cell_l0[1],
        )


def count_classes(truth: SlideTruth, slide: Slide, mpp: float) -> ClassCells:
    """Look through the truth of a slide once.

    Of a large slide every second, third, ... pixel is looked at, 16 million in all: an object that
    is smaller than that may not be drawn for its own sake.

    Args:
        truth: of the slide.
        slide: for its size and scale.
        mpp: micrometres per pixel of the tiles.

    Raises:
        TargetError: if the annotations cannot be decoded.
    """
    width, height = (n / d for n, d in zip(slide.size_l0, slide.downsample_for(mpp), strict=True))
    mpp *= max(1, math.ceil(math.sqrt(width * height / _MOST_PX)))
    cell_l0 = tuple(CELL_PX * each for each in slide.downsample_for(mpp))
    cols, rows = (math.ceil(n / side) for n, side in zip(slide.size_l0, cell_l0, strict=True))
    counts = np.zeros((rows, cols, truth.classes), np.int64)
    for row in range(0, rows, _STRIP_CELLS):
        strip = counts[row : row + _STRIP_CELLS]
        size_px = cols * CELL_PX, len(strip) * CELL_PX
        labels = truth.labels(0, row * cell_l0[1], size_px, mpp)
        cells = labels.reshape(len(strip), CELL_PX, cols, CELL_PX)
        for number in range(truth.classes):
            strip[..., number] = (cells == number).sum(axis=(1, 3))
    return ClassCells(truth, mpp, (cell_l0[0], cell_l0[1]), counts)
