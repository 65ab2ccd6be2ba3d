"""One class a slide: classes exclude each other.

The outputs are logits; a softmax makes probabilities of them, cross entropy the loss.

An interval needs a scale that a sum of tiles is nearly normal on, and the way back from it: that is
the log odds of each class against all others. For two classes it is linear in the logits, for more
its slopes are those at the outcome (the delta method).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from saccade.pipeline.calibration import calibration_metrics
from saccade.pipeline.metrics.classification import classification_metrics
from saccade.pipeline.tasks.probabilities import Probabilities, class_weights
from saccade.pipeline.tasks.task import Criterion, Numbers


@dataclass(frozen=True, slots=True)
class Classes(Probabilities):
    """The class of a slide; the target is its index."""

    kind: ClassVar[str] = "classes"
    followed: ClassVar[str] = "accuracy"
    alternatives: ClassVar[str] = "another class"

    def criterion(self, train: Tensor, class_weights: str) -> Criterion:
        """Cross entropy; `balanced` lets each class count equally."""
        return CrossEntropy.balanced(train, len(self.names), class_weights)

    def activate(self, outputs: Tensor) -> Tensor:
        """Probabilities that sum to 1."""
        return outputs.double().softmax(dim=-1)

    def evidence(self, outputs: Tensor) -> Tensor:
        """The tile's logits above their mean over the classes.

        A number added to all logits changes no probability. Weighted and summed, plus the bias less
        its mean, they are the logits of the slide less their mean.
        """
        return outputs - outputs.mean(dim=-1, keepdim=True)

    def metrics(self, read: Numbers, targets: Numbers) -> dict[str, Any]:
        """As `classification_metrics`."""
        return {**classification_metrics(read, targets[:, 0].astype(int))}

    def calibration(self, outputs: Numbers, targets: Numbers) -> dict[str, Any]:
        """A temperature."""
        return calibration_metrics(outputs, targets[:, 0].astype(int))

    def scores(self, outputs: Tensor) -> Tensor:
        """Log odds (classes,) of each class against all others, from logits (classes,)."""
        return outputs - _of_the_others(outputs).logsumexp(dim=1)

    def slopes(self, outputs: Tensor) -> Tensor:
        """How `scores` change with the outputs, (scores, outputs)."""
        others = _of_the_others(outputs).softmax(dim=1)
        return torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device) - others

    def leads(self, outputs: Tensor) -> Tensor:
        """Rows (classes - 1, classes) that take each other class from the most probable one."""
        unit = torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device)
        first = int(outputs.argmax())
        return (unit[first] - unit)[[i for i in range(len(outputs)) if i != first]]

    def summary(self, read: Numbers) -> dict[str, Any]:
        """The most probable class, and all probabilities."""
        return {"label": self.names[self.leading(read)], "probabilities": self.by_name(read)}

    def cells(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """The same."""
        return {"predicted": summary["label"], **self.chances(summary)}


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """Cross entropy, each slide with the weight of its class.

    Attributes:
        weights: (classes,).
    """

    weights: Tensor

    @classmethod
    def balanced(cls, train: Tensor, classes: int, mode: str) -> CrossEntropy:
        """With the weights that the training slides give the classes."""
        labels = train[:, 0].long().tolist()
        return cls(class_weights(labels, classes, mode).to(train.device))

    def total(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Weighted sum."""
        labels = targets[:, 0].long()
        return nn.functional.cross_entropy(outputs, labels, weight=self.weights, reduction="sum")

    def weight(self, targets: Tensor) -> Tensor:
        """Sum of the weights."""
        return self.weights[targets[:, 0].long()].sum()


def _of_the_others(outputs: Tensor) -> Tensor:
    """Row c holds the logits of all classes but c, which is at -inf."""
    own = torch.eye(len(outputs), dtype=torch.bool, device=outputs.device)
    return outputs.expand(len(outputs), -1).masked_fill(own, -torch.inf)
