"""The command that segments. `main` gives it its name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.errors import input_errors_in_one_line
from saccade.cli.options import (
    DaskOption,
    DeviceOption,
    ForceOption,
    MppOption,
    OutOption,
    RoiOption,
    SlideArgument,
    WorkersOption,
)
from saccade.cli.progress import progress_bar, say


@input_errors_in_one_line
def segment(
    slide: SlideArgument,
    model: Annotated[Path, typer.Option("--model", help="A segmentation model, .safetensors.")],
    out: OutOption,
    mpp: MppOption = None,
    roi: RoiOption = None,
    places: Annotated[
        Path | None,
        typer.Option("--places", help="Judge these places only: a prediction's attention.geojson."),
    ] = None,
    min_tissue: Annotated[
        float,
        typer.Option(help="Share of a block of 32 um that must be tissue; 0 to judge glass, too."),
    ] = 0.1,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            help="Side of a tile, a multiple of the network's stride; if absent, 1024 pixels, or "
            "that of training for a network that looks at all of a tile.",
        ),
    ] = None,
    overlap: Annotated[
        int,
        typer.Option(
            "--overlap",
            help="Pixels that tiles see around themselves, for a network without exact margins.",
        ),
    ] = 64,
    min_area: Annotated[
        float, typer.Option("--min-area", help="Least area of an outline or a hole, um2.")
    ] = 100.0,
    min_object: Annotated[
        float, typer.Option("--min-object", help="Least area of an object, um2.")
    ] = 5.0,
    simplify: Annotated[
        float,
        typer.Option(
            "--simplify", help="How far outlines may stray from the pixels, in pixels of the model."
        ),
    ] = 1.5,
    batch: Annotated[
        int, typer.Option("--batch", help="Tiles that go through the network together.")
    ] = 1,
    device: DeviceOption = "auto",
    workers: WorkersOption = 2,
    dask: DaskOption = None,
    force: ForceOption = False,
) -> None:
    """Say of each place of a slide what it is: areas, outlines for QuPath, objects, a picture.

    All tissue is judged, or regions, or places. A run that was killed goes on where it stopped.
    """
    # Tiles at the edges come in several sizes, and oneDNN keeps a copy of the weights for each.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    from saccade.pipeline.dask_crew import dask_crew
    from saccade.pipeline.device import choose_device
    from saccade.pipeline.reading import SlideRef
    from saccade.pipeline.segment.options import SegmentOptions
    from saccade.pipeline.segment.run import segment_slide
    from saccade.tiling.remote import place_of

    place = place_of(slide)
    options = SegmentOptions(
        roi=roi,
        places=places,
        min_tissue=min_tissue,
        tile_px=tile,
        overlap_px=overlap,
        min_area_um2=min_area,
        min_object_um2=min_object,
        simplify_px=simplify,
        batch=batch,
        device=choose_device(device),
        workers=workers,
        force=force,
    )
    with dask_crew(dask) as crew, progress_bar(place.name) as progress:
        done = segment_slide(
            SlideRef(place, mpp), model, out, options, crew=crew, progress=progress
        )
    picture = out / "segmentation.png"
    say(f"{picture}" if done else f"{picture} is up to date")
