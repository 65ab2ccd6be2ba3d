"""One epoch of training a segmentation network, and one of validation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.models.finetune import Resting, groups_around
from saccade.models.segmentation_losses import cross_entropy, soft_dice_loss
from saccade.pipeline.annotations.balanced import Aim, BalancedTiles
from saccade.pipeline.annotations.slides import AnnotatedSlide, grid_of
from saccade.pipeline.epochs import fit_steps
from saccade.pipeline.metrics.segmentation import IGNORED, confusion, segmentation_metrics
from saccade.pipeline.segmentation.batches import Batch, TileSource, drop_empty
from saccade.pipeline.segmentation.config import SegmentationConfig
from saccade.pipeline.segmentation.model_file import SegmentationCard
from saccade.pipeline.segmentation.network import as_segmenter
from saccade.pipeline.segmentation.probabilities import shown_probabilities


@dataclass(frozen=True)
class Bench:
    """What epochs work with.

    Attributes:
        config: of the run.
        card: of the model.
        model: the network.
        resting: the same, with what is frozen at rest.
        optimizer: of what learns.
        tiles: draws those of an epoch.
        weights: (classes,) of the cross entropy; None for all alike.
    """

    config: SegmentationConfig
    card: SegmentationCard
    model: nn.Module
    resting: Resting
    optimizer: torch.optim.Optimizer
    tiles: BalancedTiles
    weights: Tensor | None


def make_bench(
    config: SegmentationConfig,
    card: SegmentationCard,
    model: nn.Module,
    slides: Sequence[AnnotatedSlide],
) -> Bench:
    """What is needed to fit a network to slides."""
    training, trunk = config.training, as_segmenter(model).trunk
    resting = Resting(model, trunk, training.finetune)
    groups = groups_around(
        trunk, model, weight_decay=training.weight_decay, layer_decay=training.layer_decay
    )
    tiles = BalancedTiles(
        [slide.cells for slide in slides],
        [slide.size_l0 for slide in slides],
        [slide.side_l0 for slide in slides],
        uniform=config.tiles.uniform,
    )
    weights = _class_weights(slides, len(card.classes)) if _balanced(config) else None
    optimizer = torch.optim.AdamW(groups, lr=training.learning_rate)
    return Bench(config, card, model, resting, optimizer, tiles, weights)


def train_epoch(bench: Bench, source: TileSource, epoch: int) -> dict[str, float]:
    """Take a step for each batch of the epoch's tiles; returns the mean loss, `loss`.

    Raises:
        DivergedError: if the loss is no longer a number, or no tile can be read.
    """
    settings, count = bench.config.training, bench.config.tiles.per_epoch
    aims = bench.tiles.draw(count, seed=settings.seed, epoch=epoch)
    with closing(source.batches(aims, epoch=epoch)) as batches:
        steps = ([] if batch is None else [batch] for batch in batches)
        loss = fit_steps(
            settings,
            bench.resting,
            bench.optimizer,
            steps,
            -(-count // settings.batch),
            epoch,
            lambda batch: _loss(bench, batch)[0],
        )
    return {"loss": loss}


@torch.no_grad()
def validate(bench: Bench, source: TileSource) -> dict[str, float]:
    """Loss and agreement over all known pixels of the source's slides; nothing without slides.

    Returns:
        `loss`, mean over the tiles in which something is known; `mean_iu`, `mean_dice` and
        `pixel_accuracy`, a rim counting as the class it is part of.
    """
    bench.model.eval()
    shown = len(bench.card.shown)
    table, losses, counts = np.zeros((shown, shown), np.int64), [], []
    with closing(source.batches(validation_aims(bench.config, source.slides))) as batches:
        for batch in drop_empty(batches):
            known = (batch.classes != IGNORED).any(dim=2).any(dim=1)
            if not known.any():
                continue
            part = Batch(batch.pixels[known], batch.classes[known])
            loss, scores = _loss(bench, part)
            losses.append(float(loss) * len(part.pixels))
            counts.append(len(part.pixels))
            table += confusion(*_as_shown(bench.card, scores, part.classes), classes=shown)
    if not counts:
        return {}
    found = segmentation_metrics(table)
    return {
        "loss": sum(losses) / sum(counts),
        **{name: found[name] for name in ("mean_iu", "mean_dice", "pixel_accuracy")},
    }


def validation_aims(config: SegmentationConfig, slides: Sequence[AnnotatedSlide]) -> list[Aim]:
    """The tiles of validation slides, the same in every epoch."""
    most = config.tiles.validation
    return [aim for i, slide in enumerate(slides) for aim in grid_of(i, slide, most)]


def _loss(bench: Bench, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of a batch, and the scores of its pixels."""
    device: Any = next(bench.model.parameters()).device
    truth = batch.classes.to(device)
    scores = bench.resting(batch.pixels.to(device))
    weights = None if bench.weights is None else bench.weights.to(device)
    loss = cross_entropy(scores, truth, weights=weights)
    if dice := bench.config.training.dice:
        loss = loss + dice * soft_dice_loss(scores, truth)
    return loss, scores


def _as_shown(card: SegmentationCard, scores: Tensor, truth: Tensor) -> tuple[Any, Any]:
    """Class of each pixel, predicted and true, in the order of `card.shown`."""
    predicted = shown_probabilities(scores, card).argmax(dim=1).cpu().numpy()
    true = truth.numpy()
    if card.rim is not None:  # it comes last, see `SegmentationConfig.classes`
        rim, whole = card.classes.index(card.rim), card.classes.index(str(card.instances))
        true = np.where(true == rim, whole, true)
    return predicted, true


def _balanced(config: SegmentationConfig) -> bool:
    return config.training.class_weights == "balanced"


def _class_weights(slides: Sequence[AnnotatedSlide], classes: int) -> Tensor:
    """Inverse of each class's share of the known pixels, of mean 1; 1 for a rim."""
    pixels = np.array([slide.cells.counts.sum(axis=(0, 1)) for slide in slides]).sum(axis=0)
    inverse = np.divide(1.0, pixels, out=np.zeros(len(pixels)), where=pixels > 0)
    weights = np.ones(classes)
    weights[: len(pixels)] = inverse / inverse[inverse > 0].mean()
    return torch.tensor(weights, dtype=torch.float32)
