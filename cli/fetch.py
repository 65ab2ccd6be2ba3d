"""The command that fetches weights. `main` gives it its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from saccade.cli.errors import input_errors_in_one_line
from saccade.cli.progress import say


@input_errors_in_one_line
def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="timm:NAME, or a URL (https, http, file) of .safetensors, .pt, .pth or .bin."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for weights.")] = Path("weights"),
    sha256: Annotated[
        str | None,
        typer.Option("--sha256", help="That it has to have: what a URL gives, or timm's file."),
    ] = None,
) -> None:
    """Fetch weights of an encoder into a file, once, where there is a network.

    Training takes the file by model.weights, embedding by --weights; no job needs the network then.
    """
    from saccade.pipeline.fetch import fetch as run

    path, fetched = run(source, out, sha256=sha256)
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    words = f"{path}: {facts['parameters']:,} numbers, sha256 {facts['sha256']}"
    say(words if fetched else f"{words}; it was there already")
