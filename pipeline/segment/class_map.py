"""The classes of a field's cells: which of its probabilities is the highest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.segment.where import Where
from saccade.pipeline.segmentation.model_file import SegmentationCard
from saccade.pipeline.stages.field import Field
from saccade.pipeline.stages.tile_plan import TilePlan, Window

BLOCK_PX = 1024
"""Side of the blocks that a field is gone through in."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Part of a class map.

    Attributes:
        window: where it lies, cells of the field.
        scores: float32 (classes, rows, cols), the probabilities of the model's classes; 0 where
            it was not judged.
        shown: float32 (shown, rows, cols), those of the classes that a map shows.
        labels: uint8 (rows, cols), the place of the highest of these, the first of equals.
        judged: bool (rows, cols).
        counts: bool (rows, cols), what is judged, and counts.
    """

    window: Window
    scores: NDArray[np.float32]
    shown: NDArray[np.float32]
    labels: NDArray[np.uint8]
    judged: NDArray[np.bool_]
    counts: NDArray[np.bool_]

    def of(self, label: int) -> NDArray[np.bool_]:
        """Judged cells of a class, whether they count or not."""
        found: NDArray[np.bool_] = self.judged & (self.labels == label)
        return found


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The class map of a field of probabilities.

    Attributes:
        field: whose channels are the classes of the model.
        card: of the model.
        where: what was judged.
    """

    field: Field
    card: SegmentationCard
    where: Where

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that are shown; the first is the background."""
        return self.card.shown

    @property
    def instances(self) -> int | None:
        """The class that is split into objects, by its place among those shown."""
        name = self.card.instances
        return None if name is None else self.classes.index(name)

    @property
    def cell_mm2(self) -> float:
        """Area of a cell."""
        return self.field.mpp[0] * self.field.mpp[1] / 1e6

    def windows(self, block_px: int = BLOCK_PX) -> Iterator[Window]:
        """Blocks side by side that hold judged cells, row by row."""
        for tile in TilePlan(self.field.grid.shape, block_px, 0, 1).tiles():
            if self.where.limit.touches(tile.core):
                yield tile.core

    def read(self, window: Window) -> Part:
        """Look at a part of the map."""
        rows, cols = window.slices
        scores = np.asarray(self.field.values[:, rows, cols]).astype(np.float32)
        judged = np.isfinite(scores[0])
        scores[:, ~judged] = 0
        shown = self._shown(scores)
        return Part(
            window,
            scores,
            shown,
            shown.argmax(axis=0).astype(np.uint8),
            judged,
            judged & self.where.counts.in_cells(window, 1),
        )

    def _shown(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rim, which only keeps objects apart, counts as what it is part of."""
        if self.card.rim is None:
            return scores
        whole, rim = (self.card.classes.index(str(n)) for n in (self.card.instances, self.card.rim))
        shown = scores.copy()
        shown[whole] += shown[rim]
        return np.delete(shown, rim, axis=0)
