"""One epoch of training a saliency network, and one of validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saccade.models.saliency import MSINet, kl_divergence
from saccade.pipeline.augment import turn
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.fit import learning_rate
from saccade.pipeline.metrics.saliency import cc, sim
from saccade.pipeline.saliency.config import SaliencyTrainingConfig
from saccade.pipeline.seeds import generator_for

_SYMMETRIES = {"none": (0,), "mirror": (0, 4), "all": tuple(range(8))}


@dataclass(frozen=True, slots=True)
class Picture:
    """A view of a whole slide, and the map that is wanted of it.

    Attributes:
        pixels: uint8 (rows, cols, 3), red, green and blue.
        target: float32 (rows, cols), not negative.
    """

    pixels: NDArray[np.uint8]
    target: NDArray[np.float32]

    def tensors(self, symmetry: int = 0) -> tuple[Tensor, Tensor]:
        """A batch of one: view (1, 3, rows, cols) and target (1, 1, rows, cols), turned alike."""
        view = torch.tensor(self.pixels).permute(2, 0, 1)
        target = torch.tensor(self.target)[None]
        return turn(view, symmetry)[None], turn(target, symmetry)[None]


@dataclass(frozen=True, slots=True)
class Example:
    """A picture by name."""

    name: str
    picture: Picture


@dataclass(frozen=True)
class Bench:
    """What epochs work with."""

    settings: SaliencyTrainingConfig
    model: MSINet
    optimizer: torch.optim.Optimizer


def make_bench(settings: SaliencyTrainingConfig, model: MSINet) -> Bench:
    """The optimizer of a network: AdamW, kernels decay and biases do not."""
    kernels = [value for value in model.parameters() if value.ndim > 1]
    biases = [value for value in model.parameters() if value.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": settings.weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    return Bench(settings, model, torch.optim.AdamW(groups, lr=settings.learning_rate))


def train_epoch(bench: Bench, examples: Sequence[Example], epoch: int) -> dict[str, float]:
    """Take a step for each batch; returns the mean loss, `loss`.

    Raises:
        DivergedError: if the loss is no longer a number, or no map has any contrast left.
    """
    settings = bench.settings
    bench.model.train()
    dice = generator_for("order", settings.seed, epoch)
    order = torch.randperm(len(examples), generator=dice).tolist()
    losses: list[float] = []
    contrast = False
    for start in range(0, len(order), settings.batch):
        for group in bench.optimizer.param_groups:
            group["lr"] = learning_rate(settings, epoch + start / len(order))
        batch = [examples[i] for i in order[start : start + settings.batch]]
        steps = _step(bench, batch, epoch)
        losses += [loss for loss, _ in steps]
        contrast |= any(highest > 0 for _, highest in steps)
        if not math.isfinite(losses[-1]):
            raise DivergedError(
                f"the loss is {losses[-1]} in epoch {epoch + 1}. Lower training.learning_rate."
            )
    if not contrast:  # a flat map has no gradient, so it would stay flat for ever
        raise DivergedError(
            f"every map of epoch {epoch + 1} is flat. Lower training.learning_rate, or raise "
            "network.width."
        )
    return {"loss": float(np.mean(losses))}


def _step(bench: Bench, batch: Sequence[Example], epoch: int) -> list[tuple[float, float]]:
    """Loss and highest value of each map of a batch.

    Pictures differ in size, so they go through one by one and their gradients add up.
    """
    bench.optimizer.zero_grad()
    found = []
    for example in batch:
        view, target = _tensors(bench, example, _symmetry(bench.settings, example.name, epoch))
        predicted = bench.model(view)
        loss = kl_divergence(predicted, target)
        torch.autograd.backward(loss / len(batch))
        found.append((float(loss.detach()), float(predicted.detach().max())))
    if bench.settings.clip_norm:
        nn.utils.clip_grad_norm_(bench.model.parameters(), bench.settings.clip_norm)
    bench.optimizer.step()
    return found


@torch.no_grad()
def validate(bench: Bench, examples: Sequence[Example]) -> dict[str, float]:
    """Mean loss, correlation and similarity of maps and targets; nothing without examples."""
    bench.model.eval()
    found: list[dict[str, float]] = []
    for example in examples:
        view, target = _tensors(bench, example, 0)
        predicted = bench.model(view)
        maps = [each[0, 0].double().cpu().numpy() for each in (predicted, target)]
        loss = float(kl_divergence(predicted, target))
        found.append({"loss": loss, "cc": cc(*maps), "sim": sim(*maps)})
    return {name: float(np.mean([each[name] for each in found])) for name in (found or [{}])[0]}


def _tensors(bench: Bench, example: Example, symmetry: int) -> tuple[Tensor, Tensor]:
    device: Any = next(bench.model.parameters()).device
    view, target = example.picture.tensors(symmetry)
    return view.to(device), target.to(device)


def _symmetry(settings: SaliencyTrainingConfig, name: str, epoch: int) -> int:
    known = _SYMMETRIES[settings.turn]
    dice = generator_for("turn", settings.seed, epoch, name)
    return known[int(torch.randint(len(known), (), generator=dice))]
