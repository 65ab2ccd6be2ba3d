"""A step of the optimizer, made of small batches, by one process or by several.

The loss is the task's: a sum over slides, and a weight that it is divided by. Every small batch is
looked at by all processes, a share each; their outputs are joined, every process computes the loss
of them all, and gradients flow to its own. The weight of the whole step is known before it begins,
so the gradients of its batches add up to that of one large batch.

Survival is no sum over slides, since it compares them. Its steps have one batch, of all processes;
settings that ask for more are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saccade.models.attention_sampling import entropy_penalty
from saccade.pipeline.bench import Bench
from saccade.pipeline.cohort import Example
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.look import Look
from saccade.tiling.errors import SlideError


@dataclass(frozen=True, slots=True)
class Seen:
    """What all processes together saw of a small batch; slides that could not be read are left out.

    Attributes:
        outputs: (slides, outputs) of the model.
        targets: (slides, numbers), float64.
        penalties: (slides,) regulariser on the attention, of strength one; zero where it is off.
        tiles: number of tiles that were read.
    """

    outputs: Tensor
    targets: Tensor
    penalties: Tensor
    tiles: int


def join(
    bench: Bench, examples: Sequence[Example], looks: Sequence[Look | SlideError | None]
) -> Seen:
    """Join what the processes saw of a small batch, and note what none of them could read.

    Args:
        bench: of this process.
        examples: the whole batch.
        looks: of this process's share of it; None for slides that were passed over.
    """
    own = torch.stack([_row(bench, look) for look in looks]) if looks else _no_rows(bench)
    rows = bench.ranks.joined_rows(own, len(examples))
    read = rows[:, 0] > 0
    unread = [e.subject.name for e, ok in zip(examples, read.tolist(), strict=True) if not ok]
    if not bench.failures.keys() >= set(unread):  # alike in all processes, so that all join in
        names = [example.subject.name for example in bench.ranks.share(examples)]
        news = {n: str(k) for n, k in zip(names, looks, strict=True) if isinstance(k, SlideError)}
        bench.failures.update(bench.ranks.merged(news))
    rows = rows[read]
    return Seen(rows[:, 2:], _targets_of(bench, examples)[read], rows[:, 1], int(rows[:, 0].sum()))


def _row(bench: Bench, look: Look | SlideError | None) -> Tensor:
    """Tiles, penalty, outputs; zeros where there are none."""
    if not isinstance(look, Look):
        return _no_rows(bench, 1)[0]
    logits = look.reading.logits[0]
    penalty = logits.new_zeros(())
    if bench.config.training.entropy or bench.config.training.entropy_first:
        penalty = entropy_penalty(look.log_attention.exp()[None], 1.0)
    return torch.cat([logits.new_tensor([len(look.places.cells)]), penalty[None], logits])


def _no_rows(bench: Bench, rows: int = 0) -> Tensor:
    return next(bench.model.parameters()).new_zeros(rows, 2 + len(bench.task.names))


def _targets_of(bench: Bench, examples: Sequence[Example]) -> Tensor:
    """(slides, numbers) what is known of each slide, on the device; of one slide or more."""
    device = next(bench.model.parameters()).device
    return torch.tensor([e.target for e in examples], dtype=torch.float64, device=device)


@dataclass
class Step:
    """A step that is being made; the gradient is empty when it begins.

    Attributes:
        bench: what is worked with.
        examples: all slides of the step, of all processes.
        entropy: strength of the regulariser on the attention.
        seen: slides so far that could be read.
        loss: of the batches so far, as their part of the whole.
        weight: of the whole step in the loss; less when a slide turned out unreadable.
    """

    bench: Bench
    examples: Sequence[Example]
    entropy: float
    seen: int = 0
    loss: float = 0.0
    weight: float = 0.0

    def __post_init__(self) -> None:
        self.bench.optimizer.zero_grad(set_to_none=True)

    def add(self, seen: Seen) -> None:
        """Add a small batch to the gradient."""
        known = [e for e in self.examples if e.subject.name not in self.bench.failures]
        if not known:
            return
        criterion = self.bench.criterion
        weight = float(criterion.weight(_targets_of(self.bench, known)))
        if weight and self.weight not in (0.0, weight):
            self._rescale(self.weight / weight)
        self.weight = weight
        if not len(seen.targets):
            return
        self.seen += len(seen.targets)
        penalty = self.entropy * seen.penalties.sum() / len(known)
        # Slides that teach nothing, such as survival without an event, have a total of 0.
        loss = criterion.total(seen.outputs, seen.targets) / (weight or 1.0) + penalty
        self.loss += loss.item()
        if loss.requires_grad:  # this process had none of the slides that could be read
            loss.backward()  # type: ignore[no-untyped-call]

    def follow(self, rate: float, epoch: int) -> float:
        """Follow the gradient of all batches; return its norm before it was bounded.

        Raises:
            DivergedError: if the loss or the gradient is not finite.
        """
        optimizer, settings = self.bench.optimizer, self.bench.config.training
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.bench.ranks.add_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip_norm or math.inf).item()
        if not (math.isfinite(self.loss) and math.isfinite(norm)):
            raise DivergedError(
                f"epoch {epoch + 1}: the loss or its gradient is no longer a finite number. Lower "
                "training.learning_rate, or bound training.clip_norm, and train into a new folder."
            )
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        optimizer.step()
        return norm

    def _rescale(self, factor: float) -> None:
        """A slide turned out unreadable, so those before it weigh more than was thought."""
        self.loss *= factor
        for group in self.bench.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
