"""Measuring: every figure from a fresh process, peers in turn, medians of ratios of each round.

A busy machine is busy for all that take part in a round, so a ratio within the round says more
than seconds do. CPU time is that of the process and of the children it waited for. Memory is what
the kernel counts as resident: the peak of the process itself, or the largest sum over its tree.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

Result = dict[str, Any]
"""What a process printed: numbers by name, or `failed` with a reason."""

_SAMPLE_S = 0.02


@dataclass
class Spent:
    """Seconds that a block of code took."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def clock() -> Iterator[Spent]:
    """Measure a block; what it spent is there when the block has ended."""
    spent, wall, cpu = Spent(), time.perf_counter(), cpu_s()
    yield spent
    spent.wall, spent.cpu = time.perf_counter() - wall, cpu_s() - cpu


def cpu_s() -> float:
    """CPU seconds of this process, all its threads, and the children that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def own_peak_mb() -> float:
    """Largest resident memory that this process has had since it was started."""
    # Not getrusage: its figure is inherited from the process that started this one.
    return _status_mb("VmHWM")


def resident_mb() -> float:
    """Resident memory of this process now."""
    return _status_mb("VmRSS")


def _status_mb(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [one for one in lines if one.startswith(key)]
    return int(line.split()[1]) * 1024 / 1e6


def open_files() -> int:
    """File descriptors that this process holds."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # the listing itself holds one


def report(**values: object) -> None:
    """Hand a result to the process that waits for it, see `fresh`."""
    print(json.dumps(values), flush=True)


def fresh(script: str, arguments: Sequence[str], threads: int, memory_gb: float) -> Result:
    """Run `script` with `arguments` in a new process, and return what it reports.

    A process whose tree holds more than `memory_gb` is ended; `failed` then says so. `peak_mb` is
    the largest of the memory that it reports and that its tree was seen to hold.
    """
    names = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"
    env = {**os.environ, **dict.fromkeys(names, "1"), "VIPS_CONCURRENCY": str(threads)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [sys.executable, script, *arguments], stdout=out, stderr=err, env=env
        )
        seen_mb = _watch(process, memory_gb * 1000)
        if seen_mb > memory_gb * 1000:
            return {"failed": f"ended at {memory_gb:g} GB"}
        if process.returncode != 0:
            return {"failed": _reason(err, process.returncode)}
        out.seek(0)
        result: Result = json.loads(out.read().decode().splitlines()[-1])
    return {**result, "peak_mb": max(seen_mb, result.get("peak_mb", 0.0))}


def _watch(process: subprocess.Popen[bytes], most_mb: float) -> float:
    """Wait for the end; return the largest resident memory of the tree that was seen."""
    peak = 0.0
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, _tree_mb(tree))
        if peak > most_mb:
            _end(tree)
        time.sleep(_SAMPLE_S)
    return peak


def _members(tree: psutil.Process) -> list[psutil.Process]:
    try:
        return [tree, *tree.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _tree_mb(tree: psutil.Process) -> float:
    total = 0
    for member in _members(tree):
        try:
            total += member.memory_info().rss
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return total / 1e6


def _end(tree: psutil.Process) -> None:
    for member in _members(tree):
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue


def _reason(err: Any, code: int) -> str:
    err.seek(0)
    lines = [line for line in err.read().decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1].strip() if lines else f"exit status {code}"
    missing = last.startswith(("ModuleNotFoundError", "ImportError"))
    return "not installed" if missing else last.replace("|", "/")[:120]


def rounds(
    names: Sequence[str], count: int, run: Callable[[str, int], Result]
) -> dict[str, list[Result]]:
    """Results of `count` rounds by name; each round begins with another name.

    What fails once is not tried again.
    """
    results: dict[str, list[Result]] = {name: [] for name in names}
    for number in range(count):
        first = number % len(names)
        for name in [*names[first:], *names[:first]]:
            if not has_failed(results[name]):
                results[name].append(run(name, number))
    return results


def has_failed(results: Sequence[Result]) -> bool:
    """Whether the last of the results is a failure."""
    return bool(results) and "failed" in results[-1]


def middle(results: Sequence[Result], key: str) -> float:
    """Median over rounds."""
    return float(median(result[key] for result in results))


def ratio(over: Sequence[Result], under: Sequence[Result], key: str) -> str:
    """Median over rounds of one's figure over another's; empty where one of them failed."""
    if has_failed(over) or has_failed(under):
        return ""
    pairs = zip(over, under, strict=True)
    return f"{median(a[key] / b[key] for a, b in pairs):.2f}"


def heading(packages: Sequence[str]) -> None:
    """Print what a reader of the figures needs to know: command, machine, load, versions."""
    print(f"`python {shlex.join(sys.argv)}`\n")
    load = os.getloadavg()[0]
    print(
        f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores, load {load:.1f}; "
        f"Python {platform.python_version()}; "
        + ", ".join(f"{name} {_version(name)}" for name in packages)
    )
    sys.stdout.flush()


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print(f"\n### {title}\n")
    for row in (columns, ["---"] * len(columns), *rows):
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def failures(results: Mapping[str, Sequence[Result]]) -> None:
    """Print why rows are missing."""
    for name, found in results.items():
        if has_failed(found):
            print(f"\n{name}: {found[-1]['failed']}")


def difference(pixels: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> str:
    """How far pixels are from the wanted ones, in words: exact, or largest difference and PSNR."""
    if pixels.shape != wanted.shape:
        return f"shape {pixels.shape} for {wanted.shape}"
    apart = np.abs(pixels.astype(np.int16) - wanted)
    if not apart.any():
        return "exact"
    square = float((apart.astype(np.float32) ** 2).mean())
    return f"<= {apart.max()}, {10 * np.log10(255**2 / square):.0f} dB"
