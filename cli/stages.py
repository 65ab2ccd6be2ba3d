"""Commands of dense stages: a map over one slide each. `main` gives them their names."""

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
    SeedOption,
    SlideArgument,
    ViewMppOption,
    WorkersOption,
)
from saccade.cli.progress import progress_bar, say


@input_errors_in_one_line
def saliency(
    slide: SlideArgument,
    model: Annotated[Path, typer.Option("--model", help="A saliency model, .safetensors.")],
    out: OutOption,
    mpp: MppOption = None,
    view_mpp: ViewMppOption = None,
    roi: RoiOption = None,
    tissue_only: Annotated[
        bool, typer.Option("--tissue-only", help="Judge blocks with tissue only, not the whole.")
    ] = False,
    min_tissue: Annotated[
        float,
        typer.Option(help="Share of a pixel that must be tissue for it to count; 0 for all."),
    ] = 0.1,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Side of the tiles of the view, a multiple of 8 pixels; if absent, a view of up "
            "to 2 million pixels goes through whole. The result is the same to 1e-5."
        ),
    ] = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = 2,
    dask: DaskOption = None,
    force: ForceOption = False,
) -> None:
    """Find what stands out on one slide: saliency map, and the regions to look at first.

    A run that was killed goes on at the tile where it stopped.
    """
    # Tiles come in several sizes, and oneDNN keeps a copy of the weights for each: 100 MB. One is
    # enough at a time. Read when torch is loaded.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    from saccade.pipeline.dask_crew import dask_crew
    from saccade.pipeline.device import choose_device
    from saccade.pipeline.reading import SlideRef
    from saccade.pipeline.saliency_slide import SaliencyOptions, find_saliency
    from saccade.tiling.remote import place_of

    place = place_of(slide)
    options = SaliencyOptions(
        view_mpp=view_mpp,
        roi=roi,
        tissue_only=tissue_only,
        min_tissue=min_tissue,
        tile_px=tile,
        device=choose_device(device),
        workers=workers,
        force=force,
    )
    with dask_crew(dask) as crew, progress_bar(place.name) as progress:
        done = find_saliency(
            SlideRef(place, mpp), model, out, options, crew=crew, progress=progress
        )
    say(f"{out / 'saliency.png'}" if done else f"{out / 'saliency.png'} is up to date")


@input_errors_in_one_line
def mask(
    slide: SlideArgument,
    model: Annotated[
        Path,
        typer.Option("--model", help="model.safetensors whose encoder has attention modules."),
    ],
    out: OutOption,
    mpp: MppOption = None,
    tiles: Annotated[
        int | None, typer.Option("--tiles", help="Tiles of the draw; as in training if absent.")
    ] = None,
    seed: SeedOption = 0,
    all_tissue: Annotated[
        bool,
        typer.Option("--all-tissue", help="All tiles with tissue, side by side, without a draw."),
    ] = False,
    min_tissue: Annotated[
        float, typer.Option(help="Share of a tile that must be tissue, with --all-tissue.")
    ] = 0.1,
    batch: Annotated[
        int, typer.Option("--batch", help="Tiles that go through the network together.")
    ] = 32,
    device: DeviceOption = "auto",
    workers: WorkersOption = 2,
    force: ForceOption = False,
) -> None:
    """Show what the encoder of a model makes stronger within the tiles that it reads.

    These are the tiles that `saccade predict` draws with the same seed.
    """
    from saccade.pipeline.device import choose_device
    from saccade.pipeline.mask.options import MaskOptions
    from saccade.pipeline.mask.run import find_masks
    from saccade.pipeline.reading import SlideRef
    from saccade.tiling.remote import place_of

    place = place_of(slide)
    options = MaskOptions(
        tiles=tiles,
        seed=seed,
        all_tissue=all_tissue,
        min_tissue=min_tissue,
        batch=batch,
        device=choose_device(device),
        workers=workers,
        force=force,
    )
    with progress_bar(place.name) as progress:
        done = find_masks(SlideRef(place, mpp), model, out, options, progress=progress)
    say(f"{out / 'mask.png'}" if done else f"{out / 'mask.png'} is up to date")
