"""One epoch of training a saliency network, and one of validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.models.saliency import MSINet, kl_divergence
from saccade.pipeline.augment import turn
from saccade.pipeline.epochs import adamw, fit_epoch
from saccade.pipeline.errors import DivergedError
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
    """The optimizer of a network."""
    return Bench(settings, model, adamw(settings, model))


def train_epoch(bench: Bench, examples: Sequence[Example], epoch: int) -> dict[str, float]:
    """Take a step for each batch; returns the mean loss, `loss`.

    Raises:
        DivergedError: if the loss is no longer a number, or no map has any contrast left.
    """
    highest: list[float] = []

    def loss_of(example: Example) -> Tensor:
        view, target = _tensors(bench, example, _symmetry(bench.settings, example.name, epoch))
        predicted = bench.model(view)
        highest.append(float(predicted.detach().max()))
        return kl_divergence(predicted, target)

    loss = fit_epoch(bench.settings, bench.model, bench.optimizer, examples, epoch, loss_of)
    if max(highest) <= 0:  # a flat map has no gradient, so it would stay flat for ever
        raise DivergedError(
            f"every map of epoch {epoch + 1} is flat. Lower training.learning_rate, or raise "
            "network.width."
        )
    return {"loss": loss}


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
