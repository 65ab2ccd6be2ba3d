"""The epochs of a saliency run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from saccade.models.saliency import MSINet
from saccade.pipeline import epochs
from saccade.pipeline.saliency.config import SaliencyTrainingConfig
from saccade.pipeline.saliency.fit import Example, make_bench, train_epoch, validate
from saccade.pipeline.saliency_model import SaliencyCard, save_saliency_model
from saccade.pipeline.train import Report


def run_epochs(
    settings: SaliencyTrainingConfig,
    model: MSINet,
    card: SaliencyCard,
    train: Sequence[Example],
    val: Sequence[Example],
    out: Path,
    *,
    key: str,
    replace: bool = False,
    report: Report = lambda _: None,
) -> list[dict[str, Any]]:
    """Run the epochs that are still to run; returns the metrics of all of them.

    Args:
        settings: of the training.
        model: with its first weights, on its device.
        card: what is to be said of it.
        train: to fit.
        val: to choose the best epoch by; may be empty.
        out: folder of the run, which the caller holds.
        key: what the run depends on, as text: a checkpoint of another key is of another run.
        replace: start anew if there is one of another key.
        report: called with the metrics of each epoch.

    Raises:
        ResultsError: if `out` holds another run that is not to be replaced.
        DivergedError: if the loss is no longer a number.
    """
    bench = make_bench(settings, model)

    def make_epoch(epoch: int) -> dict[str, Any]:
        metrics = train_epoch(bench, train, epoch)
        return {"train": metrics, "val": validate(bench, val)}

    def save(path: Path, weights: Mapping[str, Tensor], line: Mapping[str, Any]) -> None:
        said = dataclasses.replace(card, training={**card.training, **line})
        save_saliency_model(path, weights, said)

    return epochs.run_epochs(
        settings,
        model,
        bench.optimizer,
        out,
        key=key,
        make_epoch=make_epoch,
        save=save,
        replace=replace,
        report=report,
    )
