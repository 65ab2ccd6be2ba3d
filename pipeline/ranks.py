"""Processes that train one model together, as `torchrun` starts them. One alone is the usual case.

Every process knows which slides the others have, so that only numbers travel, always in the same
order, and no process ever waits for one that has nothing to say.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from saccade.pipeline.device import choose_device
from saccade.pipeline.errors import ConfigError, RanksError

T = TypeVar("T")

_A_STEP = timedelta(minutes=10)  # longer than any small batch takes to be read
_ANYTHING = timedelta(days=7)  # one process may have to build many pyramids


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: of this process; 0 writes the files.
        count: number of processes.
        patient: group of processes that wait long for each other; None for one process alone.
    """

    rank: int = 0
    count: int = 1
    patient: Any = None

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def require_one(self, what: str, *, instead: str) -> None:
        """Refuse what several processes cannot do together, and say what to do instead.

        Raises:
            ConfigError: if there are several.
        """
        if self.count > 1:
            raise ConfigError(
                f"{self.count} processes cannot {what} together. Leave --processes (or "
                f"torchrun) out, and {instead}."
            )

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """What this process has of `items`; shares differ by one at most, and may be empty."""
        return items[self.rank :: self.count]

    def joined_rows(self, own: Tensor, rows: int) -> Tensor:
        """Put the rows of all shares where they belong; gradients flow to those of this process.

        Args:
            own: (share of this process, numbers).
            rows: of all shares together.

        Returns:
            (rows, numbers), alike in all processes.
        """
        if self.count == 1:
            return own
        padded = own.new_zeros(-(-rows // self.count), own.shape[1])
        padded[: len(own)] = own.detach()
        shares = [torch.empty_like(padded) for _ in range(self.count)]
        self._together(lambda: dist.all_gather(shares, padded))
        joined = own.new_empty(rows, own.shape[1])
        for rank, share in enumerate(shares):
            joined[rank :: self.count] = share[: len(joined[rank :: self.count])]
        joined[self.rank :: self.count] = own
        return joined

    def merged(self, own: Mapping[str, str]) -> dict[str, str]:
        """What all processes have noted, alike in all of them; waits as long as it takes."""
        if self.count == 1:
            return dict(own)
        notes: list[Any] = [None] * self.count
        self._together(lambda: dist.all_gather_object(notes, dict(own), group=self.patient))
        return {name: note for each in notes for name, note in each.items()}

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every process the sum of all their gradients, in one message.

        A parameter that has a gradient nowhere keeps none: zero would let its weights decay.
        """
        if self.count == 1:
            return
        has = torch.tensor([float(p.grad is not None) for p in parameters])
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([has.to(grads[0]), *(grad.reshape(-1) for grad in grads)])
        self._together(lambda: dist.all_reduce(flat))
        counts, *sums = torch.split(flat, [len(has), *(p.numel() for p in parameters)])
        for parameter, count, total in zip(parameters, counts.tolist(), sums, strict=True):
            if count:
                parameter.grad = torch.empty_like(parameter).copy_(total.view_as(parameter))

    def follow_first(self, model: nn.Module) -> None:
        """Take over weights and buffers, such as a batch norm's statistics, from process 0."""
        if self.count > 1:
            for value in model.state_dict().values():
                # In place, into a plain copy: a message wants its numbers in their usual order.
                sent = value.contiguous()
                self._together(partial(dist.broadcast, sent, 0))
                value.copy_(sent)

    def _together(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except RuntimeError as error:  # torch has no narrower class for a peer that is gone
            raise RanksError(
                f"process {self.rank} of {self.count} lost another one, or waited for it in vain: "
                "look above for what that one says. The same command goes on from the last "
                f"checkpoint. ({str(error).splitlines()[0]})"
            ) from error


@contextmanager
def ranks_of_torchrun(device: str) -> Iterator[tuple[Ranks, str]]:
    """Join the processes that `torchrun` started; without it there is this one alone.

    Args:
        device: cpu, cuda, cuda:1 or auto. Of several processes each takes a GPU of its own.

    Yields:
        The processes, and the device of this one.

    Raises:
        ConfigError: if a device is not there, or all processes were to share one GPU.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks(), choose_device(device)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", os.environ["RANK"]))
    own = _own_device(device, local)
    backend = "gloo" if own == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_A_STEP)
    try:
        yield Ranks(rank, count, dist.new_group(backend="gloo", timeout=_ANYTHING)), own
    finally:
        dist.destroy_process_group()


def _own_device(device: str, local: int) -> str:
    kind, _, number = device.partition(":")
    if number:
        raise ConfigError(
            f"several processes cannot share {device}. Pass --device {kind}: each takes its own."
        )
    if choose_device(device) == "cpu":
        return "cpu"
    there = torch.cuda.device_count()
    if local >= there:
        raise ConfigError(
            f"each process wants a GPU of its own; found {there}. "
            f"Pass --processes {there}, or auto."
        )
    torch.cuda.set_device(local)
    return f"cuda:{local}"
