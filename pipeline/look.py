"""Attend, draw, read, classify: the walk that training and prediction share.

glance --attend--> log attention --draw--> places --read--> tiles --encode, weigh--> logits

`propose` goes as far as the places and `judge` does what comes after reading, so that other slides
can be read in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.models.attention_sampling import (
    AttentionSampling,
    Reading,
    draw_places,
    mix,
    mix_with_uniform,
)
from saccade.pipeline.augment import Change, turn, turn_back, unchanged
from saccade.pipeline.config import TilesConfig, ViewConfig
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.glance import Glance, Sight, as_batch, glance_at, sight
from saccade.pipeline.reading import SlideRef, TileRequest, Tiles
from saccade.tiling import Slide
from saccade.tiling.errors import SlideError
from saccade.tiling.lattice import Lattice
from saccade.tiling.places import Places, corners_l0
from saccade.tiling.pyramid_view import Pyramid


@dataclass(frozen=True, slots=True)
class Subject:
    """A slide to look at.

    Attributes:
        name: of the slide.
        slide: where it lies.
        glance: how it looks from afar.
        mpp: (x, y) micrometres per pixel of level 0.
        lattice: where its tiles may begin; anywhere if None.
        log_prior: log of a distribution over the grid that says where to explore, -inf where
            there is no tissue; evenly over the tissue if None.
    """

    name: str
    slide: SlideRef
    glance: Glance
    mpp: tuple[float, float]
    lattice: Lattice | None = None
    log_prior: Tensor | None = None

    @classmethod
    def seen(
        cls,
        ref: SlideRef,
        slide: Slide,
        pyramid: Pyramid,
        *,
        view: ViewConfig,
        tiles: TilesConfig,
        stride: int,
        name: str | None = None,
    ) -> Subject:
        """Glance at a slide.

        Args:
            ref: where it lies.
            slide: itself, open.
            pyramid: of it.
            view: how it is seen from afar.
            tiles: that may be read of it.
            stride: view pixels per place of attention.
            name: of the slide; its file's name if not given.

        Raises:
            NoTissueError: if there is nowhere to look.
        """
        name = name or slide.name
        glance = glance_at(pyramid, view, stride=stride, name=name)
        lattice = slide.lattice_for(tiles.size_px, tiles.mpp, tiles.snap)
        return cls(name, ref, glance, slide.mpp, lattice)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Places drawn from each slide of a batch, to be read and then judged.

    Attributes:
        subjects: the slides.
        log_attention: of each slide, (grid rows, grid cols).
        log_proposal: of each slide, what its places were drawn from; the attention itself, or a
            mixture of it.
        places: of each slide, in the order of the draw.
        changes: how each slide is shown.
    """

    subjects: Sequence[Subject]
    log_attention: Sequence[Tensor]
    log_proposal: Sequence[Tensor]
    places: Sequence[Places]
    changes: Sequence[Change]

    @property
    def requests(self) -> list[TileRequest]:
        """The tiles to read."""
        return [
            TileRequest(subject.slide, drawn.corners_l0)
            for subject, drawn in zip(self.subjects, self.places, strict=True)
        ]


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


def propose(
    model: AttentionSampling,
    subjects: Sequence[Subject],
    config: TilesConfig,
    generators: Sequence[torch.Generator],
    changes: Sequence[Change] | None = None,
    *,
    explore: float = 0.0,
) -> Proposal:
    """Attend to slides and draw their places.

    Args:
        model: the networks; gradients flow if they are enabled.
        subjects: the slides; sizes may differ.
        config: how many tiles, and how large. A slide with fewer places gives those it has.
        generators: one CPU generator a slide, so that no draw depends on another slide.
        changes: how each slide is shown; as it is if None.
        explore: share of the proposal that goes where the slides' priors say, whatever the
            attention; `judge` weighs places so that the outcome is, in expectation, the same.

    Raises:
        DivergedError: if the attention of the model is not a number.
    """
    changes = unchanged(subjects) if changes is None else changes
    maps = attend(model, subjects, next(model.parameters()).device, changes)
    proposals = [
        exploring(each, subject, explore) for each, subject in zip(maps, subjects, strict=True)
    ]
    places = [
        draw(log_proposal, subject, config, generator)
        for log_proposal, subject, generator in zip(proposals, subjects, generators, strict=True)
    ]
    return Proposal(subjects, maps, proposals, places, changes)


def exploring(log_attention: Tensor, subject: Subject, share: float) -> Tensor:
    """Log of the attention mixed with where the slide's prior says to explore, (rows, cols).

    The attention itself where the share is 0.
    """
    if share == 0:
        return log_attention
    attention = log_attention.detach()[None]
    if subject.log_prior is None:
        return mix_with_uniform(attention, share)[0]
    return mix(attention, subject.log_prior.to(attention)[None], share)[0]


def judge(
    model: AttentionSampling,
    proposal: Proposal,
    tiles: Sequence[Tiles],
    *,
    anew: bool = False,
) -> list[Look | SlideError]:
    """Judge slides by their tiles, shown as the views were; one without costs nobody else.

    Args:
        model: the networks; gradients flow if they are enabled.
        proposal: the places.
        tiles: of each slide, in the order of the draw, or why there are none.
        anew: attend again, because the model has changed since the places were drawn. They then
            weigh what makes their sum, in expectation, the mean over all places by the attention
            as it is now.
    """
    device = next(model.parameters()).device
    maps = proposal.log_attention
    if anew:
        maps = attend(model, proposal.subjects, device, proposal.changes)
    features = iter(_encode(model, tiles, proposal.changes, device))
    looks: list[Look | SlideError] = []
    for i, (found, places) in enumerate(zip(tiles, proposal.places, strict=True)):
        if isinstance(found, SlideError):
            looks.append(found)
            continue
        drawn_from = proposal.log_proposal[i]
        log_proposal = None if drawn_from is maps[i] else at_places(drawn_from, places)
        reading = model.weigh(next(features)[None], at_places(maps[i], places), log_proposal)
        looks.append(Look(maps[i], places, found, reading))
    return looks


def _encode(
    model: AttentionSampling,
    tiles: Sequence[Tiles],
    changes: Sequence[Change],
    device: torch.device,
) -> list[Tensor]:
    """Features of the slides that were read; all in one pass, so that batch norm sees them all."""
    batches = [
        change.of_tiles(torch.from_numpy(found).to(device).permute(0, 3, 1, 2))
        for found, change in zip(tiles, changes, strict=True)
        if not isinstance(found, SlideError)
    ]
    if not batches:
        return []
    (features,) = model.encode(torch.cat(batches)[None])
    return list(features.split([len(batch) for batch in batches]))


def at_places(log_attention: Tensor, places: Places) -> Tensor:
    """Log attention of the drawn cells, (1, k)."""
    cells = torch.tensor(places.cells).to(log_attention.device)
    return log_attention.flatten()[cells][None]


def attend(
    model: AttentionSampling,
    subjects: Sequence[Subject],
    device: torch.device,
    changes: Sequence[Change] | None = None,
) -> list[Tensor]:
    """Log attention of each slide over its own grid, (grid rows, grid cols), in its own frame.

    Args:
        model: the networks.
        subjects: the slides.
        device: that the model is on.
        changes: how each slide is shown; as it is if None.
    """
    changes = unchanged(subjects) if changes is None else changes
    stride = model.attention.stride
    seen = [
        Sight(*(turn(each, change.symmetry) for each in sight(subject.glance, stride=stride)))
        for subject, change in zip(subjects, changes, strict=True)
    ]
    views, tissue = as_batch(seen, device)
    views = torch.stack([change.of_view(view) for change, view in zip(changes, views, strict=True)])
    padded = model.attention.grid_shape(*tissue.shape[1:])
    maps = model.attend(views, tissue).view(-1, *padded)
    return [
        turn_back(whole[: rows // stride, : cols // stride], change.symmetry)
        for whole, (rows, cols), change in zip(
            maps, (each.tissue.shape for each in seen), changes, strict=True
        )
    ]


def draw(
    log_proposal: Tensor, subject: Subject, config: TilesConfig, generator: torch.Generator
) -> Places:
    """Draw a slide's tiles without replacement, in the order of the draw."""
    cells = draw_cells(log_proposal, subject, config.per_slide, generator)
    return place_cells(log_proposal, subject, config, cells)


def draw_cells(
    log_proposal: Tensor, subject: Subject, k: int, generator: torch.Generator
) -> NDArray[np.int64]:
    """Draw `k` cells without replacement, in the order of the draw; all if there are fewer."""
    flat = log_proposal.detach().flatten().cpu()
    k = min(k, places_offered(flat, subject.name))
    return draw_places(flat[None], k, generator=generator)[0].numpy()


def places_offered(log_attention: Tensor, name: str) -> int:
    """Number of places that a slide offers.

    Raises:
        DivergedError: if its attention is not a number.
    """
    offered = int(log_attention.isfinite().sum())
    if log_attention.isnan().any() or not offered:
        raise DivergedError(
            f"{name}: the attention of the model is not a number. Its training diverged: "
            "train again with a lower training.learning_rate."
        )
    return offered


def place_cells(
    log_probs: Tensor, subject: Subject, config: TilesConfig, cells: NDArray[np.int64]
) -> Places:
    """Centre a tile on each of these cells, whose probabilities are those of `log_probs`."""
    side_l0 = (
        config.size_px * config.mpp / subject.mpp[0],
        config.size_px * config.mpp / subject.mpp[1],
    )
    corners = corners_l0(subject.glance.grid.centres_l0(cells), side_l0)
    return Places(
        corners_l0=corners if subject.lattice is None else subject.lattice.snap(corners),
        side_px=config.size_px,
        mpp=config.mpp,
        side_l0=side_l0,
        cells=cells,
        probability=log_probs.detach().flatten().cpu().double().exp().numpy()[cells],
    )
