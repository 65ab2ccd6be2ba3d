"""One epoch of training a detector, and one of validation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saccade.models.detector import Detector
from saccade.models.finetune import groups_around, kept_as_they_are
from saccade.pipeline.annotations.balanced import BalancedTiles
from saccade.pipeline.annotations.slides import AnnotatedSlide, grid_of
from saccade.pipeline.detection.batches import Batch, ObjectTiles
from saccade.pipeline.detection.config import DetectionConfig
from saccade.pipeline.detection.judge import LOWEST_SCORE, judge
from saccade.pipeline.epochs import fit_steps
from saccade.pipeline.seeds import generator_for

_MOMENTUM = 0.9


@dataclass(frozen=True)
class Bench:
    """What epochs work with.

    Attributes:
        config: of the run.
        detector: to be trained, what is to stay as it is being frozen.
        optimizer: of what learns.
        tiles: draws those of an epoch.
    """

    config: DetectionConfig
    detector: Detector
    optimizer: torch.optim.Optimizer
    tiles: BalancedTiles


def make_bench(
    config: DetectionConfig, detector: Detector, slides: Sequence[AnnotatedSlide]
) -> Bench:
    """What is needed to fit a detector to slides."""
    training = config.training
    detector.freeze(kept_as_they_are(detector.backbone, training.finetune))
    groups = groups_around(
        detector.backbone,
        detector,
        weight_decay=training.weight_decay,
        layer_decay=training.layer_decay,
    )
    tiles = BalancedTiles(
        [slide.cells for slide in slides],
        [slide.size_l0 for slide in slides],
        [slide.side_l0 for slide in slides],
        uniform=config.tiles.uniform,
    )
    optimizer: torch.optim.Optimizer
    if training.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=training.learning_rate, momentum=_MOMENTUM)
    else:
        optimizer = torch.optim.AdamW(groups, lr=training.learning_rate)
    return Bench(config, detector, optimizer, tiles)


def train_epoch(bench: Bench, source: ObjectTiles, epoch: int) -> dict[str, float]:
    """Take a step for each batch of the epoch's tiles; returns the mean loss, `loss`.

    Raises:
        DivergedError: if the loss is no longer a number, or no tile can be read.
    """
    settings, count = bench.config.training, bench.config.tiles.per_epoch
    aims = bench.tiles.draw(count, seed=settings.seed, epoch=epoch)
    dice = generator_for("regions", settings.seed, epoch)
    device: Any = next(bench.detector.parameters()).device

    def loss_of(batch: Batch) -> Tensor:
        known = [each.to(device) for each in batch.known]
        return bench.detector.loss(batch.pixels.to(device), known, generator=dice)

    with closing(source.batches(aims, epoch=epoch)) as batches:
        loss = fit_steps(
            settings,
            bench.detector,
            bench.optimizer,
            ([] if batch is None else [batch] for batch in batches),
            -(-count // settings.batch),
            epoch,
            loss_of,
        )
    return {"loss": loss}


@torch.no_grad()
def validate(bench: Bench, source: ObjectTiles) -> dict[str, float]:
    """How good the detector is on the source's slides, as `judge` has it; nothing without objects.

    `loss`, by which the best epoch is chosen, is what average precision lacks of 1.
    """
    config, detector = bench.config, bench.detector.eval()
    device: Any = next(detector.parameters()).device
    most = config.tiles.validation
    aims = [aim for i, slide in enumerate(source.slides) for aim in grid_of(i, slide, most)]
    found, known = [], []
    with closing(source.batches(aims)) as batches:
        for batch in batches:
            if batch is not None:
                found += detector.find(batch.pixels.to(device), min_score=LOWEST_SCORE)
                known += batch.known
    near_px = config.training.near_um / config.tiles.mpp
    judged = judge(found, known, classes=len(config.classes), near_px=near_px)
    return {"loss": 1 - judged["ap50"], **judged} if judged else {}
