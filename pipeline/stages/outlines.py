"""Outlines of labelled cells as polygons, exactly along the edges of the cells.

Each edge between a cell and a neighbour with another label is walked with the cell on its right.
Where two cells of a label meet at a corner only, the walk stays with its own cell, so that what is
outlined hangs together by edges. A walk that comes by a corner twice is cut there, which leaves
one ring around all, and rings around holes: polygons that are valid as they are.

No paper: our own. Walks are put in order by pointer doubling, so that nothing is done cell by cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import numpy as np
import shapely
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

# Edges of a cell as a walk clockwise meets them, (row, col): from its corner, the way the walk
# goes, and the side that lies beyond the edge.
_CORNER = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])  # top, right, bottom, left
_AHEAD = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
_BEYOND = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])


def outlines(labels: NDArray[np.integer]) -> tuple[Numbers, NDArray[np.object_]]:
    """The area of each label, as a polygon whose area is the number of its cells.

    Args:
        labels: (rows, cols); 0 is nothing.

    Returns:
        Labels (n,), rising, and their shapes (n,): coordinates are (column, row) of the cells'
        corners. A polygon with its holes, or a multi-polygon for cells that no edges hold together.

    >>> _, (square,) = outlines(np.array([[0, 0, 0], [0, 5, 5]]))
    >>> square.wkt
    'POLYGON ((1 1, 3 1, 3 2, 1 2, 1 1))'
    """
    corners, ring = _walks(labels)
    if not len(corners):
        return np.empty(0, np.int64), np.empty(0, object)
    corners, ring = _cut_where_they_touch(corners, ring)
    starts = np.flatnonzero(np.r_[True, ring[1:] != ring[:-1]])
    number = np.cumsum(np.r_[False, ring[1:] != ring[:-1]])
    # A ring around cells runs clockwise on the screen, one around a hole the other way.
    hole = _signed_areas(corners[:, :2], starts) < 0
    of = corners[starts, 2]
    rings = shapely.linearrings(corners[:, :2].astype(np.float64), indices=number)
    order = np.lexsort((hole, of))
    return _assembled(rings[order], hole[order], of[order])


def _walks(labels: NDArray[np.integer]) -> tuple[Numbers, Numbers]:
    """Corners (n, 3) of all rings, (column, row, label), ring after ring; and each one's ring."""
    padded = np.pad(np.asarray(labels, np.int64), 1)
    edges, following = _edges(padded)
    if not len(edges):
        return np.empty((0, 3), np.int64), np.empty(0, np.int64)
    ring, place = _in_order(following)
    order = np.lexsort((place, ring))
    side, cell = np.divmod(edges[order], padded.size)
    ring = ring[order]
    # A corner is where the walk turns: the edge before has another side.
    first = np.flatnonzero(np.r_[True, ring[1:] != ring[:-1]])
    before = np.arange(-1, len(order) - 1)
    before[first] = np.r_[first[1:], len(order)] - 1
    turns = side != side[before]
    row, col = np.divmod(cell[turns], padded.shape[1])
    down, right = _CORNER[side[turns]].T
    corners = np.stack([col + right - 1, row + down - 1, padded.flat[cell[turns]]], axis=1)
    return corners, ring[turns]


def _edges(padded: Numbers) -> tuple[Numbers, Numbers]:
    """All edges, `side * cells + cell`, rising; and for each, the place of the one that follows."""
    cols, size, flat = padded.shape[1], padded.size, padded.ravel()
    edges, following = [], []
    inside = np.flatnonzero(flat)
    for side in range(4):
        ahead, beyond = (int(step @ (cols, 1)) for step in (_AHEAD[side], _BEYOND[side]))
        cell = inside[flat[inside] != flat[inside + beyond]]
        goes_on = flat[cell + ahead] == flat[cell]
        turns_out = goes_on & (flat[cell + ahead + beyond] == flat[cell])
        edges.append(side * size + cell)
        following.append(
            np.where(
                turns_out,
                (side - 1) % 4 * size + cell + ahead + beyond,
                np.where(goes_on, side * size + cell + ahead, (side + 1) % 4 * size + cell),
            )
        )
    known = np.concatenate(edges)
    return known, np.searchsorted(known, np.concatenate(following))


def _in_order(following: Numbers) -> tuple[Numbers, Numbers]:
    """For each edge its ring, named by the ring's first edge, and its place behind that."""
    ring, jump = np.arange(len(following)), following
    while True:
        least = np.minimum(ring, ring[jump])
        if np.array_equal(least, ring):
            break
        ring, jump = least, jump[jump]
    edges = np.arange(len(following))
    is_first = ring == edges
    # Steps to the first edge, where each walk is made to end.
    steps, jump = (~is_first).astype(np.int64), np.where(is_first, edges, following)
    while not is_first[jump].all():
        steps, jump = steps + steps[jump], jump[jump]
    return ring, np.where(is_first, 0, len(following) - steps)


def _cut_where_they_touch(corners: Numbers, ring: Numbers) -> tuple[Numbers, Numbers]:
    """The same rings, whose names rise; those that come by a corner twice as several."""
    width = int(corners[:, 0].max()) + 1
    place = corners[:, 1] * width + corners[:, 0]
    order = np.lexsort((place, ring))
    twice = (np.diff(place[order]) == 0) & (np.diff(ring[order]) == 0)
    touching = np.unique(ring[order[1:]][twice])
    if not len(touching):
        return corners, ring
    whole = ~np.isin(ring, touching)
    parts, names, next_name = [corners[whole]], [ring[whole]], int(ring.max()) + 1
    starts, stops = (np.searchsorted(ring, touching, side=side) for side in ("left", "right"))
    for start, stop in zip(starts, stops, strict=True):
        for loop in _loops(corners[start:stop]):
            parts.append(loop)
            names.append(np.full(len(loop), next_name))
            next_name += 1
    return np.concatenate(parts), np.concatenate(names)


def _loops(corners: Numbers) -> Iterator[Numbers]:
    """The simple loops that a walk consists of."""
    walked: list[int] = []
    at: dict[tuple[int, int], int] = {}
    for i, (x, y) in enumerate(corners[:, :2].tolist()):
        if (x, y) in at:
            start = at[x, y]
            yield corners[walked[start:]]
            for gone in walked[start:]:
                del at[corners[gone, 0], corners[gone, 1]]
            del walked[start:]
        at[x, y] = len(walked)
        walked.append(i)
    yield corners[walked]


def _signed_areas(points: Numbers, starts: Numbers) -> Numbers:
    """Twice the area of each ring, positive if it runs clockwise on the screen."""
    ends = np.r_[starts[1:], len(points)] - 1
    after = np.arange(1, len(points) + 1)
    after[ends] = starts
    x, y = points.T
    areas: Numbers = np.add.reduceat(x * y[after] - x[after] * y, starts)
    return areas


def _assembled(
    rings: NDArray[np.object_], hole: NDArray[np.bool_], of: Numbers
) -> tuple[Numbers, NDArray[np.object_]]:
    """One shape for each label, of rings in the order of labels, those around cells first."""
    labels, number, count = np.unique(of, return_inverse=True, return_counts=True)
    stop = np.cumsum(count)
    several = np.bincount(number, ~hole) > 1
    simple = ~several[number]
    shapes = np.empty(len(labels), object)
    if simple.any():
        _, group = np.unique(number[simple], return_inverse=True)
        shapes[~several] = shapely.polygons(rings[simple], indices=group)
    for label in np.flatnonzero(several):
        some = slice(stop[label] - count[label], stop[label])
        # No ring crosses another: what an odd number of them surround is the area.
        shapes[label] = reduce(shapely.symmetric_difference, shapely.polygons(rings[some]))
    return labels, shapes
