"""Several labels a slide: each is there or not, whatever the others are, or unknown.

The outputs are logits; a sigmoid makes a probability of each, binary cross entropy the loss. What
is unknown of a slide takes no part in the loss or in any metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from saccade.pipeline.metrics.labels import NAMED, label_metrics
from saccade.pipeline.tasks.linear import Linear
from saccade.pipeline.tasks.probabilities import Probabilities, class_weights
from saccade.pipeline.tasks.task import Criterion, Numbers


@dataclass(frozen=True, slots=True)
class Labels(Probabilities, Linear):
    """The labels of a slide; the target is 1, 0 or NaN for each."""

    kind: ClassVar[str] = "labels"
    followed: ClassVar[str] = "accuracy"
    alternatives: ClassVar[str] = "other labels"

    def criterion(self, train: Tensor, class_weights: str) -> Criterion:
        """Binary cross entropy.

        `balanced` lets the slides with a label count as much as those without it, for each label.
        """
        return BinaryCrossEntropy.balanced(train, class_weights)

    def activate(self, outputs: Tensor) -> Tensor:
        """A probability for each label; they need not sum to anything."""
        return outputs.double().sigmoid()

    def metrics(self, read: Numbers, targets: Numbers) -> dict[str, Any]:
        """As `label_metrics`."""
        return label_metrics(read, targets, self.names)

    def leads(self, outputs: Tensor) -> Tensor:
        """Each label for itself: its logit if it is named, and the negative if it is not."""
        return torch.where(outputs >= 0, 1.0, -1.0).to(outputs.dtype).diag()

    def summary(self, read: Numbers) -> dict[str, Any]:
        """Labels that are more probable than not, and all probabilities."""
        named = [name for name, p in zip(self.names, read, strict=True) if p >= NAMED]
        return {"labels": named, "probabilities": self.by_name(read)}

    def cells(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """A column for each label, 1 or 0 as in the sheet, and one for its probability."""
        named = {f"predicted_{name}": int(name in summary["labels"]) for name in self.names}
        return {**named, **self.chances(summary)}


@dataclass(frozen=True, slots=True)
class BinaryCrossEntropy:
    """Binary cross entropy of what is known, each label of a slide with a weight.

    Attributes:
        weights: (2, labels), of slides without a label and of those with it.
    """

    weights: Tensor

    @classmethod
    def balanced(cls, train: Tensor, mode: str) -> BinaryCrossEntropy:
        """With the weights that the training slides give each label."""
        columns = [column[~column.isnan()].long().tolist() for column in train.T]
        weights = [class_weights(column, 2, mode) for column in columns]
        return cls(torch.stack(weights, dim=1).to(train.device))

    def total(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Weighted sum over what is known; the rest is not even looked at."""
        known = ~targets.isnan()
        return nn.functional.binary_cross_entropy_with_logits(
            outputs[known],
            targets[known].to(outputs.dtype),
            weight=self._weights(targets)[known].to(outputs.dtype),
            reduction="sum",
        )

    def weight(self, targets: Tensor) -> Tensor:
        """Sum of the weights of what is known."""
        return self._weights(targets)[~targets.isnan()].sum()

    def _weights(self, targets: Tensor) -> Tensor:
        without, having = self.weights
        return torch.where(targets > 0, having, without)
