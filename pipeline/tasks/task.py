"""What a task is: from a model's outputs to a loss, to what people read, and to how good it is.

Everything here takes the outputs of many slides at once. The model's head is linear, so its outputs
are sums over tiles; what a task makes of them need not be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Criterion = Callable[[Tensor, Tensor], Tensor]
"""The loss of a step from all of its outputs (slides, outputs) and targets (slides, numbers)."""

Numbers = NDArray[np.float64]


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
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""

    def criterion(self, train: Tensor, class_weights: str) -> Criterion:
        """The loss.

        Args:
            train: (slides, numbers) targets of all training slides, on the model's device.
            class_weights: `balanced` or `none`.
        """

    def activate(self, outputs: Tensor) -> Tensor:
        """What people read, float64 (slides, outputs), from the model's (slides, outputs)."""

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
        """What calibrates the model, from validation slides: `temperature`, `calibration`, ..."""

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
        """Evidence of a tile, for people."""

    def summary(self, read: Numbers) -> dict[str, Any]:
        """What `prediction.json` says of (outputs,)."""

    def read(self, summary: Mapping[str, Any]) -> list[float]:
        """(outputs,) back from `summary`."""

    def cells(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """What `summary.csv` says, by column."""
