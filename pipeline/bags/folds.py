"""Cross-validation over features: a model for each fold, judged by the slides it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from saccade.pipeline.bags.config import BagsConfig
from saccade.pipeline.bags.train import train_on_features
from saccade.pipeline.cross_validation import SUMMARY, CrossValidation, folds_to_train, summarise
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.splits import folder_of, write_folds
from saccade.pipeline.train import Report


def cross_validate_features(
    config: BagsConfig,
    rows: Sequence[SheetRow],
    out: Path,
    *,
    only: int | None = None,
    device: str = "cpu",
    replace: bool = False,
    report: Report = lambda _: None,
    announce: Callable[[int], None] = lambda _: None,
    progress: Callable[[int, int], None] | None = None,
) -> CrossValidation:
    """Train one fold or all in turn; goes on where it stopped.

    Args and errors as `cross_validation.cross_validate` has them, over features.
    """
    folds = config.splits.folds
    chosen = folds_to_train(folds, only)
    sheets = write_folds(rows, out, folds, seed=config.splits.seed, replace=replace)
    failures: dict[str, str] = {}
    for fold in chosen:
        announce(fold)
        # First, or a run killed now would leave a summary of models that are no longer there.
        (out / SUMMARY).unlink(missing_ok=True)
        failures |= train_on_features(
            config,
            sheets[fold],
            folder_of(out, fold),
            device=device,
            replace=replace,
            report=report,
            progress=progress,
        ).failures
    return CrossValidation(summarise(out, folds), failures)
