"""What the workflow costs beside the commands that it calls, on one machine and on Slurm.

    python benchmarks/workflow_overhead.py --slides 32 --folder DIR
    python benchmarks/workflow_overhead.py --slides 8 --size-px 2048 --until pyramid

The demo's cohort (`saccade demo`) goes through the workflow with profiles/default; then every
command that this has called runs again in a shell, one after the other and nothing around them;
then the workflow once more with profiles/slurm-test, on a Slurm of this machine that
tests/cluster/up.sh starts. CPU time is that of all processes, Slurm's daemons and their jobs among
them: each way runs under a process that inherits whoever loses its parent. In the end all three
have to have left the same files.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import measure
import yaml

from saccade.pipeline.demo.run import RUN
from saccade.pipeline.demo.slides import make_cohort

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "tests" / "cluster"
WAYS = "default", "commands", "slurm-test"
COMMAND = re.compile(r"^Shell command: *(saccade .*)$", re.M)
TIMES = re.compile(
    r"record\.json$|^metrics\.jsonl$|^checkpoint\.pt$|\.lock$|^\.snake"
)  # of the time
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h


def main() -> None:
    """Print one table."""
    options = _options()
    if options.way:
        run_way(options.way, options.folder, options.until)
        return
    if options.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), options)
    else:
        compare(options.folder, options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Make the cohort, go each way, and print what it cost."""
    make_cohort(folder / "cohort", slides=options.slides, size_px=options.size_px, workers=2)
    spent: dict[str, measure.Result] = {}
    for way in WAYS:
        if way == "slurm-test" and shutil.which("slurmctld") is None:
            print("no slurmctld on PATH: the workflow on Slurm is left out", file=sys.stderr)
            continue
        write_settings(folder / way, folder / "cohort" / "slides.csv", options.epochs)
        words = ["--way", way, "--folder", str(folder)]
        words += ["--until", options.until] if options.until else []
        spent[way] = measure.fresh(__file__, words, threads=1, memory_gb=64)
        print(way, spent[way], file=sys.stderr)
    what = f"until {options.until}" if options.until else f"{options.epochs} epochs"
    print(f"{options.slides} slides of {options.size_px} px, {what}\n")
    print(table(spent))
    for way in list(spent)[1:]:
        unlike = different(folder / WAYS[0] / "results", folder / way / "results")
        print(f"\nfiles of {way} that differ from those of {WAYS[0]}: {unlike or 'none'}")


def write_settings(desk: Path, sheet: Path, epochs: int) -> None:
    """A folder to call Snakemake in."""
    desk.mkdir(parents=True, exist_ok=True)
    run: dict[str, Any] = {**RUN, "training": {**RUN["training"], "epochs": epochs}}
    (desk / "run.yaml").write_text(yaml.safe_dump(run))
    config = {"slides": str(sheet.absolute()), "run": "run.yaml", "device": "cpu"}
    (desk / "config.yaml").write_text(yaml.safe_dump(config))


def run_way(way: str, folder: Path, until: str | None) -> None:
    """In a process of its own, which in the end has waited for all that it began."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    began = time.perf_counter()
    if way == "commands":
        jobs = run_commands(folder, environment)
        wall = time.perf_counter() - began
    elif way == "default":
        jobs = run_snakemake(folder / way, way, environment, until)
        wall = time.perf_counter() - began
    else:
        with tempfile.TemporaryDirectory() as state:
            subprocess.run([CLUSTER / "up.sh", state], check=True, env=environment)
            path = os.pathsep.join([f"{state}/bin", path])
            where = {"PATH": path, "SLURM_CONF": f"{state}/etc/slurm.conf"}
            began = time.perf_counter()
            jobs = run_snakemake(folder / way, way, environment | where, until)
            wall = time.perf_counter() - began
            subprocess.run([CLUSTER / "down.sh", state], check=True)
            _wait_for_all()
    measure.report(jobs=jobs, wall=wall, cpu=measure.cpu_s())


def run_snakemake(
    desk: Path, profile: str, environment: Mapping[str, str], until: str | None
) -> int:
    """The workflow, whole or until one of its rules; return how many commands it called."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", "config.yaml"]
    command += ["--workflow-profile", str(ROOT / "profiles" / profile)]
    command += ["--until", until] if until else []
    with (desk / "workflow.log").open("w") as log:
        subprocess.run(command, cwd=desk, env=environment, stdout=log, stderr=log, check=True)
    return len(COMMAND.findall((desk / "workflow.log").read_text()))


def run_commands(folder: Path, environment: Mapping[str, str]) -> int:
    """The commands that the workflow called, in the order in which it called them."""
    commands = COMMAND.findall((folder / "default" / "workflow.log").read_text())
    desk = folder / "commands"
    for command in commands:
        for log in re.findall(r"2> (\S+)", command):
            (desk / log).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, shell=True, cwd=desk, env=environment, check=True)
    return len(commands)


def table(spent: Mapping[str, measure.Result]) -> str:
    """Markdown; what is beyond the commands is divided by their number."""
    lines = [
        "| way | jobs | wall s | CPU s | CPU s a job beyond the command |",
        "|---|---|---|---|---|",
    ]
    alone = spent["commands"]["cpu"]
    for way, each in spent.items():
        beyond = (each["cpu"] - alone) / each["jobs"]
        cells = [way, each["jobs"], f"{each['wall']:.0f}", f"{each['cpu']:.0f}", f"{beyond:.2f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def different(one: Path, other: Path) -> list[str]:
    """Files of the slides and the model that are not the same, those aside that say times."""
    files = (path for path in one.rglob("*") if path.is_file() and not TIMES.search(path.name))
    places = [path.relative_to(one) for path in files]
    kept = [p for p in sorted(places) if p.parts[0] not in ("logs", "benchmarks", ".done")]
    return [str(p) for p in kept if (one / p).read_bytes() != _content(other / p)]


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _wait_for_all() -> None:
    """Until no process is left that was begun from here, whoever its parent was."""
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        return


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=32, help="of the demo's cohort")
    parser.add_argument("--size-px", type=int, default=8192, help="side of a slide")
    parser.add_argument("--epochs", type=int, default=60, help="of training")
    parser.add_argument("--folder", type=Path, help="keep slides and results there")
    parser.add_argument("--until", help="a rule, such as pyramid, in place of the whole workflow")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
