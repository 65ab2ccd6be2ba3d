"""Commands. Each turns its arguments into values and makes one call into `pipeline`.

torch and the readers are imported by the command that needs them, so that `--help` stays quick.
"""

from __future__ import annotations

import json
import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

import saccade
from saccade.cli.embed import embed
from saccade.cli.errors import input_errors_in_one_line
from saccade.cli.evidence import evidence
from saccade.cli.options import (
    DeviceOption,
    ExploreOption,
    ForceOption,
    MppOption,
    OutOption,
    PriorOption,
    RepeatsOption,
    ReplaceOption,
    SeedOption,
    SlideArgument,
    TilesOption,
    TopOption,
    UntilSureOption,
    WorkersOption,
)
from saccade.cli.progress import progress_bar, say
from saccade.cli.stages import mask, saliency

# Threads that spin while they wait starve whatever shares the cores: other jobs of the same node,
# and their own reading threads. Read when torch is loaded, so it has to be said here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
)


class FullCodec(Enum):
    """What a full pyramid stores level 0 in."""

    auto = "auto"
    jpeg = "jpeg"
    zstd = "zstd"


def _version(asked: bool) -> None:
    if asked:
        typer.echo(saccade.__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Read whole-slide images the way an eye reads: a glance, attention, a few jumps."""


@app.command(epilog="Example: `saccade info slide.svs --json`")
@input_errors_in_one_line
def info(
    slide: SlideArgument,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    mpp: MppOption = None,
) -> None:
    """Say what a slide file is."""
    from saccade.tiling import open_slide
    from saccade.tiling.describe import describe

    with open_slide(slide, mpp=mpp) as opened:
        facts = describe(opened)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for key, value in facts.items():
        typer.echo(f"{key:16} {'-' if value is None else value}")


@app.command(epilog="Example: `saccade pyramid slide.svs --out results/slide`")
@input_errors_in_one_line
def pyramid(
    slide: SlideArgument,
    out: OutOption,
    finest_mpp: Annotated[
        float, typer.Option(help="Micrometres per pixel of the finest thumbnail.")
    ] = 4.0,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="The whole slide as OME-Zarr (`full.zarr`) instead of thumbnails."
        ),
    ] = False,
    codec: Annotated[
        FullCodec,
        typer.Option(
            help="Of level 0 with --full. jpeg: copy the slide's tiles; zstd: readable everywhere, "
            "and several times larger; auto: jpeg where the slide has it."
        ),
    ] = FullCodec.auto,
    mpp: MppOption = None,
    workers: WorkersOption = 2,
) -> None:
    """Make multi-resolution thumbnails and the tissue mask (OME-Zarr) of a slide."""
    from saccade.pipeline.config import PyramidConfig
    from saccade.pipeline.thumbnails import make_full, make_thumbnails
    from saccade.tiling.remote import place_of

    if codec is not FullCodec.auto and not full:
        raise typer.BadParameter("--codec is about level 0 of the slide; add --full.")
    place = place_of(slide)
    with progress_bar(place.name) as progress:
        if full:
            path, built = make_full(
                place, out, codec=codec.value, mpp=mpp, workers=workers, progress=progress
            )
        else:
            path, built = make_thumbnails(
                place, out, PyramidConfig(finest_mpp), mpp=mpp, workers=workers, progress=progress
            )
    say(f"{path}" if built else f"{path} is up to date")


@app.command(epilog="Example: `saccade train run.yaml --slides slides.csv --out model`")
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
    device: DeviceOption = "auto",
    replace: ReplaceOption = False,
) -> None:
    """Train attention and features from one label a slide; goes on where a killed run stopped.

    With `splits.folds` in the settings: a model for each fold, and how good they are together. With
    `kind: saliency`: a network that says where people look, from points, maps or outlines. With
    `kind: features`: a model over features of tiles that are there already.
    """
    from saccade.cli.tables import cross_validation_lines, epoch_line, failure_table
    from saccade.pipeline.bags.config import BagsConfig
    from saccade.pipeline.bags.folds import cross_validate_features
    from saccade.pipeline.bags.train import train_on_features
    from saccade.pipeline.config import RunConfig
    from saccade.pipeline.cross_validation import cross_validate
    from saccade.pipeline.ranks import ranks_of_torchrun
    from saccade.pipeline.saliency.config import SaliencyConfig
    from saccade.pipeline.saliency.train import train_saliency
    from saccade.pipeline.sheet import read_sheet
    from saccade.pipeline.train import train as run
    from saccade.pipeline.yaml_config import load_any_config

    settings = load_any_config(config)
    if isinstance(settings, SaliencyConfig) and fold is not None:
        raise typer.BadParameter("a saliency run has no folds.", param_hint="--fold")
    targets = settings.task.targets if isinstance(settings, RunConfig) else ()
    rows = read_sheet(slides, targets)
    with ranks_of_torchrun(device) as (ranks, own_device), progress_bar("slides") as progress:
        common: dict[str, Any] = {
            "device": own_device,
            "replace": replace,
            "report": lambda line: say(epoch_line(line, settings.training.epochs)),
            "progress": progress if ranks.first else None,
        }
        if not isinstance(settings, BagsConfig):
            common["pyramids"] = pyramids
        if isinstance(settings, SaliencyConfig):
            ranks.require_one("train a saliency network", instead="train it in one process")
            result = train_saliency(settings, rows, out, **common)
            failures, lines = result.failures, [f"{result.model}"]
        elif (folds := settings.splits.folds) or fold is not None:
            ranks.require_one("train folds", instead="give each process a --fold of its own")
            common["only"] = fold
            common["announce"] = lambda number: say(f"fold {number}, of folds 0 to {folds - 1}")
            if isinstance(settings, BagsConfig):
                judged = cross_validate_features(settings, rows, out, **common)
            else:
                judged = cross_validate(settings, rows, out, **common)
            failures, lines = judged.failures, cross_validation_lines(out, judged.summary)
        elif isinstance(settings, BagsConfig):
            ranks.require_one("train on features", instead="train on them in one process")
            result = train_on_features(settings, rows, out, **common)
            failures, lines = result.failures, [f"{result.model}"]
        else:
            result = run(settings, rows, out, ranks=ranks, **common)
            failures, lines = result.failures, [f"{result.model}"]
    if ranks.first:
        for line in [*lines, *([failure_table(failures)] if failures else [])]:
            say(line)
    if failures:
        raise typer.Exit(code=1)


@app.command(epilog="Example: `saccade split slides.csv --out folds`")
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


@app.command(
    epilog="Example: `saccade predict slide.svs --model model.safetensors --out results/s`"
)
@input_errors_in_one_line
def predict(
    slide: SlideArgument,
    model: Annotated[Path, typer.Option("--model", help="model.safetensors of `saccade train`.")],
    out: OutOption,
    mpp: MppOption = None,
    tiles: TilesOption = None,
    repeats: RepeatsOption = 1,
    top: TopOption = False,
    until_sure: UntilSureOption = None,
    prior: PriorOption = None,
    explore: ExploreOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = 2,
    force: ForceOption = False,
) -> None:
    """Predict one slide: outcome, heatmap, and the tiles that were read."""
    from saccade.cli.tables import prediction_line
    from saccade.pipeline.device import choose_device
    from saccade.pipeline.options import PredictOptions
    from saccade.pipeline.predict import predict_slide
    from saccade.pipeline.prior import Prior
    from saccade.pipeline.reading import SlideRef
    from saccade.tiling.remote import place_of

    place = place_of(slide)
    options = PredictOptions(
        tiles=tiles,
        seed=seed,
        repeats=repeats,
        top=top,
        until_sure=until_sure,
        prior=None if prior is None else Prior.read(prior),
        explore=explore,
        device=choose_device(device),
        workers=workers,
        force=force,
    )
    with progress_bar(place.name) as progress:
        done = predict_slide(SlideRef(place, mpp), model, out, options, progress=progress)
    say(prediction_line(out) if done else f"{out} is up to date: {prediction_line(out)}")


app.command(
    epilog="Example: `saccade saliency slide.svs --model saliency.safetensors --out results/s`"
)(saliency)

app.command(
    epilog="Example: `saccade embed slide.svs --model model.safetensors --out results/s/embedding`"
)(embed)

app.command(epilog="Example: `saccade mask slide.svs --model model.safetensors --out results/s`")(
    mask
)


app.command(
    epilog="Example: `saccade evidence slide.svs --features features.h5 --model model.safetensors "
    "--out results/s`"
)(evidence)


@app.command(epilog="Example: `saccade run slide.svs --models models --out results/slide`")
@input_errors_in_one_line
def run(
    slide: SlideArgument,
    models: Annotated[Path, typer.Option("--models", help="Folder that holds model.safetensors.")],
    out: OutOption,
    mpp: MppOption = None,
    tiles: TilesOption = None,
    repeats: RepeatsOption = 1,
    top: TopOption = False,
    until_sure: UntilSureOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = 2,
    force: ForceOption = False,
) -> None:
    """Do everything there is for one slide: thumbnails, prediction, files for QuPath."""
    from saccade.cli.tables import prediction_line
    from saccade.pipeline.device import choose_device
    from saccade.pipeline.options import PredictOptions
    from saccade.pipeline.reading import SlideRef
    from saccade.pipeline.run import run_slide
    from saccade.tiling.remote import place_of

    place = place_of(slide)
    options = PredictOptions(
        tiles=tiles,
        seed=seed,
        repeats=repeats,
        top=top,
        until_sure=until_sure,
        device=choose_device(device),
        workers=workers,
        force=force,
    )
    with progress_bar(place.name) as progress:
        run_slide(SlideRef(place, mpp), models, out, options, progress=progress)
    say(prediction_line(out))


@app.command(epilog="Example: `saccade export results/slide --to qupath`")
@input_errors_in_one_line
def export(
    folder: Annotated[Path, typer.Argument(help="Folder of results of one slide.")],
    to: Annotated[str, typer.Option("--to", help="qupath")] = "qupath",
    crop: Annotated[
        bool,
        typer.Option(help="Whether the viewer shows only the slide's bounds, as QuPath does."),
    ] = True,
) -> None:
    """Put results of one slide into the form of another tool."""
    from saccade.pipeline.export.bundle import export_results

    say(f"{export_results(folder, to, crop=crop)}")


@app.command(epilog="Example: `saccade evaluate results --slides slides.csv --out results`")
@input_errors_in_one_line
def evaluate(
    results: Annotated[Path, typer.Argument(help="Folder that holds `<slide>/prediction.json`.")],
    slides: Annotated[Path, typer.Option("--slides", help="Sample sheet, CSV.")],
    out: OutOption,
    split: Annotated[
        str | None, typer.Option(help="Only slides of this split: train, val or test.")
    ] = None,
) -> None:
    """Put a cohort's predictions into one table; say how good they are where labels are known."""
    from saccade.cli.tables import failure_table, metrics_line
    from saccade.pipeline.evaluate import evaluate as run
    from saccade.pipeline.sheet import of_split, read_sheet

    # What columns hold the truth, only the predictions know.
    evaluation = run(results, of_split(read_sheet(slides, None), split), out)
    say(metrics_line(evaluation.metrics))
    say(f"{out / 'summary.csv'}")
    if evaluation.missing:
        say(failure_table(dict.fromkeys(evaluation.missing, "has no prediction")))
        raise typer.Exit(code=1)


@app.command(epilog="Example: `saccade demo --out demo`")
@input_errors_in_one_line
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for slides and results.")] = Path(
        "demo"
    ),
    seed: SeedOption = 0,
    cores: Annotated[int, typer.Option(min=1, help="Processor cores to use.")] = 2,
) -> None:
    """Make small slides, train, predict, export, and say how well it went; needs no network."""
    from saccade.pipeline.demo.run import outcome_lines, run_demo

    with progress_bar("slides") as progress:
        outcome = run_demo(out, seed=seed, cores=cores, progress=progress, say=say)
    typer.echo("\n".join(outcome_lines(out, outcome)))
