"""The demo: a cohort is made, the workflow runs over it, and what came out is held to the truth."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from saccade.pipeline.demo.lesions import inside, lesion_polygons
from saccade.pipeline.demo.slides import CohortFiles, make_cohort
from saccade.pipeline.errors import ResultsError
from saccade.pipeline.files import atomic_path
from saccade.pipeline.sheet import of_split, read_sheet

# What trains in a few minutes on two cores; a cohort of real slides wants more of everything.
RUN: dict[str, Any] = {
    "view": {"mpp": 16.0},
    "tiles": {"per_slide": 32, "size_px": 64, "mpp": 0.5},
    "model": {"attention": "residual", "density_gain": 2.0, "encoder": "compact"},
    "training": {"epochs": 60, "batch": 7, "learning_rate": 2e-3},
}


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How large the demo is; smaller ones are for tests."""

    slides: int = 32
    size_px: int = 8192
    epochs: int | None = None


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What came out, held to the truth.

    Attributes:
        auc: area under the ROC curve of the held-out slides.
        slides: held-out slides.
        hits: positive held-out slides whose strongest tile lies in a lesion.
        positives: held-out slides with lesions.
        share_read: mean share of level-0 pixels that a prediction read.
        seconds: by step.
        peak_memory_mb: of the hungriest step.
        example: a positive held-out slide to look at.
    """

    auc: float
    slides: int
    hits: int
    positives: int
    share_read: float
    seconds: dict[str, float]
    peak_memory_mb: float
    example: str


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    cores: int = 2,
    size: DemoSize | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> DemoOutcome:
    """Make the cohort, run the workflow over it, and check the held-out slides.

    What is finished already in `out` is kept, so that a demo that was cut off goes on.

    Args:
        out: folder for everything.
        seed: of the slides and of the training.
        cores: processes and threads to use.
        size: how large it is.
        progress: called with (done, all) while slides are made.
        say: called with a line for each step.

    Raises:
        ResultsError: if `out` holds a demo of another size or seed, or if the workflow fails; the
            message names its log.
    """
    size = size or DemoSize()
    seconds: dict[str, float] = {}
    say(f"making {size.slides} slides of {size.size_px} x {size.size_px} px in {out / 'cohort'}")
    with _timed(seconds, "slides"):
        cohort = _make_cohort(out / "cohort", seed, cores, size, progress)
    config = _write_config(out, cohort, seed, size)
    say("running the workflow: pyramid, train, predict, export, evaluate")
    with _timed(seconds, "workflow"):
        _run_workflow(out, config, cores)
    return _outcome(out / "results", cohort, seconds)


def outcome_lines(out: Path, outcome: DemoOutcome) -> list[str]:
    """The outcome as a short table, and where to look."""
    rows = [
        ("held-out slides", f"{outcome.slides}"),
        ("AUC", f"{outcome.auc:.3f}"),
        ("strongest tile in a lesion", f"{outcome.hits} of {outcome.positives} positive slides"),
        ("level-0 pixels read", f"{outcome.share_read:.2%} of each predicted slide"),
        ("seconds", ", ".join(f"{step} {s:.0f}" for step, s in outcome.seconds.items())),
        ("peak memory", f"{outcome.peak_memory_mb:.0f} MB in one process"),
        ("table", f"{out / 'results' / 'summary.csv'}"),
        ("look at", f"{out / 'results' / outcome.example / 'attention.png'}"),
        (
            "in QuPath",
            f"{out / 'cohort' / 'slides' / outcome.example}.tiff with the files of "
            f"{out / 'results' / outcome.example / 'qupath'}",
        ),
    ]
    return [f"{name:28}{value}" for name, value in rows]


def _make_cohort(
    folder: Path,
    seed: int,
    cores: int,
    size: DemoSize,
    progress: Callable[[int, int], None] | None,
) -> CohortFiles:
    try:
        return make_cohort(
            folder,
            slides=size.slides,
            size_px=size.size_px,
            seed=seed,
            workers=cores,
            progress=progress,
        )
    except ValueError as error:
        raise ResultsError(f"{error}") from error


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - start


def _write_config(out: Path, cohort: CohortFiles, seed: int, size: DemoSize) -> Path:
    training = {**RUN["training"], "seed": seed}
    if size.epochs is not None:
        training["epochs"] = size.epochs
    _write_yaml(out / "run.yaml", {**RUN, "training": training})
    _write_yaml(
        out / "config.yaml",
        {
            "slides": str(cohort.sheet.absolute()),
            "run": str((out / "run.yaml").absolute()),
            "results": str((out / "results").absolute()),
            "predict": "test",
            "device": "auto",
        },
    )
    return out / "config.yaml"


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Write settings, unless they stand there: a newer file would make the workflow start over."""
    text = yaml.safe_dump(content, sort_keys=False)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _run_workflow(out: Path, config: Path, cores: int) -> None:
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--quiet", "rules"]
    command += ["--snakefile", str(files("saccade.pipeline").joinpath("rules/saccade.smk"))]
    command += ["--configfile", str(config.absolute()), "--directory", str(out.absolute())]
    command += ["--rerun-incomplete", "--keep-going"]
    # The jobs call `saccade`, which lies beside the Python that runs this.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    log = out / "workflow.log"
    with log.open("w", encoding="utf-8") as file:
        ended = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "PATH": path}
        )
    if ended.returncode:
        raise ResultsError(f"the demo's workflow failed; see {log} and {out / 'results' / 'logs'}.")


def _outcome(results: Path, cohort: CohortFiles, seconds: dict[str, float]) -> DemoOutcome:
    metrics = _json(results / "metrics.json")
    rows = read_sheet(cohort.sheet)
    lesions = dict(zip([row.slide for row in rows], cohort.lesions, strict=True))
    held_out = of_split(rows, "test")
    positives = [row.slide for row in held_out if row.label == "lesion"]
    hits = [slide for slide in positives if _strongest_in_lesion(results / slide, lesions[slide])]
    records = [_json(path) for path in sorted(results.glob("*/record.json"))]
    shares = [
        _json(results / r.slide / "prediction.json")["share_of_level_0_read"] for r in held_out
    ]
    return DemoOutcome(
        auc=metrics["auc"],
        slides=len(held_out),
        hits=len(hits),
        positives=len(positives),
        share_read=float(np.mean(shares)),
        seconds=seconds,
        peak_memory_mb=max(record["cost"]["peak_memory_mb"] for record in records),
        example=(hits or positives)[0],
    )


def _strongest_in_lesion(folder: Path, lesions: Path) -> bool:
    """Whether the middle of the tile with most evidence for `lesion` lies in one."""
    with (folder / "tiles.csv").open(newline="", encoding="utf-8") as file:
        tiles = list(csv.DictReader(file))
    strongest = max(tiles, key=lambda tile: float(tile["evidence_lesion"]))
    corner, side = (
        np.array([[float(strongest[name]) for name in names]])
        for names in (("x_l0", "y_l0"), ("side_l0_x", "side_l0_y"))
    )
    return bool(inside(lesion_polygons(lesions), corner + side / 2)[0])


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
