"""A region of interest, from a GeoJSON: an annotation of QuPath's, or the tiles attention chose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape

from saccade.pipeline.errors import RegionError
from saccade.pipeline.stages.objects import areas_of
from saccade.tiling.grid import CellGrid


def read_region(path: Path) -> shapely.Geometry:
    """The union of all areas of a GeoJSON, in its own coordinates: level-0 pixels.

    Raises:
        RegionError: if the file is missing, no GeoJSON, or holds no area.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content if isinstance(content, list) else content.get("features", [content])
        shapes = [shape(each.get("geometry", each)) for each in found]
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
    region = shapely.union_all([areas_of(each) for each in shapes])
    if region.is_empty:
        raise RegionError(
            f"{path}: holds no area; found {len(shapes)} objects. Wanted polygons or rectangles."
        )
    return region


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


def _near(region_l0: shapely.Geometry, grid: CellGrid) -> tuple[slice, slice]:
    """The rows and columns of the grid that the bounds of a region reach."""
    left, top, right, bottom = region_l0.bounds
    (width, height), (x, y) = grid.cell_l0, grid.origin_l0
    rows = np.clip([(top - y) // height, (bottom - y) // height + 1], 0, grid.shape[0])
    cols = np.clip([(left - x) // width, (right - x) // width + 1], 0, grid.shape[1])
    return slice(*rows.astype(int).tolist()), slice(*cols.astype(int).tolist())
