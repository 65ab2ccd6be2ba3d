"""One epoch of training, and one of validation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.models.attention_sampling import AttentionSampling, entropy_penalty
from saccade.pipeline.augment import augment_tiles
from saccade.pipeline.cohort import Example
from saccade.pipeline.config import RunConfig, TrainingConfig
from saccade.pipeline.errors import DivergedError, SheetError
from saccade.pipeline.look import Look, look
from saccade.pipeline.metrics import classification_metrics
from saccade.pipeline.reading import TileReader
from saccade.pipeline.seeds import generator_for
from saccade.tiling.errors import SlideError


@dataclass(frozen=True)
class Bench:
    """What epochs work with.

    Attributes:
        config: all settings.
        model: the networks, on their device.
        optimizer: of the model's parameters.
        reader: of tiles.
        class_weights: (classes,) weight of each class in the loss.
        failures: slides that could not be read, by name; they are passed over from then on.
    """

    config: RunConfig
    model: AttentionSampling
    optimizer: torch.optim.Optimizer
    reader: TileReader
    class_weights: Tensor
    failures: dict[str, str] = field(default_factory=dict)


def train_epoch(bench: Bench, examples: Sequence[Example], epoch: int) -> dict[str, Any]:
    """Fit each slide once, in an order that hangs on (seed, epoch) alone.

    Returns:
        Mean loss, accuracy, tiles read, and the last learning rate.

    Raises:
        DivergedError: if the loss or its gradient is not finite.
        SheetError: if no slide could be read.
    """
    settings = bench.config.training
    torch.manual_seed(generator_for("epoch", settings.seed, epoch).initial_seed())  # for dropout
    bench.model.train()
    batches = list(_batches(bench, examples, epoch))
    losses, hits, tiles = [], [], 0
    for step, batch in enumerate(batches):
        rate = learning_rate(settings, epoch + (step + 1) / len(batches))
        for group in bench.optimizer.param_groups:
            group["lr"] = rate
        looks, labels = _look(bench, batch, "train", epoch)
        if not looks:
            continue
        logits = torch.cat([each.reading.logits for each in looks])
        loss = _loss(bench, looks, logits, labels)
        bench.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        bound = settings.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(bench.model.parameters(), bound)
        if not (loss.isfinite() and norm.isfinite()):
            raise DivergedError(
                f"epoch {epoch + 1}: the loss or its gradient is no longer a finite number. Lower "
                "training.learning_rate, or bound training.clip_norm, and train into a new folder."
            )
        bench.optimizer.step()
        losses.append(loss.item())
        hits += (logits.argmax(dim=1) == labels).tolist()
        tiles += sum(len(each.places.cells) for each in looks)
    if not losses:
        raise SheetError(
            f"epoch {epoch + 1}: no training slide could be read."
            + "".join(f"\n  {slide}: {reason}" for slide, reason in bench.failures.items())
        )
    return {
        "loss": float(np.mean(losses)),
        "accuracy": float(np.mean(hits)),
        "tiles_read": tiles,
        "learning_rate": rate,
    }


@torch.inference_mode()
def validate(bench: Bench, examples: Sequence[Example]) -> dict[str, float]:
    """Metrics over slides, with draws that are the same at every epoch."""
    bench.model.eval()
    probabilities, labels = [], []
    for batch in _split(examples, bench.config.training.batch):
        looks, wanted = _look(bench, batch, "validate", 0)
        probabilities += [each.reading.logits.double().softmax(dim=1) for each in looks]
        labels.append(wanted)
    if not probabilities:
        return {}
    return classification_metrics(
        torch.cat(probabilities).cpu().numpy(), torch.cat(labels).cpu().numpy()
    )


def learning_rate(settings: TrainingConfig, epoch: float) -> float:
    """The rate at a moment of the run: risen over the warm-up, then constant or a cosine to 0."""
    warm = min(1.0, epoch / settings.warmup_epochs) if settings.warmup_epochs else 1.0
    fall = 1.0
    if settings.schedule == "cosine":
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / settings.epochs)))
    return settings.learning_rate * warm * fall


def class_weights(labels: Sequence[int], classes: int, mode: str) -> Tensor:
    """(classes,) weights of mean 1 over the slides: each class counts equally if `balanced`."""
    if mode == "none":
        return torch.ones(classes)
    counts = torch.bincount(torch.tensor(labels), minlength=classes).clamp(min=1)
    return len(labels) / (classes * counts)


def _batches(bench: Bench, examples: Sequence[Example], epoch: int) -> Iterator[Sequence[Example]]:
    settings = bench.config.training
    order = torch.randperm(len(examples), generator=generator_for("order", settings.seed, epoch))
    return _split([examples[i] for i in order], settings.batch)


def _split(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    return (examples[i : i + size] for i in range(0, len(examples), size))


def _look(
    bench: Bench, batch: Sequence[Example], purpose: str, epoch: int
) -> tuple[list[Look], Tensor]:
    """Look at a batch; slides that cannot be read are noted and left out."""
    settings = bench.config.training
    batch = [example for example in batch if example.subject.name not in bench.failures]
    if not batch:
        return [], torch.empty(0, dtype=torch.long)
    found = look(
        bench.model,
        [example.subject for example in batch],
        bench.reader,
        bench.config.tiles,
        [generator_for(purpose, settings.seed, epoch, e.subject.name) for e in batch],
        augment=augment_tiles if settings.augment and purpose == "train" else None,
    )
    looks, labels = [], []
    for example, each in zip(batch, found, strict=True):
        if isinstance(each, SlideError):
            bench.failures[example.subject.name] = str(each)
        else:
            looks.append(each)
            labels.append(example.label)
    return looks, torch.tensor(labels, device=bench.class_weights.device)


def _loss(bench: Bench, looks: Sequence[Look], logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy, and the regulariser on each slide's attention."""
    loss = nn.functional.cross_entropy(logits, labels, weight=bench.class_weights)
    strength = bench.config.training.entropy
    if strength:
        penalties = [entropy_penalty(each.log_attention.exp()[None], strength) for each in looks]
        loss = loss + torch.stack(penalties).mean()
    return loss
