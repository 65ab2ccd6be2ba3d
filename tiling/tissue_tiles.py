"""Which tiles of a regular grid over a slide hold tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.tiling.errors import NoTissueError
from saccade.tiling.grid import CellGrid
from saccade.tiling.places import corners_l0
from saccade.tiling.pyramid_view import Pyramid
from saccade.tiling.slide import Slide

_ROUNDING = 1e-6
"""Of a share: the mean of a tile that is all tissue may come out as 0.99999994."""


@dataclass(frozen=True, slots=True, eq=False)
class TissueTiles:
    """Square tiles side by side, those with enough tissue, row by row.

    Attributes:
        corners_l0: int64 (n, 2), upper-left corners (x, y) in level-0 pixels.
        side_px: edge length of a tile, in pixels at `mpp`.
        mpp: micrometres per pixel at which tiles are read.
        side_l0: (x, y) level-0 pixels that a tile spans.
        share: float32 (n,), how much of each tile is tissue.
        in_grid: tiles of the whole grid, with tissue or without.
    """

    corners_l0: NDArray[np.int64]
    side_px: int
    mpp: float
    side_l0: tuple[float, float]
    share: NDArray[np.float32]
    in_grid: int

    def __len__(self) -> int:
        return len(self.corners_l0)


def tissue_tiles(
    slide: Slide, pyramid: Pyramid, *, side_px: int, mpp: float, least: float
) -> TissueTiles:
    """Lay tiles side by side over the whole slide and keep those with enough tissue.

    The grid begins at the slide's corner, and its last row and column may overhang the slide. A
    tile counts as tissue if at least `least` of its area is tissue on the finest level of the
    pyramid's label; what overhangs is none. Corners are then moved by half a pixel of what is
    read at most, so that tiles begin at whole ones, which is cheaper to read.

    Args:
        slide: the slide.
        pyramid: of the slide.
        side_px: side of a tile.
        mpp: micrometres per pixel of a tile.
        least: share of a tile; with 0 all tiles are kept.

    Raises:
        MissingMppError: if the slide's mpp is not known.
        NoTissueError: if no tile has enough tissue.
    """
    x, y = slide.downsample_for(mpp)
    side_l0 = side_px * x, side_px * y
    grid = CellGrid.covering(slide.size_l0, side_l0)
    share = pyramid.tissue_share(side_px * mpp) * _on_slide(grid, slide.size_l0)
    cells = np.flatnonzero(share >= least - _ROUNDING)
    if not len(cells):
        raise NoTissueError(
            f"{slide.name}: no tile of {side_px} px at {mpp:g} um/px is at least {least:.0%} "
            f"tissue, the most was {share.max():.1%}; there is nothing to read. Look at "
            "labels/tissue of its pyramid.zarr; if it misses tissue, lower --min-tissue."
        )
    corners = corners_l0(grid.centres_l0(cells), side_l0)
    lattice = slide.lattice_for(side_px, mpp, "pixel")
    return TissueTiles(
        corners if lattice is None else lattice.snap(corners),
        side_px,
        mpp,
        side_l0,
        share.flat[cells],
        len(grid),
    )


def _on_slide(grid: CellGrid, size_l0: tuple[int, int]) -> NDArray[np.float32]:
    """How much of each cell lies on the slide, (rows, cols)."""
    rows, cols = (
        np.clip(length / side - np.arange(count), 0, 1)
        for length, side, count in zip(size_l0[::-1], grid.cell_l0[::-1], grid.shape, strict=True)
    )
    part: NDArray[np.float32] = np.outer(rows, cols).astype(np.float32)
    return part
