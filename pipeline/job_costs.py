"""What a job of the workflow may take: memory, time and threads, in one place.

A job that asks for too little is killed, one that asks for too much waits. A second attempt gets
twice as much, a third four times.

Memory is about twice the peak that was measured, on processors, by `benchmark:` and the records of
jobs over drawn slides of 67 megapixels (7 MB) and scans of 0.15 and 1.08 gigapixels (24 and 50 MB);
docs/scale.md has the table. Networks were those of `config/run.yaml`, MSI-Net and ResNet-18; memory
of `train` is five times what was measured, since it grows with batch, tiles and encoder. Minutes
are set for a processor that others keep busy: what takes longer gets its time at the next attempt.
`split`, `evidence` and `detect` were not measured so.

For other networks, such as large transformers, give your own in a profile:
`set-resources: {embed: {mem_mb: attempt * 24000, runtime: 240}}`, `set-threads: {embed: 8}`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class JobCost:
    """What a job of one rule may take.

    Attributes:
        memory: MB, whatever the slide.
        minutes: likewise.
        memory_per_gb: MB more for each GB of the slide's file; of training, of all its slides.
        minutes_per_gb: likewise.
        threads: processor cores.
    """

    memory: int
    minutes: int
    memory_per_gb: int = 0
    minutes_per_gb: int = 0
    threads: int = 1

    def mem_mb(self, megabytes: float, attempt: int = 1) -> int:
        """MB of memory to ask for.

        Args:
            megabytes: size of what the job works on; 0 where it is not known.
            attempt: 1 for the first; each further one gets twice as much.

        >>> JobCost(memory=1000, minutes=10, memory_per_gb=500).mem_mb(2000, attempt=2)
        4000
        """
        return self._grown(self.memory, self.memory_per_gb, megabytes, attempt)

    def runtime(self, megabytes: float, attempt: int = 1) -> int:
        """Minutes to ask for; arguments as `mem_mb`."""
        return self._grown(self.minutes, self.minutes_per_gb, megabytes, attempt)

    @staticmethod
    def _grown(base: int, per_gb: int, megabytes: float, attempt: int) -> int:
        return math.ceil((base + per_gb * megabytes / 1000) * (1 << (attempt - 1)))


COSTS: Mapping[str, JobCost] = {
    "pyramid": JobCost(memory=1000, memory_per_gb=1000, minutes=15, minutes_per_gb=120),
    "split": JobCost(memory=1000, minutes=15),
    "train": JobCost(memory=8000, minutes=720, minutes_per_gb=240, threads=8),
    "predict": JobCost(memory=2500, minutes=20, minutes_per_gb=30),
    "export": JobCost(memory=500, minutes=15),
    "saliency": JobCost(memory=2500, memory_per_gb=1000, minutes=30, minutes_per_gb=240),
    "embed": JobCost(memory=3000, memory_per_gb=1000, minutes=60, minutes_per_gb=600),
    "mask": JobCost(memory=2500, memory_per_gb=1000, minutes=30, minutes_per_gb=240),
    "segment": JobCost(memory=5000, memory_per_gb=1000, minutes=60, minutes_per_gb=2400),
    "evidence": JobCost(memory=2500, minutes=20),
    "detect": JobCost(memory=3000, minutes=30, minutes_per_gb=1000),
    "evaluate": JobCost(memory=2000, minutes=30),
}
"""What the jobs of each rule may take."""


def gpus_here(devices: Path = Path("/dev")) -> int:
    """NVIDIA GPUs of this machine, by their device files; asking torch would take seconds."""
    return len([file for file in devices.glob("nvidia*") if file.name[6:].isdigit()])
