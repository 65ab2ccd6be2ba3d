"""What ran: the provenance that every output carries, and that decides whether a step is done."""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import saccade

RECORD = "record.json"
RECORD_OF_EMBEDDING = "features.record.json"

_PACKAGES = ("numpy", "openslide-python", "tifffile", "zarr", "torch", "timm")


@dataclass(frozen=True, slots=True)
class Record:
    """What ran, on what, at what cost.

    Attributes:
        step: name of the step: pyramid, train, predict ...
        inputs: what the result depends on: content hashes, config, seed. Two runs whose step,
            inputs and code are equal give the same result on the same machine.
        cost: what it took: seconds, peak memory, tiles and pixels read.
        code: version of Saccade.
        versions: of the libraries and of Python.
    """

    step: str
    inputs: Mapping[str, Any]
    cost: Mapping[str, Any] = field(default_factory=dict)
    code: str = saccade.__version__
    versions: Mapping[str, str] = field(default_factory=lambda: _versions())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def matches(self, path: Path) -> bool:
        """Whether the record kept at `path` is of the same step, inputs and code."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        # Through JSON and back, so that tuples and lists compare equal.
        inputs = json.loads(json.dumps(self.inputs))
        return isinstance(kept, dict) and (
            (kept.get("step"), kept.get("inputs"), kept.get("code"))
            == (self.step, inputs, self.code)
        )


class Stopwatch:
    """Counts a step's cost from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def cost(self, **counts: Any) -> dict[str, Any]:
        """Seconds so far and the process's peak memory, with `counts` beside them."""
        return {
            "seconds": round(time.perf_counter() - self._wall, 3),
            "cpu_seconds": round(time.process_time() - self._cpu, 3),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            **counts,
        }


def peak_memory_mb() -> float:
    """Most memory this process has held so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; its getrusage would count the parent's peak from before the exec
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts bytes


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
