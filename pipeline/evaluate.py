"""A cohort's predictions in one table, and how good they are where labels are known."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saccade.pipeline.errors import ResultsError
from saccade.pipeline.export.reliability_picture import draw_reliability
from saccade.pipeline.failures import FAILURES, Failure, find_failures, write_failures
from saccade.pipeline.files import atomic_path, write_json
from saccade.pipeline.metrics.classification import auc_interval
from saccade.pipeline.metrics.spread import spread
from saccade.pipeline.record import RECORD
from saccade.pipeline.reliability import Bin, reliability
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.tasks.choose import task_of
from saccade.pipeline.tasks.classes import Classes
from saccade.pipeline.tasks.task import Task
from saccade.pipeline.tasks.truth import Truth, truth_for

_KEYS = ("tiles_read", "share_of_level_0_read")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A cohort's predictions.

    Attributes:
        metrics: of the slides with a label; empty if there are none.
        missing: slides of the sheet without a prediction.
        failures: every result that is missing, and why.
    """

    metrics: dict[str, Any]
    missing: list[str]
    failures: list[Failure]


def evaluate(
    results: Path,
    rows: Sequence[SheetRow],
    out: Path,
    *,
    stages: Sequence[str] = ("predict",),
    others: Sequence[str] = (),
    folds: Mapping[str, int] | None = None,
) -> Evaluation:
    """Write `summary.csv`, a row a slide, `metrics.json` and, of classes, `calibration.png`.

    And `failures.csv`, a row for each result that is missing; also if nothing can be evaluated.
    Folds have models of their own, whose scores are not put together: each gets its metrics, and
    their mean and spread are said; there is no `calibration.png` then.

    Args:
        results: folder that holds `<slide>/prediction.json` and its `record.json`; without the
            record a prediction is unfinished, and counts as missing.
        rows: the slides that count.
        out: folder to write to.
        stages: whose results are looked for.
        others: further slides that may have failed, as in `find_failures`.
        folds: the fold that holds out each slide, by name; None if one model predicted all.

    Raises:
        ResultsError: if no slide has a prediction, one is damaged, or they are of different models.
        SheetError: if a label is not what the models' task wants.
    """
    failures = find_failures(results, [row.slide for row in rows], stages, others)
    write_failures(out / FAILURES, failures)
    found = {row.slide: _read(results / row.slide) for row in rows}
    missing = [slide for slide, prediction in found.items() if prediction is None]
    predicted = [(row, found[row.slide]) for row in rows if found[row.slide] is not None]
    parts = _parts(predicted, folds)
    if not predicted:
        raise ResultsError(
            f"{results}: holds no prediction of the {len(rows)} slides of the sheet; wanted "
            f"{results}/<slide>/prediction.json, as `saccade predict` writes it."
        )
    (task, *_) = [_task(part) for part in parts.values()]
    truth = truth_for(task.kind, task.names)
    judged = {fold: _metrics(task, truth, part) for fold, part in parts.items()}
    _write_table(out / "summary.csv", truth, rows, found, folds)
    (out / "calibration.png").unlink(missing_ok=True)
    bins = {}
    if folds is None:
        metrics, table = judged[None]
        if table:
            draw_reliability(out / "calibration.png", table)
        if isinstance(task, Classes):
            bins = {"reliability": [asdict(each) for each in table]}
    else:
        by_fold = [{"fold": fold, **each} for fold, (each, _) in judged.items()]
        metrics = {"folds": by_fold, "metrics": spread(by_fold)}
    write_json(out / "metrics.json", {**metrics, **bins, "missing": missing})
    return Evaluation(metrics, missing, failures)


def _read(folder: Path) -> dict[str, Any] | None:
    """What was predicted, with the hash of the model that did."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        prediction = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
        model = record["inputs"]["model"]
        task = task_of(prediction)
        summary = task.summary(np.array(task.read(prediction)))
        kept = {key: prediction[key] for key in _KEYS}
        return {**kept, "summary": summary, "task": task, "model": model}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{folder}: holds no prediction of `saccade predict` ({error!r}). Predict this slide "
            "again with --force."
        ) from error


def _parts(
    predicted: Sequence[tuple[SheetRow, Any]], folds: Mapping[str, int] | None
) -> dict[int | None, list[tuple[SheetRow, Any]]]:
    """What each model predicted: by fold, or all of it."""
    parts: dict[int | None, list[tuple[SheetRow, Any]]] = {}
    for row, prediction in predicted:
        fold = None if folds is None else folds[row.slide]
        parts.setdefault(fold, []).append((row, prediction))
    return dict(sorted(parts.items(), key=lambda part: part[0] or 0))


def _task(predicted: Sequence[tuple[SheetRow, Any]]) -> Task:
    row, first = predicted[0]
    for other, prediction in predicted:
        if prediction["model"] != first["model"]:
            raise ResultsError(
                f"the predictions of {row.slide} and {other.slide} are of different models "
                f"({first['model'][:15]}, {prediction['model'][:15]}). Predict all slides with one."
            )
    task: Task = first["task"]
    return task


def _write_table(
    path: Path,
    truth: Truth,
    rows: Sequence[SheetRow],
    found: dict[str, Any],
    folds: Mapping[str, int] | None,
) -> None:
    lines = [
        {"slide": row.slide, "patient": row.patient, "split": row.split}
        | ({} if folds is None else {"fold": folds[row.slide]})
        | {column: row.cell(column) for column in truth.columns}
        | _cells(found[row.slide])
        for row in rows
    ]
    header = max(lines, key=len)  # a slide without a prediction has fewer cells
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, header, restval="")
        table.writeheader()
        table.writerows(lines)


def _cells(prediction: dict[str, Any] | None) -> dict[str, Any]:
    if prediction is None:
        return {"status": "missing"}
    return {
        **prediction["task"].cells(prediction["summary"]),
        "tiles_read": prediction["tiles_read"],
        "share_of_level_0_read": f"{prediction['share_of_level_0_read']:.3g}",
        "status": "ok",
    }


def _metrics(
    task: Task, truth: Truth, predicted: Sequence[tuple[SheetRow, Any]]
) -> tuple[dict[str, Any], list[Bin]]:
    known = [(truth.target(row), task.read(p["summary"])) for row, p in predicted]
    labelled = [(target, read) for target, read in known if target is not None]
    if not labelled:
        return {"slides": 0}, []
    targets, read = (np.array(each, np.float64) for each in zip(*labelled, strict=True))
    metrics: dict[str, Any] = {"slides": len(labelled)} | task.metrics(read, targets)
    if not isinstance(task, Classes):
        return metrics, []
    labels = targets[:, 0].astype(int)
    if len(task.names) == 2 and len(set(labels)) == 2:
        metrics["auc_interval_95"] = auc_interval(read[:, 1], labels)
    return metrics, reliability(read, labels)
