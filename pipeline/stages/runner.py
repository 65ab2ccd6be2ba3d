"""Running a stage over a view of any size: tile by tile, in bounded memory, resumable, exact.

    survey     encode every tile, gather the statistic of its core
    decode     encode and decode every tile, write its core, gather the closing statistic
    finalise   normalise what was written, block by block, into the field

What the runner holds does not depend on the size of the view: `ahead + 2` batches of pixels with
their margins, what the network makes of one, a number for each tile, and the limit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import saccade
from saccade.pipeline.errors import RegionError
from saccade.pipeline.stages.ahead import Batch, read_ahead
from saccade.pipeline.stages.field import Field, create_field, read_field
from saccade.pipeline.stages.finish import finalise, judged_cells
from saccade.pipeline.stages.journal import Journal
from saccade.pipeline.stages.limit import Limit, Mask
from saccade.pipeline.stages.scene import Scene
from saccade.pipeline.stages.spread import PassTask, Spread
from saccade.pipeline.stages.stage import Stage
from saccade.pipeline.stages.statistics import Statistic, Vector
from saccade.pipeline.stages.tile_plan import in_batches
from saccade.pipeline.stages.tile_work import VALUES, Entry, Pass, TileWork, create_values
from saccade.pipeline.stages.workshop import workshop
from saccade.tiling.grid import CellGrid
from saccade.tiling.whole_folder import whole_folder

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a stage is run.

    Attributes:
        device: that its network is on.
        batch: tiles that go through together.
        workers: threads that read; the result does not depend on it.
        ahead: batches that are read before they are wanted; likewise.

    Raises:
        ValueError: if a number is too small.
    """

    device: str = "cpu"
    batch: int = 1
    workers: int = 2
    ahead: int = 1

    def __post_init__(self) -> None:
        if min(self.batch, self.workers) < 1 or self.ahead < 0:
            raise ValueError(f"batch and workers must be positive, got {self}.")


def run_stage(
    stage: Stage,
    scene: Scene,
    out: Path,
    *,
    limit: Limit | None = None,
    valid: Mask | None = None,
    options: RunOptions | None = None,
    spread: Spread | None = None,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Field:
    """Run a stage over a scene and write its field, the same as if the scene went through whole.

    A run that was killed goes on after the last batch that was finished, to the same bytes, if
    scene, stage and weights, limit, batch and provenance are the same; else it begins anew.

    Args:
        stage: the network and what it needs.
        scene: pixels at the stage's scale.
        out: the field's folder; appears whole or not at all.
        limit: where to work. Elsewhere nothing is read beyond the margins, counted, or written.
        valid: which of the cells mean something, for the field's mask; all that are judged if None.
        options: device, batches, threads.
        spread: other processes that see to the tiles. The bytes are those of this one, if it has as
            many threads to compute with as each of them.
        provenance: what made it, for the field: weights, slide, settings.
        progress: called with (tiles done, tiles in all).

    Raises:
        RegionError: if the limit leaves nothing to do.
        SlideError: if the scene cannot be read.
        ValueError: if scene, limit and stage do not fit each other.
    """
    options = options or RunOptions()
    _refuse_misfits(stage, scene, limit)
    identity = _identity(stage, scene, limit, options, provenance or {})
    with workshop(out.absolute(), identity) as shop:
        # Processes that a killed run left at work must not meet a later one of another identity.
        folder = shop / _name_of(identity)
        folder.mkdir(exist_ok=True)
        run = _Run(stage, scene, limit, options, folder, spread, progress)
        survey = run.survey()
        closing = run.decode(survey)
        facts = {"stage": stage.spec.name, **(provenance or {})}
        if closing is not None:
            facts["closing"] = closing.vector.tolist()
        judged = judged_cells(limit, valid, stage.spec.cell_px)
        with whole_folder(out) as new:
            made = replace(run.field, provenance=facts)
            arrays = create_field(new, made, stage.spec.dtype)
            finalise(stage, run.work.values, closing, arrays, judged, limit)
    return read_field(out)


class _Run:
    """The passes over the tiles of one run.

    Attributes:
        work: what is done with a batch.
        field: a field as it will be, without numbers.
    """

    def __init__(
        self,
        stage: Stage,
        scene: Scene,
        limit: Limit | None,
        options: RunOptions,
        folder: Path,
        spread: Spread | None,
        progress: Progress | None,
    ) -> None:
        self._stage, self._scene, self._limit, self._options = stage, scene, limit, options
        self._folder = folder
        self._batches = self._batches_of("decode")
        tiles = sum(map(len, self._batches))
        if not tiles:
            raise RegionError(
                f"{stage.spec.name}: nothing of the view lies in the region that was asked for; "
                "there is nothing to do. Look at its coordinates: pixels of level 0."
            )
        # A view in one tile is nothing to spread, and its features need not be computed twice.
        self._spread = None if self._is_whole(self._batches) else spread
        self._tick = _counter(tiles * (1 if stage.survey is None else 2), progress)
        self._only: Tensor | None = None
        self.field = _empty_field(stage, scene)
        if (
            not (folder / VALUES / "zarr.json").is_file()
            or not _journal(folder, "decode").is_file()
        ):
            create_values(folder, self.field, stage, stage.spec.plan(scene.grid.shape).tile_px)
        self.work = TileWork(stage, options.device, limit, folder)
        if self._spread is not None:
            self._spread.begin(folder, limit)

    def survey(self) -> Statistic | None:
        """What the stage wants to know of the features of the whole view."""
        if self._stage.survey is None:
            return None
        return self._made("survey", self._batches_of("survey"), None).merged(self._stage.survey)

    def decode(self, survey: Statistic | None) -> Statistic | None:
        """Write the output of all tiles; what the stage wants to know of it."""
        journal = self._made("decode", self._batches, None if survey is None else survey.vector)
        return None if self._stage.closing is None else journal.merged(self._stage.closing)

    def _made(self, of: Pass, batches: list[Batch], survey: Vector | None) -> Journal:
        """Do what is left of a pass; a batch that was begun is done again whole."""
        journal = Journal(_journal(self._folder, of))
        left = [batch for batch in batches if any(t.number not in journal for t in batch)]
        self._tick(sum(map(len, batches)) - sum(map(len, left)))
        for entries in self._entries(of, left, survey):
            for tile, vector in entries:
                journal.add(tile, vector)
            self._tick(len(entries))
        return journal

    def _entries(
        self, of: Pass, batches: list[Batch], survey: Vector | None
    ) -> Iterator[list[Entry]]:
        if self._spread is not None:
            task = PassTask(of, self._folder, survey)
            device = self._options.device
            yield from self._spread.entries(task, self._stage, self._scene, device, batches)
            return
        with torch.inference_mode():
            for batch, features in self._encoded(batches):
                yield self.work.do(of, batch, features, survey)

    def _batches_of(self, of: Pass) -> list[Batch]:
        """The tiles that are wanted, as they go through together."""
        plan = self._stage.spec.plan(self._scene.grid.shape, survey=of == "survey")
        limit = self._limit
        wanted = (tile for tile in plan.tiles() if limit is None or limit.touches(tile.core))
        return in_batches(wanted, self._options.batch)

    def _is_whole(self, batches: list[Batch]) -> bool:
        """Whether there is one tile only, and it sees all of the view."""
        return [tile.read.shape for batch in batches for tile in batch] == [self._scene.grid.shape]

    def _encoded(self, batches: list[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Batches and their features."""
        if self._only is not None:
            yield from ((batch, self._only) for batch in batches)
            return
        workers, ahead = self._options.workers, self._options.ahead
        for batch, pixels in read_ahead(self._scene, batches, workers=workers, ahead=ahead):
            features = self.work.encode(pixels)
            # Of a view in one tile the margin is cut off anyway: both passes see the same.
            self._only = features if self._is_whole(batches) else None
            yield batch, features


def _journal(folder: Path, of: Pass) -> Path:
    return folder / f"{of}.journal"


def _empty_field(stage: Stage, scene: Scene) -> Field:
    """A field over the output's cells, whose numbers take no memory."""
    spec, grid = stage.spec, scene.grid
    rows, cols = (-(-length // spec.cell_px) for length in grid.shape)
    cell_l0 = grid.cell_l0[0] * spec.cell_px, grid.cell_l0[1] * spec.cell_px
    return Field(
        values=np.broadcast_to(np.float32(np.nan), (len(spec.channels), rows, cols)),
        valid=np.broadcast_to(False, (rows, cols)),
        grid=CellGrid((rows, cols), cell_l0, grid.origin_l0),
        slide_mpp=scene.slide_mpp,
        kind=spec.kind,
        channels=spec.channels,
    )


def _refuse_misfits(stage: Stage, scene: Scene, limit: Limit | None) -> None:
    spec, grid = stage.spec, scene.grid
    mpps = [cell * mpp for cell, mpp in zip(grid.cell_l0, scene.slide_mpp, strict=True)]
    if any(abs(mpp / spec.mpp - 1) > 0.01 for mpp in mpps):
        raise ValueError(f"{spec.name} looks at {spec.mpp:g} um/px, the scene has {mpps}.")
    if limit is not None and (not limit.fits(grid.shape) or limit.block_px % spec.stride):
        raise ValueError(
            f"a limit over {grid.shape} px in blocks that are multiples of {spec.stride} px is "
            f"wanted, got {limit.blocks.shape} blocks of {limit.block_px} px."
        )


def _identity(
    stage: Stage,
    scene: Scene,
    limit: Limit | None,
    options: RunOptions,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """All that the bytes of the field depend on."""
    return {
        "spec": asdict(stage.spec),
        "weights": stage.weights_hash,
        "content": scene.content,
        "grid": asdict(scene.grid),
        "slide_mpp": scene.slide_mpp,
        "limit": None
        if limit is None
        else [limit.block_px, hashlib.sha256(limit.blocks.tobytes()).hexdigest()],
        "batch": options.batch,
        "device": options.device,
        "provenance": dict(provenance),
        "code": saccade.__version__,
    }


def _name_of(identity: Mapping[str, Any]) -> str:
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _counter(total: int, progress: Progress | None) -> Callable[[int], None]:
    done = 0

    def tick(tiles: int) -> None:
        nonlocal done
        done += tiles
        if progress is not None:
            progress(done, total)

    return tick
