"""What a slide was judged to be, and why: the walk of `look`, in numbers for people."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from saccade.models.attention_sampling import AttentionSampling
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.gaze import Ended, Gaze, Gazer
from saccade.pipeline.look import Subject, attend, exploring
from saccade.pipeline.model_file import ModelCard
from saccade.pipeline.options import PredictOptions
from saccade.pipeline.reading import TileReader
from saccade.pipeline.tasks.task import Task
from saccade.tiling.cuts import Cuts
from saccade.tiling.grid import CellGrid
from saccade.tiling.places import Places

_PIECE = 256  # tiles that are asked at once where the encoder looked


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a slide was judged to be, and why.

    Attributes:
        task: what the model's outputs mean.
        read: (outputs,), what people read: probabilities, a value, a log risk.
        intervals: (outputs, 2), from and to: where `read` by all tiles of the slide is in 95 of
            100 draws. None where the most attended tiles were read.
        draws: how many; 0 where the most attended tiles were read.
        ended: why no more tiles were read; None if their number was fixed beforehand.
        sure: whether another draw would hardly name another class, or other labels.
        attention: (grid rows, grid cols), sums to 1; 0 where there is no tissue.
        valid: (grid rows, grid cols), where there is tissue.
        grid: where the cells of attention lie on level 0.
        places: the tiles that were read, each once, in the order of the draw.
        tiles: uint8 (k, side, side, 3).
        features: (k, features) of the tiles.
        weight: (k,) of each tile in the slide's feature, mean over the draws; sums to 1, in
            expectation only where tiles were drawn from more than the attention.
        evidence: (k, outputs): what a tile says, whatever attention it got, as the task has it.
        cuts: where in each tile the encoder looked; None if it looks at all of it.
    """

    task: Task
    read: NDArray[np.float64]
    intervals: NDArray[np.float64] | None
    draws: int
    ended: Ended | None
    sure: bool
    attention: NDArray[np.float32]
    valid: NDArray[np.bool_]
    grid: CellGrid
    places: Places
    tiles: NDArray[np.uint8]
    features: NDArray[np.float32]
    weight: NDArray[np.float64]
    evidence: NDArray[np.float64]
    cuts: Cuts | None = None

    @property
    def leading(self) -> int:
        """The output whose evidence ranks the tiles: the most probable class."""
        return self.task.leading(self.read)

    @property
    def mode(self) -> str:
        """How the tiles were chosen."""
        if self.draws == 0:
            return "top"
        return "drawn" if self.ended is None else "until sure"

    @property
    def strongest_first(self) -> NDArray[np.intp]:
        """The tiles in the order of their evidence for the leading output, most first."""
        return np.argsort(-self.evidence[:, self.leading], kind="stable")


@torch.inference_mode()
def predict_subject(
    model: AttentionSampling,
    card: ModelCard,
    subject: Subject,
    reader: TileReader,
    options: PredictOptions,
) -> Prediction:
    """Look at a slide as the options say, and say what was seen.

    Raises:
        DivergedError: if the attention of the model, or where its encoder looks, is not a number.
        SlideError: if its tiles cannot be read.
    """
    (log_attention,) = attend(model, [subject], next(model.parameters()).device)
    gazer = Gazer(
        model,
        subject,
        log_attention,
        exploring(log_attention, subject, options.share_explored),
        reader,
        card.tiles,
        card.temperature,
        card.task,
    )
    return _prediction(gazer, _look(gazer, options))


def _look(gazer: Gazer, options: PredictOptions) -> Gaze:
    if options.until_sure is not None:
        return gazer.until_sure(options.seed, options.until_sure, options.tiles)
    if options.tiles is not None:
        gazer = replace(gazer, config=replace(gazer.config, per_slide=options.tiles))
    if options.top:
        return gazer.most_attended()
    return gazer.drawn(options.seed, options.repeats)


def _prediction(gazer: Gazer, seen: Gaze) -> Prediction:
    evidence = gazer.task.evidence(gazer.model.evidence(seen.features[None].double())[0])
    by_chance = seen.draws > 0 or len(seen.places) == gazer.offered
    return Prediction(
        task=gazer.task,
        read=gazer.task.activate(seen.outcome.outputs).cpu().numpy(),
        intervals=seen.outcome.intervals(seen.miss) if by_chance else None,
        draws=seen.draws,
        ended=seen.ended,
        sure=seen.ended == "sure" or seen.outcome.is_sure(miss=seen.miss),
        attention=gazer.log_attention.exp().float().cpu().numpy(),
        valid=gazer.subject.glance.valid,
        grid=gazer.subject.glance.grid,
        places=seen.places,
        tiles=seen.tiles,
        features=seen.features.float().cpu().numpy(),
        weight=seen.weight.cpu().numpy(),
        evidence=evidence.cpu().numpy(),
        cuts=_cuts(gazer, seen),
    )


def _cuts(gazer: Gazer, seen: Gaze) -> Cuts | None:
    """Where in each tile the encoder looked."""
    model = gazer.model
    if model.encoder.transformer is None:
        return None
    device = next(model.parameters()).device
    tiles = torch.from_numpy(seen.tiles).permute(0, 3, 1, 2)
    maps = [model.encoder.where(piece.to(device)) for piece in torch.split(tiles, _PIECE)]
    where = torch.cat([each for each in maps if each is not None])
    if not where.isfinite().all():
        raise DivergedError(
            f"{gazer.subject.name}: where the spatial transformer looks is not a number. Its "
            "training diverged: train again with a lower training.learning_rate."
        )
    return Cuts(seen.places, where.double().cpu().numpy())
