"""What of a cohort went wrong: each stage that left no result, and what its log says of it.

The workflow gives each job a log, `logs/<stage>/<slide>.log`. A stage has failed where all that it
starts from is there and its own last file is not. Stages that could not even start are no rows of
their own: the one that kept them from it is.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from saccade.pipeline.files import atomic_path
from saccade.pipeline.record import RECORD, RECORD_OF_EMBEDDING

FAILURES = "failures.csv"

LAST_FILES: Mapping[str, str] = {
    "pyramid": "pyramid.zarr",
    "predict": RECORD,
    "export": "qupath/open_in_qupath.groovy",
    "embed": f"embedding/{RECORD_OF_EMBEDDING}",
    "segment": "segmentation.record.json",
    "detect": "detection.record.json",
}
"""What a stage writes last, in the folder of a slide; of others `<stage>.record.json`."""
STARTS_FROM: Mapping[str, tuple[str, ...]] = {
    "pyramid": (),
    "predict": ("train", "pyramid"),
    "export": ("predict",),
    "evidence": ("embed",),
}
"""Stages that have to be there first; of others `pyramid`."""

_LENGTH = 500
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Failure:
    """A stage without its result.

    Attributes:
        slide: its name; empty for what concerns all slides.
        stage: name of the command and of the workflow's rule.
        reason: what was wanted and what was found, as far as the log says.
        log: the file to read; empty if there is none.
    """

    slide: str
    stage: str
    reason: str
    log: str


def find_failures(
    results: Path,
    slides: Iterable[str],
    stages: Sequence[str] = ("predict",),
    others: Iterable[str] = (),
) -> list[Failure]:
    """Look for what is missing.

    Args:
        results: folder that holds `<slide>/`, and `logs/` if the workflow made it.
        slides: names of the slides that count.
        stages: that were wanted, in any order. `train` is of all slides, `train/<model>` of one
            of several models.
        others: slides of which not all stages were wanted, such as those of other splits: what has
            a log and no result has failed.

    Returns:
        What concerns all slides first, then slide by slide in their order; empty only if nothing
        is missing.
    """
    trainings = [stage for stage in stages if stage.partition("/")[0] == "train"]
    untrained = [stage for stage in trainings if not (_model(results, stage) / RECORD).exists()]
    of_models = [_failure(results, "", stage) for stage in untrained]
    per_slide = [stage for stage in stages if stage not in trainings]
    failures = [failure for failure in of_models if failure.log]
    for slide in slides:
        failures += _of_slide(results, slide, per_slide, set(untrained))
    for slide in others:
        failures += [f for f in _of_slide(results, slide, per_slide, set(untrained)) if f.log]
    return failures or of_models


def _of_slide(
    results: Path, slide: str, stages: Sequence[str], untrained: set[str]
) -> list[Failure]:
    """The stages of a slide that could begin, and have no result."""
    lost = {stage for stage in stages if not _is_done(results / slide, stage)} | untrained
    first = [stage for stage in stages if stage in lost and not lost & set(_needs(stage))]
    return [_failure(results, slide, stage) for stage in first]


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """Write the table; its head alone if nothing failed."""
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([field.name for field in fields(Failure)])
        table.writerows(astuple(failure) for failure in failures)


def _needs(stage: str) -> tuple[str, ...]:
    return STARTS_FROM.get(stage, ("pyramid",))


def _is_done(folder: Path, stage: str) -> bool:
    return (folder / LAST_FILES.get(stage, f"{stage}.record.json")).exists()


def _model(results: Path, training: str) -> Path:
    """The folder of a model: `train` is of the only one, `train/<model>` of one of several."""
    return results / "model" / training.partition("/")[2]


def _failure(results: Path, slide: str, stage: str) -> Failure:
    log = results / "logs" / (f"{stage}/{slide}.log" if slide else f"{stage}.log")
    if not log.exists():
        return Failure(slide, stage, "has no result, and no log: the job never began", "")
    return Failure(slide, stage, _reason(log), str(log))


def _reason(log: Path) -> str:
    """The error that ended the job; failing that its last lines."""
    text = _COLOUR.sub("", log.read_text(encoding="utf-8", errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "ended without a word: killed for its memory or its time, or cancelled"
    errors = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    last = lines[errors[-1] :] if errors else lines[-3:]
    return " ".join(last).removeprefix("error: ")[:_LENGTH]
