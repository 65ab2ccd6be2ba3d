"""A region of interest, from a GeoJSON: an annotation of QuPath's, or the tiles attention chose."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape

from saccade.pipeline.errors import RegionError
from saccade.pipeline.stages.objects import areas_of
from saccade.pipeline.stages.tile_plan import Window
from saccade.tiling.grid import CellGrid


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """An area that somebody outlined.

    Attributes:
        name: as it is called, or `region 1`, `region 2`, ... by its place in the file.
        shape: its area in level-0 pixels, valid and not empty.
    """

    name: str
    shape: shapely.Geometry


def read_regions(path: Path) -> list[Region]:
    """The areas of a GeoJSON, one by one, in its own coordinates: level-0 pixels.

    A name that comes again gets a number: `tumour`, `tumour 2`.

    Raises:
        RegionError: if the file is missing, no GeoJSON, or holds no area.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content if isinstance(content, list) else content.get("features", [content])
        shapes = [areas_of(shape(each.get("geometry", each))) for each in found]
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        shapely.GEOSException,
    ) as error:
        raise RegionError(
            f"{path}: cannot be read as a GeoJSON with areas ({error!r}). Wanted what QuPath "
            "exports with File > Export objects as GeoJSON, or a prediction's attention.geojson."
        ) from error
    names = _names(found)
    regions = [Region(*each) for each in zip(names, shapes, strict=True) if not each[1].is_empty]
    if not regions:
        raise RegionError(
            f"{path}: holds no area; found {len(shapes)} objects. Wanted polygons or rectangles."
        )
    return regions


def read_region(path: Path) -> shapely.Geometry:
    """The union of all areas of a GeoJSON, in its own coordinates: level-0 pixels.

    Raises:
        RegionError: if the file is missing, no GeoJSON, or holds no area.
    """
    return shapely.union_all([each.shape for each in read_regions(path)])


def _names(features: Sequence[Any]) -> list[str]:
    names, seen = [], Counter[str]()
    for number, each in enumerate(features, start=1):
        facts = each.get("properties") or {}
        kind = facts.get("classification") or {}
        name = facts.get("name") or (kind.get("name") if isinstance(kind, dict) else kind)
        name = str(name or f"region {number}")
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return names


def cells_of(region_l0: shapely.Geometry, grid: CellGrid) -> NDArray[np.bool_]:
    """Which cells of a grid a region touches, bool (rows, cols)."""
    (width, height), (x, y) = grid.cell_l0, grid.origin_l0
    near = rows, cols = _near(region_l0, grid)
    left = x + width * np.arange(cols.start, cols.stop)
    top = y + height * np.arange(rows.start, rows.stop)[:, None]
    boxes = shapely.box(*np.broadcast_arrays(left, top, left + width, top + height))
    shapely.prepare(region_l0)
    touched: NDArray[np.bool_] = np.zeros(grid.shape, bool)
    touched[near] = shapely.intersects(region_l0, boxes)
    return touched


@dataclass(frozen=True, slots=True, eq=False)
class Within:
    """Cells of a view whose centres lie in a region: a mask of a view of any size.

    Attributes:
        region_l0: in level-0 pixels.
        grid: the pixels of the view.
    """

    region_l0: shapely.Geometry
    grid: CellGrid

    def __post_init__(self) -> None:
        shapely.prepare(self.region_l0)

    def in_cells(self, window: Window, cell_px: int) -> NDArray[np.bool_]:
        """Which cells of `cell_px` pixels lie in the region, of those the window touches."""
        cells = window.in_cells(cell_px)
        (width, height), (x, y) = self.grid.cell_l0, self.grid.origin_l0
        box = shapely.box(
            x + width * cell_px * cells.left,
            y + height * cell_px * cells.top,
            x + width * cell_px * cells.right,
            y + height * cell_px * cells.bottom,
        )
        if not shapely.intersects(self.region_l0, box):
            return np.zeros(cells.shape, bool)
        if shapely.contains_properly(self.region_l0, box):
            return np.ones(cells.shape, bool)
        cols = x + width * cell_px * (np.arange(cells.left, cells.right) + 0.5)
        rows = y + height * cell_px * (np.arange(cells.top, cells.bottom) + 0.5)
        inside: NDArray[np.bool_] = shapely.contains_xy(
            self.region_l0, *np.broadcast_arrays(cols, rows[:, None])
        )
        return inside


def _near(region_l0: shapely.Geometry, grid: CellGrid) -> tuple[slice, slice]:
    """The rows and columns of the grid that the bounds of a region reach."""
    left, top, right, bottom = region_l0.bounds
    (width, height), (x, y) = grid.cell_l0, grid.origin_l0
    rows = np.clip([(top - y) // height, (bottom - y) // height + 1], 0, grid.shape[0])
    cols = np.clip([(left - x) // width, (right - x) // width + 1], 0, grid.shape[1])
    return slice(*rows.astype(int).tolist()), slice(*cols.astype(int).tolist())
