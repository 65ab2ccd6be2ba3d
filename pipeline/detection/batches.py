"""Tiles with their objects, read in threads while the detector works."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.models.detector import Known
from saccade.pipeline.annotations.balanced import Aim
from saccade.pipeline.annotations.slides import AnnotatedSlide
from saccade.pipeline.annotations.tiles import AnnotatedTiles
from saccade.pipeline.annotations.truth import IGNORED
from saccade.pipeline.augment import Change
from saccade.pipeline.detection.config import DetectionConfig
from saccade.pipeline.detection.known import known_in_tile, turn_boxes
from saccade.pipeline.reading import TileReader

_WHITE = 255


@dataclass(frozen=True, slots=True)
class Batch:
    """Tiles of one step.

    Attributes:
        pixels: uint8 (n, 3, rows, cols).
        known: objects of each.
    """

    pixels: Tensor
    known: list[Known]


@dataclass(slots=True)
class ObjectTiles:
    """Reads tiles of annotated slides, with their objects.

    Where it is not known what is there, tiles are white, so that nobody learns that nothing is.

    Attributes:
        slides: whose numbers the aims have.
        config: of the run.
        reader: of tiles as `config` has them.
        failures: what was wrong with slides whose tiles could not be read, by name; they are left
            out of their batches.
    """

    slides: Sequence[AnnotatedSlide]
    config: DetectionConfig
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
                pixels, known = zip(*shown, strict=True) if shown else ((), ())
                yield Batch(torch.cat(pixels), list(known)) if shown else None

    def _tiles(self) -> AnnotatedTiles[tuple[Tensor, Known]]:
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

    def _shown(self, aim: Aim, change: Change, pixels: NDArray[np.uint8]) -> tuple[Tensor, Known]:
        """A batch of one: pixels and objects, turned alike."""
        truth, tiles = self.slides[aim.slide].cells.truth, self.config.tiles
        labels = truth.labels(*aim.corner_l0, (tiles.size_px, tiles.size_px), tiles.mpp)
        white = np.where((labels == IGNORED)[None, ..., None], np.uint8(_WHITE), pixels)
        known = known_in_tile(
            truth, aim.corner_l0, tiles.size_px, tiles.mpp, least_share=tiles.least_share
        )
        turned = turn_boxes(known.boxes, change.symmetry, tiles.size_px)
        tile = torch.from_numpy(white).movedim(-1, 1)
        return change.of_tiles(tile), Known(turned, known.classes)
