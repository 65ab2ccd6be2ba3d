"""Slides drawn for the benchmarks: tissue on white, in JPEG tiles as scanners write them.

    python benchmarks/slides_made.py --slides DIR

A few hundred distinct tiles are drawn and encoded once, and laid at random places of a large slide
as they are, so that a slide of 1.6 gigapixels takes seconds to make. What is drawn (nuclei, fibres
and gaps, softened as a lens does it) compresses as stained tissue: 9 to 15 kB a tile of 256 px at
quality 80, which sets how much there is to decode. Noise of pixels would take twice as much.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

RGB = NDArray[np.uint8]
Field = NDArray[np.float32]

SIDE = 256
TISSUE_KB = 9.0, 15.0  # a tile of stained tissue at quality 80, measured on real slides
LEVELS = 1, 4, 16
_QUALITY = 80
_DRAWN = 4096  # pixels a side of the field that is cut into tiles
_TISSUE_BYTES = 5000  # glass takes less, and so do tiles that only touch tissue
_GLASS = 243.0
_HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], np.float32)
_EOSIN = np.array([0.07, 0.99, 0.11], np.float32)


@dataclass(frozen=True, slots=True)
class SlideKind:
    """What is to be made: `size` pixels a side, one level or those of `LEVELS`."""

    size: int
    mpp: float = 0.25
    pyramidal: bool = False

    def __post_init__(self) -> None:
        if self.size < 1024 or self.size % (SIDE * LEVELS[-1]):
            raise ValueError(f"size must be a multiple of {SIDE * LEVELS[-1]}, got {self.size}.")

    @property
    def name(self) -> str:
        """File name, which says everything about the slide."""
        levels = "levels" if self.pyramidal else "flat"
        return f"{levels}-{self.size}-{self.mpp}um.tif"


@contextmanager
def slides_folder(given: Path | None) -> Iterator[Path]:
    """The folder that was asked for, or one that is gone afterwards."""
    if given is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        given.mkdir(parents=True, exist_ok=True)
        yield given


def slide_made(folder: Path, kind: SlideKind) -> Path:
    """Return the slide of this kind in `folder`, made if it is not there yet, and checked."""
    path = folder / kind.name
    if not path.exists():
        part = folder / f"{kind.name}.{os.getpid()}.part"
        try:
            _write(part, kind)
            check_slide(part, kind)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path


def described(path: Path) -> str:
    """One line for the output: pixels, bytes, and how much a tile of tissue has."""
    count, mean_kb = len(tissue_corners(path)), tissue_kb(path)
    with tifffile.TiffFile(path) as tif:
        sizes = ", ".join(f"{page.aspage().imagewidth}^2" for page in tif.pages)
    megabytes = path.stat().st_size / 1e6
    return (
        f"{path.name}: levels {sizes}, {megabytes:.0f} MB, {count} tiles of tissue, "
        f"{mean_kb:.1f} kB each"
    )


@cache
def tissue_corners(path: Path) -> NDArray[np.int64]:
    """Corners (x, y) of the tiles of level 0 that hold tissue, shape (n, 2)."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0].aspage()
        held = np.flatnonzero(np.array(page.databytecounts) > _TISSUE_BYTES)
        across = -(-page.imagewidth // SIDE)
    return np.stack([held % across, held // across], axis=1) * SIDE


def tissue_kb(path: Path) -> float:
    """Mean size of a tile of tissue in kB."""
    with tifffile.TiffFile(path) as tif:
        sizes = np.array(tif.pages[0].aspage().databytecounts)
    return float(sizes[sizes > _TISSUE_BYTES].mean() / 1000)


def check_slide(path: Path, kind: SlideKind) -> None:
    """Refuse a slide that is not what scanners write, or that OpenSlide shows otherwise."""
    import openslide

    if not TISSUE_KB[0] <= tissue_kb(path) <= TISSUE_KB[1]:
        raise ValueError(f"{path.name}: a tile of tissue has {tissue_kb(path):.1f} kB.")
    downsamples = LEVELS if kind.pyramidal else LEVELS[:1]
    with openslide.OpenSlide(path) as slide, tifffile.TiffFile(path) as tif:
        if tuple(slide.level_downsamples) != downsamples:
            raise ValueError(f"{path.name}: OpenSlide sees {slide.level_downsamples}.")
        if abs(float(slide.properties["openslide.mpp-x"]) - kind.mpp) > 1e-4:
            raise ValueError(f"{path.name}: OpenSlide sees other um/px than {kind.mpp}.")
        for level, factor in enumerate(downsamples):
            page = tif.pages[level].aspage()
            across = -(-page.imagewidth // SIDE)
            for i in np.random.default_rng(0).integers(0, len(page.dataoffsets), 8).tolist():
                row, col = divmod(i, across)
                corner = col * SIDE * factor, row * SIDE * factor
                shown = slide.read_region(corner, level, (SIDE, SIDE)).convert("RGB")
                stored = _stored(path, page.dataoffsets[i], page.databytecounts[i])
                if not np.array_equal(np.asarray(shown), imagecodecs.jpeg8_decode(stored)):
                    raise ValueError(f"{path.name}: OpenSlide shows tile {i} otherwise.")


def _stored(path: Path, offset: int, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(count)


def _encoded(tile: RGB) -> bytes:
    return bytes(
        imagecodecs.jpeg8_encode(
            tile, level=_QUALITY, colorspace="rgb", outcolorspace="ycbcr", subsampling="420"
        )
    )


def _write(path: Path, kind: SlideKind) -> None:
    tiles = _cut(draw_tissue(_DRAWN, kind.mpp)) + _cut(draw_glass(SIDE * 4))
    layout = _layout(kind.size // SIDE, len(tiles))
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for factor in LEVELS if kind.pyramidal else LEVELS[:1]:
            size = kind.size // factor
            tif.write(
                _level_tiles(tiles, layout, factor),
                shape=(size, size, 3),
                dtype=np.uint8,
                photometric="ycbcr",
                subsampling=(2, 2),
                tile=(SIDE, SIDE),
                compression="jpeg",
                subfiletype=0 if factor == 1 else 1,
                metadata=None,
                resolution=(1e4 / (kind.mpp * factor),) * 2,
                resolutionunit="CENTIMETER",
            )


def _cut(field: RGB) -> list[RGB]:
    """Tiles of a drawn field, in row-major order."""
    count = len(field) // SIDE
    blocks = field.reshape(count, SIDE, count, SIDE, 3).swapaxes(1, 2)
    return list(blocks.reshape(-1, SIDE, SIDE, 3))


def _layout(count: int, kinds: int) -> NDArray[np.intp]:
    """Which tile lies where, shape (count, count): tissue in one piece with bays, glass around."""
    rng = np.random.default_rng(1)
    rough = ndimage.gaussian_filter(rng.standard_normal((count, count)), count / 12)
    rows, cols = np.mgrid[-1 : 1 : count * 1j, -1 : 1 : count * 1j]
    tissue = rough / rough.std() * 0.25 + 0.95 - np.hypot(rows / 0.95, cols / 0.85) > 0
    glass = 16
    return np.where(
        tissue,
        rng.integers(0, kinds - glass, (count, count)),
        rng.integers(kinds - glass, kinds, (count, count)),
    )


def _level_tiles(tiles: list[RGB], layout: NDArray[np.intp], factor: int) -> Iterator[bytes]:
    """Encoded tiles of a level, which is the mean of the finest in blocks of `factor` squared."""
    if factor == 1:
        encoded = [_encoded(tile) for tile in tiles]
        yield from (encoded[i] for i in layout.ravel())
        return
    side = SIDE // factor
    small = np.stack([_shrunk(tile, factor) for tile in tiles])
    for row in range(0, len(layout), factor):
        for col in range(0, len(layout), factor):
            under = small[layout[row : row + factor, col : col + factor]]
            yield _encoded(under.swapaxes(1, 2).reshape(side * factor, side * factor, 3))


def _shrunk(tile: RGB, factor: int) -> RGB:
    side = SIDE // factor
    means = tile.reshape(side, factor, side, factor, 3).mean(axis=(1, 3))
    return np.asarray(means.round().astype(np.uint8))


def draw_glass(side: int) -> RGB:
    """White with the faint unrest of a camera."""
    noise = np.random.default_rng(2).normal(0, 1.0, (side, side, 3))
    return (_GLASS + noise).clip(0, 255).astype(np.uint8)


def draw_tissue(side: int, mpp: float) -> RGB:
    """Haematoxylin in nuclei of about 8 um, eosin in fibres between them, and gaps in it."""
    rng = np.random.default_rng(0)
    eosin = 0.25 + 0.10 * _waves(rng, side, 30 / mpp) + 0.09 * _waves(rng, side, 1.2 / mpp, 3.0)
    eosin = eosin + 0.05 * _waves(rng, side, max(0.35 / mpp, 1.2))
    gaps = _waves(rng, side, 12 / mpp) > 1.25
    nuclei = _nuclei(rng, side, mpp) * (0.75 + 0.16 * _waves(rng, side, max(0.5 / mpp, 1.5)))
    eosin = np.where(gaps, 0.01, eosin).clip(0, None)
    haematoxylin = np.where(gaps, 0.0, 0.06 + nuclei).clip(0, None)
    dye = haematoxylin[..., None] * _HAEMATOXYLIN + eosin[..., None] * _EOSIN
    pixels = _GLASS * 10.0 ** -ndimage.gaussian_filter(dye, (0.8, 0.8, 0))
    grain = rng.normal(0, 1.0, pixels.shape).astype(np.float32)
    return np.asarray((pixels + grain).clip(0, 255).astype(np.uint8))


def _waves(rng: np.random.Generator, side: int, scale: float, longer: float = 1.0) -> Field:
    """Smooth random field of mean 0 and deviation 1; `longer` stretches it along the rows."""
    coarse = max(1, 2 ** int(np.log2(scale / 3)))  # a smooth field needs no finer grid
    noise = rng.standard_normal((side // coarse, side // coarse), np.float32)
    width = scale / coarse
    soft = ndimage.gaussian_filter(noise, (width, width * longer), mode="wrap", truncate=2.5)
    full = ndimage.zoom(soft, coarse, order=1) if coarse > 1 else soft
    return np.asarray(full / full.std(), np.float32)


def _nuclei(rng: np.random.Generator, side: int, mpp: float) -> Field:
    """Discs with soft rims at random places, more of them where cells are dense: 0 to 1."""
    field = np.zeros((side, side), np.float32)
    count = int((side * mpp / 16) ** 2 * 1.2)
    places = rng.integers(0, side, (count, 2))
    for (row, col), radius in zip(places.tolist(), rng.uniform(2.5, 5, count) / mpp, strict=True):
        reach = int(radius * 1.5) + 1
        top, left = max(row - reach, 0), max(col - reach, 0)
        window = field[top : row + reach, left : col + reach]
        rows, cols = np.ogrid[top - row : top - row + window.shape[0], 0 : window.shape[1]]
        stretch = rng.uniform(0.7, 1.3)
        apart = np.hypot(rows * stretch, (cols + left - col) / stretch)
        np.maximum(window, ((radius - apart) / 1.5).clip(0, 1), out=window, casting="unsafe")
    return field


def main() -> None:
    """Make the slides that the benchmarks ask for, and say what they are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slides", type=Path, required=True, help="folder to keep them in")
    parser.add_argument("--size", type=int, nargs="*", default=[20480], help="pixels a side")
    parser.add_argument("--mpp", type=float, default=0.25, help="um/px of level 0")
    parser.add_argument("--pyramidal", action="store_true", help="with levels of 1/4 and 1/16")
    options = parser.parse_args()
    with slides_folder(options.slides) as folder:
        for size in options.size:
            kind = SlideKind(size, options.mpp, options.pyramidal)
            print(described(slide_made(folder, kind)), flush=True)


if __name__ == "__main__":
    main()
