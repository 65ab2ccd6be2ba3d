"""The passes of a stage in other processes: pixels are read, and numbers written, where they work.

What travels is which tiles, and the statistic of each. Each process makes the stage and the scene
for itself, by a recipe, and keeps them while it is asked for the same. Its memory is that of them
and of one batch, whatever the view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
import torch

from saccade.pipeline.errors import WorkersError
from saccade.pipeline.stages.ahead import Batch
from saccade.pipeline.stages.limit import Limit
from saccade.pipeline.stages.scene import Scene
from saccade.pipeline.stages.stage import Stage
from saccade.pipeline.stages.statistics import Vector
from saccade.pipeline.stages.tile_work import Entry, Pass, TileWork
from saccade.tiling.crew import Crew
from saccade.tiling.grid import CellGrid

_LIMIT = "limit.npz"
_opening = Lock()


class Recipe(Protocol):
    """How a process comes to a stage and its scene: a frozen value of paths and numbers."""

    def open(self, device: str) -> tuple[Stage, Scene]:
        """Make them anew; only what can be read of files is in them."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What all processes have to agree on.

    Attributes:
        recipe: for the stage and the scene.
        device: that the network is on.
        weights: hash of the stage's weights.
        grid: of the scene.
    """

    recipe: Recipe
    device: str
    weights: str
    grid: CellGrid


@dataclass(frozen=True, slots=True, eq=False)
class PassTask:
    """A pass over some tiles, as it travels.

    Attributes:
        of: which pass.
        folder: of the run, with the array that is written and the limit.
        survey: statistic of the whole view, for the second pass.
    """

    of: Pass
    folder: Path
    survey: Vector | None


@dataclass(frozen=True, slots=True)
class Spread:
    """Other processes that see to the tiles of a stage.

    Attributes:
        crew: the processes.
        recipe: for the same stage and scene that the run has.
    """

    crew: Crew
    recipe: Recipe

    def begin(self, folder: Path, limit: Limit | None) -> None:
        """Leave in a run's folder what all tasks need."""
        if limit is not None:
            np.savez_compressed(folder / _LIMIT, blocks=limit.blocks, block_px=limit.block_px)

    def entries(
        self, task: PassTask, stage: Stage, scene: Scene, device: str, batches: Sequence[Batch]
    ) -> Iterator[list[Entry]]:
        """Do a pass over batches; what is known of each tile, in whatever order they are done.

        Raises:
            WorkersError: if a process finds other weights or another scene than this one.
        """
        sight = Sight(self.recipe, device, stage.weights_hash, scene.grid)
        return self.crew(partial(_do, sight, task), batches)


def _do(sight: Sight, task: PassTask, batch: Batch) -> list[Entry]:
    """A batch, in the process that was given it."""
    with _opening:  # threads of a process share what is opened
        stage, scene = _opened(sight)
    with torch.inference_mode():
        work = TileWork(stage, sight.device, _limit_in(task.folder), task.folder)
        features = work.encode(np.stack([scene.read(tile.read) for tile in batch]))
        return work.do(task.of, batch, features, task.survey)


@lru_cache(maxsize=1)
def _opened(sight: Sight) -> tuple[Stage, Scene]:
    stage, scene = sight.recipe.open(sight.device)
    if (stage.weights_hash, scene.grid) != (sight.weights, sight.grid):
        raise WorkersError(
            f"{stage.spec.name}: a worker found other weights or another slide than where the run "
            "was begun. All workers have to see the same files under the same paths."
        )
    return stage, scene


def _limit_in(folder: Path) -> Limit | None:
    if not (folder / _LIMIT).is_file():
        return None
    with np.load(folder / _LIMIT) as kept:
        return Limit(kept["blocks"], int(kept["block_px"]))
