"""Tiles of annotated slides, read in threads while a network works."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.annotations.balanced import Aim
from saccade.pipeline.annotations.slides import AnnotatedSlide
from saccade.pipeline.augment import Change
from saccade.pipeline.config import AugmentConfig
from saccade.pipeline.reading import TileReader, TileRequest
from saccade.pipeline.seeds import generator_for
from saccade.tiling.errors import SlideError

_AHEAD = 2  # batches
Shown = TypeVar("Shown")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The tiles of a batch, and how each is shown."""

    aims: Sequence[Aim]
    changes: Sequence[Change]
    requests: Sequence[TileRequest]


@dataclass(frozen=True, slots=True)
class AnnotatedTiles(Generic[Shown]):
    """Reads tiles of annotated slides, batch by batch.

    Attributes:
        slides: whose numbers the aims have.
        reader: of tiles.
        show: makes of a tile, as it was aimed at, is changed and was read, uint8 (1, rows, cols,
            3), what a batch holds of it.
        batch: tiles of one step.
        augment: how tiles are changed.
        seed: of the changes.
        failures: what was wrong with slides whose tiles could not be read, by name; they are left
            out of their batches.
    """

    slides: Sequence[AnnotatedSlide]
    reader: TileReader
    show: Callable[[Aim, Change, NDArray[np.uint8]], Shown]
    batch: int
    augment: AugmentConfig
    seed: int
    failures: dict[str, str]

    def batches(self, aims: Sequence[Aim], epoch: int | None) -> Generator[list[Shown], None, None]:
        """Read batch after batch; an empty one where none of its tiles can be read.

        Args:
            aims: the tiles in their order.
            epoch: whose changes they are shown with; None to show them as they are.
        """
        wanted = (self._wanted(aims, start, epoch) for start in range(0, len(aims), self.batch))
        with closing(self.reader.ahead(wanted, _AHEAD)) as read:
            for each, tiles in read:
                shown = []
                for aim, change, pixels in zip(each.aims, each.changes, tiles, strict=True):
                    if isinstance(pixels, SlideError):
                        self.failures[self.slides[aim.slide].name] = str(pixels)
                    else:
                        shown.append(self.show(aim, change, pixels))
                yield shown

    def _wanted(self, aims: Sequence[Aim], start: int, epoch: int | None) -> _Wanted:
        part = aims[start : start + self.batch]
        changes = [self._change(start + i, epoch) for i in range(len(part))]
        requests = [TileRequest(self.slides[a.slide].ref, np.array([a.corner_l0])) for a in part]
        return _Wanted(part, changes, requests)

    def _change(self, number: int, epoch: int | None) -> Change:
        if epoch is None:
            return Change()
        dice = generator_for("augment", self.seed, epoch, number)
        return Change.draw(self.augment, tiles=1, generator=dice)
