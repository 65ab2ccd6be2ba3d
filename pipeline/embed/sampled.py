"""The tiles that a trained model draws from its attention, for whatever network is to see them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from saccade.pipeline.config import TilesConfig
from saccade.pipeline.look import Subject, attend, draw
from saccade.pipeline.model_file import load_model
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.seeds import generator_for
from saccade.tiling import Slide
from saccade.tiling.places import Places
from saccade.tiling.pyramid_view import Pyramid


@torch.inference_mode()
def sampled_tiles(
    sampler: Path,
    slide_ref: SlideRef,
    slide: Slide,
    pyramid: Pyramid,
    tiles: TilesConfig,
    *,
    count: int | None,
    seed: int,
    device: str,
) -> Places:
    """Draw tiles as a prediction with this seed does, in the order of the draw.

    Args:
        sampler: model file whose attention is drawn from.
        slide_ref: the slide.
        slide: itself, open.
        pyramid: of the slide.
        tiles: their size and scale, which need not be the sampler's.
        count: how many; as many as the sampler was trained with if None.
        seed: of the draw.
        device: cpu, cuda, cuda:1.

    Raises:
        NoTissueError: if there is nowhere to look.
        ModelFileError: if the sampler cannot be read.
    """
    model, card = load_model(sampler, device)
    stride = model.attention.stride
    subject = Subject.seen(slide_ref, slide, pyramid, view=card.view, tiles=tiles, stride=stride)
    (log_attention,) = attend(model, [subject], torch.device(device))
    wanted = replace(tiles, per_slide=count or card.tiles.per_slide)
    return draw(log_attention, subject, wanted, generator_for("predict", seed))
