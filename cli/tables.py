"""Results as lines for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def epoch_line(line: Mapping[str, Any], epochs: int) -> str:
    """One epoch's metrics."""
    train, val = line["train"], line["val"]
    parts = [f"epoch {line['epoch']:>3}/{epochs}", f"train loss {train['loss']:.3f}"]
    parts += [f"val {name} {val[name]:.3f}" for name in ("loss", "auc") if name in val]
    return "  ".join(parts)


def prediction_line(out: Path) -> str:
    """A slide's prediction, read from its folder."""
    prediction = json.loads((out / "prediction.json").read_text(encoding="utf-8"))
    probability = prediction["probabilities"][prediction["label"]]
    return (
        f"{prediction['slide']}: {prediction['label']} ({probability:.1%}), "
        f"{prediction['tiles_read']} tiles read, "
        f"{prediction['share_of_level_0_read']:.2%} of level 0; see {out / 'attention.png'}"
    )


def metrics_line(metrics: Mapping[str, Any]) -> str:
    """A cohort's metrics."""
    if not metrics["slides"]:
        return "no slide has a label, so there are no metrics"
    parts = [f"{metrics['slides']} slides", f"accuracy {metrics['accuracy']:.3f}"]
    if "auc" in metrics:
        parts.append(f"AUC {metrics['auc']:.3f}")
    if "auc_interval_95" in metrics:
        lower, upper = metrics["auc_interval_95"]
        parts[-1] += f" (95 % interval {lower:.3f} to {upper:.3f})"
    return ", ".join(parts)


def failure_table(failures: Mapping[str, str]) -> None:
    """Name every slide that could not be used, and why, on stderr."""
    table = Table(title=f"{len(failures)} slides could not be used", title_justify="left")
    table.add_column("slide")
    table.add_column("why")
    for slide, reason in failures.items():
        table.add_row(slide, reason)
    Console(stderr=True).print(table)
