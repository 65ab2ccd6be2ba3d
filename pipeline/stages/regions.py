"""The regions of a field that stand out: its highest parts, as shapes on the slide."""

from __future__ import annotations

from itertools import pairwise

import contourpy
import numpy as np
import shapely
from numpy.typing import NDArray

from saccade.pipeline.stages.field import Field
from saccade.pipeline.stages.objects import Objects, areas_of

_LEAST_CELLS = 4  # in area; a region of one or two cells is nothing to look at


def top_regions(of: Field, channel: str, *, share: float = 0.05, most: int = 10) -> Objects:
    """The parts of a field that hold its highest values, strongest first.

    A threshold leaves `share` of the valid cells above it. What lies above is cut along contours
    between the centres of cells, and the regions are ordered by their mean over the threshold,
    times their area.

    Args:
        of: the field.
        channel: that is looked at.
        share: of the valid cells that is to lie in regions, all of them together.
        most: how many regions are kept.

    Returns:
        Polygons with the mean of the channel as score, and the measurements `{channel} mean`,
        `{channel} max` and `area mm2`. None where the channel is the same everywhere.

    Raises:
        ValueError: if `share` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}.")
    values = of.channel(channel)
    seen = values[np.isfinite(values)]
    threshold = float(np.quantile(seen, 1 - share)) if seen.size else np.inf
    if not seen.size or seen.max() <= threshold:
        return Objects((), (), np.empty(0), _measured(channel, np.empty((0, 3))))
    shapes, numbers = [], []
    for outline in _above(values, threshold):
        inside = _cells_inside(outline, values)
        if outline.area < _LEAST_CELLS or not len(inside):
            continue
        shapes.append(areas_of(shapely.transform(outline, lambda xy: _to_l0(xy, of))))
        area_mm2 = outline.area * of.mpp[0] * of.mpp[1] / 1e6
        numbers.append((inside.mean(), inside.max(), area_mm2))
    table = np.array(numbers, np.float64).reshape(-1, 3)
    strength = (table[:, 0] - threshold) * table[:, 2]
    found = Objects(
        tuple(shapes), (None,) * len(shapes), table[:, 0], _measured(channel, table), of.provenance
    )
    return found.take(np.argsort(-strength, kind="stable")[:most])


def _measured(channel: str, table: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    names = f"{channel} mean", f"{channel} max", "area mm2"
    return dict(zip(names, table.T, strict=True))


def _above(values: NDArray[np.floating], threshold: float) -> list[shapely.Polygon]:
    """Outlines with holes of what lies above, in cells; a cell's centre is at .5.

    Cells that are not valid, and those beyond the edge, count as the lowest there is.
    """
    low = float(np.nanmin(values))
    padded = np.pad(np.nan_to_num(values, nan=low), 1, constant_values=low)
    rows, cols = (np.arange(length) - 0.5 for length in padded.shape)
    contours = contourpy.contour_generator(
        cols, rows, padded, fill_type=contourpy.FillType.OuterOffset
    )
    polygons = []
    for points, starts in zip(*contours.filled(threshold, np.inf), strict=True):
        rings = [points[a:b] for a, b in pairwise(starts)]
        polygons.append(shapely.Polygon(rings[0], rings[1:]))
    return polygons


def _cells_inside(outline: shapely.Polygon, values: NDArray[np.floating]) -> NDArray[np.floating]:
    """The finite values of the cells whose centres an outline holds."""
    left, top, right, bottom = outline.bounds
    rows = np.arange(max(int(top), 0), min(int(bottom) + 1, values.shape[0]))
    cols = np.arange(max(int(left), 0), min(int(right) + 1, values.shape[1]))
    shapely.prepare(outline)
    x, y = np.meshgrid(cols + 0.5, rows + 0.5)
    near = values[np.ix_(rows, cols)]
    found: NDArray[np.floating] = near[shapely.contains_xy(outline, x, y) & np.isfinite(near)]
    return found


def _to_l0(cells: NDArray[np.float64], of: Field) -> NDArray[np.float64]:
    affine = of.affine_l0
    level_0: NDArray[np.float64] = cells @ affine[:, :2].T + affine[:, 2]
    return level_0
