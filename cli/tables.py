"""Results as lines for a person."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saccade.pipeline.failures import FAILURES, Failure
from saccade.pipeline.sheet import SheetRow

_METRICS = {
    "accuracy": "accuracy",
    "mae": "mean absolute error",
    "r2": "R2",
    "c_index": "C-index",
    "average_precision": "average precision",
    "auc": "AUC",
}
"""How metrics are called, in the order in which they are said; the AUC's interval comes last."""
_FOLLOWED = {
    "loss": "loss",
    "auc": "auc",
    "r2": "R2",
    "c_index": "C-index",
    "mean_iu": "mIoU",
    "ap50": "AP50",
    "f1": "F1",
}


def epoch_line(line: Mapping[str, Any], epochs: int) -> str:
    """One epoch's metrics."""
    train, val = line["train"], line["val"]
    parts = [f"epoch {line['epoch']:>3}/{epochs}", f"train loss {train['loss']:.3f}"]
    parts += [f"val {said} {val[name]:.3f}" for name, said in _FOLLOWED.items() if name in val]
    return "  ".join(parts)


def split_line(rows: Sequence[SheetRow]) -> str:
    """How many slides each split of a sheet has."""
    counts = Counter(row.split for row in rows)
    return ", ".join(f"{counts[name]} {name}" for name in ("train", "val", "test"))


def cross_validation_lines(out: Path, summary: Mapping[str, Any] | None) -> list[str]:
    """Mean and spread of each metric; what is missing while there is no summary."""
    if summary is None:
        return [f"{out}: other folds are still to be trained with these settings"]
    return [*_spread_lines(summary), f"{out / 'cross_validation.json'}"]


def judged_lines(metrics: Mapping[str, Any]) -> list[str]:
    """A cohort's metrics; of folds their mean and spread."""
    return _spread_lines(metrics) if "folds" in metrics else [metrics_line(metrics)]


def _spread_lines(summary: Mapping[str, Any]) -> list[str]:
    lines = [f"held-out slides of {len(summary['folds'])} folds, mean and standard deviation:"]
    for name, each in summary["metrics"].items():
        spread = "" if each["sd"] is None else f" +- {each['sd']:.3f}"
        lines.append(f"  {name:20}{each['mean']:.3f}{spread}")
    return lines


def prediction_line(out: Path) -> str:
    """A slide's prediction, read from its folder."""
    prediction = json.loads((out / "prediction.json").read_text(encoding="utf-8"))
    doubts = "".join(f"\nnote: {doubt}" for doubt in prediction["doubts"])
    return (
        f"{prediction['slide']}: {_verdict(prediction)}, "
        f"{_ended(prediction)}{prediction['tiles_read']} tiles read, "
        f"{prediction['share_of_level_0_read']:.2%} of level 0; see {out / 'attention.png'}{doubts}"
    )


def _verdict(prediction: Mapping[str, Any]) -> str:
    """What was predicted, in the words of its task."""
    if "values" in prediction:
        return _numbers(prediction)
    if "log_risk" in prediction:
        ends = _ends(prediction, "log_risk", "+.2f")
        return f"log risk {prediction['log_risk']:+.2f}" + (ends and f" ({ends})")
    named = [prediction["label"]] if "label" in prediction else prediction["labels"]
    if not named:
        return f"none of {', '.join(prediction['probabilities'])}"
    return " and ".join(f"{name} ({_chance(prediction, name)})" for name in named)


def _chance(prediction: Mapping[str, Any], name: str) -> str:
    ends = _ends(prediction, name, ".1%")
    return f"{prediction['probabilities'][name]:.1%}" + (ends and f"; {ends}")


def _numbers(prediction: Mapping[str, Any]) -> str:
    values, units = prediction["values"], prediction["task"]["units"]
    said = []
    for (name, value), unit in zip(values.items(), units or [""] * len(values), strict=True):
        ends = _ends(prediction, name, ".4g")
        said.append(f"{name} {value:.4g} {unit}".strip() + (ends and f" ({ends})"))
    return ", ".join(said)


def _ends(prediction: Mapping[str, Any], name: str, number: str) -> str:
    """From where to where chance may have moved an outcome; empty where nothing is known of it."""
    if prediction["intervals_95"] is None:
        return ""
    lower, upper = prediction["intervals_95"][name]
    return f"{lower:{number}} to {upper:{number}} by the chance of the draw"


def _ended(prediction: Mapping[str, Any]) -> str:
    said = {"sure": "sure after ", "budget": "not sure after ", "all read": "all "}
    return said.get(prediction["ended"], "")


def metrics_line(metrics: Mapping[str, Any]) -> str:
    """A cohort's metrics."""
    if not metrics["slides"]:
        return "no slide has a label, so there are no metrics"
    parts = [f"{metrics['slides']} slides"]
    parts += [f"{words} {metrics[name]:.3f}" for name, words in _METRICS.items() if name in metrics]
    if "auc_interval_95" in metrics:
        lower, upper = metrics["auc_interval_95"]
        parts[-1] += f" (95 % interval {lower:.3f} to {upper:.3f})"
    return ", ".join(parts)


def failure_table(failures: Mapping[str, str]) -> str:
    """Every slide that could not be used, and why; a line each, so that a log can be searched."""
    width = max(map(len, failures))
    lines = [f"  {slide:{width}}  {' '.join(why.split())}" for slide, why in failures.items()]
    return "\n".join([f"slides that could not be used: {len(failures)}", *lines])


def missing_table(out: Path, failures: Sequence[Failure]) -> str:
    """Every result that is missing, and why; a line each."""
    width = max(len(failure.slide) for failure in failures)
    lines = [f"  {each.slide:{width}}  {each.stage}: {each.reason}" for each in failures]
    return "\n".join([f"results that are missing: {len(failures)}; see {out / FAILURES}", *lines])
