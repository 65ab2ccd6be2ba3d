"""The command that finds objects. `main` gives it its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.errors import input_errors_in_one_line
from saccade.cli.options import (
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
def detect(
    slide: SlideArgument,
    model: Annotated[Path, typer.Option("--model", help="A detector, .safetensors.")],
    out: OutOption,
    mpp: MppOption = None,
    roi: RoiOption = None,
    places: Annotated[
        Path | None,
        typer.Option(
            "--places",
            help="Look at these places only, a tile around each: a prediction's attention.geojson.",
        ),
    ] = None,
    min_tissue: Annotated[
        float, typer.Option(help="Share of a tile that must be tissue; 0 to judge glass, too.")
    ] = 0.01,
    min_score: Annotated[
        float, typer.Option("--min-score", help="Probability from which an object counts.")
    ] = 0.5,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile", help="Side of a tile in pixels; one that suits the model if absent."
        ),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            "--overlap",
            help="Of neighbouring tiles, pixels: at least twice the longest object. By the "
            "model's anchors if absent, 128 or more.",
        ),
    ] = None,
    hpf_mm2: Annotated[
        float,
        typer.Option("--hpf-mm2", help="Area of a high-power field, for counts by it, mm2."),
    ] = 0.237,
    gzip: Annotated[
        bool, typer.Option("--gzip", help="Compress the GeoJSON; QuPath reads it as it is.")
    ] = False,
    most: Annotated[
        int | None,
        typer.Option("--split", metavar="N", help="At most N objects in a GeoJSON file."),
    ] = None,
    crop: Annotated[
        bool,
        typer.Option(
            "--crop-to-bounds",
            help="GeoJSON for a viewer that shows the scanned area alone, where there is one.",
        ),
    ] = False,
    batch: Annotated[
        int, typer.Option("--batch", help="Tiles that go through the network together.")
    ] = 4,
    device: DeviceOption = "auto",
    workers: WorkersOption = 2,
    force: ForceOption = False,
) -> None:
    """Find objects on one slide, each once: GeoJSON for QuPath, counts per mm2, a picture.

    All tissue is looked at, or regions, or places. A run that was killed goes on where it stopped.
    """
    from saccade.pipeline.detect.options import DetectOptions
    from saccade.pipeline.detect.run import PICTURE, detect_slide
    from saccade.pipeline.device import choose_device
    from saccade.pipeline.reading import SlideRef
    from saccade.tiling.remote import place_of

    place = place_of(slide)
    options = DetectOptions(
        roi=roi,
        places=places,
        min_tissue=min_tissue,
        min_score=min_score,
        tile_px=tile,
        overlap_px=overlap,
        hpf_mm2=hpf_mm2,
        gzip=gzip,
        most=most,
        crop=crop,
        batch=batch,
        device=choose_device(device),
        workers=workers,
        force=force,
    )
    with progress_bar(place.name) as progress:
        done = detect_slide(SlideRef(place, mpp), model, out, options, progress=progress)
    say(f"{out / PICTURE}" if done else f"{out / PICTURE} is up to date")
