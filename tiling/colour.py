"""Samples as files store them, as 8-bit RGB."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[Any]


def to_uint8(samples: Samples, bits: int) -> NDArray[np.uint8]:
    """Scale whole numbers of `bits` significant bits to 8, linearly and the same in every read.

    The whole range counts, not what the image happens to contain: 0 stays 0 and `2**bits - 1`
    becomes 255; for signed numbers the least becomes 0 and the greatest 255.

    Raises:
        ValueError: for floating point, which has no range to scale from.
    """
    kind = samples.dtype.kind
    if kind == "b":
        return samples.astype(np.uint8) * np.uint8(255)
    if kind not in "ui":
        raise ValueError(f"samples of type {samples.dtype}, which have no range to scale from")
    if kind == "u" and bits == 8:
        return samples.astype(np.uint8, copy=False)
    if samples.dtype.itemsize <= 2:
        table = _table(bits, signed=kind == "i", size=2 ** (8 * samples.dtype.itemsize))
        return np.asarray(table[samples.view(f"u{samples.dtype.itemsize}")])
    offset = 2.0 ** (bits - 1) if kind == "i" else 0.0
    scaled = (samples.astype(np.float64) + offset) * (255 / (2.0**bits - 1))
    return np.asarray(scaled.round().clip(0, 255), np.uint8)


@lru_cache(maxsize=8)
def _table(bits: int, *, signed: bool, size: int) -> NDArray[np.uint8]:
    """What each stored bit pattern becomes."""
    value = np.arange(size, dtype=np.float64)
    if signed:
        value = np.where(value < size // 2, value, value - size) + 2.0 ** (bits - 1)
    return (value * (255 / (2.0**bits - 1))).round().clip(0, 255).astype(np.uint8)


def to_rgb(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(rows, cols, n) to (rows, cols, 3): one channel is grey, two are red and green."""
    count = channels.shape[2]
    if count == 1:
        return np.repeat(channels, 3, axis=2)
    if count == 2:
        return np.concatenate([channels, np.zeros_like(channels[..., :1])], axis=2)
    return np.ascontiguousarray(channels[..., :3])


def over_white(rgba: NDArray[np.uint8], *, premultiplied: bool = False) -> NDArray[np.uint8]:
    """(rows, cols, 4) with transparency to (rows, cols, 3) on white."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:].astype(np.uint16)
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgb)
    seen = rgb.astype(np.uint16) if premultiplied else (rgb * alpha + 127) // 255
    return np.asarray(np.minimum(seen + (255 - alpha), 255), np.uint8)
