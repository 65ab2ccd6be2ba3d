"""What an epoch of training came to so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from saccade.pipeline.step import Seen, Step
from saccade.pipeline.tasks.task import Task


@dataclass
class Tally:
    """The steps of an epoch that were made, added up; plain numbers, so that a checkpoint holds it.

    Attributes:
        steps: that were made.
        losses: of each step in which a slide could be read.
        norms: of the gradient of each of them, before it was bounded.
        seen: slides of each of them that could be read.
        outputs: of the model for each slide that was read.
        targets: of each of them.
        tiles: that were read.
        rate: learning rate of the last step.
    """

    steps: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    outputs: list[list[float]] = field(default_factory=list)
    targets: list[list[float]] = field(default_factory=list)
    tiles: int = 0
    rate: float = 0.0

    def add_batch(self, seen: Seen) -> None:
        """Count the slides of a small batch."""
        self.outputs += seen.outputs.tolist()
        self.targets += seen.targets.tolist()
        self.tiles += seen.tiles

    def add_step(self, step: Step, norm: float) -> None:
        """Count a step that was followed, and the norm of its gradient."""
        self.losses.append(step.loss)
        self.norms.append(norm)
        self.seen.append(step.seen)

    def metrics(self, task: Task) -> dict[str, Any]:
        """The epoch in numbers; wants a step in which a slide could be read."""
        read = task.activate(torch.tensor(self.outputs, dtype=torch.float64)).numpy()
        measured = task.metrics(read, np.array(self.targets, np.float64))
        return {
            "loss": float(np.average(self.losses, weights=self.seen)),
            **{k: value for k, value in measured.items() if k == task.followed},
            "slides": sum(self.seen),
            "tiles_read": self.tiles,
            "gradient_norm": float(np.mean(self.norms)),
            "learning_rate": self.rate,
        }
