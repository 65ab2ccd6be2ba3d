"""One attention pass over a large slide: open the file, read the view, read 256 tiles.

    python benchmarks/attention_pass.py --slides DIR
    python benchmarks/attention_pass.py --quick

The slide is drawn, see `slides_made.py`: 1.6 gigapixels at 0.5 um/px, with levels of 1/4 and 1/16.
The view is the whole slide at 16 um/px, from the coarse level; the tiles, 256 px at level 0 on the
grid of the slide, lie over tissue and are the same for all. Each pass runs in a fresh process,
after a small pass over another slide, so that imports and first use are not counted; what they
cost stands in a column of its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import measure
import numpy as np
from read_tiles import Places, corners_of
from readers import OPENED, PACKAGES, opened
from slides_made import SlideKind, described, slide_made, slides_folder

MPP, VIEW = 0.5, 32
READERS = "openslide", "saccade", "cucim", "pyvips", "tiffslide"
_SMALL = 4096


def run_pass(reader_name: str, path: Path, tiles: int) -> measure.Result:
    """Open, look, and read; return the seconds of each and the pixels."""
    places = Places(aligned=True)
    corners = corners_of(places, path, tiles, tiles, 1)
    with measure.clock() as opening:
        reader = opened(reader_name, path)
    with measure.clock() as looking:
        view = reader.view(VIEW)
    with measure.clock() as reading:
        pixels = reader.tiles(corners, places.factor)
    parts = {"open": opening, "view": looking, "tiles": reading}
    spent: measure.Result = {name: part.cpu for name, part in parts.items()}
    spent |= {"cpu": sum(part.cpu for part in parts.values())}
    spent |= {"wall": sum(part.wall for part in parts.values())}
    return {"spent": spent, "view": view, "pixels": pixels}


def measure_reader(options: argparse.Namespace) -> None:
    """In a process of its own: a small pass first, then the one that counts."""
    before = measure.cpu_s()
    run_pass(options.reader, options.small, 4)
    ready = measure.cpu_s() - before
    found = run_pass(options.reader, options.slide, options.tiles)
    if options.pixels:
        np.savez(options.pixels, view=found["view"], pixels=found["pixels"])
    measure.report(**found["spent"], ready=ready, peak_mb=measure.own_peak_mb())


def compare(small: Path, path: Path, folder: Path, options: argparse.Namespace) -> None:
    """Print the medians over rounds."""

    def run(name: str, number: int) -> measure.Result:
        arguments = [
            "--reader", name, "--small", str(small), "--slide", str(path),
            "--tiles", str(options.tiles),
        ]  # fmt: skip
        if number == 0:
            arguments += ["--pixels", str(folder / f"{name}.npz")]
        return measure.fresh(__file__, arguments, 1, options.memory_gb)

    results = measure.rounds(options.readers, options.rounds, run)
    columns = [
        "reader", "CPU ms", "of it open", "view", "tiles", "wall ms", "OpenSlide / it, CPU",
        "peak MB", "imports and first use, CPU ms", "tiles against OpenSlide", "view",
    ]  # fmt: skip
    rows = [
        _row(name, results, folder)
        for name in options.readers
        if not measure.has_failed(results[name])
    ]
    measure.table(f"One pass: open, view, {options.tiles} aligned tiles", columns, rows)
    measure.failures(results)


def _row(name: str, results: dict[str, list[measure.Result]], folder: Path) -> list[str]:
    own = results[name]
    times = [
        f"{measure.middle(own, key) * 1e3:.1f}" for key in ("cpu", "open", "view", "tiles", "wall")
    ]
    gain = measure.ratio(results["openslide"], own, "cpu")
    peak, ready = f"{measure.middle(own, 'peak_mb'):.0f}", measure.middle(own, "ready") * 1e3
    return [name, *times, gain, peak, f"{ready:.0f}", *_pixels(folder, name)]


def _pixels(folder: Path, name: str) -> list[str]:
    with np.load(folder / f"{name}.npz") as own, np.load(folder / "openslide.npz") as wanted:
        return [measure.difference(own[part], wanted[part]) for part in ("pixels", "view")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=Path, help="folder to keep the slides in")
    parser.add_argument("--size", type=int, default=40960, help="pixels a side of the slide")
    parser.add_argument("--tiles", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readers", choices=OPENED, nargs="+", default=list(READERS))
    parser.add_argument("--memory-gb", type=float, default=8, help="a reader beyond it is ended")
    parser.add_argument("--quick", action="store_true", help="a small slide, one round")
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    parser.add_argument("--slide", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--small", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--pixels", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reader:  # a process of its own, see `measure.fresh`
        measure_reader(options)
        return
    if options.quick:
        options.size, options.rounds = 8192, 1
    if "openslide" not in options.readers:
        options.readers.insert(0, "openslide")
    with slides_folder(options.slides) as folder, slides_folder(None) as pixels:
        small, path = (
            slide_made(folder, SlideKind(size, MPP, pyramidal=True))
            for size in (_SMALL, options.size)
        )
        measure.heading(PACKAGES)
        print(f"\n{described(path)}. Rounds: {options.rounds}.")
        compare(small, path, pixels, options)


if __name__ == "__main__":
    main()
