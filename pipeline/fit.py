"""One epoch of training, and one of validation."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saccade.models.attention_sampling import AttentionSampling, entropy_penalty
from saccade.pipeline.augment import Change, unchanged
from saccade.pipeline.cohort import Example
from saccade.pipeline.config import RunConfig, TrainingConfig
from saccade.pipeline.errors import DivergedError, SheetError
from saccade.pipeline.look import Look, Proposal, Subject, judge, propose
from saccade.pipeline.reading import TileReader, TileRequest
from saccade.pipeline.seeds import generator_for
from saccade.pipeline.tasks.task import Criterion, Task, mean_loss
from saccade.tiling.errors import SlideError


@dataclass
class Spent:
    """Seconds spent on training steps so far, and how many of them waiting for tiles."""

    seconds: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True)
class Bench:
    """What epochs work with.

    Attributes:
        config: all settings.
        model: the networks, on their device.
        optimizer: of the model's parameters.
        reader: of tiles.
        task: what the outputs mean.
        criterion: the task's loss.
        failures: slides that could not be read, by name; they are passed over from then on.
        spent: the time that training steps took.
    """

    config: RunConfig
    model: AttentionSampling
    optimizer: torch.optim.Optimizer
    reader: TileReader
    task: Task
    criterion: Criterion
    failures: dict[str, str] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time that passes inside the `with` as spent on training steps."""
        start, waited = time.perf_counter(), self.reader.waited_seconds
        yield
        self.spent.seconds += time.perf_counter() - start
        self.spent.waited += self.reader.waited_seconds - waited


@dataclass(frozen=True, slots=True)
class Batch:
    """Slides of a step, with the places that were drawn from them."""

    examples: Sequence[Example]
    proposal: Proposal

    @property
    def requests(self) -> Sequence[TileRequest]:
        """The tiles to read."""
        return self.proposal.requests


def train_epoch(bench: Bench, examples: Sequence[Example], epoch: int) -> dict[str, Any]:
    """Fit each slide once, in an order that hangs on (seed, epoch) alone.

    Returns:
        Mean loss, the metric that the task follows where it exists, tiles read, and the last
        learning rate.

    Raises:
        DivergedError: if the loss or its gradient is not finite.
        SheetError: if no slide could be read.
    """
    settings = bench.config.training
    torch.manual_seed(generator_for("epoch", settings.seed, epoch).initial_seed())  # for dropout
    bench.model.train()
    batches = list(_batches(bench, examples, epoch))
    losses, outputs, known, tiles = [], [], [], 0
    with bench.timed(), closing(_looks(bench, batches, "train", epoch)) as seen:
        for step, (looks, targets) in enumerate(seen):
            rate = learning_rate(settings, epoch + (step + 1) / len(batches))
            if not looks:
                continue
            logits = torch.cat([each.reading.logits for each in looks])
            strength = entropy_strength(settings, epoch + (step + 1) / len(batches))
            loss = _loss(bench, looks, logits, targets, strength)
            losses.append(_step(bench, loss, rate, epoch))
            outputs.append(logits.detach())
            known.append(targets)
            tiles += sum(len(each.places.cells) for each in looks)
    if not losses:
        raise SheetError(
            f"epoch {epoch + 1}: no training slide could be read."
            + "".join(f"\n  {slide}: {reason}" for slide, reason in bench.failures.items())
        )
    measured, followed = _measure(bench, outputs, known), bench.task.followed
    return {
        "loss": float(np.mean(losses)),
        **({followed: measured[followed]} if followed in measured else {}),
        "tiles_read": tiles,
        "learning_rate": rate,
    }


def _step(bench: Bench, loss: Tensor, rate: float, epoch: int) -> float:
    """Follow the gradient once, at a learning rate; return the loss."""
    for group in bench.optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
    bench.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    bound = bench.config.training.clip_norm or math.inf
    norm = nn.utils.clip_grad_norm_(bench.model.parameters(), bound)
    if not (loss.isfinite() and norm.isfinite()):
        raise DivergedError(
            f"epoch {epoch + 1}: the loss or its gradient is no longer a finite number. Lower "
            "training.learning_rate, or bound training.clip_norm, and train into a new folder."
        )
    bench.optimizer.step()
    return loss.item()


@torch.inference_mode()
def validate(bench: Bench, examples: Sequence[Example]) -> dict[str, Any]:
    """Metrics over slides, and what calibrates them; the draws are the same at every epoch."""
    bench.model.eval()
    outputs, known = [], []
    batches = _split(examples, bench.config.training.batch)
    with closing(_looks(bench, batches, "validate", 0)) as seen:
        for looks, targets in seen:
            outputs += [each.reading.logits for each in looks]
            known += [targets] if looks else []
    if not outputs:
        return {}
    calibration = bench.task.calibration(
        torch.cat(outputs).double().cpu().numpy(), torch.cat(known).cpu().numpy()
    )
    return _measure(bench, outputs, known) | calibration


def _measure(bench: Bench, outputs: list[Tensor], known: list[Tensor]) -> dict[str, Any]:
    """Metrics of all slides that were seen."""
    read = bench.task.activate(torch.cat(outputs)).cpu().numpy()
    return bench.task.metrics(read, torch.cat(known).cpu().numpy())


def learning_rate(settings: TrainingConfig, epoch: float) -> float:
    """The rate at a moment of the run: risen over the warm-up, then constant or a cosine to 0."""
    warm = min(1.0, epoch / settings.warmup_epochs) if settings.warmup_epochs else 1.0
    fall = 1.0
    if settings.schedule == "cosine":
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / settings.epochs)))
    return settings.learning_rate * warm * fall


def exploration(settings: TrainingConfig, epoch: int) -> float:
    """Share of the draws' proposal that is spread evenly at an epoch: falls linearly to none.

    >>> [exploration(TrainingConfig(explore=0.4, explore_epochs=4), epoch) for epoch in (0, 1, 4)]
    [0.4, 0.30000000000000004, 0.0]
    """
    return settings.explore * max(0.0, 1 - epoch / settings.explore_epochs)


def entropy_strength(settings: TrainingConfig, epoch: float) -> float:
    """Strength of the regulariser at a moment of the run: goes linearly from the first to the last.

    >>> settings = TrainingConfig(entropy=0.1, entropy_first=0.5, entropy_epochs=4)
    >>> [entropy_strength(settings, epoch) for epoch in (0, 1, 4, 9)]
    [0.5, 0.4, 0.1, 0.1]
    """
    first = settings.entropy if settings.entropy_first is None else settings.entropy_first
    early = max(0.0, 1 - epoch / settings.entropy_epochs)
    return settings.entropy * (1 - early) + first * early


def _batches(bench: Bench, examples: Sequence[Example], epoch: int) -> Iterator[Sequence[Example]]:
    settings = bench.config.training
    order = torch.randperm(len(examples), generator=generator_for("order", settings.seed, epoch))
    return _split([examples[i] for i in order], settings.batch)


def _split(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    return (examples[i : i + size] for i in range(0, len(examples), size))


def _looks(
    bench: Bench, batches: Iterable[Sequence[Example]], purpose: str, epoch: int
) -> Generator[tuple[list[Look], Tensor], None, None]:
    """Look at one batch after the other, reading ahead; slides that cannot be read are left out.

    Validation changes no weights: places drawn ahead are those that would be drawn later.
    """
    settings = bench.config.training
    training = purpose == "train"
    depth = settings.read_ahead if training else 1
    stale = training and depth > 0
    proposals = (_propose(bench, batch, purpose, epoch, fixed=stale) for batch in batches)
    with closing(bench.reader.ahead(proposals, depth)) as read:
        for batch, tiles in read:
            if not batch.examples:
                yield _usable(bench, [], [])
                continue
            found = judge(bench.model, batch.proposal, tiles, anew=stale)
            yield _usable(bench, batch.examples, found)


def _propose(
    bench: Bench, examples: Sequence[Example], purpose: str, epoch: int, *, fixed: bool
) -> Batch:
    """Draw places of those slides of a batch that can be read; no gradient if `fixed`."""
    seed = bench.config.training.seed
    known = [example for example in examples if example.subject.name not in bench.failures]
    subjects = [example.subject for example in known]
    dice = [generator_for(purpose, seed, epoch, subject.name) for subject in subjects]
    if not known:
        return Batch(known, Proposal(subjects, [], [], [], []))
    training = purpose == "train"
    changes = _changes(bench, subjects, epoch) if training else unchanged(subjects)
    explore = exploration(bench.config.training, epoch) if training else 0.0
    with torch.set_grad_enabled(torch.is_grad_enabled() and not fixed):
        proposal = propose(
            bench.model, subjects, bench.config.tiles, dice, changes, explore=explore
        )
    return Batch(known, proposal)


def _changes(bench: Bench, subjects: Sequence[Subject], epoch: int) -> list[Change]:
    """How each slide is shown at an epoch."""
    config = bench.config
    return [
        Change.draw(
            config.augment,
            tiles=config.tiles.per_slide,
            generator=generator_for("augment", config.training.seed, epoch, subject.name),
        )
        for subject in subjects
    ]


def _usable(
    bench: Bench, examples: Sequence[Example], found: Sequence[Look | SlideError]
) -> tuple[list[Look], Tensor]:
    """Looks and targets (slides, numbers) of the slides that were read; the others are noted."""
    looks, targets = [], []
    for example, each in zip(examples, found, strict=True):
        if isinstance(each, SlideError):
            bench.failures[example.subject.name] = str(each)
        else:
            looks.append(each)
            targets.append(example.target)
    device = next(bench.model.parameters()).device
    return looks, torch.tensor(targets, dtype=torch.float64, device=device)


def _loss(
    bench: Bench, looks: Sequence[Look], logits: Tensor, targets: Tensor, strength: float
) -> Tensor:
    """The task's loss, and the regulariser on each slide's attention, of this strength."""
    loss = mean_loss(bench.criterion, logits, targets)
    if strength:
        penalties = [entropy_penalty(each.log_attention.exp()[None], strength) for each in looks]
        loss = loss + torch.stack(penalties).mean()
    return loss
