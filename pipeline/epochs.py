"""The epochs of a run that takes one slide at a time, kept on disk: it goes on where it was.

The folder holds what that of any training run holds: `model.safetensors` (the best epoch by
validation loss; the last one without validation), `last.safetensors`, `metrics.jsonl` and
`checkpoint.pt`. A run that was cut off ends as an uninterrupted one would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from saccade.pipeline.checkpoint import (
    CHECKPOINT,
    RunState,
    load_checkpoint,
    save_checkpoint,
    weights_of,
)
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.fit import Schedule, learning_rate
from saccade.pipeline.seeds import generator_for
from saccade.pipeline.train import Report

Example = TypeVar("Example")
Save = Callable[[Path, Mapping[str, Tensor], Mapping[str, Any]], None]
"""Writes a model file from its weights and the metrics of their epoch."""


class Settings(Schedule, Protocol):
    """What such a run has to know of its training."""

    @property
    def batch(self) -> int: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102
    @property
    def clip_norm(self) -> float: ...  # noqa: D102
    @property
    def early_stopping(self) -> int: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102


def adamw(settings: Settings, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW, under which kernels decay, and norms and biases do not."""
    kernels = [value for value in model.parameters() if value.ndim > 1]
    others = [value for value in model.parameters() if value.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def fit_epoch(
    settings: Settings,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    epoch: int,
    loss_of: Callable[[Example], Tensor],
) -> float:
    """Take a step for each batch, in an order that hangs on (seed, epoch) alone.

    Slides differ in size, so they go through one by one and their gradients add up.

    Returns:
        The mean loss.

    Raises:
        DivergedError: if the loss is no longer a number.
    """
    dice = generator_for("order", settings.seed, epoch)
    order = torch.randperm(len(examples), generator=dice).tolist()
    starts = range(0, len(order), settings.batch)
    steps = ([examples[i] for i in order[start : start + settings.batch]] for start in starts)
    return fit_steps(settings, model, optimizer, steps, len(starts), epoch, loss_of)


def fit_steps(
    settings: Settings,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: Iterable[Sequence[Example]],
    count: int,
    epoch: int,
    loss_of: Callable[[Example], Tensor],
) -> float:
    """Take a step for each of `steps`, whose examples' gradients add up; none for an empty one.

    Args:
        settings: of the training.
        model: put into training mode.
        optimizer: of the model; `lr_scale` of a group is its share of the learning rate.
        steps: what each step sees, in order.
        count: how many there are.
        epoch: from 0.
        loss_of: of one example.

    Returns:
        The mean loss over all examples.

    Raises:
        DivergedError: if the loss is no longer a number, or no step saw anything.
    """
    model.train()
    losses: list[float] = []
    for number, step in enumerate(steps):
        if not step:
            continue
        for group in optimizer.param_groups:
            rate = learning_rate(settings, epoch + number / count)
            group["lr"] = rate * group.get("lr_scale", 1.0)
        optimizer.zero_grad()
        for example in step:
            loss = loss_of(example)
            torch.autograd.backward(loss / len(step))
            losses.append(float(loss.detach()))
        if not all(map(math.isfinite, losses)):
            raise DivergedError(
                f"the loss is {losses[-1]} in epoch {epoch + 1}. Lower training.learning_rate."
            )
        if settings.clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
    if not losses:
        raise DivergedError(f"nothing could be read for any step of epoch {epoch + 1}.")
    return float(np.mean(losses))


def run_epochs(
    settings: Settings,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    out: Path,
    *,
    key: str,
    make_epoch: Callable[[int], Mapping[str, Any]],
    save: Save,
    replace: bool = False,
    report: Report = lambda _: None,
) -> list[dict[str, Any]]:
    """Run the epochs that are still to run; returns the metrics of all of them.

    Args:
        settings: of the training.
        model: with its first weights, on its device.
        optimizer: of the model.
        out: folder of the run, which the caller holds.
        key: what the run depends on, as text: a checkpoint of another key is of another run.
        make_epoch: trains for an epoch, from 0, and gives its metrics: `train` and `val`.
        save: writes a model file.
        replace: start anew if there is a run of another key.
        report: called with the metrics of each epoch.

    Raises:
        ResultsError: if `out` holds another run that is not to be replaced.
        DivergedError: if the loss is no longer a number.
    """
    state = load_checkpoint(out / CHECKPOINT, model, optimizer, key, replace=replace)
    if state.epoch:
        # A workflow deletes the outputs of a job that was cut off; the checkpoint is none of them.
        _write_outputs(out, state, model, save)
    while not state.is_finished(settings):
        line = {"epoch": state.epoch + 1, **make_epoch(state.epoch)}
        state.end_epoch(line, model)
        _write_outputs(out, state, model, save)
        # Last, so that a run killed before this line repeats the epoch and writes the same again.
        save_checkpoint(out / CHECKPOINT, state, model, optimizer, key)
        report(line)
    return state.history


def _write_outputs(out: Path, state: RunState, model: nn.Module, save: Save) -> None:
    save(out / "model.safetensors", state.best_weights, state.history[state.best_epoch - 1])
    save(out / "last.safetensors", weights_of(model), state.history[state.epoch - 1])
    state.write_history(out)
