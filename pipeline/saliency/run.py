"""The epochs of a saliency run, kept on disk: it resumes, and ends as an uninterrupted one would.

The folder holds what that of any training run holds: `model.safetensors` (the best epoch by
validation loss; the last one without validation), `last.safetensors`, `metrics.jsonl` and
`checkpoint.pt`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from saccade.models.saliency import MSINet
from saccade.pipeline.checkpoint import (
    CHECKPOINT,
    RunState,
    load_checkpoint,
    save_checkpoint,
    weights_of,
)
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
    state = load_checkpoint(out / CHECKPOINT, model, bench.optimizer, key, replace=replace)
    if state.epoch:
        # A workflow deletes the outputs of a job that was cut off; the checkpoint is none of them.
        _write_outputs(out, state, model, card)
    while not state.is_finished(settings):
        metrics = train_epoch(bench, train, state.epoch)
        line = {"epoch": state.epoch + 1, "train": metrics, "val": validate(bench, val)}
        state.end_epoch(line, model)
        _write_outputs(out, state, model, card)
        # Last, so that a run killed before this line repeats the epoch and writes the same again.
        save_checkpoint(out / CHECKPOINT, state, model, bench.optimizer, key)
        report(line)
    return state.history


def _write_outputs(out: Path, state: RunState, model: MSINet, card: SaliencyCard) -> None:
    found: Mapping[str, tuple[Mapping[str, Tensor], int]] = {
        "model.safetensors": (state.best_weights, state.best_epoch),
        "last.safetensors": (weights_of(model), state.epoch),
    }
    for name, (weights, epoch) in found.items():
        training = {**card.training, **state.history[epoch - 1]}
        save_saliency_model(out / name, weights, dataclasses.replace(card, training=training))
    state.write_history(out)
