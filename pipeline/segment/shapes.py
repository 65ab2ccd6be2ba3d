"""From polygons along cells to outlines on the slide: simpler, and valid as they are written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from saccade.pipeline.export.geojson import DECIMALS
from saccade.tiling.grid import CellGrid


@dataclass(frozen=True, slots=True)
class Drawing:
    """How polygons of cells are drawn on the slide.

    No corner of the cells lies further than `simplify_px` from the outline, so that neighbours,
    which are drawn each by itself, come apart or overlap by twice that at most.

    Attributes:
        grid: the cells.
        simplify_px: how far an outline may stray, cells.
        least_cells: holes that are smaller are filled.
    """

    grid: CellGrid
    simplify_px: float
    least_cells: float = 0.0

    def drawn(self, shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        """Outlines (n,) in level-0 pixels, to the digits that files have, of polygons (n,)."""
        filled = np.array([self._filled(each) for each in shapes], object)
        exact = self._to_l0(filled)
        found = self._simple(filled, careful=False)
        bad = _bad(found, filled)
        found[bad] = self._simple(filled[bad], careful=True)
        # Rounded, what is nearly touching may cross; the corners of cells never do.
        bad = _bad(found, filled)
        found[bad] = exact[bad]
        return found

    def _simple(self, shapes: NDArray[np.object_], *, careful: bool) -> NDArray[np.object_]:
        # GEOS lets a ring's first corner stray by as much again.
        tolerance = self.simplify_px / 2
        return self._to_l0(shapely.simplify(shapes, tolerance, preserve_topology=careful))

    def _filled(self, shape: shapely.Polygon) -> shapely.Polygon:
        holes = [ring for ring in shape.interiors if shapely.Polygon(ring).area >= self.least_cells]
        return (
            shape if len(holes) == len(shape.interiors) else shapely.Polygon(shape.exterior, holes)
        )

    def _to_l0(self, shapes: NDArray[np.object_]) -> NDArray[np.object_]:
        cell, origin = self.grid.cell_l0, self.grid.origin_l0
        found: NDArray[np.object_] = shapely.transform(
            shapes, lambda xy: np.round(xy * cell + origin, DECIMALS)
        )
        return found


def _bad(shapes: NDArray[np.object_], like: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Which shapes are not valid, have no area, or have lost a hole."""
    sound = shapely.is_valid(shapes) & (shapely.area(shapes) > 0)
    holes = shapely.get_num_interior_rings(shapes) == shapely.get_num_interior_rings(like)
    bad: NDArray[np.bool_] = ~(sound & holes)
    return bad
