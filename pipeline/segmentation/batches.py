"""Tiles with the classes of their pixels, read in threads while the network works."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.pipeline.annotations.balanced import Aim
from saccade.pipeline.annotations.slides import AnnotatedSlide
from saccade.pipeline.annotations.tiles import AnnotatedTiles
from saccade.pipeline.augment import Change, turn
from saccade.pipeline.reading import TileReader
from saccade.pipeline.segmentation.config import SegmentationConfig
from saccade.pipeline.segmentation.targets import target_of


@dataclass(frozen=True, slots=True)
class Batch:
    """Tiles of one step.

    Attributes:
        pixels: uint8 (n, 3, rows, cols).
        classes: int64 (n, rows, cols), 255 where none is known.
    """

    pixels: Tensor
    classes: Tensor


@dataclass(slots=True)
class TileSource:
    """Reads tiles of annotated slides.

    Attributes:
        slides: whose numbers the aims have.
        config: of the run.
        reader: of tiles as `config` has them.
        failures: what was wrong with slides whose tiles could not be read, by name; they are left
            out of their batches.
    """

    slides: Sequence[AnnotatedSlide]
    config: SegmentationConfig
    reader: TileReader
    failures: dict[str, str] = field(default_factory=dict)

    def batches(
        self, aims: Sequence[Aim], *, epoch: int | None = None
    ) -> Generator[Batch | None, None, None]:
        """Read batch after batch; None where none of its tiles can be read.

        Args:
            aims: the tiles in their order.
            epoch: whose changes they are shown with; None to show them as they are.
        """
        with closing(self._tiles().batches(aims, epoch)) as read:
            for shown in read:
                yield Batch(*map(torch.cat, zip(*shown, strict=True))) if shown else None

    def _tiles(self) -> AnnotatedTiles[tuple[Tensor, Tensor]]:
        training = self.config.training
        return AnnotatedTiles(
            self.slides,
            self.reader,
            self._shown,
            training.batch,
            self.config.augment,
            training.seed,
            self.failures,
        )

    def _shown(self, aim: Aim, change: Change, pixels: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """A batch of one: pixels and classes, turned alike."""
        annotations, tiles = self.config.annotations, self.config.tiles
        split = self.config.instances
        classes = target_of(
            self.slides[aim.slide].cells.truth,
            aim.corner_l0,
            tiles.size_px,
            tiles.mpp,
            rim_um=self.config.objects.rim_um,
            instances=None if split is None else annotations.classes.index(split),
        )
        tile = torch.from_numpy(pixels).movedim(-1, 1)
        turned = turn(torch.from_numpy(classes.astype(np.int64)), change.symmetry)
        return change.of_tiles(tile), turned[None]


def drop_empty(batches: Iterable[Batch | None]) -> Generator[Batch, None, None]:
    """Those batches of which something could be read."""
    for batch in batches:
        if batch is not None:
            yield batch
