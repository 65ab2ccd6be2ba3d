"""What a read takes its pixels from: the levels of a slide, and what a decoder makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.tiling.resample import NEARLY_WHOLE, Box

FINE_ENOUGH = 1.005  # scanners round: a level of 4.00012 serves a request for 4


@dataclass(frozen=True, slots=True)
class Raster:
    """A level of a slide, as it is or decoded `shrink` times smaller.

    Attributes:
        level: its number.
        shrink: pixels of the level along a side of one pixel here.
        width: whole pixels in a row; a last one that the level fills in part is not counted.
        height: whole pixels in a column, likewise.
        downsample: level-0 pixels along a side of one pixel here.
        pitch: distance between the positions at which a read may begin, in pixels.
        begins_whole: whether a read may begin at any whole pixel, too.
    """

    level: int
    shrink: int
    width: int
    height: int
    downsample: float
    pitch: float = 1.0
    begins_whole: bool = True

    def box(
        self, corner_l0: tuple[float, float], size_px: tuple[int, int], scale: tuple[float, float]
    ) -> Box:
        """`size_px` (width, height) result pixels, of `scale` level-0 pixels each, on this."""
        return Box.around(
            corner_l0,
            size_px,
            scale,
            (self.downsample, self.downsample),
            pitch=self.pitch,
            begins_whole=self.begins_whole,
        )

    def steps(self, scale: tuple[float, float], most: int) -> tuple[float, float]:
        """Pixels here per result pixel, whole if they are meant to be over `most` of them."""
        exact = scale[0] / self.downsample, scale[1] / self.downsample
        x, y = (round(n) if abs(n - round(n)) * most < NEARLY_WHOLE else n for n in exact)
        return x, y

    def has_corners(self, corners_l0: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,): which corners (x, y) (n, 2) lie between pixels here, not within one."""
        starts = corners_l0 / self.downsample
        whole: NDArray[np.bool_] = np.all(np.abs(starts - starts.round()) < NEARLY_WHOLE, axis=1)
        return whole

    def plain(
        self, corners_l0: NDArray[np.float64], size_px: int, scale: tuple[float, float]
    ) -> NDArray[np.bool_]:
        """(n,): which square tiles are nothing but pixels of this, all inside."""
        starts = (corners_l0 / self.downsample).round()
        limits = np.array((self.width, self.height)) - size_px
        inside: NDArray[np.bool_] = np.all((starts >= 0) & (starts <= limits), axis=1)
        same = self.begins_whole and self.steps(scale, size_px) == (1, 1)
        return inside & self.has_corners(corners_l0) & same


def choose_rasters(
    rasters: Sequence[Raster],
    corners_l0: NDArray[np.float64],
    scale: tuple[float, float],
    most: int,
) -> list[tuple[Raster, NDArray[np.intp]]]:
    """For each corner the coarsest raster that is fine enough and cuts no pixel in vain.

    Where results are means of whole pixels of the level, only a raster that has them whole, too,
    is taken: interpolation would blur what need not be. Where they are interpolated anyway, it
    is from the coarsest.

    Args:
        rasters: of one level, the level itself among them.
        corners_l0: (n, 2), upper-left corners (x, y) of the results.
        scale: (x, y) level-0 pixels per result pixel.
        most: result pixels along the longer side.

    Returns:
        Rasters and the numbers of the corners that are theirs.
    """
    fine = finest_first(rasters, scale)
    whole = [_has_whole_blocks(raster, corners_l0, scale, most) for raster in fine]
    takes = [here | ~whole[0] for here in whole]
    left = np.ones(len(corners_l0), bool)
    chosen = []
    for raster, here in reversed([*zip(fine, takes, strict=True)]):
        if (mine := np.flatnonzero(here & left)).size:
            chosen.append((raster, mine))
            left[mine] = False
    return chosen


def finest_first(rasters: Sequence[Raster], scale: tuple[float, float]) -> list[Raster]:
    """The level itself, and of its smaller versions those that serve a scale."""
    most = min(scale) * FINE_ENOUGH
    fits = [raster for raster in rasters if raster.shrink == 1 or raster.downsample <= most]
    return sorted(fits, key=lambda raster: raster.shrink)


def _has_whole_blocks(
    raster: Raster, corners_l0: NDArray[np.float64], scale: tuple[float, float], most: int
) -> NDArray[np.bool_]:
    whole_steps = all(float(step).is_integer() for step in raster.steps(scale, most))
    return raster.has_corners(corners_l0) & whole_steps
