"""The command line in processes of its own, which fork from one that has loaded torch already."""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import dropout

from saccade.models.attention_sampling import AttentionSampling

LIMIT_S = 240
STEP = ("torch.optim:AdamW", "step")
SAVE = ("saccade.pipeline.train", "save_checkpoint")

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["saccade.cli.main", "saccade.pipeline.train", "tests.processes"])


@dataclass(frozen=True)
class Ended:
    """The exit code of a process, minus a signal's number if one killed it; and what it said."""

    code: int
    said: str


def saccade(
    words: Sequence[str | Path], log: Path, *, count: int = 1, before: Callable[[], None] = int
) -> list[Ended]:
    """Run `saccade WORDS` in `count` processes that find each other as those of torchrun do.

    Args:
        words: of the command line.
        log: what the processes say goes to files of this name and their number.
        count: of processes.
        before: called in each of them first.
    """
    logs = [log.with_name(f"{log.name}.{rank}") for rank in range(count)]
    port = _free_port()
    children = [
        _forks.Process(
            target=_run,
            args=(list(map(str, words)), logs[rank], _as_rank(rank, count, port), before),
        )
        for rank in range(count)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(LIMIT_S)
        child.kill()  # does nothing to one that has ended
        child.join()
    return [
        Ended(child.exitcode or 0, path.read_text())
        for child, path in zip(children, logs, strict=True)
    ]


def kill_at(call: int, of: tuple[str, str] = STEP, *, rank: int = 0, after: bool = False) -> None:
    """Let a process die by signal 9 at a call, counted from 1, of a function of an owner."""
    holder, name = pkgutil.resolve_name(of[0]), of[1]
    calls, function = [], getattr(holder, name)

    def killed(*arguments: Any, **rest: Any) -> Any:
        calls.append(1)
        last = len(calls) == call and os.environ["RANK"] == str(rank)
        result = function(*arguments, **rest) if after or not last else None
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, name, killed)


def drop_features() -> None:
    """Train with dropout, which draws from torch's own generator."""
    encode = AttentionSampling.encode

    def dropped(self: AttentionSampling, tiles: Any) -> Any:
        return dropout(encode(self, tiles), training=self.training)

    AttentionSampling.encode = dropped  # type: ignore[method-assign]


def in_double() -> None:
    """Compute in double precision, where sums in another order are the same to many digits."""
    torch.set_default_dtype(torch.float64)


def _run(
    words: list[str], log: Path, environment: Mapping[str, str], before: Callable[[], None]
) -> None:
    from saccade.cli.main import app

    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.update(environment)
    torch.set_num_threads(1)
    before()
    app(words)


def _as_rank(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    return {
        "RANK": f"{rank}",
        "LOCAL_RANK": f"{rank}",
        "WORLD_SIZE": f"{count}",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": f"{port}",
    }


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
