"""What a saliency map has to look like: from points, images, outlines, or a model's attention.

Each maker returns float32 (rows, cols) over the pixels of a view, with the sum 1. Points and
outlines are (x, y) in pixels of the view, and fractions count: the first pixel covers [0, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from saccade.tiling.grid import CellGrid

Target = NDArray[np.float32]
Outline = NDArray[np.float64]
"""(corners, 2), a closed line whose last corner need not be its first."""

_LINES = 4  # through each row of pixels, along which an outline is painted


def from_fixations(
    points_px: NDArray[np.floating[Any]], shape: tuple[int, int], sigma_px: float
) -> Target:
    """Blur the points where people looked.

    Args:
        points_px: (n, 2); those outside the view are passed over.
        shape: (rows, cols) of the view.
        sigma_px: standard deviation of the Gaussian; 0 for none.

    Raises:
        ValueError: if no point lies in the view.
    """
    return _distribution(_blurred(count_fixations(points_px, shape), sigma_px))


def count_fixations(
    points_px: NDArray[np.floating[Any]], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """How many points fall on each pixel of a view; those outside it are passed over.

    >>> count_fixations(np.array([[0.9, 0.0], [1.0, 0.5], [2.0, 0.0]]), (1, 2))
    array([[1., 1.]])
    """
    rows, cols = shape
    col, row = np.floor(points_px).astype(np.int64).T
    inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
    counts = np.bincount(row[inside] * cols + col[inside], minlength=rows * cols)
    return counts.reshape(shape).astype(np.float64)


def from_density(image: NDArray[Any], shape: tuple[int, int]) -> Target:
    """Bring an image of a map, which shows the whole slide at any size, to the size of the view.

    Args:
        image: (rows, cols), not negative.
        shape: (rows, cols) of the view.

    Raises:
        ValueError: if the image is 0 everywhere, or negative or not finite anywhere.
    """
    rows, cols = shape
    values = np.asarray(image, np.float32)
    if values.ndim != 2 or not np.isfinite(values).all() or values.min() < 0:
        raise ValueError("wanted a map of one channel, finite and not negative anywhere")
    shrinks = values.shape[0] > rows or values.shape[1] > cols
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR  # means, or lines between
    resized = Image.fromarray(values).resize((cols, rows), how)
    return _distribution(np.asarray(resized, np.float64))


def from_outlines(
    polygons_px: Sequence[Sequence[Outline]], shape: tuple[int, int], sigma_px: float
) -> Target:
    """Paint what people marked: each pixel by how much of it lies within, then blurred.

    Args:
        polygons_px: each an outline, and then those of its holes. What lies in several counts once.
        shape: (rows, cols) of the view.
        sigma_px: standard deviation of the Gaussian; 0 for none.

    Raises:
        ValueError: if nothing of them lies in the view.
    """
    covered = np.zeros(shape)
    for polygon in polygons_px:
        _paint(polygon, covered)
    return _distribution(_blurred(covered, sigma_px))


def from_attention(
    log_attention: NDArray[np.floating[Any]], places: CellGrid, view: CellGrid
) -> Target:
    """Spread a model's attention over the pixels of a view: evenly over those of each place.

    Args:
        log_attention: of the shape of `places`, minus infinity where there is no tissue.
        places: where attention's places lie on level 0.
        view: where the view's pixels lie on level 0.
    """
    cols_l0, rows_l0 = (
        (np.arange(count) + 0.5) * side
        for count, side in zip(view.shape[::-1], view.cell_l0, strict=True)
    )
    row = np.minimum((rows_l0 / places.cell_l0[1]).astype(int), places.shape[0] - 1)
    col = np.minimum((cols_l0 / places.cell_l0[0]).astype(int), places.shape[1] - 1)
    return _distribution(np.exp(log_attention.astype(np.float64))[np.ix_(row, col)])


def _paint(polygon: Sequence[Outline], covered: NDArray[np.float64]) -> None:
    """Raise `covered` to how much of each pixel lies in the polygon.

    Exact along x, and by lines through each pixel along y. A line is inside after it has crossed
    an odd number of sides, so that holes need no word of their own.
    """
    rows, cols = covered.shape
    starts = np.concatenate(polygon)
    ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in polygon])
    first = int(np.clip(np.floor(starts[:, 1].min()), 0, rows))
    last = int(np.clip(np.ceil(starts[:, 1].max()), first, rows))
    left = np.arange(cols)
    for row in range(first, last):
        share = np.zeros(cols)
        for y in row + (np.arange(_LINES) + 0.5) / _LINES:
            crossed = (starts[:, 1] <= y) != (ends[:, 1] <= y)
            (x0, y0), (x1, y1) = starts[crossed].T, ends[crossed].T
            x = np.sort(x0 + (y - y0) / (y1 - y0) * (x1 - x0))[:, None]
            before = np.clip(x - left, 0, 1)  # how much of each pixel lies before each crossing
            share += (before[1::2] - before[::2]).sum(axis=0) / _LINES
        np.maximum(covered[row], share, out=covered[row])


def _blurred(values: NDArray[np.float64], sigma_px: float) -> NDArray[np.float64]:
    blurred: NDArray[np.float64] = gaussian_filter(values, sigma_px, mode="constant")
    return blurred if sigma_px else values


def _distribution(values: NDArray[np.float64]) -> Target:
    total = values.sum()
    if not total > 0:
        raise ValueError("nothing of it lies in the view")
    return np.asarray(values / total, np.float32)
