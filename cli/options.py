"""Options that several commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

# Text, and not a path, which would make one slash of the two in a URL.
SlideArgument = Annotated[
    str, typer.Argument(help="Slide file (or OME-Zarr folder), or its URL: s3://, https://.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder for the results.")]


def _positive(value: float | None) -> float | None:
    if value is not None and not 0 < value < math.inf:
        raise typer.BadParameter(f"wanted a positive number of micrometres, got {value}.")
    return value


MppOption = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        callback=_positive,
        help="Micrometres per pixel of level 0, where the file does not say.",
    ),
]
ViewMppOption = Annotated[
    float | None,
    typer.Option(
        "--view-mpp",
        callback=_positive,
        help="Micrometres per pixel of the view; the model's own if absent.",
    ),
]
RoiOption = Annotated[
    Path | None,
    typer.Option(
        "--roi",
        help="Judge this region only: GeoJSON from QuPath, or a prediction's attention.geojson.",
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="cpu, cuda, cuda:1; auto takes a GPU if there is one.")
]
TilesOption = Annotated[
    int | None,
    typer.Option(
        "--tiles",
        help="Tiles of a draw; as many as in training if absent. The most to be read with "
        "--until-sure; if absent, 16 times as many as in training.",
    ),
]
RepeatsOption = Annotated[
    int, typer.Option("--repeats", help="Independent draws, whose mean is the outcome.")
]
TopOption = Annotated[
    bool, typer.Option("--top", help="Read the most attended tiles instead of drawing any.")
]
UntilSureOption = Annotated[
    float | None,
    typer.Option(
        "--until-sure",
        metavar="MARGIN",
        help="Read on until the class is sure: its probability against each other class beyond "
        "0.5 by this much, whichever tiles are drawn. 0 names a class, 0.2 wants 70 %.",
    ),
]
PriorOption = Annotated[
    Path | None,
    typer.Option(
        "--prior",
        help="Draw tiles from this map of the slide, too: saliency.zarr of `saccade saliency`.",
    ),
]
ExploreOption = Annotated[
    float | None,
    typer.Option(
        "--explore",
        metavar="SHARE",
        help="Share of the proposal that follows the prior, or goes evenly over the tissue; 0.2 "
        "with a prior if absent. What tiles weigh makes up for it.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of the draw of tiles.")]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Threads that read.")]
DaskOption = Annotated[
    str | None,
    typer.Option(
        "--dask",
        metavar="WHERE",
        help="Workers of dask to spread one large slide over: local:4 processes, slurm:8 jobs, or "
        "the scheduler's tcp://host:8786. This process alone if absent.",
    ),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Start anew if --out holds other folds or settings.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Do it again even if it is done.")]
