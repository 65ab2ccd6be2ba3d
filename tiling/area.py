"""Means over areas: exact halves of an image, and exact means over pixels of any larger size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Rows = Callable[[int, int], NDArray[Any]]
"""Reads rows first to last (exclusive) of an image: (rows, cols) or (rows, cols, channels)."""

_STRIP_PX = 1 << 22  # input pixels held at a time


def halve(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of 2 x 2 pixels over the last two axes, rounded half to even.

    Odd lengths are rounded up; the last pixel is then the mean of what is there.
    """
    odd = [(0, 0)] * (pixels.ndim - 2) + [(0, n % 2) for n in pixels.shape[-2:]]
    # A mean of two equals the mean of these two, twice.
    whole = np.pad(pixels, odd, mode="edge")
    total = whole[..., 0::2, 0::2].astype(np.uint16)
    for row, col in ((0, 1), (1, 0), (1, 1)):
        total += whole[..., row::2, col::2]
    return ((total + 1 + (total >> 2 & 1)) >> 2).astype(np.uint8)


def halve_fraction(fraction: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of 2 x 2 pixels of a (rows, cols) map; odd edges as in `halve`."""
    whole = np.pad(fraction, [(0, n % 2) for n in fraction.shape], mode="edge")
    rows, cols = whole.shape
    mean: NDArray[np.float32] = whole.reshape(rows // 2, 2, cols // 2, 2).mean(axis=(1, 3))
    return mean


def area_mean(
    read: Rows, shape: tuple[int, int], out_shape: tuple[int, int], ratio: float
) -> NDArray[np.float32]:
    """Mean of an image over larger pixels, each input pixel counted by the part that lies inside.

    Pixels of the result that reach beyond the image get the mean of what is there. The image is
    read once, in strips of rows, so that memory is the result plus a strip.

    Args:
        read: reads rows of the image.
        shape: (rows, cols) of the image.
        out_shape: (rows, cols) of the result.
        ratio: input pixels per output pixel along each axis; at least 1.

    Returns:
        (rows, cols) or (rows, cols, channels), as `read` gives.
    """
    down = _weights(shape[0], out_shape[0], ratio)
    across = _weights(shape[1], out_shape[1], ratio)
    strip = max(1, int(_STRIP_PX / (shape[1] * ratio)))
    return np.concatenate(
        [
            _strip_mean(read, down[start : start + strip], across)
            for start in range(0, out_shape[0], strip)
        ]
    )


def _strip_mean(read: Rows, down: Any, across: Any) -> NDArray[np.float32]:
    first, last = int(down.indices.min()), int(down.indices.max()) + 1
    pixels = read(first, last)
    columns = pixels.reshape(last - first, -1)  # channels side by side
    rows = (down[:, first:last] @ columns.astype(np.float32)).reshape(-1, *pixels.shape[1:])
    turned = np.moveaxis(rows, 1, 0)
    mean = (across @ turned.reshape(len(turned), -1)).reshape(-1, *turned.shape[1:])
    return np.ascontiguousarray(np.moveaxis(mean, 0, 1))


def _weights(length: int, out_length: int, ratio: float) -> Any:
    """Sparse (out_length, length): the share of each input pixel in each mean; rows sum to 1."""
    values, indices, ends = [], [], [0]
    for i in range(out_length):
        start, stop = i * ratio, min((i + 1) * ratio, length)
        first, last = math.floor(start), math.ceil(stop)
        edges = np.clip(np.arange(first, last + 1), start, stop)
        values.append(np.diff(edges) / (stop - start))
        indices.append(np.arange(first, last))
        ends.append(ends[-1] + last - first)
    return sparse.csr_array(
        (np.concatenate(values).astype(np.float32), np.concatenate(indices), ends),
        shape=(out_length, length),
    )
