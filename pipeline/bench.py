"""What epochs of training work with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from saccade.models.attention_sampling import AttentionSampling
from saccade.pipeline.config import RunConfig
from saccade.pipeline.ranks import Ranks
from saccade.pipeline.reading import TileReader
from saccade.pipeline.tasks.task import Criterion, Task


@dataclass
class Spent:
    """Seconds spent on training steps so far, and how many of them waiting for tiles."""

    seconds: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True)
class Bench:
    """What epochs work with.

    Attributes:
        config: all settings.
        model: the networks, on their device.
        optimizer: of the model's parameters.
        reader: of tiles.
        task: what the outputs mean.
        criterion: the task's loss.
        ranks: the processes that train this model together; each has a bench like this one.
        failures: slides that could not be read, by name, the same in all processes; they are
            passed over from then on.
        spent: the time that training steps took.
    """

    config: RunConfig
    model: AttentionSampling
    optimizer: torch.optim.Optimizer
    reader: TileReader
    task: Task
    criterion: Criterion
    ranks: Ranks = field(default_factory=Ranks)
    failures: dict[str, str] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time that passes inside the `with` as spent on training steps."""
        start, waited = time.perf_counter(), self.reader.waited_seconds
        yield
        self.spent.seconds += time.perf_counter() - start
        self.spent.waited += self.reader.waited_seconds - waited
