"""Commands that predict, and say how good that was. `main` gives them their names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.errors import input_errors_in_one_line
from saccade.cli.options import (
    DeviceOption,
    ExploreOption,
    ForceOption,
    MppOption,
    OutOption,
    PriorOption,
    RepeatsOption,
    SeedOption,
    SlideArgument,
    TilesOption,
    TopOption,
    UntilSureOption,
    WorkersOption,
)
from saccade.cli.progress import progress_bar, say


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


@input_errors_in_one_line
def evaluate(
    results: Annotated[Path, typer.Argument(help="Folder that holds `<slide>/prediction.json`.")],
    slides: Annotated[Path, typer.Option("--slides", help="Sample sheet, CSV.")],
    out: OutOption,
    split: Annotated[
        str | None, typer.Option(help="Only slides of this split: train, val or test.")
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(
            help="folds.csv of `saccade split`: only slides of its folds, which were predicted by "
            "the model of the fold that holds them out. Metrics are those of the folds."
        ),
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(
            help="A stage of which each slide should have a result, such as saliency; can be given "
            "several times. predict if absent."
        ),
    ] = None,
) -> None:
    """Put a cohort's predictions into one table; say how good they are where labels are known.

    What is missing stands in failures.csv, with the stage that failed and what its log says.
    """
    from saccade.cli.tables import judged_lines, missing_table
    from saccade.pipeline.evaluate import evaluate as run
    from saccade.pipeline.sheet import of_split, read_sheet
    from saccade.pipeline.splits import read_parts

    # What columns hold the truth, only the predictions know.
    sheet, parts = read_sheet(slides, None), None
    rows = of_split(sheet, split)
    if folds is not None:
        parts = read_parts(folds)
        rows = [row for row in rows if row.slide in parts]
    names = {row.slide for row in rows}
    others = [row.slide for row in sheet if row.slide not in names]
    wanted = stage or ["predict"]
    evaluation = run(results, rows, out, stages=wanted, others=others, folds=parts)
    for line in judged_lines(evaluation.metrics):
        say(line)
    say(f"{out / 'summary.csv'}")
    if evaluation.failures:
        say(missing_table(out, evaluation.failures))
        raise typer.Exit(code=1)
