"""What a task is: from a model's outputs to a loss, to what people read, and to how good it is.

The model's head is linear, so its outputs are sums over tiles; what a task makes of them need not
be. Targets are those of `saccade.pipeline.tasks.truth`: as many numbers for every slide of a task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.float64]


class Criterion(Protocol):
    """The loss of slides, as a sum and what it is to be divided by.

    Both add up over batches and over processes. The weight is known from targets alone, before
    anything is computed.
    """

    def total(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sum of the losses, (), from (slides, outputs) and targets (slides, numbers)."""

    def weight(self, targets: Tensor) -> Tensor:
        """What the mean of `total` is taken over, (); 0 where the slides teach nothing."""


def mean_loss(criterion: Criterion, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of a step, (); 0 with gradient 0 where its slides teach nothing."""
    total, weight = criterion.total(outputs, targets), criterion.weight(targets)
    return total / weight if weight > 0 else total


class Task(Protocol):
    """What the outputs of a model mean.

    A task is a frozen dataclass of plain values; they and its `kind` are kept in the model file.

    Attributes:
        kind: its name in the settings.
        followed: name of the metric that is reported of training beside the loss.
        alternatives: what other tiles could have named instead; empty where nothing is named.
    """

    kind: ClassVar[str]
    followed: ClassVar[str]
    alternatives: ClassVar[str]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs, in their order."""

    def criterion(self, train: Tensor, class_weights: str) -> Criterion:
        """The loss.

        Args:
            train: (slides, numbers) targets of all training slides, on the model's device.
            class_weights: `balanced` or `none`.
        """

    def activate(self, outputs: Tensor) -> Tensor:
        """What people read, float64 (..., outputs), from the model's (..., outputs)."""

    def evidence(self, outputs: Tensor) -> Tensor:
        """What a tile says, (tiles, outputs), from what it alone adds to each of the outputs.

        With the tiles' weights it adds up to what the slide's outputs are made of; each task says
        to what exactly.
        """

    def metrics(self, read: Numbers, targets: Numbers) -> dict[str, Any]:
        """How good slides are judged; `loss` chooses the best epoch, if it is there.

        Args:
            read: (slides, outputs) of `activate`.
            targets: (slides, numbers).
        """

    def calibration(self, outputs: Numbers, targets: Numbers) -> dict[str, Any]:
        """What calibrates the model, from validation slides; empty where nothing can be."""

    def scores(self, outputs: Tensor) -> Tensor:
        """(outputs,) on a scale where sums of tiles are nearly normal, from (outputs,)."""

    def slopes(self, outputs: Tensor) -> Tensor:
        """How `scores` change with the outputs, (scores, outputs)."""

    def from_scores(self, values: Tensor) -> Tensor:
        """What people read, from `scores`."""

    def leads(self, outputs: Tensor) -> Tensor:
        """Rows (m, outputs): each sum has to be positive for the same to be named."""

    def leading(self, read: Numbers) -> int:
        """The output, of (outputs,), whose evidence ranks the tiles."""

    def words(self, read: Numbers) -> list[str]:
        """Each of (outputs,) for people."""

    def ends(self, low: float, high: float) -> str:
        """An interval of what people read, for people."""

    def note(self, evidence: float) -> str:
        """Evidence of a tile for the leading output, for people."""

    def summary(self, read: Numbers) -> dict[str, Any]:
        """What `prediction.json` says of (outputs,)."""

    def read(self, summary: Mapping[str, Any]) -> list[float]:
        """(outputs,) back from `summary`.

        Raises:
            KeyError, TypeError, ValueError: if it is no `summary` of this task.
        """

    def cells(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """What `summary.csv` says, by column."""
