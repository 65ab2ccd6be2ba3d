"""Commands. Each turns its arguments into values and makes one call into `pipeline`.

torch and the readers are imported by the command that needs them, so that `--help` stays quick.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

import saccade
from saccade.cli.detect import detect
from saccade.cli.embed import embed
from saccade.cli.errors import input_errors_in_one_line
from saccade.cli.evidence import evidence
from saccade.cli.fetch import fetch
from saccade.cli.options import SeedOption
from saccade.cli.prediction import evaluate, predict, run
from saccade.cli.progress import progress_bar, say
from saccade.cli.segment import segment
from saccade.cli.slides import export, info, pyramid
from saccade.cli.stages import mask, saliency
from saccade.cli.training import split, train

# Threads that spin while they wait starve whatever shares the cores: other jobs of the same node,
# and their own reading threads. Read when torch is loaded, so it has to be said here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
)


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


EXAMPLES: dict[Callable[..., None], str] = {
    info: "saccade info slide.svs --json",
    pyramid: "saccade pyramid slide.svs --out results/slide",
    fetch: "saccade fetch timm:resnet18 --out weights",
    train: "saccade train run.yaml --slides slides.csv --out model",
    split: "saccade split slides.csv --out folds",
    predict: "saccade predict slide.svs --model model.safetensors --out results/s",
    saliency: "saccade saliency slide.svs --model saliency.safetensors --out results/s",
    embed: "saccade embed slide.svs --model model.safetensors --out results/s/embedding",
    mask: "saccade mask slide.svs --model model.safetensors --out results/s",
    segment: "saccade segment slide.svs --model segmentation.safetensors --out results/s",
    detect: "saccade detect slide.svs --model detector.safetensors --out results/s",
    evidence: "saccade evidence slide.svs --features features.h5 --model model.safetensors "
    "--out results/s",
    run: "saccade run slide.svs --models models --out results/slide",
    export: "saccade export results/slide --to qupath",
    evaluate: "saccade evaluate results --slides slides.csv --out results",
    demo: "saccade demo --out demo",
}
"""Every command, in the order of `--help`."""

for command, example in EXAMPLES.items():
    app.command(epilog=f"Example: `{example}`")(command)
