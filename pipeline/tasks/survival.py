"""Time to an event, of which some slides only know that it was longer.

The output is the log of the risk relative to other slides, in Cox's model (`cox`). It has no zero:
only differences mean something. The loss compares slides of the same batch, so a batch wants enough
of them that there are events and others at risk; one without an event teaches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from saccade.pipeline.metrics.survival import concordance
from saccade.pipeline.tasks.cox import PartialLikelihood
from saccade.pipeline.tasks.linear import Linear
from saccade.pipeline.tasks.task import Criterion, Numbers, mean_loss


@dataclass(frozen=True, slots=True)
class Survival(Linear):
    """The log risk of a slide; the target is (time, 1 for an event and 0 for a censoring)."""

    names: tuple[str, ...] = ("log_risk",)
    kind: ClassVar[str] = "survival"
    followed: ClassVar[str] = "c_index"
    alternatives: ClassVar[str] = ""

    def criterion(self, train: Tensor, class_weights: str) -> Criterion:
        """Cox's partial likelihood within the batch; there are no classes to weigh."""
        return PartialLikelihood()

    def activate(self, outputs: Tensor) -> Tensor:
        """The log risk."""
        return outputs.double()

    def metrics(self, read: Numbers, targets: Numbers) -> dict[str, Any]:
        """`loss` of all slides compared with each other, `c_index`, and how many events there were.

        The loss is not that of training, which compares the slides of a batch. It is the steadier
        number to choose an epoch by: the C-index moves only when two slides change places. Both are
        left out where there is nothing to compare.
        """
        time, event = targets[:, 0], targets[:, 1] > 0
        metrics: dict[str, Any] = {"events": int(event.sum())}
        index = concordance(read[:, 0], time, event)
        if index is None:
            return metrics
        loss = mean_loss(PartialLikelihood(), torch.from_numpy(read), torch.from_numpy(targets))
        return {"loss": loss.item(), "c_index": index, **metrics}

    def from_scores(self, values: Tensor) -> Tensor:
        """The log risk."""
        return values

    def words(self, read: Numbers) -> list[str]:
        """The log risk with its sign."""
        return [f"log risk {read[0]:+.2f}"]

    def ends(self, low: float, high: float) -> str:
        """From and to."""
        return f"{low:+.2f} to {high:+.2f}"

    def note(self, evidence: float) -> str:
        """In log risk."""
        return f"evidence {evidence:+.2f}"

    def summary(self, read: Numbers) -> dict[str, Any]:
        """The log risk."""
        return {"log_risk": float(read[0])}

    def read(self, summary: Mapping[str, Any]) -> list[float]:
        """The log risk."""
        return [float(summary["log_risk"])]

    def cells(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """The log risk."""
        return {"log_risk": f"{summary['log_risk']:.6f}"}
