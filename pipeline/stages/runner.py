"""Running a stage over a view of any size: tile by tile, in bounded memory, resumable, exact.

    survey     encode every tile, gather the statistic of its core
    decode     encode and decode every tile, write its core, gather the closing statistic
    finalise   normalise what was written, block by block, into the field

What the runner holds does not depend on the size of the view: `ahead + 2` batches of pixels with
their margins, what the network makes of one, a number for each tile, and the limit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

import saccade
from saccade.pipeline.errors import RegionError
from saccade.pipeline.stages.ahead import Batch, read_ahead
from saccade.pipeline.stages.field import Field, blocks_of, create_field, read_field
from saccade.pipeline.stages.journal import Journal
from saccade.pipeline.stages.limit import Limit
from saccade.pipeline.stages.scene import Scene
from saccade.pipeline.stages.stage import Stage
from saccade.pipeline.stages.statistics import Statistic
from saccade.pipeline.stages.tile_plan import Tile, Window, in_batches
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
    valid: Limit | None = None,
    options: RunOptions | None = None,
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
        provenance: what made it, for the field: weights, slide, settings.
        progress: called with (tiles done, tiles in all).

    Raises:
        RegionError: if the limit leaves nothing to do.
        ResultsError: if another process makes the same field.
        SlideError: if the scene cannot be read.
        ValueError: if scene, limit and stage do not fit each other.
    """
    options = options or RunOptions()
    _refuse_misfits(stage, scene, limit)
    with workshop(out, _identity(stage, scene, limit, options, provenance or {})) as folder:
        run = _Run(stage, scene, limit, options, folder, progress)
        survey = run.survey()
        closing = run.decode(survey)
        facts = {"stage": stage.spec.name, **(provenance or {})}
        if closing is not None:
            facts["closing"] = closing.vector.tolist()
        judged = _cells(limit, valid, stage.spec.cell_px)
        with whole_folder(out) as new:
            made = replace(run.field, provenance=facts)
            _finalise(stage, run.values, closing, create_field(new, made, np.float32), judged)
    return read_field(out)


class _Run:
    """The passes over the tiles of one run.

    Attributes:
        values: what was decoded, not normalised, (channels, rows, cols).
        field: a field as it will be, without numbers.
    """

    def __init__(
        self,
        stage: Stage,
        scene: Scene,
        limit: Limit | None,
        options: RunOptions,
        folder: Path,
        progress: Progress | None,
    ) -> None:
        self._stage, self._scene, self._limit, self._options = stage, scene, limit, options
        self._folder = folder
        self._batches = self._batches_of(survey=False)
        tiles = sum(map(len, self._batches))
        if not tiles:
            raise RegionError(
                f"{stage.spec.name}: nothing of the view lies in the region that was asked for; "
                "there is nothing to do. Look at its coordinates: pixels of level 0."
            )
        self._tick = _counter(tiles * (1 if stage.survey is None else 2), progress)
        self._only: Tensor | None = None  # features of the only batch: it need not go in twice
        self.field = _empty_field(stage, scene)
        self.values = self._array(stage.spec.plan(scene.grid.shape).tile_px)

    @torch.inference_mode()
    def survey(self) -> Statistic | None:
        """What the stage wants to know of the features of the whole view."""
        if self._stage.survey is None:
            return None
        journal = Journal(self._folder / "survey.journal")
        for batch, features in self._encoded(self._batches_of(survey=True), journal):
            for tile, each in zip(batch, features, strict=True):
                core = self._core(each, tile, self._stage.spec.stride)
                journal.add(tile.number, self._stage.survey.of(core).vector)
            self._tick(len(batch))
        return journal.merged(self._stage.survey)

    @torch.inference_mode()
    def decode(self, survey: Statistic | None) -> Statistic | None:
        """Write the output of all tiles; what the stage wants to know of it."""
        closing, journal = self._stage.closing, Journal(self._folder / "decode.journal")
        for batch, features in self._encoded(self._batches, journal):
            for tile, each in zip(batch, self._stage.decode(features, survey), strict=True):
                found = self._write(each, tile)
                journal.add(
                    tile.number, np.empty(0) if closing is None else closing.of(found).vector
                )
            self._tick(len(batch))
        return None if closing is None else journal.merged(closing)

    def _batches_of(self, *, survey: bool) -> list[Batch]:
        """The tiles that are wanted, as they go through together."""
        plan, limit = self._stage.spec.plan(self._scene.grid.shape, survey=survey), self._limit
        wanted = (tile for tile in plan.tiles() if limit is None or limit.touches(tile.core))
        return in_batches(wanted, self._options.batch)

    def _encoded(self, batches: list[Batch], journal: Journal) -> Iterator[tuple[Batch, Tensor]]:
        """Batches that are not done, and their features; a batch begun is done again whole."""
        left = [batch for batch in batches if any(t.number not in journal for t in batch)]
        self._tick(sum(map(len, batches)) - sum(map(len, left)))
        if self._only is not None:
            yield from ((batch, self._only) for batch in left)
            return
        workers, ahead = self._options.workers, self._options.ahead
        for batch, pixels in read_ahead(self._scene, left, workers=workers, ahead=ahead):
            tiles = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            features = self._stage.encode(tiles.to(self._options.device))
            # Of a view in one tile the margin is cut off anyway: both passes see the same.
            self._only = features if batches[0][0].read.shape == self._scene.grid.shape else None
            yield batch, features

    def _core(self, values: Tensor, tile: Tile, cell_px: int) -> NDArray[Any]:
        """(channels, cells) of a tile's core that are wanted, of values in cells of that size."""
        inside = self._cut(values, tile, cell_px)
        if self._limit is None:
            return inside.reshape(len(inside), -1)
        return inside[:, self._limit.in_cells(tile.core, cell_px)]

    @staticmethod
    def _cut(values: Tensor, tile: Tile, cell_px: int) -> NDArray[Any]:
        """(channels, rows, cols) of a tile's core."""
        rows, cols = tile.core.seen_from(tile.read).in_cells(cell_px).slices
        return values[:, rows, cols].cpu().numpy()

    def _write(self, values: Tensor, tile: Tile) -> NDArray[Any]:
        """Write a core; (channels, cells) that are wanted of it."""
        cell_px = self._stage.spec.cell_px
        inside = self._cut(values, tile, cell_px).astype(np.float32)
        if self._limit is not None:
            inside[:, ~self._limit.in_cells(tile.core, cell_px)] = np.nan
        rows, cols = tile.core.in_cells(cell_px).slices
        self.values[:, rows, cols] = inside
        return self._core(values, tile, cell_px)

    def _array(self, tile_px: int) -> zarr.Array[Any]:
        """The output, one shard a core: each is written once, whole, by its tile alone."""
        folder = self._folder / "values.zarr"
        if not (folder / "zarr.json").is_file() or not (self._folder / "decode.journal").is_file():
            create_field(
                folder, self.field, np.float32, shard_px=tile_px // self._stage.spec.cell_px
            )
        array = zarr.open_group(folder, mode="r+")["0"]
        assert isinstance(array, zarr.Array)
        return array


def _finalise(
    stage: Stage,
    values: zarr.Array[Any],
    closing: Statistic | None,
    arrays: tuple[zarr.Array[Any], zarr.Array[Any]],
    judged: Callable[[Window], NDArray[np.bool_]],
) -> None:
    """Normalise block by block, and mark what is valid."""
    final, valid = arrays
    for block in blocks_of(final):
        rows, cols = block.slices
        part = torch.from_numpy(np.asarray(values[:, rows, cols]))
        final[:, rows, cols] = stage.finalise(part, closing).numpy()
        valid[rows, cols] = judged(block).astype(np.uint8)


def _cells(
    limit: Limit | None, valid: Limit | None, cell_px: int
) -> Callable[[Window], NDArray[np.bool_]]:
    """Which cells of a window, counted in cells, are judged and mean something."""

    def judged(cells: Window) -> NDArray[np.bool_]:
        px = Window(*(n * cell_px for n in (cells.top, cells.left, cells.bottom, cells.right)))
        mask = np.ones(cells.shape, bool)
        for each in (limit, valid):
            if each is not None:
                mask &= each.in_cells(px, cell_px)
        return mask

    return judged


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


def _counter(total: int, progress: Progress | None) -> Callable[[int], None]:
    done = 0

    def tick(tiles: int) -> None:
        nonlocal done
        done += tiles
        if progress is not None:
            progress(done, total)

    return tick
