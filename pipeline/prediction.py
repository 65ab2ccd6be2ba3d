"""What a slide was judged to be, and why: the walk of `look`, in numbers for people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from saccade.models.attention_sampling import AttentionSampling
from saccade.pipeline.config import TilesConfig
from saccade.pipeline.look import Look, Subject, look
from saccade.pipeline.reading import TileReader
from saccade.tiling.errors import SlideError
from saccade.tiling.grid import CellGrid
from saccade.tiling.places import Places


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a slide was judged to be, and why.

    Attributes:
        classes: names.
        probabilities: (classes,).
        attention: (grid rows, grid cols), sums to 1; 0 where there is no tissue.
        valid: (grid rows, grid cols), where there is tissue.
        grid: where the cells of attention lie on level 0.
        places: the tiles that were read, in the order of the draw.
        tiles: uint8 (k, side, side, 3).
        features: (k, features) of the tiles.
        weight: (k,) of each tile in the slide's feature; sums to 1.
        evidence: (k, classes): the logits that the tile alone would give, above their mean over
            the classes. What a tile says, whatever attention it got.
    """

    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    attention: NDArray[np.float32]
    valid: NDArray[np.bool_]
    grid: CellGrid
    places: Places
    tiles: NDArray[np.uint8]
    features: NDArray[np.float32]
    weight: NDArray[np.float64]
    evidence: NDArray[np.float64]

    @property
    def predicted(self) -> int:
        """Index of the most probable class."""
        return int(self.probabilities.argmax())

    @property
    def strongest_first(self) -> NDArray[np.intp]:
        """The tiles in the order of their evidence for the predicted class, most first."""
        return np.argsort(-self.evidence[:, self.predicted], kind="stable")


@torch.inference_mode()
def predict_subject(
    model: AttentionSampling,
    subject: Subject,
    classes: tuple[str, ...],
    reader: TileReader,
    tiles: TilesConfig,
    generator: torch.Generator,
) -> Prediction:
    """Look at a slide once and say what was seen.

    Raises:
        SlideError: if its tiles cannot be read.
    """
    (seen,) = look(model, [subject], reader, tiles, [generator])
    if isinstance(seen, SlideError):
        raise seen
    return _prediction(model, subject, classes, seen)


def _prediction(
    model: AttentionSampling, subject: Subject, classes: tuple[str, ...], seen: Look
) -> Prediction:
    evidence = model.evidence(seen.reading.features.double())[0]
    return Prediction(
        classes=classes,
        probabilities=seen.reading.logits[0].double().softmax(dim=0).cpu().numpy(),
        attention=seen.log_attention.exp().float().cpu().numpy(),
        valid=subject.glance.valid,
        grid=subject.glance.grid,
        places=seen.places,
        tiles=seen.tiles,
        features=seen.reading.features[0].float().cpu().numpy(),
        weight=seen.reading.weights[0].double().cpu().numpy(),
        evidence=evidence.cpu().numpy(),
    )
