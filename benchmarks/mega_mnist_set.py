"""Megapixel MNIST as slides: five digits far apart in a large dark image, three of them alike.

    python benchmarks/mega_mnist_set.py --mnist DIR --out DIR --width 500 --scale 0.2 --no-noise
    python benchmarks/mega_mnist_set.py --mnist DIR --out DIR

The class of an image is the digit that is there three times. Over it lie boxes of noise, which look
like strokes. Its overview is no reduced copy: every digit and box is made smaller by itself and
pasted where it belongs. A slide is a TIFF of two levels, the image and its overview, at 1 um/px and
1 / scale um/px; `saccade train` reads it like any other, with `view.min_tissue: 0`. Beside the
slides lie `slides.csv`, `run.yaml`, and each part of the set as it is kept, sparse: `train.npz` and
`test.npz` (`mega_mnist_sparse.py` reads them).

Random numbers are numpy's old kind in the order of the published generator (Katharopoulos and
Fleuret, ICML 2019), so the same seed gives the images of the published set. Two sets go by that
name: in the original, noise lies over the digits and can hide them; `--digits-on-top` gives the
other, where digits are drawn over the noise.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tifffile
from mega_mnist_sparse import SparseImages
from numpy.random import RandomState
from numpy.typing import NDArray
from skimage.transform import rescale

Image = NDArray[np.float32]

SIDE, CLASSES = 28, 10
_ALIKE, _OTHERS, _NOISE, _PATTERNS = 3, 2, 50, 50
_TILE = 128
# The published script watches the test images while it trains, so they are of split `val`. Nothing
# may be chosen by them: what counts is the last epoch, or the whole curve.
_PARTS = {"train": ("train", "train"), "t10k": ("test", "val")}


@dataclass(frozen=True, slots=True)
class Kind:
    """What images are like.

    Attributes:
        width: pixels a side.
        scale: of the overview.
        noise: whether there is any.
        digits_on_top: noise is drawn first.
    """

    width: int = 1500
    scale: float = 0.12
    noise: bool = True
    digits_on_top: bool = False

    @property
    def overview(self) -> int:
        """Pixels a side of the overview."""
        return int(self.width * self.scale)


@dataclass(frozen=True, slots=True)
class Part:
    """All that was drawn for the images of a part; corners are (row, col).

    Attributes:
        digits: (m, 28, 28) of MNIST, in [0, 1].
        target: (n,) class of each image.
        shown: (n, 5) which digits it shows, the three of its class first.
        corners: (n, 5, 2) where.
        patterns: (50, 28, 28) boxes of noise.
        noise_corners: (n, 50, 2) where there are some.
        noise_shown: (n, 50) which.
    """

    digits: Image
    target: NDArray[np.int64]
    shown: NDArray[np.int64]
    corners: NDArray[np.int64]
    patterns: Image
    noise_corners: NDArray[np.int64]
    noise_shown: NDArray[np.int64]

    @classmethod
    def draw(cls, mnist: Path, part: str, count: int, width: int, seed: int) -> Part:
        """Draw as the published generator does, in its order: digits, their places, noise."""
        random = RandomState(seed + (part == "train"))
        digits, classes = read_mnist(mnist, part)
        target, shown = _draw_digits(random, classes, count)
        corners = np.array([_draw_corners(random, width) for _ in range(count)])
        patterns = _draw_patterns(random)
        room = width - 2 * SIDE
        noise_corners = (random.rand(count, _NOISE, 2) * room + SIDE).astype(int)
        noise_shown = (random.rand(count, _NOISE) * _PATTERNS).astype(int)
        return cls(digits, target, shown, corners, patterns, noise_corners, noise_shown)

    def stamps(self, number: int, kind: Kind) -> list[Stamp]:
        """What is pasted into an image, in this order."""
        digits = [
            Stamp(self.digits[i], tuple(corner))
            for i, corner in zip(self.shown[number], self.corners[number], strict=True)
        ]
        if not kind.noise:
            return digits
        noise = [
            Stamp(self.patterns[i], tuple(corner))
            for i, corner in zip(self.noise_shown[number], self.noise_corners[number], strict=True)
        ]
        return noise + digits if kind.digits_on_top else digits + noise


@dataclass(frozen=True, slots=True)
class Stamp:
    """A digit or a box of noise, and where (row, col) its corner lies."""

    pixels: Image
    corner: tuple[int, int]


def read_mnist(folder: Path, part: str) -> tuple[Image, NDArray[np.uint8]]:
    """Digits (n, 28, 28) in [0, 1] and their classes (n,), from the original idx files."""
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    digits = np.frombuffer(images, np.uint8, offset=16).reshape(-1, SIDE, SIDE)
    return digits.astype(np.float32) / np.float32(255), np.frombuffer(labels, np.uint8, offset=8)


def _draw_digits(
    random: RandomState, classes: NDArray[np.uint8], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    of_class = [np.flatnonzero(classes == each) for each in range(CLASSES)]
    not_of_class = [np.flatnonzero(classes != each) for each in range(CLASSES)]
    target, shown = [], []
    for _ in range(count):
        target.append(int(random.rand() * CLASSES))
        alike = random.choice(of_class[target[-1]], _ALIKE)
        shown.append([*alike, *random.choice(not_of_class[target[-1]], _OTHERS)])
    return np.array(target), np.array(shown)


def _draw_corners(random: RandomState, width: int) -> list[NDArray[np.int64]]:
    """Where five digits lie; none touches another."""
    found: list[NDArray[np.int64]] = []
    while len(found) < _ALIKE + _OTHERS:
        corner = np.round(random.rand(2) * (width - SIDE)).astype(int)
        if all((abs(corner - other) >= SIDE).any() for other in found):
            found.append(corner)
    return found


def _draw_patterns(random: RandomState) -> Image:
    """(50, 28, 28): two straight strokes each, pixels of a random brightness of 0.8 to 1."""
    lines = np.zeros((_PATTERNS, SIDE, SIDE))
    for line, slope in zip(lines, np.tan(random.rand(_PATTERNS) * np.pi / 2.5), strict=True):
        x = np.linspace(0, min(SIDE - 0.51, (SIDE - 0.51) / slope), 2 * SIDE)
        line[np.round(x).astype(int), np.round(slope * x).astype(int)] = 1
    others = lines.copy()
    random.shuffle(others)
    turned = [random.rand(_PATTERNS) < 0.33 for _ in range(2)]
    for each in turned:  # both times from left to right, as the original has it
        others[each] = others[each][:, :, ::-1]
    brightness = random.rand(_PATTERNS, SIDE, SIDE) * 0.2 + 0.8
    return ((lines + others > 0) * brightness).astype(np.float32)


def pasted(stamps: list[Stamp], width: int, scale: float = 1.0) -> NDArray[np.uint8]:
    """(width, width): everything in its place; boxes are whole, a later one hides what it meets."""
    image = np.zeros((width, width), np.uint8)
    for stamp in stamps:
        row, col = (int(at * scale) for at in stamp.corner)
        pixels = stamp.pixels if scale == 1 else _smaller(stamp.pixels.tobytes(), scale)
        side = len(pixels)
        image[row : row + side, col : col + side] = (255 * pixels).astype(np.uint8)
    return image


@functools.lru_cache(maxsize=100_000)
def _smaller(pixels: bytes, scale: float) -> Image:
    image = np.frombuffer(pixels, np.float32).reshape(SIDE, SIDE)
    small: Image = rescale(image, scale, order=1, mode="constant", anti_aliasing=True)
    return small


def write_slide(path: Path, high: NDArray[np.uint8], low: NDArray[np.uint8]) -> None:
    """A TIFF of grey RGB whose second level is the overview."""
    with tifffile.TiffWriter(path) as tif:
        for number, level in enumerate((high, low)):
            tif.write(
                np.repeat(level[..., None], 3, axis=2), photometric="rgb", tile=(_TILE, _TILE),
                compression="deflate", subfiletype=int(number > 0), metadata=None,
                resolution=(1e4, 1e4) if not number else None, resolutionunit="CENTIMETER",
            )  # fmt: skip


def write_part(
    out: Path, kind: Kind, mnist: Path, part: str, count: int, seed: int
) -> Iterator[tuple[str, str, int]]:
    """Write the sparse images and the slides of a part; yield name, split and class of each."""
    prefix, split = _PARTS[part]
    drawn = Part.draw(mnist, part, count, kind.width, seed)
    high, low = SparseImages(kind.width), SparseImages(kind.overview)
    for number in range(count):
        name = f"{prefix}_{number:05d}"
        stamps = drawn.stamps(number, kind)
        high.add(pasted(stamps, kind.width))
        low.add(pasted(stamps, kind.overview, kind.scale))
        write_slide(out / "slides" / f"{name}.tif", high[number], low[number])
        yield name, split, int(drawn.target[number])
    np.savez_compressed(
        out / f"{prefix}.npz",
        target=drawn.target,
        **{f"high_{key}": value for key, value in high.arrays().items()},
        **{f"low_{key}": value for key, value in low.arrays().items()},
    )


RUN = """\
# As published, but for batches of 16: {tiles} tiles of 50 px, Adam at 1e-3, entropy 1e-4.
pyramid: {{finest_mpp: {mpp!r}}}
view: {{mpp: {mpp!r}, min_tissue: 0}}
tiles: {{per_slide: {tiles}, size_px: 50, mpp: 1.0, snap: none}}
model: {{attention: paper, encoder: paper, smooth: 1e-5, unit_features: true, density_gain: 0}}
training: {{epochs: 50, batch: 16, learning_rate: 1e-3, schedule: constant, weight_decay: 0,
  clip_norm: 1.0, class_weights: none, entropy: 1e-4}}
augment: {{turn: false, stain: 0, colour: 0, tile_stain: 0}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, required=True, help="folder of the idx files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=5000, help="images")
    parser.add_argument("--test", type=int, default=1000, help="images")
    parser.add_argument("--width", type=int, default=1500, help="pixels a side")
    parser.add_argument("--scale", type=float, default=0.12, help="of the overview")
    parser.add_argument("--no-noise", action="store_true")
    parser.add_argument("--digits-on-top", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kind = Kind(options.width, options.scale, not options.no_noise, options.digits_on_top)
    (options.out / "slides").mkdir(parents=True)
    (options.out / "parameters.json").write_text(json.dumps(asdict(kind) | {"seed": options.seed}))
    with (options.out / "slides.csv").open("w", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow(["slide", "path", "label", "split"])
        for part, count in (("train", options.train), ("t10k", options.test)):
            for name, split, target in write_part(
                options.out, kind, options.mnist, part, count, options.seed
            ):
                sheet.writerow([name, f"slides/{name}.tif", f"digit_{target}", split])
    run = RUN.format(mpp=kind.width / kind.overview, tiles=10)
    (options.out / "run.yaml").write_text(run)


if __name__ == "__main__":
    main()
