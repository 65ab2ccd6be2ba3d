"""One training as a job of the workflow: on how many nodes, with how many processes on each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from saccade.pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """How a training is started.

    Attributes:
        nodes: machines that train together.
        gpus: of each of them; 0 for processors.
    """

    nodes: int
    gpus: int

    @classmethod
    def of(cls, settings: Mapping[str, Any], gpu: int) -> TrainingJob:
        """From the workflow's config, and the GPUs that other jobs ask for.

        Raises:
            ConfigError: if several processes were to share a device.
        """
        wanted = settings["gpus_per_training"]
        job = cls(settings["nodes_per_training"], gpu if wanted is None else int(wanted))
        if job.gpus * job.nodes > 1 and ":" in settings["device"]:
            raise ConfigError(
                f"device is {settings['device']}, and a training has {job.nodes} x {job.gpus} GPUs "
                "of which each process takes its own: say device: cuda, or auto."
            )
        return job

    @property
    def processes(self) -> int:
        """On each node."""
        return max(1, self.gpus)

    @property
    def resources(self) -> dict[str, Any]:
        """What Snakemake asks for: GPUs of the job, or so many of each of its nodes.

        One task a node, whatever its GPUs; `mpi` says that the command itself calls srun.
        """
        if self.nodes == 1:
            return {"gpu": self.gpus}
        tasks = {"nodes": self.nodes, "tasks": self.nodes, "tasks_per_gpu": 0, "mpi": "srun"}
        return {**tasks, **({"gres": f"gpu:{self.gpus}"} if self.gpus else {})}

    def launcher(self, threads: int) -> str:
        """What stands before the command; nothing on one node.

        >>> TrainingJob(nodes=1, gpus=4).launcher(8)
        ''
        """
        if self.nodes == 1:
            return ""
        return (
            f"srun --nodes={self.nodes} --ntasks={self.nodes} --ntasks-per-node=1"
            f" --cpus-per-task={threads} --kill-on-bad-exit=1 "
        )

    @property
    def flag(self) -> str:
        """For `saccade train`."""
        return "" if self.nodes * self.processes == 1 else f"--processes {self.processes}"
