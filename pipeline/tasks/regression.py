"""Numbers of a slide, each in a unit of its own, or unknown.

The model learns each in standard deviations above its mean over the training slides, since a
network that begins near zero would take long to reach 1200, and since numbers of different size
could not be learned side by side. Means and deviations are kept with the model, and people read the
sheet's own units. The loss is the mean squared error, so that a prediction is a mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from saccade.pipeline.metrics.regression import regression_metrics
from saccade.pipeline.tasks.linear import Linear
from saccade.pipeline.tasks.task import Criterion, Numbers


@dataclass(frozen=True, slots=True)
class Regression(Linear):
    """The numbers of a slide; the target holds them as the sheet has them, NaN where unknown.

    Attributes:
        names: of the numbers.
        means: of each over the training slides, in its own unit.
        deviations: the standard deviations, likewise.
        units: for people; empty, or one for each number.

    Raises:
        ValueError: if lengths differ, a mean is not finite or a deviation not positive.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    units: tuple[str, ...] = ()
    kind: ClassVar[str] = "regression"
    followed: ClassVar[str] = "r2"
    alternatives: ClassVar[str] = ""

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.means), len(self.deviations)}
        if len(lengths) != 1 or len(self.units) not in (0, *lengths):
            raise ValueError(f"wanted a mean, a deviation and a unit for each name, got {self}.")
        if not all(map(math.isfinite, self.means)):
            raise ValueError(f"means must be finite, got {self.means}.")
        if not all(0 < deviation < math.inf for deviation in self.deviations):
            raise ValueError(f"deviations must be positive and finite, got {self.deviations}.")

    @classmethod
    def fitted(cls, names: tuple[str, ...], units: tuple[str, ...], train: Numbers) -> Regression:
        """The task of training slides, (slides, numbers)."""
        means, deviations = np.nanmean(train, axis=0), np.nanstd(train, axis=0)
        return cls(names, tuple(means.tolist()), tuple(deviations.tolist()), units)

    def criterion(self, train: Tensor, class_weights: str) -> Criterion:
        """Squared error in units of the deviations; there are no classes to weigh."""
        return SquaredError(self)

    def standardise(self, targets: Tensor) -> Tensor:
        """Deviations above the mean (..., numbers), from the sheet's numbers."""
        means, deviations = (targets.new_tensor(each) for each in (self.means, self.deviations))
        return (targets - means) / deviations

    def activate(self, outputs: Tensor) -> Tensor:
        """The numbers in their own units."""
        values = outputs.double()
        return values * values.new_tensor(self.deviations) + values.new_tensor(self.means)

    def evidence(self, outputs: Tensor) -> Tensor:
        """What the tile adds to each number, in its own unit.

        Weighted and summed, plus the bias in that unit and the mean, it is the number.
        """
        return outputs * outputs.new_tensor(self.deviations)

    def metrics(self, read: Numbers, targets: Numbers) -> dict[str, Any]:
        """As `regression_metrics`."""
        return regression_metrics(read, targets, self.names, self.deviations)

    def from_scores(self, values: Tensor) -> Tensor:
        """The numbers in their own units."""
        return self.activate(values)

    def words(self, read: Numbers) -> list[str]:
        """Each number with its name and unit."""
        lines = zip(self.names, read, self._units, strict=True)
        return [f"{name} {value:.4g} {unit}".strip() for name, value, unit in lines]

    def ends(self, low: float, high: float) -> str:
        """From and to."""
        return f"{low:.4g} to {high:.4g}"

    def note(self, evidence: float) -> str:
        """With the unit of the first number, which leaves no room for more."""
        return f"{evidence:+.3g} {self._units[0]}".strip()

    def summary(self, read: Numbers) -> dict[str, Any]:
        """The numbers; their units are among what is said of the task."""
        return {"values": {name: float(v) for name, v in zip(self.names, read, strict=True)}}

    def read(self, summary: Mapping[str, Any]) -> list[float]:
        """The numbers."""
        return [float(summary["values"][name]) for name in self.names]

    def cells(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """A column for each number."""
        return {f"predicted_{name}": f"{summary['values'][name]:.6g}" for name in self.names}

    @property
    def _units(self) -> tuple[str, ...]:
        return self.units or ("",) * len(self.names)


@dataclass(frozen=True, slots=True)
class SquaredError:
    """Squared error of what is known, in units of the deviations."""

    task: Regression

    def total(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum over what is known; the rest is not even looked at."""
        known = ~targets.isnan()
        wanted = self.task.standardise(targets)[known].to(outputs.dtype)
        return nn.functional.mse_loss(outputs[known], wanted, reduction="sum")

    def weight(self, targets: Tensor) -> Tensor:
        """How many numbers are known."""
        return torch.count_nonzero(~targets.isnan()).double()
