"""Attend, draw, read, classify: the walk that training and prediction share.

glance --attend--> log attention --draw--> places --read--> tiles --classify--> logits
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.models.attention_sampling import AttentionSampling, Reading, draw_places
from saccade.pipeline.config import TilesConfig
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.glance import Glance, as_batch
from saccade.pipeline.reading import SlideRef, TileReader, TileRequest
from saccade.tiling.errors import SlideError
from saccade.tiling.places import Places, corners_l0

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, slots=True)
class Subject:
    """A slide to look at: where it lies, how it looks from afar, and its (x, y) mpp."""

    name: str
    slide: SlideRef
    glance: Glance
    mpp: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Look:
    """What came of looking at one slide.

    Attributes:
        log_attention: (grid rows, grid cols), -inf where there is no tissue.
        places: the tiles that were read, in the order of the draw.
        tiles: uint8 (k, side, side, 3).
        reading: logits (1, classes), weights (1, k), features (1, k, features).
    """

    log_attention: Tensor
    places: Places
    tiles: NDArray[np.uint8]
    reading: Reading


def look(
    model: AttentionSampling,
    subjects: Sequence[Subject],
    reader: TileReader,
    config: TilesConfig,
    generators: Sequence[torch.Generator],
    *,
    augment: Augment | None = None,
) -> list[Look | SlideError]:
    """Look at several slides; one that cannot be read gives its error and costs nobody else.

    Args:
        model: the networks; gradients flow if they are enabled.
        subjects: the slides; sizes may differ.
        reader: of tiles of `config`.
        config: how many tiles, and how large. A slide with fewer places gives those it has.
        generators: one CPU generator a slide, so that no draw depends on another slide.
        augment: changes tiles, uint8 (k, 3, side, side), at random.
    """
    device = next(model.parameters()).device
    maps = attend(model, subjects, device)
    places = [
        draw(log_attention, subject, config, generator)
        for log_attention, subject, generator in zip(maps, subjects, generators, strict=True)
    ]
    requests = [
        TileRequest(subject.slide, drawn.corners_l0)
        for subject, drawn in zip(subjects, places, strict=True)
    ]
    tiles = reader.read(requests)
    features = iter(_encode(model, tiles, generators, augment, device))
    return [
        found
        if isinstance(found, SlideError)
        else Look(
            log_attention, drawn, found, _classify(model, log_attention, drawn, next(features))
        )
        for log_attention, drawn, found in zip(maps, places, tiles, strict=True)
    ]


def _encode(
    model: AttentionSampling,
    tiles: Sequence[NDArray[np.uint8] | SlideError],
    generators: Sequence[torch.Generator],
    augment: Augment | None,
    device: torch.device,
) -> list[Tensor]:
    """Features of the slides that were read; all in one pass, so that batch norm sees them all."""
    batches = []
    for found, generator in zip(tiles, generators, strict=True):
        if not isinstance(found, SlideError):
            batch = torch.from_numpy(found).permute(0, 3, 1, 2)
            batches.append(batch if augment is None else augment(batch, generator))
    if not batches:
        return []
    (features,) = model.encode(torch.cat(batches)[None].to(device))
    return list(features.split([len(batch) for batch in batches]))


def _classify(
    model: AttentionSampling, log_attention: Tensor, places: Places, features: Tensor
) -> Reading:
    cells = torch.tensor(places.cells).to(log_attention.device)
    return model.weigh(features[None], log_attention.flatten()[cells][None])


def attend(
    model: AttentionSampling, subjects: Sequence[Subject], device: torch.device
) -> list[Tensor]:
    """Log attention of each slide over its own grid, (grid rows, grid cols)."""
    views, tissue = as_batch([subject.glance for subject in subjects], device)
    padded = model.attention.grid_shape(*tissue.shape[1:])
    maps = model.attend(views, tissue).view(-1, *padded)
    shapes = [subject.glance.grid.shape for subject in subjects]
    return [whole[:rows, :cols] for whole, (rows, cols) in zip(maps, shapes, strict=True)]


def draw(
    log_attention: Tensor, subject: Subject, config: TilesConfig, generator: torch.Generator
) -> Places:
    """Draw a slide's tiles from its attention, without replacement, in the order of the draw."""
    flat = log_attention.detach().flatten().cpu()
    offered = int(flat.isfinite().sum())
    if flat.isnan().any() or not offered:
        raise DivergedError(
            f"{subject.name}: the attention of the model is not a number. Its training diverged: "
            "train again with a lower training.learning_rate."
        )
    k = min(config.per_slide, offered)
    cells = draw_places(flat[None], k, generator=generator)[0].numpy()
    side_l0 = (
        config.size_px * config.mpp / subject.mpp[0],
        config.size_px * config.mpp / subject.mpp[1],
    )
    return Places(
        corners_l0=corners_l0(subject.glance.grid.centres_l0(cells), side_l0),
        side_px=config.size_px,
        mpp=config.mpp,
        side_l0=side_l0,
        cells=cells,
        probability=flat.double().exp().numpy()[cells],
    )
