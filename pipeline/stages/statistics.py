"""What a stage may know of a whole view: numbers that tiles give apart and that merge exactly.

Each is a value per channel over all pixels; a merge of the parts is the number of the whole, in
whatever parts it was cut. They travel as vectors of float64, for the journal of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


class Statistic(Protocol):
    """Something that is known of pixels, and of more of them after a merge."""

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """From values (channels, pixels); at least one pixel."""

    @classmethod
    def from_vector(cls, vector: Vector) -> Self:
        """From what `vector` gave."""

    @property
    def vector(self) -> Vector:
        """All numbers in one row."""

    def merge(self, other: Self) -> Self:
        """Of the pixels of both."""


@dataclass(frozen=True, slots=True, eq=False)
class Mean:
    """Mean of each channel: a count, and sums (channels,)."""

    count: float
    total: Vector

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """From values (channels, pixels)."""
        return cls(float(values.shape[1]), values.sum(axis=1, dtype=np.float64))

    @classmethod
    def from_vector(cls, vector: Vector) -> Self:
        """From what `vector` gave."""
        return cls(float(vector[0]), vector[1:])

    @property
    def vector(self) -> Vector:
        """Count, then sums."""
        return np.concatenate([[self.count], self.total])

    def merge(self, other: Self) -> Self:
        """Of the pixels of both."""
        return type(self)(self.count + other.count, self.total + other.total)

    @property
    def value(self) -> Vector:
        """The mean, (channels,)."""
        return self.total / self.count


@dataclass(frozen=True, slots=True, eq=False)
class Extremes:
    """Least and largest value of each channel, (channels,) each."""

    low: Vector
    high: Vector

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """From values (channels, pixels)."""
        low, high = values.min(axis=1), values.max(axis=1)
        return cls(low.astype(np.float64), high.astype(np.float64))

    @classmethod
    def from_vector(cls, vector: Vector) -> Self:
        """From what `vector` gave."""
        low, high = np.split(vector, 2)
        return cls(low, high)

    @property
    def vector(self) -> Vector:
        """Least values, then largest."""
        return np.concatenate([self.low, self.high])

    def merge(self, other: Self) -> Self:
        """Of the pixels of both."""
        return type(self)(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


@dataclass(frozen=True, slots=True, eq=False)
class LogSumExp:
    """Logarithm of the sum of exponentials of each channel, as a softmax over the slide needs it.

    Kept as the largest value, and the sum of exponentials of what lies below it, so that nothing
    overflows.
    """

    peak: Vector
    total: Vector

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """From values (channels, pixels)."""
        wide = values.astype(np.float64)
        peak = wide.max(axis=1)
        return cls(peak, _exp_below(wide, peak[:, None]).sum(axis=1))

    @classmethod
    def from_vector(cls, vector: Vector) -> Self:
        """From what `vector` gave."""
        peak, total = np.split(vector, 2)
        return cls(peak, total)

    @property
    def vector(self) -> Vector:
        """Peaks, then sums."""
        return np.concatenate([self.peak, self.total])

    def merge(self, other: Self) -> Self:
        """Of the pixels of both."""
        peak = np.maximum(self.peak, other.peak)
        parts = (each.total * _exp_below(each.peak, peak) for each in (self, other))
        return type(self)(peak, sum(parts, np.zeros_like(peak)))

    @property
    def value(self) -> Vector:
        """The logarithm, (channels,); minus infinity where all values are."""
        with np.errstate(divide="ignore"):
            value: Vector = self.peak + np.log(self.total)
        return value


def _exp_below(values: Vector, peak: Vector) -> Vector:
    """`exp(values - peak)`, and 0 for minus infinity, whatever the peak."""
    below = np.full(np.broadcast_shapes(values.shape, peak.shape), -np.inf)
    np.subtract(values, peak, out=below, where=np.isfinite(values))
    exponential: Vector = np.exp(below)
    return exponential
