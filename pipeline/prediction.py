"""What a slide was judged to be, and why: the walk of `look`, in numbers for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.models.attention_sampling import AttentionSampling
from saccade.pipeline.config import TilesConfig
from saccade.pipeline.look import Look, Subject, at_places, propose
from saccade.pipeline.reading import TileReader, TileRequest
from saccade.tiling.errors import SlideError
from saccade.tiling.grid import CellGrid
from saccade.tiling.places import Places

_PIECE = 256  # tiles: those of the next piece are read while these are encoded


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


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a slide's tiles, by their numbers in the order of the draw."""

    numbers: NDArray[np.intp]
    requests: Sequence[TileRequest]


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

    Many tiles are read and encoded in pieces, those of the next while these are encoded, so that
    memory for encoding does not grow with their number.

    Raises:
        SlideError: if its tiles cannot be read.
    """
    proposal = propose(model, [subject], tiles, [generator])
    (request,), (places,), (log_attention,) = (
        proposal.requests,
        proposal.places,
        proposal.log_attention,
    )
    pixels, features = _encoded(model, request, reader)
    reading = model.weigh(features[None], at_places(log_attention, places))
    return _prediction(model, subject, classes, Look(log_attention, places, pixels, reading))


def _encoded(
    model: AttentionSampling, request: TileRequest, reader: TileReader
) -> tuple[NDArray[np.uint8], Tensor]:
    """Tiles (n, side, side, 3) and their features (n, features)."""
    device = next(model.parameters()).device
    numbers, pixels, features = [], [], []
    with closing(reader.ahead(_pieces(request), 1)) as read:
        for piece, (found,) in read:
            if isinstance(found, SlideError):
                raise found
            batch = torch.from_numpy(found).permute(0, 3, 1, 2)[None]
            numbers.append(piece.numbers)
            pixels.append(found)
            features.append(model.encode(batch.to(device))[0])
    back = np.argsort(np.concatenate(numbers))
    return np.concatenate(pixels)[back], torch.cat(features)[torch.from_numpy(back).to(device)]


def _pieces(request: TileRequest) -> Iterator[Piece]:
    """A request in pieces; each a band of the slide, so that few source tiles are in two."""
    x, y = request.corners_l0.T
    count = -(-len(x) // _PIECE)
    order = np.lexsort((x, y)) if count > 1 else np.arange(len(x))
    for numbers in np.array_split(order, count):
        yield Piece(numbers, [TileRequest(request.slide, request.corners_l0[numbers])])


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
