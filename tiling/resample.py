"""Cutting a rectangle out of a level and bringing it to another scale, to sub-pixel accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

NEARLY_WHOLE = 1e-3  # pixels; less than any resampling filter can show in 8 bits
_SOFT_UP_TO = 1.25  # reductions below it interpolate; the Hamming filter would shift edges there
_PLAIN_MEAN_FROM = 32  # reductions above it: a mean over whole pixels is off by 1/64 of a result
_TILE = 512  # a multiple of what most slides' tiles measure; cut between them, none is read twice


@dataclass(frozen=True, slots=True)
class Axis:
    """Output pixels along one axis of a level, in pixels of that level.

    Attributes:
        start: left edge of the first output pixel; may be fractional or negative.
        step: width of an output pixel.
        count: number of output pixels.
        pitch: distance between the positions where a read of the level may begin.
        divisible: whether every output pixel may begin a read of its own.
        begins_whole: whether a read may begin at any whole pixel, too.
    """

    start: float
    step: float
    count: int
    pitch: float = 1.0
    divisible: bool = False
    begins_whole: bool = False

    @classmethod
    def snapped(cls, start: float, step: float, count: int, pitch: float = 1.0) -> Axis:
        """Axis whose start and step are whole where they are meant to be.

        Scanners store 4.00012 where they mean 4; a start of 7.9999 is a rounding error.
        """
        place = round(start / pitch)
        if abs(start - place * pitch) < NEARLY_WHOLE:
            start = place * pitch
        if step > 0.5 and abs(step - round(step)) * count < NEARLY_WHOLE:
            step = float(round(step))
        return cls(start, step, count, pitch)

    @property
    def is_whole(self) -> bool:
        """Whether every output pixel is a block of whole pixels, as they can be read."""
        place = self.start / self.pitch
        near = abs(place - round(place)) < 1e-9 * max(1.0, abs(place))
        if self.divisible and not (1 / self.pitch).is_integer():
            return False  # the next block could not begin where this one ends
        return self.step.is_integer() and near

    @property
    def _margin(self) -> float:
        if self.is_whole or self.step >= _PLAIN_MEAN_FROM:
            return 0.0
        return 2 * max(self.step, 1.0) if self.step <= _SOFT_UP_TO else self.step

    @property
    def first(self) -> float:
        """Where the read begins: as near to a whole pixel as can be, with room for the filter."""
        if self.is_whole:
            return self._allowed(self.start)
        latest = self.start - self._margin
        if self.begins_whole:
            return float(math.floor(latest))
        first = self._allowed(math.floor(latest))
        return first if first <= latest else self._allowed(math.floor(latest) - 1)

    def _allowed(self, position: float) -> float:
        return round(position / self.pitch) * self.pitch

    @property
    def pixels(self) -> int:
        """How many pixels of the level are read."""
        if self.is_whole:
            return self.count * int(self.step)
        return math.ceil(self.start + self.count * self.step + self._margin - self.first)

    @property
    def inner(self) -> tuple[float, float]:
        """(left, right) of the wanted stretch, counted from `first`."""
        if self.is_whole:
            return 0.0, float(self.pixels)
        left = self.start - self.first
        return left, left + self.count * self.step

    def part(self, first: int, last: int) -> Axis:
        """Output pixels `first` up to, not including, `last`."""
        return replace(self, start=self.start + first * self.step, count=last - first)

    @property
    def cuts(self) -> list[tuple[int, int]]:
        """Two ranges of output pixels, which meet about half way, if it can be between tiles."""
        middle = self.start + self.count * self.step / 2
        place = round((round(middle / _TILE) * _TILE - self.start) / self.step)
        cut = place if self.count < 4 * place < 3 * self.count else self.count // 2
        return [(0, cut), (cut, self.count)]

    def halved(self) -> Axis:
        """The same stretch, in output pixels half as wide."""
        return replace(self, step=self.step / 2, count=self.count * 2)


@dataclass(frozen=True, slots=True)
class Box:
    """A wanted rectangle on a level, and the pixels to read for it."""

    x: Axis
    y: Axis

    @classmethod
    def around(
        cls,
        corner_l0: tuple[float, float],
        size_px: tuple[int, int],
        scale: tuple[float, float],
        level_scale: tuple[float, float],
        pitch: float = 1.0,
        *,
        begins_whole: bool = False,
    ) -> Box:
        """Box of `size_px` output pixels of `scale` level-0 pixels each, on a level.

        Exact blocks need no margin; anything else gets the support of the resampling filter.
        """
        axes = (
            Axis.snapped(
                corner_l0[i] / level_scale[i], scale[i] / level_scale[i], size_px[i], pitch
            )
            for i in (0, 1)
        )
        x, y = (replace(axis, begins_whole=begins_whole) for axis in axes)
        return cls(x, y)

    @property
    def size_px(self) -> tuple[int, int]:
        """(width, height) of the result."""
        return self.x.count, self.y.count

    @property
    def outer_px(self) -> tuple[float, float, int, int]:
        """(x, y, width, height) to read from the level, in its pixels."""
        return self.x.first, self.y.first, self.x.pixels, self.y.pixels

    @property
    def inner_px(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the wanted rectangle within what was read."""
        (left, right), (top, bottom) = self.x.inner, self.y.inner
        return left, top, right, bottom

    def touches(self, width: float, height: float) -> bool:
        """Whether what is read overlaps a level of that size."""
        x, y, wide, high = self.outer_px
        return x < width and y < height and x + wide > 0 and y + high > 0

    @property
    def area_px(self) -> int:
        """Pixels to read."""
        return self.x.pixels * self.y.pixels

    def divisible(self) -> Box:
        """The same rectangle, treated alike in every block it is cut into."""
        return Box(replace(self.x, divisible=True), replace(self.y, divisible=True))

    def halves(self) -> list[tuple[tuple[slice, slice], Box]]:
        """About halves along the longer side, each with its (rows, cols) of the result."""
        if self.x.count >= self.y.count:
            cuts = self.x.cuts
            return [((slice(None), slice(*cut)), Box(self.x.part(*cut), self.y)) for cut in cuts]
        cuts = self.y.cuts
        return [((slice(*cut), slice(None)), Box(self.x, self.y.part(*cut))) for cut in cuts]

    def halved(self) -> Box:
        """The same rectangle, in output pixels half as wide and high."""
        return Box(self.x.halved(), self.y.halved())


def resample(
    pixels: NDArray[np.uint8],
    box_px: tuple[float, float, float, float],
    size_px: tuple[int, int],
) -> NDArray[np.uint8]:
    """Bring the part of `pixels` inside `box_px` to `size_px` (width, height), antialiased.

    Blocks of whole pixels become their mean, rounded half up. Up to a reduction of 1.25 (and for
    enlarging) the filter is cubic (Keys 1981, a = -0.5), beyond it Hamming's, as wide as the
    reduction, and from 32 on a plain mean. The first two shift nothing by more than 0.06 pixels,
    the mean by at most 1/64 of a result's pixel.

    Args:
        pixels: (rows, cols, 3).
        box_px: (left, top, right, bottom) in pixels of `pixels`; may be fractional. What lies
            around it is used by the filter.
        size_px: (width, height) of the result.
    """
    left, top, right, bottom = box_px
    step_x, step_y = (right - left) / size_px[0], (bottom - top) / size_px[1]
    if all(float(number).is_integer() for number in (left, top, step_x, step_y)):
        inside = pixels[int(top) : int(bottom), int(left) : int(right)]
        return block_means(inside, (int(step_x), int(step_y)))
    method = _filter_for(min(step_x, step_y))
    return np.asarray(Image.fromarray(pixels).resize(size_px, method, box=box_px))


def block_means(pixels: NDArray[np.uint8], block_px: tuple[int, int]) -> NDArray[np.uint8]:
    """Mean of every block of (width, height) pixels, rounded half up; sides are multiples of it.

    Pillow's `reduce` divides by a truncated factor and misses by one now and then, unless a block
    has 2, 4, 8 ... pixels: then it is exact, and faster.
    """
    width, height = block_px
    if block_px == (1, 1):
        return pixels
    count = width * height
    if count in (2, 4, 8, 16):
        return np.asarray(Image.fromarray(pixels).reduce(block_px))
    total: NDArray[Any] = pixels[::height].astype(np.uint16 if count <= 256 else np.uint32)
    for row in range(1, height):
        total += pixels[row::height]
    columns = total.reshape(total.shape[0], -1, width, 3)
    total = columns[:, :, 0].copy()
    for col in range(1, width):
        total += columns[:, :, col]
    return ((total + count // 2) // count).astype(np.uint8)


def _filter_for(reduction: float) -> Image.Resampling:
    if reduction >= _PLAIN_MEAN_FROM:
        return Image.Resampling.BOX
    return Image.Resampling.BICUBIC if reduction <= _SOFT_UP_TO else Image.Resampling.HAMMING
