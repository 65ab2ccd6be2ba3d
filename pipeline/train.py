"""Training: attention and features together, from one label a slide.

A run's folder holds `model.safetensors` (the best epoch by validation loss; the last one where no
slide has split `val`), `last.safetensors`, `metrics.jsonl` (a line an epoch), `record.json`, and
`checkpoint.pt`, from which the next call goes on, also within an epoch: randomness hangs on (seed,
epoch, slide), so a resumed run ends with the weights of an uninterrupted one.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saccade.models.attention_sampling import AttentionSampling
from saccade.models.build import build_model
from saccade.models.finetune import choose_what_learns, parameter_groups
from saccade.pipeline.bench import Bench
from saccade.pipeline.calibration import calibration_of
from saccade.pipeline.checkpoint import (
    CHECKPOINT,
    RunState,
    load_checkpoint,
    save_checkpoint,
    weights_of,
)
from saccade.pipeline.cohort import Cohort, load_cohort
from saccade.pipeline.config import RunConfig
from saccade.pipeline.device import require_precision
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.files import write_json
from saccade.pipeline.fit import train_epoch, validate
from saccade.pipeline.lock import exclusive
from saccade.pipeline.model_file import ModelCard, load_encoder_weights, save_model
from saccade.pipeline.ranks import Ranks
from saccade.pipeline.reading import TileReader
from saccade.pipeline.record import RECORD, Record, Stopwatch
from saccade.pipeline.seeds import seed_for
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.tasks.choose import new_task
from saccade.pipeline.tasks.truth import truth_of
from saccade.pipeline.yaml_config import config_dict

_ALONE = Ranks()

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Where the model is, its metrics by epoch, and the slides that could not be used, by name."""

    model: Path
    history: list[dict[str, Any]]
    failures: dict[str, str]


def train(
    config: RunConfig,
    rows: Sequence[SheetRow],
    out: Path,
    *,
    pyramids: Path | None = None,
    device: str = "cpu",
    replace: bool = False,
    report: Report = lambda _: None,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks = _ALONE,
) -> TrainingResult:
    """Train on the slides of split `train`; choose the epoch by those of split `val`.

    Args:
        config: all settings.
        rows: the sample sheet.
        out: folder of the run; a run that was cut off there goes on.
        pyramids: folder that holds `<slide>/pyramid.zarr`; missing ones are built there.
            `out` if not given.
        device: cpu, cuda, cuda:1.
        replace: start anew if `out` holds a run with other settings, slides or code.
        report: called with the metrics of each epoch.
        progress: called with (done, all) while slides are opened.
        ranks: the processes that train together, all of which call this alike. The first one
            writes the files.

    Raises:
        SheetError: if the sheet has too few usable slides, or labels that the task does not want.
        ResultsError: if `out` holds another run that is not to be replaced.
        ModelFileError: if the encoder's weights cannot be read.
        ConfigError: if there is no network of a name that the settings ask for.
            Or if `device` does not compute in the precision asked for.
        DivergedError: if the loss is no longer a number.
        RanksError: if another process is gone.
    """
    require_precision(config.training.precision, device)
    with exclusive(out) if ranks.first else nullcontext():
        watch = Stopwatch()
        truth = truth_of(config.task, rows)
        model = _on_device(_fresh_model(config, len(truth.names)), config, device, ranks)
        cohort = load_cohort(
            rows,
            truth,
            pyramids or out,
            config,
            stride=model.attention.stride,
            progress=progress,
            ranks=ranks,
        )
        record = _record(config, cohort, device, ranks)
        with TileReader(
            size_px=config.tiles.size_px, mpp=config.tiles.mpp, workers=config.training.workers
        ) as reader:
            bench = _bench(config, model, cohort, reader, ranks)
            state = load_checkpoint(
                out / CHECKPOINT, bench.model, bench.optimizer, _key(record), replace=replace
            )
            _fit(state, bench, cohort, out, record, report)
        cost = watch.cost(
            tiles_read=sum(line["train"]["tiles_read"] for line in state.history),
            step_seconds=round(bench.spent.seconds, 3),
            waited_seconds=round(bench.spent.waited, 3),
        )
        if ranks.first:
            write_json(out / RECORD, Record(record.step, record.inputs, cost).as_dict())
        failures = cohort.failures | state.failures
        return TrainingResult(out / "model.safetensors", state.history, failures)


def _fresh_model(config: RunConfig, outputs: int) -> AttentionSampling:
    torch.manual_seed(seed_for("initialisation", config.training.seed))
    weights = config.model.weights
    try:
        return _build(config, outputs, weights)
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error


def _on_device(
    model: AttentionSampling, config: RunConfig, device: str, ranks: Ranks = _ALONE
) -> AttentionSampling:
    """The model where it trains, computing in the precision that was asked for."""
    if config.training.precision == "bf16":
        model.compute_dtype = torch.bfloat16
    # Tiles come with their channels last: so laid out, weights need no copy of them.
    _warn_of_batch_norm(model, config, ranks)
    return model.to(device).to(memory_format=torch.channels_last)


def _warn_of_batch_norm(model: AttentionSampling, config: RunConfig, ranks: Ranks) -> None:
    parts = config.training.accumulate * ranks.count
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if parts > 1 and norms and ranks.first:
        warnings.warn(
            f"{config.model.encoder} normalises by its batch, which is {config.training.batch} "
            f"slides, not the {parts} times as many of a step; of several processes the first's "
            "statistics are kept. A larger training.batch makes them truer.",
            stacklevel=2,
        )


def _build(config: RunConfig, outputs: int, weights: str | None) -> AttentionSampling:
    return build_model(
        attention=config.model.attention,
        density_gain=config.model.density_gain,
        encoder=config.model.encoder,
        attention_module=config.model.attention_module,
        spatial_transformer=config.model.spatial_transformer,
        transformer_px=config.model.transformer_px,
        classes=outputs,
        smooth=config.model.smooth,
        unit_features=config.model.unit_features,
        pretrained=config.model.pretrained,
        state_dict=None if weights is None else load_encoder_weights(Path(weights)),
    )


def _bench(
    config: RunConfig,
    model: AttentionSampling,
    cohort: Cohort,
    reader: TileReader,
    ranks: Ranks = _ALONE,
) -> Bench:
    settings = config.training
    device = next(model.parameters()).device
    targets = [example.target for example in cohort.train]
    choose_what_learns(model.encoder, settings.finetune)
    groups = parameter_groups(
        model, weight_decay=settings.weight_decay, layer_decay=settings.layer_decay
    )
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    task = new_task(config.task, cohort.truth.names, targets)
    train = torch.tensor(targets, dtype=torch.float64, device=device)
    criterion = task.criterion(train, settings.class_weights)
    return Bench(config, model, optimizer, reader, task, criterion, ranks)


def _record(config: RunConfig, cohort: Cohort, device: str, ranks: Ranks) -> Record:
    settings = config_dict(config)
    del settings["training"]["workers"]  # changes no result, so a run may go on with others
    return Record(
        step="train",
        inputs={
            "config": settings,
            "outputs": list(cohort.truth.names),
            "train": {e.subject.name: cohort.truth.told(e.target) for e in cohort.train},
            "val": {e.subject.name: cohort.truth.told(e.target) for e in cohort.val},
            "slides": cohort.hashes,
            **({"priors": cohort.priors} if cohort.priors else {}),
            "device": torch.device(device).type,
            "processes": ranks.count,
        },
    )


def _key(record: Record) -> str:
    """What a run depends on, as text: a checkpoint of another key is of another run."""
    return json.dumps([record.inputs, record.code], sort_keys=True)


def _fit(
    state: RunState, bench: Bench, cohort: Cohort, out: Path, record: Record, report: Report
) -> None:
    """Run the epochs that are still to run, keeping the best model and the last."""
    first = bench.ranks.first
    if first:  # the record says that a run is finished, and this one is not
        (out / RECORD).unlink(missing_ok=True)
    bench.failures.update(state.failures)
    if state.epoch and first:
        # A workflow deletes the outputs of a job that was cut off; the checkpoint is none of them.
        _write_outputs(out, bench, state)

    def keep() -> None:
        state.failures = dict(bench.failures)
        if first:
            save_checkpoint(out / CHECKPOINT, state, bench.model, bench.optimizer, _key(record))

    while not state.is_finished(bench.config.training):
        metrics = train_epoch(bench, cohort.train, state.epoch, state.under_way, keep)
        val = validate(bench, cohort.val)
        line = {"epoch": state.epoch + 1, "train": metrics, "val": val}
        state.end_epoch(line, bench.model)
        if first:
            _write_outputs(out, bench, state)
        # After them, so that a run killed before this line comes here again and writes the same.
        keep()
        if first:
            report(line)


def _write_outputs(out: Path, bench: Bench, state: RunState) -> None:
    for name, weights, epoch in (
        ("model.safetensors", state.best_weights, state.best_epoch),
        ("last.safetensors", weights_of(bench.model), state.epoch),
    ):
        line = state.history[epoch - 1]
        card = ModelCard.of(bench.config, bench.task, line, calibration_of(line["val"]))
        save_model(out / name, weights, card)
    state.write_history(out)
