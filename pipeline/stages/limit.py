"""Where a stage is to work: tissue, an annotation, the places that attention chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.stages.tile_plan import Shape, Window


class Mask(Protocol):
    """Which cells of a view mean something, asked for window by window."""

    def in_cells(self, window: Window, cell_px: int) -> NDArray[np.bool_]:
        """Of the cells of `cell_px` pixels that a window of the view touches, (rows, cols)."""


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """Blocks of a view that are wanted; what lies outside is neither judged nor counted.

    Blocks rather than pixels, so that the limit of a view of any size is small; and blocks that do
    not depend on the tiles, so that the result does not either.

    Attributes:
        blocks: bool (rows, cols).
        block_px: side of a block, pixels of the view.

    Raises:
        ValueError: if there is no block, or a block no pixel.
    """

    blocks: NDArray[np.bool_]
    block_px: int

    def __post_init__(self) -> None:
        if self.blocks.ndim != 2 or not self.blocks.size or self.block_px < 1:
            raise ValueError(
                f"blocks (rows, cols) of at least a pixel are wanted, got {self.blocks.shape} "
                f"of {self.block_px} px."
            )

    def fits(self, shape: Shape) -> bool:
        """Whether it is about a view of this shape."""
        return self.blocks.shape == tuple(-(-length // self.block_px) for length in shape)

    def touches(self, window: Window) -> bool:
        """Whether any pixel of the window is wanted."""
        return bool(self.blocks[window.in_cells(self.block_px).slices].any())

    def in_cells(self, window: Window, cell_px: int) -> NDArray[np.bool_]:
        """Which cells of `cell_px` pixels are wanted, of those that the window touches.

        Raises:
            ValueError: if a block is no whole number of cells.
        """
        per_block, rest = divmod(self.block_px, cell_px)
        if rest:
            raise ValueError(f"blocks of {self.block_px} px do not consist of {cell_px} px cells.")
        cells = window.in_cells(cell_px)
        rows = np.arange(cells.top, cells.bottom) // per_block
        cols = np.arange(cells.left, cells.right) // per_block
        wanted: NDArray[np.bool_] = self.blocks[np.ix_(rows, cols)]
        return wanted


@dataclass(frozen=True, slots=True)
class AllOf:
    """Cells that every one of some masks has."""

    masks: Sequence[Mask]

    def in_cells(self, window: Window, cell_px: int) -> NDArray[np.bool_]:
        """Which cells of the window all masks have."""
        found = np.ones(window.in_cells(cell_px).shape, bool)
        for each in self.masks:
            found &= each.in_cells(window, cell_px)
        return found


def blocks_with_any(mask: NDArray[np.bool_], block_px: int) -> NDArray[np.bool_]:
    """Which blocks of a mask (rows, cols) hold a pixel of it."""
    rows, cols = (-(-length // block_px) for length in mask.shape)
    spare = rows * block_px - mask.shape[0], cols * block_px - mask.shape[1]
    whole = np.pad(mask, ((0, spare[0]), (0, spare[1])))
    return np.asarray(whole.reshape(rows, block_px, cols, block_px).any(axis=(1, 3)))
