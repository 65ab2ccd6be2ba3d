"""A Slurm of its own on this machine, for tests: up.sh starts it, down.sh ends it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PROGRAMS = ("slurmctld", "slurmd", "munged", "srun", "sbatch")


@dataclass(frozen=True)
class Job:
    """A job in the queue.

    Attributes:
        number: that Slurm gave it.
        state: PENDING, RUNNING ...
        node: where it runs; empty while it waits.
        comment: of Snakemake's jobs `rule_<rule>_wildcards_<slide>`.
    """

    number: str
    state: str
    node: str
    comment: str


@dataclass(frozen=True)
class Slurm:
    """A cluster that is up: partitions `cpu` (nodes cpu1, cpu2) and `gpu` (gpu1, one fake GPU).

    Attributes:
        state: folder of its configuration, logs and sockets.
        environment: in which its commands, and the jobs' own `srun`, find it.
    """

    state: Path
    environment: Mapping[str, str]

    def ask(self, *words: str) -> str:
        """What one of Slurm's commands says.

        Raises:
            AssertionError: if it fails.
        """
        ended = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        assert ended.returncode == 0, f"{' '.join(words)}: {ended.stderr}"
        return ended.stdout

    def queue(self) -> list[Job]:
        """Jobs that wait or run."""
        lines = self.ask("squeue", "--noheader", "--format=%i|%T|%N|%k").splitlines()
        return [Job(*line.split("|", 3)) for line in lines]

    def running(self, comment: str) -> list[Job]:
        """Jobs of this comment that run, the oldest first."""
        found = [j for j in self.queue() if j.comment == comment and j.state == "RUNNING"]
        return sorted(found, key=lambda job: int(job.number))

    def ended(self) -> list[dict[str, str]]:
        """Slurm's record of ended jobs: JobId, JobState, NodeList ..., the oldest first."""
        lines = (self.state / "log" / "jobcomp.txt").read_text().splitlines()
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]


def wait_for(what: str, found: Callable[[], object], *, limit_s: float) -> None:
    """Ask again and again until something is found.

    Raises:
        AssertionError: after `limit_s` seconds without it.
    """
    until = time.monotonic() + limit_s
    while not found():
        assert time.monotonic() < until, f"waited {limit_s} s in vain for {what}"
        time.sleep(0.2)


@contextmanager
def started(state: Path) -> Iterator[Slurm]:
    """Start a cluster, and end it with all its jobs."""
    options = {"SLURM_TEST_PORT": str(_free_port())}
    up = subprocess.run(
        [HERE / "up.sh", state],
        env={**os.environ, **options},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert up.returncode == 0, up.stdout
        path = os.pathsep.join([str(state / "bin"), os.environ["PATH"]])
        where = {"SLURM_CONF": str(state / "etc" / "slurm.conf"), "PATH": path}
        yield Slurm(state, {**os.environ, **where})
    finally:
        subprocess.run([HERE / "down.sh", state], check=True)


def _free_port() -> int:
    """Of a range that systems do not hand out by themselves; so are the next ones."""
    for port in range(20000 + os.getpid() % 500 * 20, 32000, 20):
        with socket.socket() as door:
            if door.connect_ex(("127.0.0.1", port)):
                return port
    raise AssertionError("no free port")
