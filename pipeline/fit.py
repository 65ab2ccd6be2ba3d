"""One epoch of training, and one of validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import torch

from saccade.pipeline.augment import Change, unchanged
from saccade.pipeline.bench import Bench
from saccade.pipeline.cohort import Example
from saccade.pipeline.config import TrainingConfig
from saccade.pipeline.errors import SheetError
from saccade.pipeline.look import Look, Proposal, Subject, judge, propose
from saccade.pipeline.reading import TileRequest
from saccade.pipeline.seeds import generator_for, seed_for
from saccade.pipeline.step import Seen, Step, join
from saccade.pipeline.tally import Tally
from saccade.tiling.errors import SlideError


@dataclass(frozen=True, slots=True)
class Batch:
    """A small batch, with the places that were drawn from this process's share of it.

    Attributes:
        examples: the batch of all processes.
        share: what this process has of it.
        own: the slides of the share that are looked at.
        proposal: their places.
    """

    examples: Sequence[Example]
    share: Sequence[Example]
    own: Sequence[Example]
    proposal: Proposal

    @property
    def requests(self) -> Sequence[TileRequest]:
        """The tiles to read."""
        return self.proposal.requests

    def all_of_share(self, found: Sequence[Look | SlideError]) -> list[Look | SlideError | None]:
        """What was found of each slide of the share; None for those that were passed over."""
        by_name = {e.subject.name: look for e, look in zip(self.own, found, strict=True)}
        return [by_name.get(example.subject.name) for example in self.share]


def train_epoch(
    bench: Bench,
    examples: Sequence[Example],
    epoch: int,
    tally: Tally | None = None,
    keep: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Fit each slide once, in an order that hangs on (seed, epoch) alone.

    An epoch is made in stretches of `checkpoint_steps`. Nothing reaches from one into the next but
    the weights, the optimizer and the tally: tiles are not read ahead across, dropout begins anew.
    So a run that goes on at a stretch is the run that was never cut off.

    Args:
        bench: what is worked with.
        examples: the slides.
        epoch: from 0.
        tally: of the stretches that were made before, which the model has learnt from; what this
            call makes is added.
        keep: called between two stretches, when `tally` says how far the epoch is.

    Returns:
        Mean loss, the metric that the task follows where it exists, slides and tiles read, mean
        norm of the gradient, and the last learning rate.

    Raises:
        DivergedError: if the loss or its gradient is not finite.
        SheetError: if no slide could be read.
        RanksError: if another process is gone.
    """
    settings = bench.config.training
    tally = Tally() if tally is None else tally
    bench.ranks.follow_first(bench.model)
    bench.model.train()
    order = _in_order(bench, examples, epoch)
    steps = list(_split(order, settings.batch * settings.accumulate * bench.ranks.count))
    with bench.timed():
        while tally.steps < len(steps):
            _make_stretch(bench, steps, epoch, tally)
            if tally.steps < len(steps):
                keep()
    if not tally.losses:
        raise SheetError(
            f"epoch {epoch + 1}: no training slide could be read."
            + "".join(f"\n  {slide}: {reason}" for slide, reason in bench.failures.items())
        )
    return tally.metrics(bench.task)


def _make_stretch(
    bench: Bench, steps: Sequence[Sequence[Example]], epoch: int, tally: Tally
) -> None:
    """Make the steps from `tally.steps` on, until a checkpoint is due."""
    settings = bench.config.training
    due = steps[tally.steps : tally.steps + settings.checkpoint_steps]
    size = settings.batch * bench.ranks.count
    batches = (batch for slides in due for batch in _split(slides, size))
    _seed_dropout(bench, epoch, tally.steps)
    with closing(_seen(bench, batches, "train", epoch)) as seen:
        for slides in due:
            tally.steps += 1
            moment = epoch + tally.steps / len(steps)
            step = Step(bench, slides, entropy_strength(settings, moment))
            for batch in islice(seen, -(-len(slides) // size)):
                step.add(batch)
                tally.add_batch(batch)
            tally.rate = learning_rate(settings, moment)
            if step.seen:
                tally.add_step(step, step.follow(tally.rate, epoch))


@torch.inference_mode()
def validate(bench: Bench, examples: Sequence[Example]) -> dict[str, Any]:
    """Metrics over slides, and what calibrates them; the draws are the same at every epoch."""
    bench.model.eval()
    batches = _split(examples, bench.config.training.batch * bench.ranks.count)
    with closing(_seen(bench, batches, "validate", 0)) as seen:
        parts = [part for part in seen if len(part.targets)]
    if not parts:
        return {}
    task, outputs = bench.task, torch.cat([part.outputs for part in parts])
    known = torch.cat([part.targets for part in parts]).cpu().numpy()
    metrics = task.metrics(task.activate(outputs).cpu().numpy(), known)
    return metrics | task.calibration(outputs.double().cpu().numpy(), known)


def _seed_dropout(bench: Bench, epoch: int, step: int) -> None:
    """Let dropout hang on the seed and the moment, and differ between processes."""
    parts = ("dropout", bench.config.training.seed, epoch, step, bench.ranks.rank)
    torch.manual_seed(seed_for(*parts))


class Schedule(Protocol):
    """What settings have to say about the learning rate; they count in epochs."""

    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def schedule(self) -> str: ...  # noqa: D102
    @property
    def warmup_epochs(self) -> int: ...  # noqa: D102


def learning_rate(settings: Schedule, epoch: float) -> float:
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


def _in_order(bench: Bench, examples: Sequence[Example], epoch: int) -> list[Example]:
    dice = generator_for("order", bench.config.training.seed, epoch)
    return [examples[i] for i in torch.randperm(len(examples), generator=dice)]


def _split(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    return (examples[i : i + size] for i in range(0, len(examples), size))


def _seen(
    bench: Bench, batches: Iterable[Sequence[Example]], purpose: str, epoch: int
) -> Generator[Seen, None, None]:
    """Look at one batch after the other, reading ahead; slides that cannot be read are left out.

    Each process looks at its share of every batch, and sees what all of them saw.
    Validation changes no weights: places drawn ahead are those that would be drawn later.
    """
    settings = bench.config.training
    training = purpose == "train"
    depth = settings.read_ahead if training else 1
    stale = training and depth > 0
    proposals = (_propose(bench, batch, purpose, epoch, fixed=stale) for batch in batches)
    with closing(bench.reader.ahead(proposals, depth)) as read:
        for batch, tiles in read:
            found = judge(bench.model, batch.proposal, tiles, anew=stale) if batch.own else []
            yield join(bench, batch.examples, batch.all_of_share(found))


def _propose(
    bench: Bench, examples: Sequence[Example], purpose: str, epoch: int, *, fixed: bool
) -> Batch:
    """Draw places of this process's share of a batch; no gradient if `fixed`.

    Slides that could not be read before are passed over.
    """
    seed = bench.config.training.seed
    share = bench.ranks.share(examples)
    known = [example for example in share if example.subject.name not in bench.failures]
    subjects = [example.subject for example in known]
    dice = [generator_for(purpose, seed, epoch, subject.name) for subject in subjects]
    if not known:
        return Batch(examples, share, known, Proposal(subjects, [], [], [], []))
    training = purpose == "train"
    changes = _changes(bench, subjects, epoch) if training else unchanged(subjects)
    explore = exploration(bench.config.training, epoch) if training else 0.0
    with torch.set_grad_enabled(torch.is_grad_enabled() and not fixed):
        proposal = propose(
            bench.model, subjects, bench.config.tiles, dice, changes, explore=explore
        )
    return Batch(examples, share, known, proposal)


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
