"""Commands that train, or deal slides to train on. `main` gives them their names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saccade.cli.errors import input_errors_in_one_line
from saccade.cli.options import DeviceOption, OutOption, ReplaceOption
from saccade.cli.progress import progress_bar, say

if TYPE_CHECKING:
    from saccade.pipeline.bags.config import BagsConfig
    from saccade.pipeline.config import RunConfig
    from saccade.pipeline.detection.config import DetectionConfig
    from saccade.pipeline.ranks import Ranks
    from saccade.pipeline.saliency.config import SaliencyConfig
    from saccade.pipeline.segmentation.config import SegmentationConfig
    from saccade.pipeline.sheet import SheetRow

Outcome = tuple[Mapping[str, str], Sequence[str]]
"""What was wrong with slides, by name, and lines that say what there is now."""


@input_errors_in_one_line
def train(
    config: Annotated[Path, typer.Argument(help="Settings, YAML.")],
    slides: Annotated[Path, typer.Option("--slides", help="Sample sheet, CSV.")],
    out: OutOption,
    pyramids: Annotated[
        Path | None,
        typer.Option(
            help="Folder that holds `<slide>/pyramid.zarr`; missing ones are built there."
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option("--fold", help="Train this fold only, from 0; all in turn if absent."),
    ] = None,
    by_sheet: Annotated[
        bool,
        typer.Option(
            "--by-sheet", help="Train once by the splits of the sheet, whatever splits.folds says."
        ),
    ] = False,
    device: DeviceOption = "auto",
    processes: Annotated[
        str | None,
        typer.Option(
            "--processes",
            metavar="N|auto",
            help="Train in so many processes, each on a GPU of its own or on processors; auto: as "
            "many as there are GPUs. On several machines: srun --ntasks-per-node 1 saccade train "
            "... --processes auto.",
        ),
    ] = None,
    replace: ReplaceOption = False,
) -> None:
    """Train attention and features from one label a slide; goes on where a killed run stopped.

    With `splits.folds` in the settings: a model for each fold, and how good they are together. With
    `kind: saliency`: a network that says where people look, from points, maps or outlines. With
    `kind: segmentation`: one that names the class of each pixel, from annotations. With
    `kind: detection`: one that finds objects, from the same. With `kind: features`: a model over
    features of tiles that are there already.
    """
    from saccade.cli.tables import epoch_line, failure_table
    from saccade.pipeline.bags.config import BagsConfig
    from saccade.pipeline.config import RunConfig
    from saccade.pipeline.ranks import ranks_of_torchrun
    from saccade.pipeline.saliency.config import SaliencyConfig
    from saccade.pipeline.sheet import read_sheet
    from saccade.pipeline.yaml_config import kind_of, load_any_config

    settings = load_any_config(config)
    if not isinstance(settings, RunConfig | BagsConfig) and fold is not None:
        raise typer.BadParameter(f"a {kind_of(settings)} run has no folds.", param_hint="--fold")
    if by_sheet and fold is not None:
        raise typer.BadParameter("wants folds, and --by-sheet none.", param_hint="--fold")
    targets = settings.task.targets if isinstance(settings, RunConfig) else ()
    rows = read_sheet(slides, targets)
    if processes is not None:
        given = {"--slides": slides, "--out": out, "--pyramids": pyramids, "--device": device}
        flags = {"--fold": fold, "--by-sheet": by_sheet, "--replace": replace}
        _train_together(config, {**given, **flags}, processes)
        return
    with ranks_of_torchrun(device) as (ranks, own_device), progress_bar("slides") as progress:
        common: dict[str, Any] = {
            "device": own_device,
            "replace": replace,
            "report": lambda line: say(epoch_line(line, settings.training.epochs)),
            "progress": progress if ranks.first else None,
        }
        if isinstance(settings, RunConfig | SaliencyConfig):
            common["pyramids"] = pyramids
        if not isinstance(settings, RunConfig | BagsConfig):
            failures, lines = _train_on_annotations(settings, rows, out, ranks, **common)
        elif not by_sheet and (settings.splits.folds or fold is not None):
            failures, lines = _train_folds(settings, rows, out, ranks, only=fold, **common)
        else:
            failures, lines = _train_once(settings, rows, out, ranks, **common)
    if ranks.first:
        for line in [*lines, *([failure_table(failures)] if failures else [])]:
            say(line)
    if failures and ranks.first:  # torchrun ends all as soon as one of them ends badly
        raise typer.Exit(code=1)


def _train_together(config: Path, options: Mapping[str, Any], processes: str) -> None:
    """The same command in several processes."""
    from saccade.pipeline.launch import processes_here, train_together

    words = ["train", str(config)]
    for name, value in options.items():
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words += [name, str(value)]
    count = processes_here(processes, str(options["--device"]))
    if not train_together(words, count, os.environ):
        raise typer.Exit(code=1)


def _train_on_annotations(
    settings: SaliencyConfig | SegmentationConfig | DetectionConfig,
    rows: Sequence[SheetRow],
    out: Path,
    ranks: Ranks,
    **common: Any,
) -> Outcome:
    """Train what learns from more than a label a slide: once, in one process."""
    from saccade.pipeline.detection.config import DetectionConfig
    from saccade.pipeline.detection.train import train_detection
    from saccade.pipeline.saliency.train import train_saliency
    from saccade.pipeline.segmentation.config import SegmentationConfig
    from saccade.pipeline.segmentation.train import train_segmentation
    from saccade.pipeline.yaml_config import kind_of

    ranks.require_one(f"train with kind {kind_of(settings)}", instead="use one process")
    if isinstance(settings, SegmentationConfig):
        result = train_segmentation(settings, rows, out, **common)
    elif isinstance(settings, DetectionConfig):
        result = train_detection(settings, rows, out, **common)
    else:
        result = train_saliency(settings, rows, out, **common)
    return result.failures, [f"{result.model}"]


def _train_folds(
    settings: RunConfig | BagsConfig,
    rows: Sequence[SheetRow],
    out: Path,
    ranks: Ranks,
    **common: Any,
) -> Outcome:
    """Train a model for each fold, or for one, and say how good they are together."""
    from saccade.cli.tables import cross_validation_lines
    from saccade.pipeline.bags.config import BagsConfig
    from saccade.pipeline.bags.folds import cross_validate_features
    from saccade.pipeline.cross_validation import cross_validate

    ranks.require_one("train folds", instead="give each process a --fold of its own")
    folds = settings.splits.folds
    common["announce"] = lambda number: say(f"fold {number}, of folds 0 to {folds - 1}")
    if isinstance(settings, BagsConfig):
        judged = cross_validate_features(settings, rows, out, **common)
    else:
        judged = cross_validate(settings, rows, out, **common)
    return judged.failures, cross_validation_lines(out, judged.summary)


def _train_once(
    settings: RunConfig | BagsConfig,
    rows: Sequence[SheetRow],
    out: Path,
    ranks: Ranks,
    **common: Any,
) -> Outcome:
    """Train one model by the splits of the sheet."""
    from saccade.pipeline.bags.config import BagsConfig
    from saccade.pipeline.bags.train import train_on_features
    from saccade.pipeline.train import train as run

    if isinstance(settings, BagsConfig):
        ranks.require_one("train on features", instead="train on them in one process")
        result = train_on_features(settings, rows, out, **common)
    else:
        result = run(settings, rows, out, ranks=ranks, **common)
    return result.failures, [f"{result.model}"]


@input_errors_in_one_line
def split(
    slides: Annotated[Path, typer.Argument(help="Sample sheet, CSV.")],
    out: OutOption,
    folds: Annotated[int, typer.Option(min=3, help="Parts that the slides are dealt into.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the deal.")] = 0,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings, YAML: their `task` says what labels are. Classes if absent."),
    ] = None,
    replace: ReplaceOption = False,
) -> None:
    """Deal the slides of a sheet into folds, by patient and each class evenly; trains nothing.

    Each `fold_<i>/slides.csv` is a sheet with one part for `test`, one for `val` and the others for
    `train`. Slides that have split `test` already are kept out of all of them.
    """
    from saccade.cli.tables import split_line
    from saccade.pipeline.sheet import read_sheet
    from saccade.pipeline.splits import SHEET, folder_of, write_folds
    from saccade.pipeline.tasks.config import TaskConfig
    from saccade.pipeline.yaml_config import load_config

    task = TaskConfig() if config is None else load_config(config).task
    labelled = read_sheet(slides, task.targets)
    sheets = write_folds(labelled, out, folds, seed=seed, replace=replace, task=task)
    for fold, rows in enumerate(sheets):
        say(f"{folder_of(out, fold) / SHEET}: {split_line(rows)}")
