"""The command that makes features of tiles. `main` gives it its name."""

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
    SeedOption,
    SlideArgument,
    WorkersOption,
)
from saccade.cli.progress import progress_bar, say


@input_errors_in_one_line
def embed(
    slide: SlideArgument,
    out: OutOption,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", help="model.safetensors of `saccade train`: its encoder, on its tiles."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="An encoder by name instead: any of timm, say resnet18."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="Of the encoder by name: a local file, .safetensors."),
    ] = None,
    encoder_option: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder-option",
            metavar="KEY=VALUE",
            help="For timm's create_model, such as init_values=1e-5; can be given several times.",
        ),
    ] = None,
    tile_px: Annotated[
        int | None,
        typer.Option("--tile-px", help="Side of a tile for the encoder by name, in pixels."),
    ] = None,
    tile_mpp: Annotated[
        float | None,
        typer.Option("--tile-mpp", help="Micrometres per pixel of these tiles."),
    ] = None,
    min_tissue: Annotated[
        float, typer.Option(help="Share of a tile that must be tissue; 0 for all tiles.")
    ] = 0.1,
    sampler: Annotated[
        Path | None,
        typer.Option("--sampler", help="Only the tiles that this model draws, not all tissue."),
    ] = None,
    tiles: Annotated[
        int | None,
        typer.Option("--tiles", help="With --sampler: how many; as in its training if absent."),
    ] = None,
    seed: SeedOption = 0,
    pyramid: Annotated[
        Path | None,
        typer.Option("--pyramid", help="pyramid.zarr of the slide, if it is not in --out."),
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", help="Tiles that go through the network together.")
    ] = 32,
    mpp: MppOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = 2,
    force: ForceOption = False,
) -> None:
    """Make features of all tissue tiles of one slide, as CLAM and TRIDENT read them (HDF5).

    A run that was killed goes on at the batch where it stopped.
    """
    from saccade.pipeline.device import choose_device
    from saccade.pipeline.embed.encoder import EncoderChoice, parsed_options
    from saccade.pipeline.embed.options import EmbedOptions
    from saccade.pipeline.embed.run import FEATURES, embed_slide
    from saccade.pipeline.reading import SlideRef
    from saccade.tiling.remote import place_of

    place = place_of(slide)
    choice = EncoderChoice(
        model, encoder, weights, parsed_options(encoder_option or []), tile_px, tile_mpp
    )
    if choice.untrained:
        say(f"{encoder}: no --weights, so this encoder is untrained; its features mean little.")
    options = EmbedOptions(
        min_tissue=min_tissue,
        sampler=sampler,
        tiles=tiles,
        seed=seed,
        pyramid=pyramid,
        batch=batch,
        device=choose_device(device),
        workers=workers,
        force=force,
    )
    with progress_bar(place.name) as progress:
        done = embed_slide(SlideRef(place, mpp), choice, out, options, progress=progress)
    say(f"{out / FEATURES}" if done else f"{out / FEATURES} is up to date")
