"""Random fields: the paper on which tissue is drawn. Numbers only, no files."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

FloatField = NDArray[np.float32]

# Layouts are planned on cells of 16 px; what is smooth needs no more.
CELL_PX = 16

_TEXTURE_PX = 1024
_DIRECTIONS = 6


def smooth_noise(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    along: float,
    across: float | None = None,
    angle: float = 0.0,
) -> FloatField:
    """Return Gaussian noise of mean 0 and variance 1, smooth and periodic at its edges.

    Args:
        rng: source of the noise.
        shape: (rows, cols).
        along: smoothing length in pixels along `angle`.
        across: smoothing length across it; None makes it the same.
        angle: direction of the fibres in radians, 0 along the rows' axis x.
    """
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1])[None, :]
    f_along = fx * np.cos(angle) + fy * np.sin(angle)
    f_across = fy * np.cos(angle) - fx * np.sin(angle)
    wide = along if across is None else across
    damp = np.exp(-2 * np.pi**2 * ((along * f_along) ** 2 + (wide * f_across) ** 2))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * damp, s=shape)
    field -= field.mean()
    return np.asarray(field / max(field.std(), 1e-12), np.float32)


def enlarge(
    field: FloatField, y: int, x: int, shape: tuple[int, int], cell_px: int = CELL_PX
) -> FloatField:
    """Read pixels out of a field of cells, between whose centres the values run linearly.

    Args:
        field: one value a cell, shape (rows, cols).
        y: first row of pixels wanted.
        x: first column of pixels wanted.
        shape: (rows, cols) of pixels wanted.
        cell_px: edge length of a cell in pixels.
    """
    top, down = _neighbours(y, shape[0], field.shape[0], cell_px)
    left, right = _neighbours(x, shape[1], field.shape[1], cell_px)
    near = field[:, left[0] : left[-1] + 2]
    above, below = near[top], near[np.minimum(top + 1, field.shape[0] - 1)]
    rows = above + (below - above) * down[:, None]
    left -= left[0]
    first, second = rows.take(left, 1), rows.take(np.minimum(left + 1, rows.shape[1] - 1), 1)
    second -= first
    second *= right
    second += first
    return np.asarray(second, np.float32)


def _neighbours(
    start: int, count: int, cells: int, cell_px: int
) -> tuple[NDArray[np.intp], FloatField]:
    """Return, for each pixel, the cell centre before it and how far it is past that centre."""
    at = np.clip((np.arange(start, start + count) + 0.5) / cell_px - 0.5, 0, cells - 1)
    before = np.floor(at).astype(np.intp)
    return before, (at - before).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Grain:
    """A supply of noise: cut from a periodic picture, which is far cheaper than drawing anew."""

    picture: FloatField

    @classmethod
    def draw(cls, rng: np.random.Generator, along: float) -> "Grain":
        """Draw noise of mean 0 and variance 1 with a smoothing length in pixels."""
        return cls(smooth_noise(rng, (_TEXTURE_PX, _TEXTURE_PX), along=along))

    def cut(self, rng: np.random.Generator, shape: tuple[int, ...]) -> FloatField:
        """Return a piece from a random place, shape (rows, cols)."""
        row, col = rng.integers(_TEXTURE_PX, size=2).tolist()
        return self.at(row, col, (shape[0], shape[1]))

    def at(self, row: int, col: int, shape: tuple[int, int]) -> FloatField:
        """Return the piece whose first pixel is (row, col), shape (rows, cols)."""
        rows = np.arange(row, row + shape[0]) % _TEXTURE_PX
        left, width = col % _TEXTURE_PX, shape[1]
        if left + width <= _TEXTURE_PX:
            return self.picture[rows, left : left + width]
        return self.picture[np.ix_(rows, np.arange(left, left + width) % _TEXTURE_PX)]


@dataclass(frozen=True, slots=True)
class Stroma:
    """Connective tissue as a periodic picture.

    Attributes:
        stains: hematoxylin and eosin, uint8, shape (side, side, 2).
        angle: direction of the fibres in radians, one value a cell of 16 px.
    """

    stains: NDArray[np.uint8]
    angle: FloatField


def make_stroma(rng: np.random.Generator, *, mpp: float) -> Stroma:
    """Draw collagen: bundles in slowly turning directions, with clefts between them."""
    scale = 0.5 / mpp
    shape = (_TEXTURE_PX, _TEXTURE_PX)
    total, weight = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    turn = np.zeros(shape, np.complex64)  # twice the angle, so that opposite directions agree
    for i in range(_DIRECTIONS):
        way = np.pi * i / _DIRECTIONS
        share = np.exp(1.7 * smooth_noise(rng, shape, along=100 * scale))
        fine = smooth_noise(rng, shape, along=26 * scale, across=1.6 * scale, angle=way)
        bundle = smooth_noise(rng, shape, along=55 * scale, across=7 * scale, angle=way)
        total += share * (0.6 * fine + 0.8 * bundle)
        weight += share**2
        turn += share**2 * np.exp(2j * way).astype(np.complex64)
    fibres = _wavy(rng, np.asarray(total / np.sqrt(weight), np.float32), scale)
    grain = smooth_noise(rng, shape, along=0.8 * scale)
    cleft = np.clip(1.6 * (-1.2 - fibres), 0, 1)
    eosin = (40 + 7 * np.clip(fibres, -2, 2) + 2.5 * grain) * (1 - 0.8 * cleft)
    hematoxylin = (8 + 2 * fibres + 1.5 * grain) * (1 - cleft)
    levels = np.clip(np.rint(np.stack([hematoxylin, eosin], axis=2)), 0, 255)
    angle = np.asarray(np.angle(turn[::CELL_PX, ::CELL_PX]) / 2, np.float32)
    return Stroma(np.ascontiguousarray(levels, np.uint8), angle)


def _wavy(rng: np.random.Generator, fibres: FloatField, scale: float) -> FloatField:
    """Bend straight fibres into waves; the picture stays periodic."""
    at = np.indices(fibres.shape, dtype=np.float32)
    for along, height in ((55, 14), (18, 3)):
        for axis in (0, 1):
            at[axis] += height * scale * smooth_noise(rng, fibres.shape, along=along * scale)
    bent = map_coordinates(fibres, at, order=1, mode="grid-wrap")
    return np.asarray(bent, np.float32)
