"""Cross-validation: a model for each fold, judged by the slides that it has not seen.

`out` holds `folds.csv`, and for each fold `fold_<i>/` with its `slides.csv`, all that a training
run leaves, and `results/` with the predictions of the slides it holds out, their table and metrics.
When all folds are there, `cross_validation.json` says how good they are together. Folds may be
trained by several processes at once; whoever comes last writes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saccade.pipeline.config import RunConfig
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.evaluate import evaluate
from saccade.pipeline.files import write_json
from saccade.pipeline.metrics.spread import spread
from saccade.pipeline.options import PredictOptions
from saccade.pipeline.predict import predict_slide
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.record import RECORD
from saccade.pipeline.sheet import SheetRow, of_split
from saccade.pipeline.splits import folder_of, write_folds
from saccade.pipeline.train import Report, train
from saccade.tiling.errors import SlideError

SUMMARY = "cross_validation.json"


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """What came of it.

    Attributes:
        summary: what `cross_validation.json` holds; None while folds are missing.
        failures: slides that could not be used, by name.
    """

    summary: Mapping[str, Any] | None
    failures: dict[str, str]


def cross_validate(
    config: RunConfig,
    rows: Sequence[SheetRow],
    out: Path,
    *,
    only: int | None = None,
    pyramids: Path | None = None,
    device: str = "cpu",
    replace: bool = False,
    report: Report = lambda _: None,
    announce: Callable[[int], None] = lambda _: None,
    progress: Callable[[int, int], None] | None = None,
) -> CrossValidation:
    """Train one fold or all in turn, and predict what each holds out; goes on where it stopped.

    Args:
        config: all settings; `splits` says how many folds.
        rows: the sample sheet.
        out: folder for all folds.
        only: the fold to train; all if None.
        pyramids: as in `train`; `out` if not given, shared by all folds.
        device: cpu, cuda, cuda:1.
        replace: deal and train anew where `out` holds something else.
        report: called with the metrics of each epoch.
        announce: called with the number of each fold before it is trained.
        progress: called with (done, all) while slides are opened.

    Raises:
        ConfigError: if there is no such fold.
        SheetError: if a class has fewer patients than there are folds.
        ResultsError: if `out` holds other folds that are not to be replaced.
    """
    folds = config.splits.folds
    chosen = folds_to_train(folds, only)
    sheets = write_folds(
        rows, out, folds, seed=config.splits.seed, replace=replace, task=config.task
    )
    pyramids, failures = pyramids or out, dict[str, str]()
    for fold in chosen:
        announce(fold)
        folder = folder_of(out, fold)
        # First, or a run killed now would leave metrics of models that are no longer there.
        (out / SUMMARY).unlink(missing_ok=True)
        (folder / "results" / "metrics.json").unlink(missing_ok=True)
        trained = train(
            config,
            sheets[fold],
            folder,
            pyramids=pyramids,
            device=device,
            replace=replace,
            report=report,
            progress=progress,
        )
        options = PredictOptions(device=device, workers=config.training.workers)
        held_out = of_split(sheets[fold], "test")
        failures |= trained.failures | _predict(trained.model, held_out, pyramids, options)
        evaluate(folder / "results", held_out, folder / "results")
    return CrossValidation(summarise(out, folds), failures)


def folds_to_train(folds: int, only: int | None) -> Sequence[int]:
    """All folds, or the one that was asked for.

    Raises:
        ConfigError: if there is no such fold.
    """
    if only is None:
        return range(folds)
    if not 0 <= only < folds:
        known = f"folds 0 to {folds - 1}" if folds else "no folds: set splits.folds in the settings"
        raise ConfigError(f"there is no fold {only}; there are {known}.")
    return [only]


def _predict(
    model: Path, rows: Sequence[SheetRow], pyramids: Path, options: PredictOptions
) -> dict[str, str]:
    """Predict slides beside their model; return what was wrong with those that failed."""
    failures = {}
    for row in rows:
        try:
            predict_slide(
                SlideRef(row.path, row.mpp),
                model,
                model.parent / "results" / row.slide,
                options,
                name=row.slide,
                pyramid_path=pyramids / row.slide / "pyramid.zarr",
            )
        except SlideError as error:
            failures[row.slide] = str(error)
    return failures


def summarise(out: Path, folds: int) -> Mapping[str, Any] | None:
    """Mean and spread over the folds, once all of them are there with the same settings."""
    found = [_metrics(folder_of(out, fold)) for fold in range(folds)]
    settings = {json.dumps(each[0], sort_keys=True) for each in found if each}
    if not all(found) or len(settings) != 1:
        return None
    metrics = [{"fold": fold, **each[1]} for fold, each in enumerate(found) if each]
    summary = {"folds": metrics, "metrics": spread(metrics)}
    write_json(out / SUMMARY, summary)
    return summary


def _metrics(folder: Path) -> tuple[Any, dict[str, Any]] | None:
    """Settings and code that a finished fold was trained with, and its metrics."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        metrics = json.loads((folder / "results" / "metrics.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    metrics.pop("reliability", None)  # a table; it stays with its fold
    return [record["inputs"]["config"], record["code"]], metrics
