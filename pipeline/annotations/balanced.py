"""Which tiles an epoch sees: each class as often as any other, whatever its area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.annotations.class_cells import ClassCells
from saccade.pipeline.seeds import seed_for


@dataclass(frozen=True, slots=True)
class Aim:
    """A tile that is to be read.

    Attributes:
        slide: number of the slide.
        wanted: class that it was drawn for; None for any.
        corner_l0: upper-left corner (x, y), in whole level-0 pixels.
    """

    slide: int
    wanted: int | None
    corner_l0: tuple[int, int]


@dataclass(frozen=True, slots=True)
class BalancedTiles:
    """Draws tiles from slides.

    A share is drawn for no class: any known pixel. The others are dealt to the classes that there
    are, so that the numbers of any two differ by one at most. For each tile a slide is drawn that
    has the class, all alike, then a pixel of the class on it, all alike. It comes to lie anywhere
    in the middle half of the tile, across and down, and the tile is then moved into the slide if it
    overhangs and the slide is large enough.

    Attributes:
        cells: of each slide.
        sizes_l0: (width, height) of each slide.
        side_l0: (x, y) level-0 pixels that a tile spans, of each slide.
        uniform: share that is drawn for no class, in [0, 1].
    """

    cells: Sequence[ClassCells]
    sizes_l0: Sequence[tuple[int, int]]
    side_l0: Sequence[tuple[float, float]]
    uniform: float = 0.25

    def draw(self, count: int, *, seed: int, epoch: int) -> list[Aim]:
        """The tiles of an epoch, in the order in which they are to be seen.

        Args:
            count: how many.
            seed: of the run.
            epoch: from 0; the same seed and epoch give the same tiles.

        Raises:
            ValueError: if nothing is known of any slide.
        """
        rng = np.random.default_rng(seed_for("tiles", seed, epoch))
        known = np.array([each.counts.sum(axis=(0, 1)) for each in self.cells])
        present = np.flatnonzero(known.any(axis=0)).tolist()
        if not present:
            raise ValueError("no slide has a pixel whose class is known.")
        for_any = round(self.uniform * count)
        # Who gets one more than the others changes from epoch to epoch.
        turns = rng.permutation(present).tolist()
        wanted = [None] * for_any + [turns[i % len(turns)] for i in range(count - for_any)]
        return [self._aim(rng, known, wanted[i]) for i in rng.permutation(count)]

    def _aim(self, rng: np.random.Generator, known: NDArray[np.int64], wanted: int | None) -> Aim:
        has = known.sum(axis=1) if wanted is None else known[:, wanted]
        slide = int(rng.choice(np.flatnonzero(has)))
        pixel_l0 = np.array(self.cells[slide].place_l0(rng, wanted))
        side, size = np.array(self.side_l0[slide]), np.array(self.sizes_l0[slide])
        corner = np.rint(pixel_l0 - side * rng.uniform(0.25, 0.75, 2))
        inside = np.clip(corner, 0, np.maximum(np.floor(size - side), 0))
        moved = np.where(size >= side, inside, corner).astype(int).tolist()
        return Aim(slide, wanted, (moved[0], moved[1]))
