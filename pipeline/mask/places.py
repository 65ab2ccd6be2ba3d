"""The tiles whose masks are made: those of a draw, or all that hold tissue."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from saccade.models.attention_sampling import AttentionSampling
from saccade.pipeline.look import Subject, attend, draw
from saccade.pipeline.mask.options import MaskOptions
from saccade.pipeline.model_file import ModelCard
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.seeds import generator_for
from saccade.tiling import Slide
from saccade.tiling.places import Places
from saccade.tiling.pyramid_view import Pyramid
from saccade.tiling.tissue_tiles import tissue_tiles


@torch.inference_mode()
def places_of(
    model: AttentionSampling,
    card: ModelCard,
    slide_ref: SlideRef,
    slide: Slide,
    pyramid: Pyramid,
    options: MaskOptions,
) -> Places:
    """The tiles, with their attention: as a prediction draws them, or row by row.

    Raises:
        NoTissueError: if there is nowhere to look.
        DivergedError: if the attention of the model is not a number.
    """
    wanted = card.tiles
    stride = model.attention.stride
    subject = Subject.seen(slide_ref, slide, pyramid, view=card.view, tiles=wanted, stride=stride)
    (log_attention,) = attend(model, [subject], next(model.parameters()).device)
    if options.all_tissue:
        return _with_tissue(card, slide, pyramid, subject, log_attention, options.min_tissue)
    drawn = replace(wanted, per_slide=options.tiles or wanted.per_slide)
    return draw(log_attention, subject, drawn, generator_for("predict", options.seed))


def _with_tissue(
    card: ModelCard,
    slide: Slide,
    pyramid: Pyramid,
    subject: Subject,
    log_attention: Tensor,
    least: float,
) -> Places:
    """All tiles with tissue, each with the attention of the cell that its centre lies in."""
    found = tissue_tiles(
        slide, pyramid, side_px=card.tiles.size_px, mpp=card.tiles.mpp, least=least
    )
    grid = subject.glance.grid
    centres = found.corners_l0 + np.array(found.side_l0) / 2 - np.array(grid.origin_l0)
    most = np.array(grid.shape[::-1]) - 1  # a tile that overhangs the slide has its centre there
    cols, rows = np.clip((centres / np.array(grid.cell_l0)).astype(np.int64), 0, most).T
    cells = rows * grid.shape[1] + cols
    attention = log_attention.flatten().double().exp().cpu().numpy()
    return Places(
        corners_l0=found.corners_l0,
        side_px=found.side_px,
        mpp=found.mpp,
        side_l0=found.side_l0,
        cells=cells,
        probability=attention[cells],
    )
