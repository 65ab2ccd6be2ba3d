"""The command that says where a model over features looked, and what it saw there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.errors import input_errors_in_one_line
from saccade.cli.options import DeviceOption, ForceOption, MppOption, OutOption, SlideArgument
from saccade.cli.progress import progress_bar, say


@input_errors_in_one_line
def evidence(
    slide: SlideArgument,
    features: Annotated[
        Path, typer.Option("--features", help="Features of its tiles, HDF5, on one grid.")
    ],
    model: Annotated[
        Path, typer.Option("--model", help="model.safetensors of `saccade train`, kind: features.")
    ],
    out: OutOption,
    mpp: MppOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Judge one slide by features of its tiles, and map which tiles counted and what they showed.

    A model with the head `abmil` says which tiles counted, and no more.
    """
    from saccade.pipeline.device import choose_device
    from saccade.pipeline.evidence_slide import find_evidence
    from saccade.pipeline.reading import SlideRef
    from saccade.tiling.remote import place_of

    place = place_of(slide)
    with progress_bar(place.name) as progress:
        done = find_evidence(
            SlideRef(place, mpp),
            features,
            model,
            out,
            device=choose_device(device),
            force=force,
            progress=progress,
        )
    found = json.loads((out / "evidence.json").read_text(encoding="utf-8"))
    words = f"{found['slide']}: {found['label']} ({found['probabilities'][found['label']]:.1%})"
    say(f"{words}; see {out / 'evidence.png'}" if done else f"{out} is up to date: {words}")
