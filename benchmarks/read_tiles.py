"""CPU and wall time of reading tiles: Saccade, its peers, and the floor, which is decoding alone.

    python benchmarks/read_tiles.py --slides DIR                        one thread, batches of 256
    python benchmarks/read_tiles.py --slides DIR --threads 1 2 --batch 1 16 256
    python benchmarks/read_tiles.py --slides DIR --many                 memory and open files
    python benchmarks/read_tiles.py --quick                             a minute: does it work?

A slide of 0.25 um/px is drawn, see `slides_made.py`. In every round each reader reads the same
tiles of 256 px in a process of its own, one after the other; ratios are medians over rounds. The
kinds of places, all over tissue:

aligned     on the grid of the slide's own tiles
unaligned   anywhere: four source tiles lie under each
region      the places of a batch are neighbours and share source tiles
0.5 um/px   twice as coarse as the slide: on the grid of 512 px; on its own pixels, where
            `tiles.snap` puts places unless told otherwise; and anywhere, also between these

The floor decodes each source tile under all the places once, from bytes in memory, and does no
more; at 0.5 um/px there is a second one, which lets the decoder halve as it decodes. Pixels are
compared with OpenSlide's: exact, or the largest difference and the PSNR.

Readers without threads of their own have one handle in each thread of a pool.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import measure
import numpy as np
import tifffile
from numpy.typing import NDArray
from readers import OPENED, PACKAGES, Corners, opened
from slides_made import SIDE, SlideKind, described, slide_made, slides_folder, tissue_corners


@dataclass(frozen=True, slots=True)
class Places:
    """A kind of places: how many pixels of level 0 become one, and how they lie."""

    factor: int = 1
    aligned: bool = False
    close: bool = False
    on_pixels: bool = False


KINDS = {
    "aligned": Places(aligned=True),
    "unaligned": Places(),
    "region": Places(close=True),
    "0.5 um/px aligned": Places(2, aligned=True),
    "0.5 um/px unaligned, on its pixels": Places(2, on_pixels=True),
    "0.5 um/px anywhere": Places(2),
}
FLOORS = "floor", "floor, halving"
_MANY, _FIRST = 10_000, 1_000
_FLAT_MB = 16  # growth that allocators show without anything being kept


def corners_of(places: Places, path: Path, count: int, batch: int, seed: int) -> Corners:
    """Return `count` corners (x, y) over tissue, inside the slide."""
    rng, side = np.random.default_rng(seed), SIDE * places.factor
    tissue = tissue_corners(path)
    if places.aligned:
        grid: Corners = tissue[(tissue % side == 0).all(axis=1)]
        return np.asarray(grid[_drawn(rng, len(grid), count)])
    if places.close:
        corners = _neighbours(rng, tissue, count, batch)
    else:
        within = rng.integers(0, SIDE, (count, 2))
        corners = tissue[_drawn(rng, len(tissue), count)] + within
    if places.on_pixels:
        corners = corners // places.factor * places.factor
    return np.minimum(corners, _width(path) - side)


def _drawn(rng: np.random.Generator, of: int, count: int) -> NDArray[np.int64]:
    """Different ones as long as there are enough."""
    drawn: NDArray[np.int64] = rng.choice(of, count, replace=count > of)
    return drawn


def _neighbours(rng: np.random.Generator, tissue: Corners, count: int, batch: int) -> Corners:
    """Each batch in a square with as much area as its tiles have, near the middle of the tissue."""
    away = np.abs(tissue - tissue.mean(axis=0)).max(axis=1)
    inner = tissue[np.argsort(away)][: len(tissue) // 4]
    starts = inner[rng.integers(0, len(inner), -(-count // batch))].repeat(batch, axis=0)[:count]
    return starts + rng.integers(0, max(1, int(SIDE * (batch**0.5 - 1))), (count, 2))


def _width(path: Path) -> int:
    with tifffile.TiffFile(path) as tif:
        return int(tif.pages[0].aspage().imagewidth)


def source_tiles(path: Path, corners: Corners, factor: int) -> list[bytes]:
    """What is stored under the places, each source tile once, in the order of the file."""
    with tifffile.TiffFile(path) as tif, path.open("rb") as file:
        page = tif.pages[0].aspage()
        across, far = -(-page.imagewidth // SIDE), SIDE * factor - 1
        under = {
            row * across + col
            for x, y in corners.tolist()
            for row in range(y // SIDE, (y + far) // SIDE + 1)
            for col in range(x // SIDE, (x + far) // SIDE + 1)
        }
        data = []
        for i in sorted(under):
            file.seek(page.dataoffsets[i])
            data.append(file.read(page.databytecounts[i]))
        return data


def decoder(floor: str) -> Callable[[bytes], object]:
    """Decode a source tile, or halve it while decoding."""
    if floor == FLOORS[0]:
        import imagecodecs

        return lambda data: imagecodecs.jpeg8_decode(data)
    import simplejpeg

    half = SIDE // 2
    return lambda data: simplejpeg.decode_jpeg(
        data, min_height=half, min_width=half, min_factor=1, fastupsample=False
    )


def measure_floor(options: argparse.Namespace) -> None:
    places = KINDS[options.kind]
    corners = corners_of(places, options.slide, options.tiles, options.batch[0], 1)
    data = source_tiles(options.slide, corners, places.factor)
    decode, (threads,) = decoder(options.reader), options.threads

    def share(part: list[bytes]) -> None:
        for one in part:
            decode(one)

    share(data[:4])
    with ThreadPoolExecutor(threads) as pool, measure.clock() as spent:
        list(pool.map(share, [data[i::threads] for i in range(threads)]))
    measure.report(cpu=spent.cpu, wall=spent.wall)


def measure_reader(options: argparse.Namespace) -> None:
    """In a process of its own: read warm-up places, then the measured ones; report the result."""
    places, (batch,), (threads,) = KINDS[options.kind], options.batch, options.threads
    warm, corners = (
        corners_of(places, options.slide, count, batch, seed)
        for count, seed in ((8, 9), (options.tiles, 1))
    )
    reader = opened(options.reader, options.slide, threads)
    reader.tiles(warm, places.factor)
    batches = [corners[i : i + batch] for i in range(0, len(corners), batch)]
    with measure.clock() as spent:
        parts = [reader.tiles(one, places.factor) for one in batches]
    if options.pixels:
        np.save(options.pixels, np.concatenate(parts))
    measure.report(cpu=spent.cpu, wall=spent.wall)


def compare(path: Path, kind: str, batch: int, threads: int, options: argparse.Namespace) -> None:
    """Print the medians for one kind of places."""
    floors = FLOORS if KINDS[kind].factor > 1 else FLOORS[:1]
    names = [*floors, *options.readers]
    with tempfile.TemporaryDirectory() as folder:

        def run(name: str, number: int) -> measure.Result:
            arguments = [
                "--reader", name, "--slide", str(path), "--kind", kind, "--threads", str(threads),
                "--tiles", str(options.tiles), "--batch", str(batch),
            ]  # fmt: skip
            if number == 0:
                arguments += ["--pixels", f"{folder}/{name}.npy"]
            return measure.fresh(__file__, arguments, 1, options.memory_gb)

        results = measure.rounds(names, options.rounds, run)
        pixels = {name: _pixels(Path(folder), name) for name in options.readers}
    columns = [
        "reader", "CPU us a tile", "wall us a tile", "OpenSlide / it, CPU", "OpenSlide / it, wall",
        "it / floor, CPU", "pixels against OpenSlide",
    ]  # fmt: skip
    rows = [
        _row(name, results, options.tiles, pixels.get(name, ""))
        for name in names
        if not measure.has_failed(results[name])
    ]
    measure.table(
        f"{kind}, batches of {min(batch, options.tiles)}, threads: {threads}", columns, rows
    )
    measure.failures(results)


def _pixels(folder: Path, name: str) -> str:
    files = [folder / f"{one}.npy" for one in (name, "openslide")]
    if not all(file.exists() for file in files):
        return ""
    return measure.difference(np.load(files[0]), np.load(files[1]))


def _row(name: str, results: dict[str, list[measure.Result]], tiles: int, pixels: str) -> list[str]:
    own, peer = results[name], results["openslide"]
    each = [f"{measure.middle(own, key) / tiles * 1e6:.0f}" for key in ("cpu", "wall")]
    gains = [measure.ratio(peer, own, key) for key in ("cpu", "wall")]
    return [name, *each, *gains, measure.ratio(own, results["floor"], "cpu"), pixels]


def measure_many(options: argparse.Namespace) -> None:
    """Read tiles all over the slide, keep none, and report memory and files on the way."""
    (batch,) = options.batch
    reader = opened(options.reader, options.slide)
    corners = corners_of(KINDS["unaligned"], options.slide, options.many_tiles, batch, 1)
    held, files = [], []
    for i in range(0, len(corners), batch):
        reader.tiles(corners[i : i + batch], 1)
        held.append(measure.resident_mb())
        files.append(measure.open_files())
    first = options.many_tiles * _FIRST // _MANY // batch
    measure.report(
        before_mb=max(held[:first]), after_mb=max(held[first:]), first=files[0], most=max(files)
    )


def many(path: Path, options: argparse.Namespace) -> bool:
    """Print memory and open files of each reader; return whether Saccade's stay as they are."""
    batch, flat = 16, True
    rows, results = [], {}
    for name in options.readers:
        arguments = [
            "--reader", name, "--slide", str(path), "--batch", str(batch), "--many",
            "--many-tiles", str(options.many_tiles),
        ]  # fmt: skip
        result = measure.fresh(__file__, arguments, 1, options.memory_gb)
        results[name] = [result]
        if "failed" in result:
            continue
        growth = result["after_mb"] - result["before_mb"]
        stays = growth < _FLAT_MB and result["most"] <= result["first"]
        flat = flat and (stays or name != "saccade")
        figures = f"{result['before_mb']:.0f}", f"{growth:.1f}"
        files = f"{result['first']}", f"{result['most']}"
        rows.append([name, *figures, *files, "yes" if stays else "no"])
    columns = [
        "reader", "most MB in the first tenth", "growth MB after it", "files open after one batch",
        "most files open", "flat",
    ]  # fmt: skip
    title = f"{options.many_tiles} unaligned tiles, batches of {batch}"
    measure.table(title, columns, rows)
    measure.failures(results)
    return flat


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=Path, help="folder to keep the slides in")
    parser.add_argument("--size", type=int, default=20480, help="pixels a side of the slide")
    parser.add_argument("--tiles", type=int, default=256, help="tiles a reader reads in a round")
    parser.add_argument("--batch", type=int, nargs="+", default=[256], help="tiles of one call")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", choices=KINDS, nargs="+", help="these kinds of places only")
    parser.add_argument("--readers", choices=OPENED, nargs="+", default=list(OPENED))
    parser.add_argument("--memory-gb", type=float, default=8, help="a reader beyond it is ended")
    parser.add_argument("--many", action="store_true", help="memory and files of 10,000 tiles")
    parser.add_argument("--many-tiles", type=int, default=_MANY, help="so many instead")
    parser.add_argument("--quick", action="store_true", help="a small slide, one round")
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    parser.add_argument("--slide", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--pixels", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.reader:  # a process of its own, see `measure.fresh`
        options.kind = (options.kind or [None])[0]
        floor = measure_floor if options.reader in FLOORS else measure_reader
        (measure_many if options.many else floor)(options)
        return
    if options.quick:
        options.size, options.tiles, options.rounds, options.many_tiles = 8192, 64, 1, 1600
    if "openslide" not in options.readers:
        options.readers.insert(0, "openslide")
    with slides_folder(options.slides) as folder:
        path = slide_made(folder, SlideKind(options.size))
        measure.heading(PACKAGES)
        print(f"\n{described(path)}. {options.tiles} tiles, rounds: {options.rounds}.")
        if options.many:
            sys.exit(0 if many(path, options) else "Saccade keeps memory or files.")
        for threads in options.threads:
            for batch in options.batch:
                if threads <= batch:  # one tile is nothing to share
                    for kind in options.kind or KINDS:
                        compare(path, kind, batch, threads, options)


if __name__ == "__main__":
    main()
