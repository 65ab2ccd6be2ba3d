"""What it costs Snakemake to plan a cohort: seconds and memory of a dry run, by number of slides.

    python benchmarks/dag.py --slides 10 100 1000 --plot docs/images/scale.png

Slides are empty files: a plan looks at their names, ages and sizes and no further. All stages that
need no trained model to be planned are on: pyramid, train, predict, export, saliency and embed.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Plan:
    slides: int
    jobs: int
    seconds: float
    cpu_seconds: float
    memory_mb: float


def write_cohort(folder: Path, slides: int) -> None:
    """Empty slides, a sheet, and settings."""
    (folder / "slides").mkdir()
    rows = ["slide,path,label,split"]
    for i in range(slides):
        (folder / "slides" / f"s{i:05}.svs").touch()
        split = ("train", "train", "val", "test")[i // 2 % 4]
        rows.append(f"s{i:05},slides/s{i:05}.svs,{'ab'[i % 2]},{split}")
    (folder / "slides.csv").write_text("\n".join(rows) + "\n")
    (folder / "run.yaml").write_text("kind: slides\n")
    (folder / "saliency.safetensors").touch()
    embed = {"encoder": "timm:resnet18", "tile_px": 224, "tile_mpp": 0.5}
    config = {"slides": "slides.csv", "run": "run.yaml", "embed": embed}
    config["saliency"] = "saliency.safetensors"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def plan(slides: int) -> Plan:
    """Draw up the plan in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cohort(folder, slides)
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--directory", name, "--configfile", str(folder / "config.yaml")]
        command += ["--dry-run", "--quiet", "rules", "--cores", "1"]
        with (folder / "log").open("w") as log:
            start = time.perf_counter()
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - start
        text = (folder / "log").read_text()
        found = re.search(r"^total\s+(\d+)", text, re.M)
        if status or not found:
            raise SystemExit(text)
    return Plan(
        slides=slides,
        jobs=int(found[1]),
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        memory_mb=usage.ru_maxrss * 1024 / 1e6,
    )


def draw(path: Path, plans: list[Plan]) -> None:
    """CPU seconds and memory over the number of slides."""
    figure = Figure(figsize=(7, 2.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    slides = [plan.slides for plan in plans]
    parts = figure.subplots(1, 2)
    for axes, values, what in (
        (parts[0], [plan.cpu_seconds for plan in plans], "CPU seconds of the plan"),
        (parts[1], [plan.memory_mb for plan in plans], "memory of the plan, MB"),
    ):
        axes.plot(slides, values, "o-", color="#1a6fb0")
        axes.set(xscale="log", yscale="log", xlabel="slides", title=what)
        axes.grid(True, color="#dddddd")
        for x, y in zip(slides, values, strict=True):
            axes.annotate(f"{y:.0f}", (x, y), textcoords="offset points", xytext=(0, 6))
        axes.margins(x=0.15)
        axes.set_ylim(10 ** math.floor(math.log10(min(values))), 3 * max(values))
        axes.yaxis.set_minor_formatter(NullFormatter())
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slides", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    plans = []
    print(
        "| slides | jobs | seconds | CPU seconds | memory MB |\n|---|---|---|---|---|", flush=True
    )
    for slides in arguments.slides:
        each = plan(slides)
        plans.append(each)
        cells = (each.slides, each.jobs, f"{each.seconds:.1f}", f"{each.cpu_seconds:.1f}")
        print("| " + " | ".join(map(str, cells)) + f" | {each.memory_mb:.0f} |", flush=True)
    if arguments.plot:
        draw(arguments.plot, plans)


if __name__ == "__main__":
    main()
