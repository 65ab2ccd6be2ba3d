"""Where tiles are read, and what each answers for.

A tile answers for its core and sees a margin of half the overlap around it. Over all tissue and in
regions, cores lie side by side from the slide's corner on, so that each place is in one of them. At
places of a prediction a core is such a place, or a part of it, wherever it lies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from saccade.pipeline.errors import ConfigError, RegionError
from saccade.pipeline.stages.region_of_interest import Region, cells_of
from saccade.tiling import Slide
from saccade.tiling.errors import NoTissueError
from saccade.tiling.grid import CellGrid
from saccade.tiling.places import corners_l0
from saccade.tiling.pyramid_view import Pyramid

_ROUNDING = 1e-6  # of a share, and of cores of a place


@dataclass(frozen=True, slots=True)
class TileSize:
    """How large tiles are.

    Attributes:
        side_px: of a tile, pixels at `mpp`.
        overlap_px: of neighbouring tiles.
        mpp: micrometres per pixel.

    Raises:
        ConfigError: if nothing of a tile is left beside its overlap.
    """

    side_px: int
    overlap_px: int
    mpp: float

    def __post_init__(self) -> None:
        if self.overlap_px >= self.side_px:
            raise ConfigError(
                f"tiles of {self.side_px} px cannot overlap by {self.overlap_px} px: make them "
                "larger (--tile), or the overlap smaller (--overlap)."
            )

    @property
    def core_px(self) -> int:
        """Side of what a tile answers for."""
        return self.side_px - self.overlap_px


@dataclass(frozen=True, slots=True, eq=False)
class DetectPlan:
    """Tiles, and what they answer for.

    Attributes:
        size: of the tiles.
        side_l0: (x, y) level-0 pixels that a tile spans.
        corners_l0: int64 (n, 2), upper-left corners (x, y); tiles may overhang the slide.
        cores_l0: float64 (n, 4) left, top, right, bottom; right and bottom do not belong to it.
    """

    size: TileSize
    side_l0: tuple[float, float]
    corners_l0: NDArray[np.int64]
    cores_l0: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.corners_l0)

    @property
    def pixel_l0(self) -> NDArray[np.float64]:
        """(x, y) level-0 pixels of a pixel of a tile."""
        return np.array(self.side_l0) / self.size.side_px

    @property
    def fingerprint(self) -> str:
        """Hash of where the tiles lie."""
        tiles = self.corners_l0.tobytes() + self.cores_l0.tobytes()
        return hashlib.sha256(tiles).hexdigest()

    def in_core(
        self, centres_l0: NDArray[np.float64], tiles: NDArray[np.integer], grown_px: float = 0
    ) -> NDArray[np.bool_]:
        """Whether points (n, 2) lie in the cores of tiles (n,), grown on all sides."""
        grown = grown_px * self.pixel_l0
        low, high = self.cores_l0[tiles, :2] - grown, self.cores_l0[tiles, 2:] + grown
        inside = (centres_l0 >= low) & (centres_l0 < high)
        return np.asarray(inside.all(axis=1))

    def in_any_core(self, centres_l0: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether points (n, 2) lie in the core of some tile."""
        tree = shapely.STRtree(shapely.box(*self.cores_l0.T))
        points, tiles = tree.query(shapely.points(centres_l0))
        found = np.zeros(len(centres_l0), bool)
        found[points[self.in_core(centres_l0[points], tiles)]] = True
        return found


def plan_tissue(
    slide: Slide,
    pyramid: Pyramid,
    size: TileSize,
    regions: Sequence[Region] = (),
    *,
    least: float,
) -> DetectPlan:
    """Tiles whose cores hold tissue, over the whole slide or where regions are, row by row.

    Args:
        slide: the slide.
        pyramid: of it.
        size: of the tiles.
        regions: all of the slide if there are none.
        least: share of a core that must be tissue; 0 for all.

    Raises:
        MissingMppError: if the slide's mpp is not known.
        NoTissueError: if no core has enough tissue.
        RegionError: if no core with enough tissue touches a region.
    """
    x, y = slide.downsample_for(size.mpp)
    grid = CellGrid.covering(slide.size_l0, (size.core_px * x, size.core_px * y))
    share = _fitted(pyramid.tissue_share(size.core_px * size.mpp), grid.shape)
    wanted = share >= least - _ROUNDING
    if not wanted.any():
        raise NoTissueError(
            f"{slide.name}: no tissue was found, so there is nothing to look at (wanted a tile "
            f"with at least {least:.0%}, found at most {share.max():.1%}). Look at labels/tissue "
            "of its pyramid.zarr; --min-tissue 0 judges all of the slide."
        )
    if regions:
        wanted &= cells_of(shapely.union_all([each.shape for each in regions]), grid)
        if not wanted.any():
            raise RegionError(
                f"no tissue of {slide.name} lies in these regions, so there is nothing to look at. "
                "Are they of this slide, in pixels of level 0? --min-tissue 0 judges glass, too."
            )
    rows, cols = np.nonzero(wanted)
    # Edges as multiples, so that a core ends exactly where the next one begins.
    edges = [cols, rows, cols + 1, rows + 1]
    cores = np.stack(edges, axis=1) * np.tile(grid.cell_l0, 2)
    return _around(slide, size, cores)


def plan_places(slide: Slide, size: TileSize, places: Sequence[Region]) -> DetectPlan:
    """A tile around each place, or several where it is larger than what a tile answers for.

    Args:
        slide: the slide.
        size: of the tiles.
        places: what is judged of each is the box around it.

    Raises:
        MissingMppError: if the slide's mpp is not known.
        RegionError: if no place lies on the slide.
    """
    most_l0 = np.array(slide.downsample_for(size.mpp)) * size.core_px
    cores = [part for each in places for part in _parts(each.shape.bounds, most_l0)]
    table = np.array(cores, np.float64).reshape(-1, 4)
    on_slide = (table[:, :2] < slide.size_l0).all(axis=1) & (table[:, 2:] > 0).all(axis=1)
    if not on_slide.any():
        raise RegionError(
            f"none of the {len(places)} places lies on {slide.name}. Are they of this slide, in "
            "pixels of level 0?"
        )
    return _around(slide, size, table[on_slide])


def _parts(
    box_l0: tuple[float, float, float, float], most_l0: NDArray[np.float64]
) -> list[tuple[float, ...]]:
    """A box cut into equal parts, the fewest that are no larger than `most_l0` (x, y)."""
    low, high = np.array(box_l0[:2]), np.array(box_l0[2:])
    cols, rows = np.maximum(np.ceil((high - low) / most_l0 - _ROUNDING), 1).astype(int)
    x, y = np.linspace(low[0], high[0], cols + 1), np.linspace(low[1], high[1], rows + 1)
    return [(x[i], y[j], x[i + 1], y[j + 1]) for j in range(rows) for i in range(cols)]


def _around(slide: Slide, size: TileSize, cores_l0: NDArray[np.float64]) -> DetectPlan:
    """Tiles that have these cores in their middle, moved to whole pixels of what is read."""
    x, y = slide.downsample_for(size.mpp)
    side_l0 = size.side_px * x, size.side_px * y
    corners = corners_l0((cores_l0[:, :2] + cores_l0[:, 2:]) / 2, side_l0)
    lattice = slide.lattice_for(size.side_px, size.mpp, "pixel")
    snapped = corners if lattice is None else lattice.snap(corners)
    return DetectPlan(size, side_l0, snapped, cores_l0)


def _fitted(share: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Cut off, or add without tissue, the row or column that rounding made of the slide's edge."""
    fitted = np.zeros(shape, np.float32)
    rows, cols = (min(a, b) for a, b in zip(share.shape, shape, strict=True))
    fitted[:rows, :cols] = share[:rows, :cols]
    return fitted
