"""CPU time of reading tiles: Saccade, its peers, and the floor, which is decoding alone.

    python benchmarks/read_tiles.py --size 8192 --rounds 5 --tiles 128

A slide is made (JPEG tiles of 256 at quality 80, one level). In every round each reader reads the
same tiles in a process of its own, one after the other, so that a busy machine is busy for all of
them; the ratios are medians over rounds. Every reader's pixels are compared with OpenSlide's.
The floor decodes each source tile under the places once, from bytes in memory, and does no more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from zlib import crc32

import numpy as np
import tifffile
from numpy.typing import NDArray

Tiles = NDArray[np.uint8]
Read = Callable[[NDArray[np.int64], float], Tiles]

SIDE, MPP = 256, 0.25
KINDS = {"aligned": 1.0, "unaligned": 1.0, "region": 1.0, "0.5 um/px": 2.0}


def make_slide(path: Path, size: int) -> None:
    """White around noise that compresses as tissue does: about 23 kB a tile."""
    rng = np.random.default_rng(0)
    count = -(-size // SIDE)
    coarse = rng.integers(90, 220, (16, SIDE // 4, SIDE // 4, 3))
    kinds = coarse.repeat(4, 1).repeat(4, 2) + rng.integers(-12, 12, (16, SIDE, SIDE, 3))
    kinds = kinds.clip(0, 255).astype(np.uint8)

    def tiles() -> Iterator[Tiles]:
        for _ in range(count * count):
            yield kinds[rng.integers(len(kinds))]

    tifffile.imwrite(
        path, tiles(), shape=(size, size, 3), dtype=np.uint8, photometric="rgb",
        tile=(SIDE, SIDE), compression="jpeg", compressionargs={"level": 80}, metadata=None,
        resolution=(1e4 / MPP, 1e4 / MPP), resolutionunit="CENTIMETER",
    )  # fmt: skip


def places(kind: str, size: int, tiles: int, seed: int) -> NDArray[np.int64]:
    """Corners (x, y): anywhere, on the grid, or close together so that they share source tiles."""
    rng = np.random.default_rng(seed)
    span = int(SIDE * tiles**0.5) if kind == "region" else size - 2 * SIDE - 1
    corners = rng.integers(0, span, (tiles, 2))
    return corners // SIDE * SIDE if kind == "aligned" else corners


def open_saccade(path: Path) -> Read:
    from saccade.tiling import open_slide

    slide = open_slide(path)
    return lambda corners, factor: slide.read_tiles(corners, SIDE, MPP * factor)


def open_openslide(path: Path) -> Read:
    import openslide

    return _by_region(openslide.OpenSlide(path))


def open_tiffslide(path: Path) -> Read:
    import tiffslide

    return _by_region(tiffslide.TiffSlide(path))


def _by_region(slide: object) -> Read:
    """Pillow brings to scale, as users of `read_region` do it."""

    def read(corners: NDArray[np.int64], factor: float) -> Tiles:
        side = int(SIDE * factor)
        regions = (
            slide.read_region((int(x), int(y)), 0, (side, side)).convert("RGB")  # type: ignore[attr-defined]
            for x, y in corners
        )
        if factor > 1:
            return np.stack([np.asarray(region.reduce(int(factor))) for region in regions])
        return np.stack([np.asarray(region) for region in regions])

    return read


def open_cucim(path: Path) -> Read:
    from cucim import CuImage

    slide = CuImage(str(path))

    def read(corners: NDArray[np.int64], factor: float) -> Tiles:
        side = int(SIDE * factor)
        tiles = (np.asarray(slide.read_region((int(x), int(y)), (side, side))) for x, y in corners)
        return np.stack([_reduced(tile, int(factor)) for tile in tiles])

    return read


def open_pyvips(path: Path) -> Read:
    import pyvips

    region = pyvips.Region.new(pyvips.Image.new_from_file(str(path)))

    def read(corners: NDArray[np.int64], factor: float) -> Tiles:
        side = int(SIDE * factor)
        data = (region.fetch(int(x), int(y), side, side) for x, y in corners)
        tiles = (np.frombuffer(one, np.uint8).reshape(side, side, -1)[..., :3] for one in data)
        return np.stack([_reduced(tile, int(factor)) for tile in tiles])

    return read


def _reduced(tile: Tiles, factor: int) -> Tiles:
    from PIL import Image

    return tile if factor == 1 else np.asarray(Image.fromarray(tile).reduce(factor))


READERS = {
    "openslide": open_openslide,
    "saccade": open_saccade,
    "tiffslide": open_tiffslide,
    "pyvips": open_pyvips,
    "cucim": open_cucim,
}


def source_tiles(path: Path, corners: NDArray[np.int64], factor: float) -> list[bytes]:
    """What is stored under the places, each source tile once."""
    with tifffile.TiffFile(path) as tif, path.open("rb") as file:
        page = tif.pages[0].aspage()
        across, far = -(-page.imagewidth // SIDE), int(SIDE * factor) - 1
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


def measure(reader: str, path: Path, kind: str, size: int, tiles: int, batch: int) -> None:
    """In a process of its own: read warm-up places, then the measured ones; print the result."""
    warm, corners = (places(kind, size, n, seed) for n, seed in ((4, 9), (tiles, 1)))
    factor = KINDS[kind]
    if reader == "floor":
        import imagecodecs

        data = source_tiles(path, corners, factor)
        imagecodecs.jpeg8_decode(data[0])
        start = _cpu()
        for tile in data:
            imagecodecs.jpeg8_decode(tile)
        print(json.dumps({"cpu": _cpu() - start, "sum": 0}))
        return
    read = READERS[reader](path)
    read(warm, factor)
    start = _cpu()
    parts = [read(corners[i : i + batch], factor) for i in range(0, tiles, batch)]
    cpu = _cpu() - start
    print(json.dumps({"cpu": cpu, "sum": crc32(np.ascontiguousarray(np.concatenate(parts)))}))


def _cpu() -> float:
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


def run(reader: str, path: Path, kind: str, options: argparse.Namespace) -> dict[str, float] | None:
    """One reader, once; None where it is not installed or fails."""
    command = [
        sys.executable, __file__, "--reader", reader, "--slide", str(path), "--kind", kind,
        "--size", str(options.size), "--tiles", str(options.tiles), "--batch", str(options.batch),
    ]  # fmt: skip
    single = dict.fromkeys(("OMP_NUM_THREADS", "VIPS_CONCURRENCY", "OPENBLAS_NUM_THREADS"), "1")
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **single})
    result: dict[str, float] | None = None
    if done.returncode == 0:
        result = json.loads(done.stdout.splitlines()[-1])
    return result


def table(path: Path, kind: str, options: argparse.Namespace) -> None:
    """Print the medians for one kind of places."""
    names = ["floor", *READERS]
    rounds = [
        {name: run(name, path, kind, options) for name in names} for _ in range(options.rounds)
    ]
    print(f"\n### {kind}, batches of {options.batch}\n")
    print("| reader | CPU us a tile | OpenSlide / it | it / floor | pixels |")
    print("|---|---|---|---|---|")
    for name in names:
        results = [one[name] for one in rounds]
        if any(result is None for result in results):
            print(f"| {name} | not here | | | |")
            continue
        cpu = [result["cpu"] for result in results if result]
        gain, over = (
            median(one[a]["cpu"] / one[b]["cpu"] for one in rounds)  # type: ignore[index]
            for a, b in (("openslide", name), (name, "floor"))
        )
        same = rounds[0][name]["sum"] == rounds[0]["openslide"]["sum"]  # type: ignore[index]
        pixels = "" if name == "floor" else "OpenSlide's" if same else "others"
        each = median(cpu) / options.tiles * 1e6
        print(f"| {name} | {each:.0f} | {gain:.2f} | {over:.2f} | {pixels} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=8192, help="pixels a side of the slide")
    parser.add_argument("--tiles", type=int, default=128)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    parser.add_argument("--slide", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help="one kind of places only")
    options = parser.parse_args()
    if options.reader:
        measure(
            options.reader, options.slide, options.kind, options.size, options.tiles, options.batch
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        make_slide(path, options.size)
        print(
            f"{options.size} x {options.size} px, {path.stat().st_size / 1e6:.0f} MB, load", end=""
        )
        print(f" {os.getloadavg()[0]:.1f}, {options.tiles} tiles, {options.rounds} rounds")
        for kind in [options.kind] if options.kind else KINDS:
            table(path, kind, options)


if __name__ == "__main__":
    main()
