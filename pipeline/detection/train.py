"""Training a detector on annotated slides, from sheet and settings to a model file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.pipeline.annotations.slides import AnnotatedSlides, load_annotated
from saccade.pipeline.detection.batches import ObjectTiles
from saccade.pipeline.detection.config import DetectionConfig
from saccade.pipeline.detection.first_weights import card_of, fresh_detector
from saccade.pipeline.detection.fit import Bench, make_bench, train_epoch, validate
from saccade.pipeline.detection.model_file import save_detection_model
from saccade.pipeline.epochs import run_epochs
from saccade.pipeline.files import write_json
from saccade.pipeline.lock import exclusive
from saccade.pipeline.reading import TileReader
from saccade.pipeline.record import RECORD, Record, Stopwatch
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.train import Report, TrainingResult
from saccade.pipeline.yaml_config import config_dict


def train_detection(
    config: DetectionConfig,
    rows: Sequence[SheetRow],
    out: Path,
    *,
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
        device: cpu, cuda, cuda:1.
        replace: start anew if `out` holds a run with other settings, slides or code.
        report: called with the metrics of each epoch.
        progress: called with (done, all) while slides are opened.

    Raises:
        SheetError: if no slide of the sheet can be trained on.
        ResultsError: if `out` holds another run that is not to be replaced.
        ModelFileError: if the first weights cannot be read.
        ConfigError: if there is no such detector, or the first weights are of another one.
        DivergedError: if the loss is no longer a number.
    """
    with exclusive(out):
        watch = Stopwatch()
        detector = fresh_detector(config).to(device)
        slides = load_annotated(rows, config, progress=progress)
        record = _record(config, slides, device)
        (out / RECORD).unlink(missing_ok=True)  # it says that a run is finished
        bench = make_bench(config, detector, slides.train)
        with TileReader(
            size_px=config.tiles.size_px, mpp=config.tiles.mpp, workers=config.training.workers
        ) as reader:
            train, val = (
                ObjectTiles(part, config, reader, slides.failures)
                for part in (slides.train, slides.val)
            )
            history = run_epochs(
                config.training,
                detector,
                bench.optimizer,
                out,
                key=json.dumps([record.step, record.inputs, record.code], sort_keys=True),
                make_epoch=lambda epoch: {
                    "train": train_epoch(bench, train, epoch),
                    "val": validate(bench, val),
                },
                save=lambda path, weights, line: _save(bench, path, weights, line),
                replace=replace,
                report=report,
            )
        write_json(out / RECORD, Record(record.step, record.inputs, watch.cost()).as_dict())
        return TrainingResult(out / "model.safetensors", history, slides.failures)


def _save(bench: Bench, path: Path, weights: Mapping[str, Tensor], line: Mapping[str, Any]) -> None:
    """Write a model with what is worth knowing of its training; not where files lay."""
    said = {"annotations": bench.config.annotations.kind}
    save_detection_model(path, weights, card_of(bench.config, {**said, **line}))


def _record(config: DetectionConfig, slides: AnnotatedSlides, device: str) -> Record:
    settings = config_dict(config)
    del settings["annotations"]["folder"]  # what lies in it counts, and not where it is
    del settings["training"]["workers"]  # no result depends on it
    return Record(
        step="train detection",
        inputs={
            "config": settings,
            "train": [each.name for each in slides.train],
            "val": [each.name for each in slides.val],
            "slides_and_annotations": slides.hashes,
            "device": torch.device(device).type,
        },
    )
