"""Looking for objects in tiles, batch by batch, and noting what each tile found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.pipeline.detect.options import DetectOptions
from saccade.pipeline.detect.plan import DetectPlan
from saccade.pipeline.detect.seams import Candidates
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.objects.batch import ObjectBatch, centres_of
from saccade.pipeline.objects.log import ObjectLog
from saccade.pipeline.pieces import in_batches
from saccade.pipeline.reading import SlideRef, TileReader

Progress = Callable[[int, int], None]

BEYOND = 1 / 16
"""Of the overlap: how far beyond its core a tile proposes objects. Boxes move by less."""
_THINNEST_PX = 1.0  # of a tile; what is thinner is no object


class Found(Protocol):
    """Objects of a tile, as a detector gives them."""

    @property
    def boxes(self) -> Tensor:
        """(n, 4) edges, pixels of the tile."""

    @property
    def scores(self) -> Tensor:
        """(n,)."""

    @property
    def classes(self) -> Tensor:
        """(n,) from 0 on."""


class Finder(Protocol):
    """What finds objects in tiles."""

    def find(self, tiles: Tensor, *, min_score: float) -> Sequence[Found]:
        """Objects of tiles uint8 (n, 3, rows, cols) that are at least so likely."""


@dataclass(frozen=True, slots=True)
class Search:
    """Looks where the log does not know yet what is there.

    Attributes:
        slide_ref: the slide.
        plan: its tiles.
        finder: finds objects in them, on `options.device`.
        options: scores, batches, threads.
        log: of what was found.
        progress: called with (done, all) tiles.
    """

    slide_ref: SlideRef
    plan: DetectPlan
    finder: Finder
    options: DetectOptions
    log: ObjectLog
    progress: Progress | None = None

    @torch.inference_mode()
    def finish(self) -> Mapping[str, Any]:
        """Look at the tiles that are left; what that took.

        Raises:
            SlideError: if the slide cannot be read.
            DivergedError: if the detector gives numbers that are none.
        """
        kept = len(self.log)
        self._tick()
        size, workers = self.plan.size, self.options.workers
        with TileReader(size_px=size.side_px, mpp=size.mpp, workers=workers) as reader:
            batches = in_batches(
                self.slide_ref, self.plan.corners_l0, self._left(), reader, self.options.batch
            )
            with closing(batches):
                for numbers, tiles in batches:
                    self.log.add(self._look(numbers, tiles))
                    self._tick()
            decoded, waited = reader.counts(), reader.waited_seconds
        return {
            "tiles_read": len(self.plan),
            "tiles_of_killed_runs": kept,
            "waited_seconds": round(waited, 3),
            "source_tiles_decoded": decoded.tiles,
            "compressed_bytes_read": decoded.compressed_bytes,
            "pixels_decoded": decoded.pixels,
            "requests": decoded.requests,
        }

    def _left(self) -> NDArray[np.intp]:
        """Tiles of all batches that are not done, whole batches: others might round otherwise."""
        batch = self.options.batch
        starts = range(0, len(self.plan), batch)
        whole = [np.arange(start, min(start + batch, len(self.plan))) for start in starts]
        left = [each for each in whole if any(int(tile) not in self.log for tile in each)]
        return np.concatenate([np.empty(0, np.intp), *left])

    def _look(self, numbers: NDArray[np.intp], tiles: NDArray[np.uint8]) -> dict[int, ObjectBatch]:
        """What a batch of tiles holds, as far as each is to propose it."""
        pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2).contiguous().to(self.options.device)
        found = self.finder.find(pixels, min_score=self.options.min_score)
        return {
            int(tile): self._proposed(int(tile), each)
            for tile, each in zip(numbers, found, strict=True)
        }

    def _proposed(self, tile: int, found: Found) -> ObjectBatch:
        boxes = found.boxes.detach().cpu().double().numpy().reshape(-1, 4)
        scores = found.scores.detach().cpu().float().numpy()
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise DivergedError(
                "the detector gives boxes or scores that are not numbers: its training diverged. "
                "Train again with a lower training.learning_rate."
            )
        classes = found.classes.detach().cpu().long().numpy()
        wide = (boxes[:, 2:] - boxes[:, :2] >= _THINNEST_PX).all(axis=1)
        boxes_l0 = boxes * np.tile(self.plan.pixel_l0, 2) + np.tile(self.plan.corners_l0[tile], 2)
        centres = centres_of(boxes_l0)
        beyond = BEYOND * self.plan.size.overlap_px
        near = self.plan.in_core(centres, np.full(len(centres), tile), beyond)
        chosen = np.flatnonzero(wide & near & (scores >= self.options.min_score))
        return ObjectBatch.of_boxes(boxes_l0[chosen], classes[chosen], scores[chosen])

    def _tick(self) -> None:
        if self.progress is not None:
            self.progress(len(self.log), len(self.plan))


def candidates(log: ObjectLog, plan: DetectPlan) -> Candidates:
    """Everything that the tiles of a log propose."""
    boxes, scores = [np.empty((0, 4))], [np.empty(0, np.float32)]
    classes, tiles = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for tile, found in log.blocks():
        boxes.append(found.boxes_l0)
        scores.append(found.scores)
        classes.append(found.classes)
        tiles.append(np.full(len(found), tile))
    boxes_l0, of = np.concatenate(boxes), np.concatenate(tiles)
    owned = plan.in_core(centres_of(boxes_l0), of)
    return Candidates(boxes_l0, np.concatenate(scores), np.concatenate(classes), of, owned)


def kept_objects(log: ObjectLog, kept: NDArray[np.bool_]) -> Iterator[ObjectBatch]:
    """The objects of a log that stay, in the order of `candidates`."""
    done = 0
    for _, found in log.blocks():
        yield found.take(np.flatnonzero(kept[done : done + len(found)]))
        done += len(found)
