"""Training a saliency network on slides: from a sheet and settings to a model file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from saccade.pipeline.files import write_json
from saccade.pipeline.lock import exclusive
from saccade.pipeline.record import RECORD, Record, Stopwatch
from saccade.pipeline.saliency.config import SaliencyConfig
from saccade.pipeline.saliency.examples import Gallery, load_gallery
from saccade.pipeline.saliency.network import card_of, fresh_network
from saccade.pipeline.saliency.run import run_epochs
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.train import Report, TrainingResult
from saccade.pipeline.yaml_config import config_dict


def train_saliency(
    config: SaliencyConfig,
    rows: Sequence[SheetRow],
    out: Path,
    *,
    pyramids: Path | None = None,
    device: str = "cpu",
    replace: bool = False,
    report: Report = lambda _: None,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Train on the slides of split `train`; choose the epoch by those of split `val`.

    Args:
        config: all settings.
        rows: the sample sheet; labels are not asked for.
        out: folder of the run; a run that was cut off there goes on.
        pyramids: folder that holds `<slide>/pyramid.zarr`; missing ones are built there.
            `out` if not given.
        device: cpu, cuda, cuda:1.
        replace: start anew if `out` holds a run with other settings, slides or code.
        report: called with the metrics of each epoch.
        progress: called with (done, all) while slides are opened.

    Raises:
        SheetError: if no slide of the sheet can be trained on.
        ResultsError: if `out` holds another run that is not to be replaced.
        ModelFileError: if the teacher, or the first weights, cannot be read.
        ConfigError: if the first weights are of another network.
        DivergedError: if the loss is no longer a number.
    """
    with exclusive(out):
        watch = Stopwatch()
        model = fresh_network(config.network, seed=config.training.seed).to(device)
        gallery = load_gallery(rows, pyramids or out, config, progress=progress)
        record = _record(config, gallery, device)
        (out / RECORD).unlink(missing_ok=True)  # it says that a run is finished
        history = run_epochs(
            config.training,
            model,
            card_of(config.network, mpp=config.view.mpp, training=_said_of(config)),
            gallery.train,
            gallery.val,
            out,
            key=json.dumps([record.step, record.inputs, record.code], sort_keys=True),
            replace=replace,
            report=report,
        )
        write_json(out / RECORD, Record(record.step, record.inputs, watch.cost()).as_dict())
        return TrainingResult(out / "model.safetensors", history, gallery.failures)


def _said_of(config: SaliencyConfig) -> dict[str, object]:
    """What a model's file says of its training; not where files lay."""
    return {"targets": config.targets.kind, "blur_um": config.targets.blur_um}


def _record(config: SaliencyConfig, gallery: Gallery, device: str) -> Record:
    settings = config_dict(config)
    del settings["targets"]["folder"]  # what lies in it counts, and not where it is
    return Record(
        step="train saliency",
        inputs={
            "config": settings,
            "train": [each.name for each in gallery.train],
            "val": [each.name for each in gallery.val],
            "slides_and_targets": gallery.hashes,
            "device": torch.device(device).type,
        },
    )
