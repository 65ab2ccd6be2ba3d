"""Several processes that train together, started by one command: torchrun, told what Slurm knows.

On one machine that command is all. On several it is called once a machine, by `srun`, whose
variables say which machine is which, where the first one is, and which port is to be met at.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from saccade.pipeline.device import choose_device
from saccade.pipeline.errors import ConfigError, RanksError

_FIRST_PORT, _PORTS = 20000, 10000  # below those that systems hand out by themselves


@dataclass(frozen=True, slots=True)
class Machines:
    """The machines that train together.

    Attributes:
        count: of machines.
        number: of this one, from 0.
        address: of the first; without meaning for one alone.
        port: at which they meet there.
    """

    count: int = 1
    number: int = 0
    address: str = ""
    port: int = 0

    @classmethod
    def of_slurm(cls, environment: Mapping[str, str]) -> Machines:
        """Those of the `srun` that started this process; this machine alone without one.

        `MASTER_ADDR` and `MASTER_PORT` win over what Slurm says.

        Raises:
            ConfigError: if srun started several processes on a machine.
            RanksError: if Slurm does not say where the first machine is.
        """
        count = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
        if (tasks := int(environment.get("SLURM_STEP_NUM_TASKS", "1"))) != count:
            raise ConfigError(
                f"srun started {tasks} processes on {count} machines; wanted is one on each, which "
                f"starts the others: srun --nodes {count} --ntasks {count} --ntasks-per-node 1 ..."
            )
        if count == 1:
            return cls()
        address = environment.get("MASTER_ADDR") or _first_address(environment)
        port = environment.get("MASTER_PORT") or _port_of(int(environment["SLURM_JOB_ID"]))
        return cls(count, int(environment["SLURM_NODEID"]), address, int(port))

    def options(self, processes: int) -> list[str]:
        """What torchrun has to be told.

        Args:
            processes: on each machine.

        >>> Machines(2, 1, "gpu07", 20042).options(4)[:4]
        ['--nproc-per-node', '4', '--nnodes', '2']
        """
        here = ["--nproc-per-node", f"{processes}"]
        if self.count == 1:
            return [*here, "--standalone"]
        where = ["--master-addr", self.address, "--master-port", f"{self.port}"]
        return [*here, "--nnodes", f"{self.count}", "--node-rank", f"{self.number}", *where]


def processes_here(wanted: str, device: str) -> int:
    """How many processes to start on this machine.

    Args:
        wanted: a number, or `auto`: as many as there are GPUs, one without.
        device: cpu, cuda or auto.

    Raises:
        ConfigError: if it is neither, or the device is not there.
    """
    if wanted == "auto":
        return torch.cuda.device_count() if choose_device(device).startswith("cuda") else 1
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ConfigError(f"processes: wanted a number from 1 on, or auto; got {wanted!r}.")
    return int(wanted)


def train_together(words: Sequence[str], processes: int, environment: Mapping[str, str]) -> bool:
    """Run `saccade WORDS` in several processes, and wait for them.

    Args:
        words: of the command line.
        processes: on this machine.
        environment: of this process.

    Returns:
        Whether all ended well; those that did not have said why.

    Raises:
        ConfigError: if torchrun has started this process already, or srun several on a machine.
        RanksError: if Slurm does not say where the first machine is.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    if int(environment.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("torchrun has started several processes already; leave --processes out.")
    options = Machines.of_slurm(environment).options(processes)
    try:
        arguments = parse_args([*options, "--module", "saccade.cli", *words])  # type: ignore[no-untyped-call]
        run(arguments)  # type: ignore[no-untyped-call]
    except ChildFailedError:
        return False
    return True


def _port_of(job: int) -> int:
    """Alike on all machines of a job, and another one for the next job."""
    return _FIRST_PORT + job % _PORTS


def _first_address(environment: Mapping[str, str]) -> str:
    """Where Slurm reaches the first machine of the step: its name, as a rule."""
    nodes = environment["SLURM_STEP_NODELIST"]
    (first, *_) = _ask("scontrol", "show", "hostnames", nodes).split()
    facts = _ask("scontrol", "--oneliner", "show", "node", first).split()
    found = [fact.partition("=")[2] for fact in facts if fact.startswith("NodeAddr=")]
    return found[0] if found else first


def _ask(*words: str) -> str:
    try:
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RanksError(
            f"Slurm does not say where the first machine is ({error}). Set MASTER_ADDR to its "
            "address, on all machines."
        ) from error
