"""Commands about a slide's file and the files of its results. `main` gives them their names."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from saccade.cli.errors import input_errors_in_one_line
from saccade.cli.options import DaskOption, MppOption, OutOption, SlideArgument, WorkersOption
from saccade.cli.progress import progress_bar, say


class FullCodec(Enum):
    """What a full pyramid stores level 0 in."""

    auto = "auto"
    jpeg = "jpeg"
    zstd = "zstd"


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
    dask: DaskOption = None,
) -> None:
    """Make multi-resolution thumbnails and the tissue mask (OME-Zarr) of a slide."""
    from saccade.pipeline.config import PyramidConfig
    from saccade.pipeline.dask_crew import dask_crew
    from saccade.pipeline.thumbnails import make_full, make_thumbnails
    from saccade.tiling.remote import place_of

    if codec is not FullCodec.auto and not full:
        raise typer.BadParameter("--codec is about level 0 of the slide; add --full.")
    place = place_of(slide)
    with dask_crew(dask) as crew, progress_bar(place.name) as progress:
        how: dict[str, Any] = {"mpp": mpp, "workers": workers, "crew": crew, "progress": progress}
        if full:
            path, built = make_full(place, out, codec=codec.value, **how)
        else:
            path, built = make_thumbnails(place, out, PyramidConfig(finest_mpp), **how)
    say(f"{path}" if built else f"{path} is up to date")


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
