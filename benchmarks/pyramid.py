"""Making a pyramid of a whole slide: Saccade, its peers, and the floor, which is decoding alone.

    python benchmarks/pyramid.py --slides DIR --size 20480 40960           thumbnails
    python benchmarks/pyramid.py --slides DIR --size 20480 --full          level 0 too
    python benchmarks/pyramid.py --quick --full

The slide is drawn, see `slides_made.py`: one level, 0.5 um/px. Thumbnails begin at 4 um/px and end
at 512 px; Saccade's also say where tissue is and hash the file, the others' do not. In every round
each maker makes the pyramid in a process of its own, after one of a small slide, so that imports
and first use are not counted. Peak memory is that of the process tree; a maker that takes more
than --memory-gb is ended. The level at 4 um/px is compared with means of what OpenSlide shows, in
the middle of the slide.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import measure
import numpy as np
from pyramid_makers import FLOOR, FULL, PACKAGES, THUMBNAIL, THUMBNAILS, Maker, thumbnail_of
from slides_made import SlideKind, described, slide_made, slides_folder

MPP = 0.5
_SMALL, _LOOK = 4096, 512


def makers(options: argparse.Namespace) -> dict[str, Maker]:
    return FULL if options.full else THUMBNAILS


def measure_maker(options: argparse.Namespace) -> None:
    """In a process of its own: a small slide first, then the one that counts."""
    make = makers(options)[options.maker]
    make(options.small, options.out.with_name("small"), options.threads)
    with measure.clock() as spent:
        make(options.slide, options.out, options.threads)
    measure.report(cpu=spent.cpu, wall=spent.wall, peak_mb=measure.own_peak_mb())


def look(options: argparse.Namespace) -> None:
    """Report how far the middle of the thumbnail is from the means of what OpenSlide shows."""
    import openslide

    with openslide.OpenSlide(options.slide) as slide:
        side = slide.dimensions[0] // THUMBNAIL
        width = min(_LOOK, side)
        corner = (side - width) // 2
        start, size = corner * THUMBNAIL, width * THUMBNAIL
        shown = slide.read_region((start, start), 0, (size, size)).convert("RGB")
    wanted = np.asarray(shown.reduce(THUMBNAIL))
    window = slice(corner, corner + width)
    made = thumbnail_of(options.out, side)[window, window]
    measure.report(pixels=measure.difference(made, wanted))


def make_once(
    name: str, small: Path, path: Path, scratch: Path, options: argparse.Namespace
) -> measure.Result:
    """One maker, once; what it wrote is weighed, looked at, and removed."""
    out = scratch / "out"
    given = ["--slide", str(path), "--out", str(out), "--threads", str(options.threads)]
    given += ["--full"] if options.full else []
    run = ["--maker", name, "--small", str(small), *given]
    result = measure.fresh(__file__, run, options.threads, options.memory_gb)
    if "failed" not in result:
        files = [out] if out.is_file() else [one for one in out.rglob("*") if one.is_file()]
        files = [one for one in files if one.exists()]
        result |= {"files": len(files), "mb": sum(one.stat().st_size for one in files) / 1e6}
    if result.get("files"):
        seen = measure.fresh(__file__, ["--look", *given], 1, options.memory_gb)
        result["pixels"] = seen.get("pixels", seen.get("failed"))
    for left in scratch.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return result


def compare(small: Path, path: Path, options: argparse.Namespace) -> None:
    """Print the medians for one slide."""
    names = [FLOOR, *(name for name in options.makers or makers(options) if name != FLOOR)]
    with slides_folder(None) as scratch:
        results = measure.rounds(
            names,
            options.rounds,
            lambda name, _: make_once(name, small, path, scratch, options),
        )
    columns = [
        "maker", "wall s", "CPU s", "it / floor, wall", "it / floor, CPU", "peak MB", "output MB",
        "files", "level at 4 um/px against means",
    ]  # fmt: skip
    rows = [_row(name, results) for name in names if not measure.has_failed(results[name])]
    what = "Pyramid with level 0" if options.full else "Thumbnails from 4 um/px"
    measure.table(f"{what}, {path.stem}, threads: {options.threads}", columns, rows)
    measure.failures(results)


def _row(name: str, results: dict[str, list[measure.Result]]) -> list[str]:
    own = results[name]
    times = [f"{measure.middle(own, key):.2f}" for key in ("wall", "cpu")]
    ratios = [measure.ratio(own, results[FLOOR], key) for key in ("wall", "cpu")]
    sizes = [f"{measure.middle(own, key):.0f}" for key in ("peak_mb", "mb", "files")]
    return [name, *times, *ratios, *sizes, str(own[0].get("pixels", ""))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=Path, help="folder to keep the slides in")
    parser.add_argument("--size", type=int, nargs="+", default=[20480], help="pixels a side")
    parser.add_argument("--full", action="store_true", help="level 0 is in the pyramid")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--makers", nargs="+", help=f"of {', '.join({**THUMBNAILS, **FULL})}")
    parser.add_argument("--memory-gb", type=float, default=8, help="a maker beyond it is ended")
    parser.add_argument("--quick", action="store_true", help="a small slide, one round")
    parser.add_argument("--maker", help=argparse.SUPPRESS)
    parser.add_argument("--look", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--slide", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--small", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look or options.maker:  # a process of its own, see `measure.fresh`
        (look if options.look else measure_maker)(options)
        return
    if unknown := set(options.makers or ()) - set(makers(options)):
        parser.error(f"no such maker here: {', '.join(unknown)}")
    if options.quick:
        options.size, options.rounds = [8192], 1
    with slides_folder(options.slides) as folder:
        small = slide_made(folder, SlideKind(_SMALL, MPP))
        measure.heading(PACKAGES)
        for size in options.size:
            path = slide_made(folder, SlideKind(size, MPP))
            print(f"\n{described(path)}. Rounds: {options.rounds}.")
            compare(small, path, options)


if __name__ == "__main__":
    main()
