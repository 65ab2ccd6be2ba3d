"""The end of a stage's run: what was written is normalised, block by block, into the field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray

from saccade.pipeline.stages.field import blocks_of
from saccade.pipeline.stages.limit import Limit, Mask
from saccade.pipeline.stages.stage import Stage
from saccade.pipeline.stages.statistics import Statistic
from saccade.pipeline.stages.tile_plan import Window


def finalise(
    stage: Stage,
    values: zarr.Array[Any],
    closing: Statistic | None,
    arrays: tuple[zarr.Array[Any], zarr.Array[Any]],
    judged: Callable[[Window], NDArray[np.bool_]],
    limit: Limit | None,
) -> None:
    """Normalise block by block, and mark what is valid; blocks without a judged cell stay empty."""
    final, valid = arrays
    for block in blocks_of(final):
        if limit is not None and not limit.touches(_in_pixels(block, stage.spec.cell_px)):
            continue
        rows, cols = block.slices
        part = torch.from_numpy(np.asarray(values[:, rows, cols]))
        final[:, rows, cols] = stage.finalise(part, closing).numpy()
        valid[rows, cols] = judged(block).astype(np.uint8)


def judged_cells(
    limit: Limit | None, valid: Mask | None, cell_px: int
) -> Callable[[Window], NDArray[np.bool_]]:
    """Which cells of a window, counted in cells, are judged and mean something."""

    def judged(cells: Window) -> NDArray[np.bool_]:
        px = _in_pixels(cells, cell_px)
        mask = np.ones(cells.shape, bool)
        for each in (limit, valid):
            if each is not None:
                mask &= each.in_cells(px, cell_px)
        return mask

    return judged


def _in_pixels(cells: Window, cell_px: int) -> Window:
    return Window(*(n * cell_px for n in (cells.top, cells.left, cells.bottom, cells.right)))
