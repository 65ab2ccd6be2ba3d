"""A cohort's predictions in one table, and how good they are where labels are known."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saccade.pipeline.errors import ResultsError
from saccade.pipeline.export.reliability_picture import draw_reliability
from saccade.pipeline.files import atomic_path, write_json
from saccade.pipeline.metrics.classification import auc_interval, classification_metrics
from saccade.pipeline.record import RECORD
from saccade.pipeline.reliability import Bin, reliability
from saccade.pipeline.sheet import SheetRow

_KEYS = ("label", "probabilities", "tiles_read", "share_of_level_0_read")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A cohort's predictions.

    Attributes:
        metrics: of the slides with a label; empty if there are none.
        missing: slides of the sheet without a prediction.
    """

    metrics: dict[str, Any]
    missing: list[str]


def evaluate(results: Path, rows: Sequence[SheetRow], out: Path) -> Evaluation:
    """Write `summary.csv` (a row a slide), `metrics.json` and, with labels, `calibration.png`.

    Args:
        results: folder that holds `<slide>/prediction.json` and its `record.json`; without the
            record a prediction is unfinished, and counts as missing.
        rows: the slides that count.
        out: folder to write to.

    Raises:
        ResultsError: if no slide has a prediction, one is damaged, or they are of different models.
    """
    found = {row.slide: _read(results / row.slide) for row in rows}
    missing = [slide for slide, prediction in found.items() if prediction is None]
    predicted = [(row, found[row.slide]) for row in rows if found[row.slide] is not None]
    if not predicted:
        raise ResultsError(
            f"{results}: holds no prediction of the {len(rows)} slides of the sheet; wanted "
            f"{results}/<slide>/prediction.json, as `saccade predict` writes it."
        )
    classes = _classes(predicted)
    _write_table(out / "summary.csv", classes, rows, found)
    metrics, table = _metrics(classes, predicted)
    (out / "calibration.png").unlink(missing_ok=True)
    if table:
        draw_reliability(out / "calibration.png", table)
    bins = [asdict(each) for each in table]
    write_json(out / "metrics.json", {**metrics, "reliability": bins, "missing": missing})
    return Evaluation(metrics, missing)


def _read(folder: Path) -> dict[str, Any] | None:
    """What was predicted, with the hash of the model that did."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        prediction = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
        model = record["inputs"]["model"]
        return {**{key: prediction[key] for key in _KEYS}, "model": model}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{folder}: holds no prediction of `saccade predict` ({error!r}). Predict this slide "
            "again with --force."
        ) from error


def _classes(predicted: Sequence[tuple[SheetRow, Any]]) -> tuple[str, ...]:
    row, first = predicted[0]
    for other, prediction in predicted:
        if prediction["model"] != first["model"]:
            raise ResultsError(
                f"the predictions of {row.slide} and {other.slide} are of different models "
                f"({first['model'][:15]}, {prediction['model'][:15]}). Predict all slides with one."
            )
    return tuple(first["probabilities"])


def _write_table(
    path: Path, classes: Sequence[str], rows: Sequence[SheetRow], found: dict[str, Any]
) -> None:
    header = ["slide", "patient", "split", "label", "predicted", *(f"prob_{c}" for c in classes)]
    header += ["tiles_read", "share_of_level_0_read", "status"]
    with atomic_path(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, header, restval="")
        table.writeheader()
        for row in rows:
            line = {"slide": row.slide, "patient": row.patient, "split": row.split}
            table.writerow({**line, "label": row.label, **_cells(found[row.slide])})


def _cells(prediction: dict[str, Any] | None) -> dict[str, Any]:
    if prediction is None:
        return {"status": "missing"}
    return {
        "predicted": prediction["label"],
        **{f"prob_{name}": f"{p:.6f}" for name, p in prediction["probabilities"].items()},
        "tiles_read": prediction["tiles_read"],
        "share_of_level_0_read": f"{prediction['share_of_level_0_read']:.3g}",
        "status": "ok",
    }


def _metrics(
    classes: Sequence[str], predicted: Sequence[tuple[SheetRow, Any]]
) -> tuple[dict[str, Any], list[Bin]]:
    labelled = [(row.label, p) for row, p in predicted if row.label in classes]
    if not labelled:
        return {"slides": 0}, []
    labels = np.array([classes.index(label) for label, _ in labelled])
    probabilities = np.array([[p["probabilities"][c] for c in classes] for _, p in labelled])
    metrics: dict[str, Any] = {"slides": len(labelled)}
    metrics |= classification_metrics(probabilities, labels)
    if len(classes) == 2 and len(set(labels)) == 2:
        metrics["auc_interval_95"] = auc_interval(probabilities[:, 1], labels)
    return metrics, reliability(probabilities, labels)
