"""Training on features of tiles: from a sheet, features and settings to a model file."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saccade.models.slide_heads import SlideHead
from saccade.pipeline.bags.cohort import Bag, Bags, load_bags, tensors_of
from saccade.pipeline.bags.config import BagsConfig
from saccade.pipeline.bags.model_file import BagCard, load_bag_model, save_bag_model
from saccade.pipeline.epochs import adamw, fit_epoch, run_epochs
from saccade.pipeline.files import atomic_path, write_json
from saccade.pipeline.lock import exclusive
from saccade.pipeline.metrics.classification import classification_metrics
from saccade.pipeline.record import RECORD, Record, Stopwatch
from saccade.pipeline.seeds import seed_for
from saccade.pipeline.sheet import SheetRow, classes_of
from saccade.pipeline.tasks.probabilities import class_weights
from saccade.pipeline.train import Report, TrainingResult
from saccade.pipeline.yaml_config import config_dict


def train_on_features(
    config: BagsConfig,
    rows: Sequence[SheetRow],
    out: Path,
    *,
    device: str = "cpu",
    replace: bool = False,
    report: Report = lambda _: None,
    progress: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Train on the slides of split `train`; choose the epoch by those of split `val`.

    What the best epoch says of the slides of split `test` is in `results/`.

    Args:
        config: all settings.
        rows: the sample sheet; slides themselves are not opened.
        out: folder of the run; a run that was cut off there goes on.
        device: cpu, cuda, cuda:1.
        replace: start anew if `out` holds a run with other settings, features or code.
        report: called with the metrics of each epoch.
        progress: called with (done, all) while features are looked through.

    Raises:
        SheetError: if the sheet has too few slides with features.
        ResultsError: if `out` holds another run that is not to be replaced.
        FeaturesError: if features change while they are trained on.
        DivergedError: if the loss is no longer a number.
    """
    with exclusive(out):
        watch = Stopwatch()
        folder = Path(config.features.folder)
        bags = load_bags(rows, classes_of(rows), folder, config.model, progress=progress)
        model = _fresh_model(config, bags).to(device)
        record = _record(config, bags, device)
        (out / RECORD).unlink(missing_ok=True)  # it says that a run is finished
        history = _run(config, model, bags, out, record, replace=replace, report=report)
        _judge_held_out(out, bags, device)
        write_json(out / RECORD, Record(record.step, record.inputs, watch.cost()).as_dict())
        return TrainingResult(out / "model.safetensors", history, bags.failures)


def _fresh_model(config: BagsConfig, bags: Bags) -> SlideHead:
    torch.manual_seed(seed_for("initialisation", config.training.seed))
    model = bags.card.build()
    model.scale.set(torch.from_numpy(bags.mean).float(), torch.from_numpy(bags.std).float())
    return model


def _run(
    config: BagsConfig,
    model: SlideHead,
    bags: Bags,
    out: Path,
    record: Record,
    *,
    replace: bool,
    report: Report,
) -> list[dict[str, Any]]:
    settings, optimizer = config.training, adamw(config.training, model)
    weights = class_weights(
        [bag.label for bag in bags.train], len(bags.card.classes), settings.class_weights
    )

    def loss_of(bag: Bag) -> Tensor:
        cost: Tensor = -weights[bag.label] * _log_probs(model, bag, bags.card)[bag.label]
        return cost

    def make_epoch(epoch: int) -> dict[str, Any]:
        loss = fit_epoch(settings, model, optimizer, bags.train, epoch, loss_of)
        return {"train": {"loss": loss}, "val": _metrics(judge(model, bags.val, bags.card))}

    def save(path: Path, found: Mapping[str, Tensor], line: Mapping[str, Any]) -> None:
        save_bag_model(path, found, dataclasses.replace(bags.card, training=line))

    return run_epochs(
        settings,
        model,
        optimizer,
        out,
        key=json.dumps([record.step, record.inputs, record.code], sort_keys=True),
        make_epoch=make_epoch,
        save=save,
        replace=replace,
        report=report,
    )


@torch.no_grad()
def judge(model: SlideHead, bags: Sequence[Bag], card: BagCard) -> list[tuple[Bag, list[float]]]:
    """Each slide with the probabilities of its classes."""
    model.eval()
    # A softmax, so that they sum to 1 in float64 too.
    return [(bag, _log_probs(model, bag, card).double().softmax(dim=0).tolist()) for bag in bags]


def _log_probs(model: SlideHead, bag: Bag, card: BagCard) -> Tensor:
    device = model.scale.mean.device
    tiles, cells = (each.to(device) for each in tensors_of(bag, card))
    log_probs: Tensor = model(tiles, cells).log_probs
    return log_probs.cpu()


def _metrics(judged: Sequence[tuple[Bag, list[float]]]) -> dict[str, Any]:
    if not judged:
        return {}
    probabilities = torch.tensor([probs for _, probs in judged], dtype=torch.float64)
    labels = torch.tensor([bag.label for bag, _ in judged])
    return classification_metrics(probabilities.numpy(), labels.numpy())


def _judge_held_out(out: Path, bags: Bags, device: str) -> None:
    """Write what the best epoch says of the slides of split `test`, and how good it is."""
    results = out / "results"
    for name in ("predictions.csv", "metrics.json"):
        (results / name).unlink(missing_ok=True)
    if not bags.test:
        return
    model, card = load_bag_model(out / "model.safetensors", device)
    judged = judge(model, bags.test, card)
    with atomic_path(results / "predictions.csv") as partial:
        _write_table(partial, judged, card.classes)
    write_json(results / "metrics.json", {"slides": len(judged), **_metrics(judged)})


def _write_table(
    path: Path, judged: Sequence[tuple[Bag, list[float]]], classes: Sequence[str]
) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["slide", "label", "predicted", *(f"prob_{name}" for name in classes)])
        for bag, probs in judged:
            predicted = classes[max(range(len(probs)), key=probs.__getitem__)]
            cells = (f"{p:.6f}" for p in probs)
            table.writerow([bag.name, classes[bag.label], predicted, *cells])


def _record(config: BagsConfig, bags: Bags, device: str) -> Record:
    settings = config_dict(config)
    del settings["features"]["folder"]  # what lies in it counts, and not where it is
    classes = bags.card.classes
    return Record(
        step="train features",
        inputs={
            "config": settings,
            "classes": list(classes),
            "train": {bag.name: classes[bag.label] for bag in bags.train},
            "val": {bag.name: classes[bag.label] for bag in bags.val},
            "test": {bag.name: classes[bag.label] for bag in bags.test},
            "features": bags.hashes,
            "device": torch.device(device).type,
        },
    )
