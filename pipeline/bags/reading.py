"""What a model over features says of a slide: whole, or in pieces that make up the whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from saccade.models.slide_heads import BagHead, SlideHead, SlideReading
from saccade.pipeline.stages.statistics import LogSumExp

CELLS_AT_ONCE = 16384


@dataclass(frozen=True, slots=True, eq=False)
class SlideMaps:
    """What was found of each tile, and of the slide.

    Attributes:
        attention_logits: float64 (tiles,), before the softmax over the slide.
        log_classes: float64 (classes, tiles), how like each class a tile is; None from a head that
            does not say.
        probabilities: float64 (classes,), of the slide.
    """

    attention_logits: NDArray[np.float64]
    log_classes: NDArray[np.float64] | None
    probabilities: NDArray[np.float64]

    @property
    def attention(self) -> NDArray[np.float64]:
        """Share of each tile in the slide, (tiles,); they sum to 1."""
        below = self.attention_logits - self.attention_logits.max()
        shares: NDArray[np.float64] = np.exp(below) / np.exp(below).sum()
        return shares

    @property
    def evidence(self) -> NDArray[np.float64] | None:
        """What each tile brings to each class, (classes, tiles); sums to the probabilities."""
        return None if self.log_classes is None else self.attention * np.exp(self.log_classes)


@torch.inference_mode()
def read_maps(
    model: SlideHead,
    features: NDArray[np.float32],
    cells: NDArray[np.int64],
    *,
    cells_at_once: int = CELLS_AT_ONCE,
) -> SlideMaps:
    """Judge a slide by the features of its tiles.

    A head over a grid sees it in bands of rows, each with the margin that it needs, so that memory
    does not grow with the slide; attention over all of it comes of merging by log-sum-exp.

    Args:
        model: in evaluation mode.
        features: of the tiles.
        cells: row and column of each.
        cells_at_once: of the grid, about; a band has one row of its own at least.
    """
    if isinstance(model, BagHead):
        found = _judge(model, features, cells)
        logits = found.attention_logits.double().cpu().numpy()
        # A softmax, so that they sum to 1 in float64 too.
        return SlideMaps(logits, None, found.log_probs.double().softmax(dim=0).cpu().numpy())
    logits = np.empty(len(cells))
    classes: NDArray[np.float64] | None = None
    total: LogSumExp | None = None
    rows, width = cells[:, 0], int(np.ptp(cells[:, 1])) + 1
    band = max(1, cells_at_once // width - 2 * model.margin)
    for top in range(int(rows.min()), int(rows.max()) + 1, band):
        own = np.flatnonzero((rows >= top) & (rows < top + band))
        if not len(own):
            continue
        near = np.flatnonzero((rows >= top - model.margin) & (rows < top + band + model.margin))
        found = _judge(model, features[near], cells[near])
        assert found.log_classes is not None
        kept = np.searchsorted(near, own)
        logits[own] = found.attention_logits.double().cpu().numpy()[kept]
        part = found.log_classes.double().cpu().numpy()[:, kept]
        classes = np.empty((len(part), len(cells))) if classes is None else classes
        classes[:, own] = part
        # Attention first, which the classes will be divided by.
        piece = LogSumExp.of(np.concatenate([logits[None, own], logits[own] + part]))
        total = piece if total is None else total.merge(piece)
    assert total is not None
    probabilities = np.exp(total.value[1:] - total.value[0])
    return SlideMaps(logits, classes, probabilities / probabilities.sum())


def _judge(
    model: SlideHead, features: NDArray[np.float32], cells: NDArray[np.int64]
) -> SlideReading:
    device = model.scale.mean.device
    tiles, places = torch.from_numpy(features).to(device), torch.from_numpy(cells).to(device)
    found: SlideReading = model(tiles, places)
    return found
