"""Where on a slide a segmentation works, what of that counts, and in which regions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from saccade.pipeline.errors import RegionError
from saccade.pipeline.segment.options import SegmentOptions
from saccade.pipeline.stages.limit import AllOf, Limit, Mask
from saccade.pipeline.stages.region_of_interest import Region, Within, cells_of, read_regions
from saccade.pipeline.stages.stage import StageSpec
from saccade.tiling.errors import NoTissueError
from saccade.tiling.grid import CellGrid
from saccade.tiling.pyramid_view import Pyramid

BLOCK_UM = 32.0
"""About the side of the blocks that are judged or left out."""

_ROUNDING = 1e-6  # of a share


@dataclass(frozen=True, slots=True)
class Where:
    """What is judged of a view.

    Attributes:
        limit: blocks that the network judges: those that count, and around them a block more
            where objects are split, so that those across the edge are seen whole.
        counts: cells that count.
        regions: areas that somebody outlined; none where all tissue is judged.
    """

    limit: Limit
    counts: Mask
    regions: tuple[Region, ...]


def where_to_work(
    pyramid: Pyramid,
    grid: CellGrid,
    spec: StageSpec,
    options: SegmentOptions,
    *,
    around: bool,
    name: str,
) -> Where:
    """Find the blocks of a view to be judged.

    Args:
        pyramid: of the slide, for its tissue.
        grid: the pixels of the view, from the slide's corner on.
        spec: of the stage; blocks are multiples of its stride.
        options: regions, and how much tissue a block must hold.
        around: judge the neighbours of blocks that count, too.
        name: of the slide, for messages.

    Raises:
        NoTissueError: if no block has enough tissue.
        RegionError: if the regions cannot be read, or hold nothing of the slide's tissue.
    """
    block_px = spec.stride * max(1, round(BLOCK_UM / (spec.mpp * spec.stride)))
    rows, cols = (-(-length // block_px) for length in grid.shape)
    share = _fitted(pyramid.tissue_share(block_px * spec.mpp), (rows, cols))
    tissue = share >= options.min_tissue - _ROUNDING
    if not tissue.any():
        raise NoTissueError(
            f"{name}: no tissue was found, so there is nothing to segment (wanted a block of "
            f"{block_px * spec.mpp:g} um with at least {options.min_tissue:.0%}, found at most "
            f"{share.max():.1%}). Look at labels/tissue of its pyramid.zarr; --min-tissue 0 judges "
            "all of the slide."
        )
    if options.region is None:
        return Where(_judged(tissue, block_px, around), Limit(tissue, block_px), ())
    regions = tuple(read_regions(options.region))
    union = shapely.union_all([each.shape for each in regions])
    cell = grid.cell_l0[0] * block_px, grid.cell_l0[1] * block_px
    touched = cells_of(union, CellGrid((rows, cols), cell)) & tissue
    if not touched.any():
        raise RegionError(
            f"{options.region}: no tissue of {name} lies in these areas, so there is nothing to "
            "segment. Are they of this slide, in pixels of level 0? --min-tissue 0 judges glass, "
            "too."
        )
    counts = AllOf((Limit(tissue, block_px), Within(union, grid)))
    return Where(_judged(touched, block_px, around), counts, regions)


def _judged(blocks: NDArray[np.bool_], block_px: int, around: bool) -> Limit:
    """These blocks, and their neighbours if they are wanted."""
    if around:
        blocks = ndimage.binary_dilation(blocks, np.ones((3, 3), bool))
    return Limit(blocks, block_px)


def _fitted(share: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Cut off, or add without tissue, the row or column that rounding made of a view's edge."""
    fitted = np.zeros(shape, np.float32)
    rows, cols = (min(a, b) for a, b in zip(share.shape, shape, strict=True))
    fitted[:rows, :cols] = share[:rows, :cols]
    return fitted
