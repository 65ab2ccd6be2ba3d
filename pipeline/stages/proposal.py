"""A field as a proposal: where the attention sampler is to draw its tiles from."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from saccade.pipeline.errors import RegionError
from saccade.pipeline.stages.field import Field
from saccade.tiling.grid import CellGrid


def field_on_grid(of: Field, grid: CellGrid, *, channel: str | None = None) -> NDArray[np.float64]:
    """The log of a field's distribution over the cells of another grid.

    The field is a density: each of its valid cells gives its value, times the area that it shares
    with a cell of the grid, to that cell. Nothing is lost or counted twice where the grids do not
    match; what lies beyond the grid is left out.

    Args:
        of: a field that is not negative; cells that are not valid count as 0.
        grid: the cells, as of a glance.
        channel: of the field; its only one if None.

    Returns:
        (rows, cols) of the grid; `exp` sums to 1, minus infinity where the field has nothing.

    Raises:
        RegionError: if the field has nothing but zeros where the grid lies.
        ValueError: if it is negative somewhere, or the channel is not said though it has several.
    """
    if channel is None and len(of.channels) > 1:
        raise ValueError(f"the field has {len(of.channels)} channels, say which: {of.channels}.")
    values = np.nan_to_num(of.channel(channel or of.channels[0]).astype(np.float64), nan=0.0)
    if values.min() < 0:
        raise ValueError(f"a proposal may not be negative; the field goes down to {values.min()}.")
    down, across = (_shared(of.grid, grid, axis) for axis in (1, 0))
    mass = down @ (across @ values.T).T
    total = float(mass.sum())
    if not 0 < total < math.inf:
        raise RegionError(
            f"a field of {of.provenance.get('stage', of.kind)} has nothing where tiles could be "
            "drawn: is it of this slide, and valid on its tissue?"
        )
    with np.errstate(divide="ignore"):
        log_share: NDArray[np.float64] = np.log(mass / total)
    return log_share


def _shared(of: CellGrid, grid: CellGrid, axis: int) -> sparse.csr_array:
    """Length in level-0 pixels that each cell of `grid` shares with each of `of`, along x or y."""
    theirs, ours = _edges(of, axis), _edges(grid, axis)
    rows, cols, lengths = [], [], []
    for i, (start, stop) in enumerate(pairwise(ours)):
        first = max(int(np.searchsorted(theirs, start, side="right")) - 1, 0)
        last = min(int(np.searchsorted(theirs, stop, side="left")), len(theirs) - 1)
        for j in range(first, last):
            rows.append(i)
            cols.append(j)
            lengths.append(max(min(stop, theirs[j + 1]) - max(start, theirs[j]), 0.0))
    return sparse.csr_array((lengths, (rows, cols)), shape=(len(ours) - 1, len(theirs) - 1))


def _edges(grid: CellGrid, axis: int) -> NDArray[np.float64]:
    count = grid.shape[1 - axis]
    return np.asarray(grid.origin_l0[axis] + grid.cell_l0[axis] * np.arange(count + 1), np.float64)
