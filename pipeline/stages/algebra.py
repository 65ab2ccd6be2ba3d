"""Lazy algebra of fields: what comes of fields too large for memory, computed as it is written.

The values of the fields made here are dask arrays, in blocks that are the shards on disk;
`write_field` computes them block by block, threads included. Anything that dask can do may come in
between: `dataclasses.replace(field, values=...)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np

from saccade.pipeline.stages.field import Field
from saccade.tiling.grid import CellGrid

_BLOCK = 1024  # cells, of what has no shards of its own


def lazy(of: Field) -> Field:
    """The same field, its numbers not read before they are wanted, NaN (or 0) where not valid."""
    values, valid = _blocks(of.values), _blocks(of.valid).astype(bool)
    nothing = np.nan if np.issubdtype(values.dtype, np.floating) else 0
    return replace(of, values=da.where(valid, values, values.dtype.type(nothing)), valid=valid)


def coarsened(of: Field, factor: int) -> Field:
    """Means over `factor` x `factor` cells, of those that are valid.

    The last row and column of cells may reach beyond the field; they are means of what is there.

    Raises:
        ValueError: for labels, of which there are no means, or a factor below 1.
    """
    if of.kind == "label" or factor < 1:
        raise ValueError(f"means over {factor} x {factor} cells of {of.kind} are no field.")
    seen = lazy(of)
    spare = [(0, -length % factor) for length in of.grid.shape]
    values = da.pad(seen.values.astype(np.float64), [(0, 0), *spare], constant_values=np.nan)
    block = _BLOCK // factor * factor or factor
    values = values.rechunk({1: block, 2: block})
    counts = da.coarsen(np.sum, da.isfinite(values).astype(np.float64), {1: factor, 2: factor})
    sums = da.coarsen(np.nansum, values, {1: factor, 2: factor})
    means = da.where(counts > 0, sums / da.maximum(counts, 1), np.nan)
    (width, height), (rows, cols) = of.grid.cell_l0, means.shape[1:]
    grid = CellGrid((rows, cols), (width * factor, height * factor), of.grid.origin_l0)
    return replace(
        of, values=means.astype(seen.values.dtype), valid=counts.max(axis=0) > 0, grid=grid
    )


def above(of: Field, thresholds: Sequence[float]) -> Field:
    """Labels, 1 where a channel reaches its threshold, 0 elsewhere and where it is not valid.

    Raises:
        ValueError: if there is not one threshold for each channel.
    """
    if len(thresholds) != len(of.channels):
        raise ValueError(f"{len(thresholds)} thresholds for the channels {of.channels}.")
    seen = lazy(of)
    limits = np.asarray(thresholds, np.float64)[:, None, None]
    return replace(seen, values=(seen.values >= limits).astype(np.uint8), kind="label")


def beside(fields: Sequence[Field]) -> Field:
    """One field with the channels of several over the same cells; valid where all of them are.

    Raises:
        ValueError: if there are none, they lie differently, are of different kinds, or two
            channels have one name.
    """
    names = [name for each in fields for name in each.channels]
    facts = {(each.grid, each.slide_mpp, each.kind) for each in fields}
    if len(facts) != 1 or len(set(names)) != len(names):
        raise ValueError(f"fields of one grid and kind are wanted, got {facts} with {names}.")
    seen = [lazy(each) for each in fields]
    return replace(
        fields[0],
        values=da.concatenate([each.values for each in seen]),
        valid=da.stack([each.valid for each in seen]).all(axis=0),
        channels=tuple(names),
        provenance={"of": [dict(each.provenance) for each in fields]},
    )


def _blocks(array: Any) -> Any:
    """A dask array over shards, or over blocks of about their size."""
    if isinstance(array, da.Array):
        return array
    if isinstance(array, np.ndarray):
        chunks: tuple[int, ...] = (*array.shape[:-2], _BLOCK, _BLOCK)
    else:
        chunks = array.shards
    # Without a name and a sample of it, dask would read the array to find out what it is.
    sample = np.empty((0,) * len(array.shape), array.dtype)
    return da.from_array(array, chunks=chunks, name=False, meta=sample)
