"""What classes and labels share: each output is a name, and people read its probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saccade.pipeline.tasks.task import Numbers


@dataclass(frozen=True, slots=True)
class Probabilities:
    """Names with probabilities.

    Attributes:
        names: in the order of the model's outputs.
    """

    names: tuple[str, ...]

    def from_scores(self, values: Tensor) -> Tensor:
        """Probabilities of log odds."""
        return values.sigmoid()

    def leading(self, read: Numbers) -> int:
        """The most probable one."""
        return int(read.argmax())

    def words(self, read: Numbers) -> list[str]:
        """Each name with its probability."""
        return [f"{name} {p:.1%}" for name, p in zip(self.names, read, strict=True)]

    def ends(self, low: float, high: float) -> str:
        """From and to."""
        return f"{low:.0%} to {high:.0%}"

    def note(self, evidence: float) -> str:
        """In logits."""
        return f"evidence {evidence:+.2f}"

    def by_name(self, read: Numbers) -> dict[str, float]:
        """Each probability by its name."""
        return {name: float(p) for name, p in zip(self.names, read, strict=True)}

    def read(self, summary: Mapping[str, Any]) -> list[float]:
        """The probabilities."""
        return [float(summary["probabilities"][name]) for name in self.names]

    def chances(self, summary: Mapping[str, Any]) -> dict[str, str]:
        """A column for each probability."""
        chances = zip(self.names, self.read(summary), strict=True)
        return {f"prob_{name}": f"{p:.6f}" for name, p in chances}


def class_weights(labels: Sequence[int], classes: int, mode: str) -> Tensor:
    """(classes,) weights of mean 1 over the slides: each class counts equally if `balanced`."""
    if mode == "none":
        return torch.ones(classes)
    counts = torch.bincount(torch.tensor(labels), minlength=classes).clamp(min=1)
    return len(labels) / (classes * counts)
