"""How far the chance of the draw may have moved a prediction. See docs/design/uncertainty.md.

A draw gives as many unbiased, uncorrelated estimates of the outputs as it has tiles
(`models.des_raj`); their mean is the outcome, and Student's t of their spread its interval. It
covers the chance of the draw and nothing else: not what the model has wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

from saccade.pipeline.tasks.task import Task

MISS = 0.05
"""Share of draws whose interval may miss what all tiles would give."""
FIRST_LOOK = 16
"""Tiles before which nothing counts as sure, since few say little about their own spread."""
GROWTH = 1.5
"""Tiles at one look by those at the look before."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outputs of a slide, and the estimates whose mean they are.

    Attributes:
        outputs: float64 (outputs,), divided by the model's temperature.
        estimates: float64 (n, outputs), likewise: unbiased and uncorrelated. None where nothing
            was left to chance.
        task: what they mean.
    """

    outputs: Tensor
    estimates: Tensor | None
    task: Task

    def half_widths(self, directions: Tensor, miss: float) -> Tensor:
        """Half the width of an interval along each direction.

        Args:
            directions: (m, outputs): what sums of the outputs are asked about.
            miss: chance of each interval to miss, both of its sides together.

        Returns:
            (m,), 0 where nothing was left to chance, infinite after a single tile.
        """
        if self.estimates is None:
            return directions.new_zeros(len(directions))
        n = len(self.estimates)
        if n == 1:
            return directions.new_full((len(directions),), math.inf)
        along = self.estimates @ directions.T
        return along.std(dim=0) / math.sqrt(n) * float(student.ppf(1 - miss / 2, n - 1))

    def intervals(self, miss: float = MISS) -> NDArray[np.float64]:
        """(outputs, 2), from and to, of what people read of each output."""
        middle = self.task.scores(self.outputs)
        half = self.half_widths(self.task.slopes(self.outputs), miss)
        ends = [self.task.from_scores(middle - half), self.task.from_scores(middle + half)]
        return np.stack([end.cpu().numpy() for end in ends], axis=1)

    def is_sure(self, margin: float = 0.0, miss: float = MISS) -> bool:
        """Whether all tiles would name the same, and by a margin; true where nothing is named.

        Args:
            margin: how far beyond one half the probability of the class against each other one,
                these two alone, has to be.
            miss: chance to say so of a class that all tiles would not name. It is shared by the
                other classes, since any of them could be the one.
        """
        leads = self.task.leads(self.outputs)
        if not len(leads):
            return True
        lower = leads @ self.outputs - self.half_widths(leads, 2 * miss / len(leads))
        return bool((lower > math.log((0.5 + margin) / (0.5 - margin))).all())


def looks(first: int, most: int) -> list[int]:
    """After how many tiles to see whether they are enough: half as many more at each look.

    Args:
        first: tiles that a prediction reads anyway.
        most: tiles that may be read.
    """
    counts = [min(max(first, FIRST_LOOK), most)]
    while counts[-1] < most:
        counts.append(min(math.ceil(counts[-1] * GROWTH), most))
    return counts


def spent_at(look: int) -> float:
    """What look 1, 2, ... may spend of `MISS`; all looks together, however many, spend all of it.

    Who looks again and again until the interval is narrow stops at the moments at which it is
    narrow by chance; hence each look has a wider one.
    """
    return MISS / (look * (look + 1))
