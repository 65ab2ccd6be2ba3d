"""A number a slide, in a unit of its own.

The model learns it in standard deviations above the mean of the training slides, since a network
that begins near zero would take long to reach 1200; both are kept with the model, and people read
the label's own unit. The loss is the mean squared error, so that a prediction is a mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from torch import Tensor, nn

from saccade.pipeline.calibration import uncalibrated
from saccade.pipeline.tasks.one_number import OneNumber
from saccade.pipeline.tasks.task import Criterion, Numbers


@dataclass(frozen=True, slots=True)
class Regression(OneNumber):
    """The value of a slide; the target is the label.

    Attributes:
        mean: of the labels of the training slides.
        deviation: their standard deviation.
        unit: of the label, for people; may be empty.
    """

    mean: float
    deviation: float
    unit: str = ""
    kind: ClassVar[str] = "regression"
    followed: ClassVar[str] = "mae"
    alternatives: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.deviation < math.inf):
            raise ValueError(
                "a mean that is finite and a deviation that is positive are wanted, got "
                f"{self.mean} and {self.deviation}."
            )

    @property
    def outputs(self) -> tuple[str, ...]:
        """One."""
        return ("value",)

    def criterion(self, train: Tensor, class_weights: str) -> Criterion:
        """Mean squared error in units of the deviation; there are no classes to weigh."""

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            wanted = (targets - self.mean) / self.deviation
            return nn.functional.mse_loss(outputs, wanted.to(outputs.dtype))

        return loss

    def activate(self, outputs: Tensor) -> Tensor:
        """The value in the label's unit."""
        return outputs.double() * self.deviation + self.mean

    def evidence(self, outputs: Tensor) -> Tensor:
        """What the tile adds to the value, in the label's unit.

        Weighted and summed, plus the mean and the bias in that unit, it is the value.
        """
        return outputs * self.deviation

    def metrics(self, read: Numbers, targets: Numbers) -> dict[str, Any]:
        """Errors in the label's unit; correlations and `r2` where they exist."""
        found, wanted = read[:, 0], targets[:, 0]
        rmse = float(root_mean_squared_error(wanted, found))
        metrics = {
            "loss": (rmse / self.deviation) ** 2,
            "mae": float(mean_absolute_error(wanted, found)),
            "rmse": rmse,
        }
        if np.ptp(wanted) > 0:
            metrics["r2"] = float(r2_score(wanted, found))
            if np.ptp(found) > 0:
                metrics["pearson"] = float(pearsonr(wanted, found).statistic)
                metrics["spearman"] = float(spearmanr(wanted, found).statistic)
        return metrics

    def calibration(self, outputs: Numbers, targets: Numbers) -> dict[str, Any]:
        """None: there are no probabilities."""
        return uncalibrated("a value is no probability")

    def from_scores(self, values: Tensor) -> Tensor:
        """The value in the label's unit."""
        return self.activate(values)

    def words(self, read: Numbers) -> list[str]:
        """The value with its unit."""
        return [f"{read[0]:.4g} {self.unit}".strip()]

    def ends(self, low: float, high: float) -> str:
        """From and to."""
        return f"{low:.4g} to {high:.4g}"

    def note(self, evidence: float) -> str:
        """With its unit."""
        return f"evidence {evidence:+.3g} {self.unit}".strip()

    def summary(self, read: Numbers) -> dict[str, Any]:
        """The value and its unit."""
        return {"value": float(read[0]), "unit": self.unit}

    def read(self, summary: Mapping[str, Any]) -> list[float]:
        """The value."""
        return [float(summary["value"])]

    def cells(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """The value."""
        return {"predicted": f"{summary['value']:.6g}"}
