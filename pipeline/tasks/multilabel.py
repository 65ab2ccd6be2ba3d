"""Any number of labels a slide: each label is there or not, whatever the others are.

The outputs are logits; a sigmoid makes a probability of each, binary cross entropy the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.metrics import average_precision_score, f1_score, log_loss, roc_auc_score
from torch import Tensor, nn

from saccade.pipeline.calibration import uncalibrated
from saccade.pipeline.tasks.probabilities import Probabilities, class_weights
from saccade.pipeline.tasks.task import Criterion, Numbers
from saccade.pipeline.tasks.truth import written

_NAMED = 0.5  # from this probability on, a label is named


@dataclass(frozen=True, slots=True)
class Multilabel(Probabilities):
    """The labels of a slide; the target is 1 or 0 for each."""

    kind: ClassVar[str] = "multilabel"
    followed: ClassVar[str] = "accuracy"
    alternatives: ClassVar[str] = "other labels"

    def criterion(self, train: Tensor, class_weights: str) -> Criterion:
        """Binary cross entropy, mean over slides and labels.

        `balanced` lets the slides with a label count as much as those without it, for each label.
        """
        return _binary_cross_entropy(train, class_weights)

    def activate(self, outputs: Tensor) -> Tensor:
        """A probability for each label; they need not sum to anything."""
        return outputs.double().sigmoid()

    def evidence(self, outputs: Tensor) -> Tensor:
        """The tile's logits. Weighted and summed, plus the bias, they are those of the slide."""
        return outputs

    def metrics(self, read: Numbers, targets: Numbers) -> dict[str, Any]:
        """Means over the labels, and of each label what there is of it.

        `auc`, `average_precision` and `f1` of a label are left out where it is on all slides or on
        none, and their means are over the labels that have them.
        """
        by_label = {
            name: _of_a_label(read[:, i], targets[:, i].astype(int))
            for i, name in enumerate(self.outputs)
        }
        names = ("loss", "accuracy", "auc", "average_precision", "f1")
        values = {name: [m[name] for m in by_label.values() if name in m] for name in names}
        means = {name: float(np.mean(each)) for name, each in values.items() if each}
        return {**means, "by_label": by_label}

    def calibration(self, outputs: Numbers, targets: Numbers) -> dict[str, Any]:
        """None: a temperature is fitted to classes that exclude each other."""
        return uncalibrated("no temperature is fitted to labels that do not exclude each other")

    def scores(self, outputs: Tensor) -> Tensor:
        """Log odds of each label: its logit."""
        return outputs

    def slopes(self, outputs: Tensor) -> Tensor:
        """Each score is an output."""
        return torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device)

    def leads(self, outputs: Tensor) -> Tensor:
        """Each label for itself: its logit if it is named, and the negative if it is not."""
        return torch.where(outputs >= 0, 1.0, -1.0).to(outputs.dtype).diag()

    def summary(self, read: Numbers) -> dict[str, Any]:
        """Labels that are more probable than not, and all probabilities."""
        named = [name for name, p in zip(self.outputs, read, strict=True) if p >= _NAMED]
        return {"labels": named, "probabilities": self.by_name(read)}

    def cells(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """The same, labels as the sheet has them."""
        return {"predicted": written(summary["labels"]), **self.chances(summary)}


def _binary_cross_entropy(train: Tensor, mode: str) -> Criterion:
    weights = torch.stack([class_weights(of.long().tolist(), 2, mode) for of in train.T])
    without, having = weights.to(train.device).T

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        has = targets.to(outputs.dtype)
        return nn.functional.binary_cross_entropy_with_logits(
            outputs, has, weight=torch.where(has > 0, having, without)
        )

    return loss


def _of_a_label(read: Numbers, has: np.ndarray[Any, np.dtype[np.int_]]) -> dict[str, float]:
    metrics = {
        "loss": float(log_loss(has, read, labels=[0, 1])),
        "accuracy": float(((read >= _NAMED) == has).mean()),
    }
    if 0 < has.sum() < len(has):
        metrics["auc"] = float(roc_auc_score(has, read))
        metrics["average_precision"] = float(average_precision_score(has, read))
        metrics["f1"] = float(f1_score(has, read >= _NAMED, zero_division=0))
    return metrics
