"""One glance at a slide: its view, and the places of the view where there is tissue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from numpy.typing import NDArray
from torch import Tensor

from saccade.pipeline.config import ViewConfig
from saccade.pipeline.stages.limit import blocks_with_any
from saccade.tiling.errors import NoTissueError
from saccade.tiling.grid import CellGrid
from saccade.tiling.pyramid_view import Pyramid, View


@dataclass(frozen=True, slots=True)
class Glance:
    """What the attention network sees of one slide.

    Attributes:
        pixels: uint8 (rows, cols, 3) view of the whole slide.
        tissue: bool (rows, cols), the pixels that are worth looking at.
        grid: the places of attention on level 0; each holds `stride` x `stride` pixels.
        valid: bool, of the grid's shape: the places that hold any such pixel.
    """

    pixels: NDArray[np.uint8]
    tissue: NDArray[np.bool_]
    grid: CellGrid
    valid: NDArray[np.bool_]


class Sight(NamedTuple):
    """What is handed to the attention network of one slide.

    Attributes:
        pixels: uint8 (3, rows, cols).
        tissue: bool (rows, cols).
    """

    pixels: Tensor
    tissue: Tensor


def glance_at(pyramid: Pyramid, view: ViewConfig, *, stride: int, name: str) -> Glance:
    """Look at the whole slide at `view.mpp`.

    Args:
        pyramid: of the slide.
        view: scale, and how much of a pixel must be tissue.
        stride: pixels per place of attention, along each axis.
        name: of the slide, for messages.

    Raises:
        NoTissueError: if no pixel has enough tissue.
    """
    seen = pyramid.view(view.mpp)
    tissue = tissue_of(seen, view.min_tissue, name)
    cell = (seen.grid.cell_l0[0] * stride, seen.grid.cell_l0[1] * stride)
    valid = blocks_with_any(tissue, stride)
    rows, cols = valid.shape
    return Glance(seen.pixels, tissue, CellGrid(shape=(rows, cols), cell_l0=cell), valid)


def tissue_of(seen: View, least: float, name: str) -> NDArray[np.bool_]:
    """The pixels of a view that hold at least so much tissue, bool (rows, cols).

    Args:
        seen: the view.
        least: share of a pixel.
        name: of the slide, for messages.

    Raises:
        NoTissueError: if no pixel has enough tissue.
    """
    tissue = seen.tissue >= least
    if not tissue.any():
        raise NoTissueError(
            f"{name}: no tissue was found, so there is nothing to look at (wanted some place with "
            f"at least {least:.0%} tissue, found at most {seen.tissue.max():.1%}). Look "
            "at labels/tissue of its pyramid.zarr; if it misses tissue, lower view.min_tissue."
        )
    return tissue


def sight(glance: Glance, *, stride: int) -> Sight:
    """A glance as tensors, filled up at the right and the bottom to whole places of attention.

    Whole places stay the same places when the view is turned or mirrored.
    """
    rows, cols = glance.valid.shape
    height, width = glance.tissue.shape
    filled = (0, cols * stride - width, 0, rows * stride - height)
    pixels = torch.from_numpy(glance.pixels).permute(2, 0, 1)
    return Sight(F.pad(pixels, filled), F.pad(torch.from_numpy(glance.tissue), filled))


def as_batch(sights: Sequence[Sight], device: torch.device) -> tuple[Tensor, Tensor]:
    """Put views of different sizes side by side, padded at the right and the bottom.

    Returns:
        views, uint8 (images, 3, rows, cols), and tissue, bool (images, rows, cols), False where
        padded.
    """
    rows, cols = (max(each.tissue.shape[axis] for each in sights) for axis in (0, 1))
    views = torch.zeros(len(sights), 3, rows, cols, dtype=torch.uint8)
    tissue = torch.zeros(len(sights), rows, cols, dtype=torch.bool)
    for view, mask, seen in zip(views, tissue, sights, strict=True):
        height, width = seen.tissue.shape
        view[:, :height, :width] = seen.pixels
        mask[:height, :width] = seen.tissue
    return views.to(device), tissue.to(device)
