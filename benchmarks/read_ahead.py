"""How long training steps wait for tiles, when they are read as asked for and when read ahead.

    python benchmarks/read_ahead.py --work DIR SLIDE [SLIDE ...]

Each slide stands for all slides of a training run with the settings of config/run.yaml, but batches
of four: `--tiles` of `--size` px at 0.5 um/px, drawn anew for each of them. Runs with
`training.read_ahead` 0 and 1 take turns, each in a fresh process, one thread that computes and two
that read. The share of a step that waited is what `saccade train` itself writes down
(`waited_seconds` of `step_seconds`). A step that waits less costs more: attention is computed a
second time. Labels are made up: what is learned does not matter here.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import measure

from saccade.pipeline.config import RunConfig, TilesConfig
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.train import train
from saccade.pipeline.yaml_config import load_config

_BATCH = 4
_RUN = Path(__file__).parents[1] / "config/run.yaml"


def config_of(options: argparse.Namespace) -> RunConfig:
    """The settings of config/run.yaml, but for how much is read and how long."""
    settings = load_config(_RUN)
    tiles = TilesConfig(per_slide=options.tiles, size_px=options.size, mpp=settings.tiles.mpp)
    training = replace(
        settings.training,
        epochs=1,
        batch=_BATCH,
        read_ahead=options.ahead,
        workers=2,
        early_stopping=0,
    )
    return replace(settings, tiles=tiles, training=training)


def rows_of(slide: Path, steps: int) -> list[SheetRow]:
    """As many slides as `steps` batches take, all of them this one."""
    count = steps * _BATCH
    return [
        SheetRow(f"{number}", slide.resolve(), label="ab"[number % 2], split="train")
        for number in range(count)
    ]


def measure_run(options: argparse.Namespace) -> None:
    """One epoch of `saccade train`; its pyramids lie there already."""
    out = options.work / f"run-{options.ahead}"
    shutil.rmtree(out, ignore_errors=True)
    with measure.clock() as spent:
        train(
            config_of(options),
            rows_of(options.slides[0], options.steps),
            out,
            pyramids=options.work / "pyramids" / options.slides[0].stem,
        )
    cost = json.loads((out / "record.json").read_text())["cost"]
    measure.report(
        step=cost["step_seconds"] / options.steps,
        waited=cost["waited_seconds"] / cost["step_seconds"],
        cpu=spent.cpu / options.steps,
        peak_mb=measure.own_peak_mb(),
    )


def compare(slide: Path, options: argparse.Namespace) -> None:
    """A table of both ways for one slide."""
    ready(slide, options)
    arguments = [
        str(slide),
        *("--work", str(options.work), "--steps", str(options.steps)),
        *("--tiles", str(options.tiles), "--size", str(options.size)),
    ]
    results = measure.rounds(
        ["0", "1"],
        options.rounds,
        lambda ahead, _: measure.fresh(
            sys.argv[0], [*arguments, "--ahead", ahead], threads=1, memory_gb=8
        ),
    )
    rows = [
        [
            ahead,
            f"{measure.middle(found, 'waited'):.1%}",
            f"{measure.middle(found, 'step'):.2f}",
            f"{measure.middle(found, 'cpu'):.2f}",
            measure.ratio(results["0"], found, "step"),
            f"{measure.middle(found, 'peak_mb'):.0f}",
        ]
        for ahead, found in results.items()
        if not measure.has_failed(found)
    ]
    columns = ["`read_ahead`", "waited", "s a step", "CPU s a step", "times as fast", "peak, MB"]
    measure.table(f"{slide.name}, {options.tiles} tiles of {options.size} px", columns, rows)
    measure.failures(results)


def ready(slide: Path, options: argparse.Namespace) -> None:
    """Make one pyramid of the slide, and link to it for the others."""
    from saccade.pipeline.thumbnails import make_thumbnails

    folder = options.work / "pyramids" / slide.stem
    first, *others = (folder / row.slide for row in rows_of(slide, options.steps))
    made, _ = make_thumbnails(slide.resolve(), first, load_config(_RUN).pyramid)
    for other in others:
        other.mkdir(exist_ok=True)
        if not (other / made.name).exists():
            (other / made.name).symlink_to(made.resolve())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slides", type=Path, nargs="+", metavar="SLIDE")
    parser.add_argument("--work", type=Path, required=True, help="folder for pyramids and runs")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--tiles", type=int, default=16, help="from each slide")
    parser.add_argument("--size", type=int, default=128, help="pixels a side of a tile")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ahead", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ahead is not None:  # a process of its own, see `measure.fresh`
        measure_run(options)
        return
    measure.heading(["saccade", "torch"])
    for slide in options.slides:
        compare(slide, options)


if __name__ == "__main__":
    main()
