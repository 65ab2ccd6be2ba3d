"""Spatial transformers in front of small networks: a digit somewhere in clutter.

    python benchmarks/cluttered_mnist.py --mnist DIR --picture spatial_transformer.png

An MNIST digit lies anywhere in an image of 60 px, whole, among eight fragments of 6 px of other
digits; which digit is it? After Mnih et al., "Recurrent Models of Visual Attention", NeurIPS 2014,
section 4.1, and Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015, section 4.1. Places
and fragments of the training images are drawn anew in each epoch; those of the test images are
always the same, and nothing is chosen by them.

A network looks at all 60 px, or at 28 px that a transformer cuts out: that of
`saccade.models.spatial_transformer`, put into an encoder as `model.spatial_transformer` does it.
Where layers over all places make a plain network large, it comes twice: with the widths that the
others have behind their transformer, and narrow, with as many parameters as those have with it. A
seed is that of the first weights, of order, places and fragments.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib.pyplot as plt
import measure
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from matplotlib.patches import Polygon
from mega_mnist_set import SIDE, read_mnist
from numpy.typing import NDArray
from torch import Tensor, nn

from saccade.models.encoders import Encoder, compact_encoder
from saccade.models.spatial_transformer import tile_transformer

IMAGE_PX, CUT_PX, CLASSES = 60, 28, 10
FRAGMENTS, FRAGMENT_PX = 8, 6
BATCH, LEARNING_RATE, WEIGHT_DECAY = 100, 2e-3, 1e-4
CORNERS = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])

Form = Literal["none", "affine", "attention"]


class Digits(NamedTuple):
    """Digits (n, 28, 28) in [0, 1], and which ones they are (n,)."""

    pixels: NDArray[np.float32]
    classes: NDArray[np.int64]


class Images(NamedTuple):
    """Images (n, 1, 60, 60), their classes (n,), and centres (x, y) of the digits (n, 2)."""

    pixels: Tensor
    classes: Tensor
    centres_px: Tensor


class Variant(NamedTuple):
    """A trunk for images of a side, and what lies before it."""

    trunk: Callable[[int], tuple[nn.Module, int]]
    form: Form = "none"


class Run(NamedTuple):
    """What came of one variant with one seed; the last two are NaN without a transformer.

    Attributes:
        error: share of the test images.
        loss: mean over the last 100 steps.
        seconds: of CPU.
        scale: mean over the test images, of the cut by the image.
        off_px: from the digit's centre to the cut's, median over the test images.
    """

    error: float
    loss: float
    seconds: float
    scale: float
    off_px: float


def cluttered(digits: Digits, chosen: NDArray[np.int64], dice: np.random.Generator) -> Images:
    """Images of chosen digits, each in a place and among fragments of its own."""
    images = np.zeros((len(chosen), IMAGE_PX, IMAGE_PX), np.float32)
    corners = dice.integers(0, IMAGE_PX - SIDE + 1, (len(chosen), 2))
    images[_squares(corners, SIDE)] = digits.pixels[chosen]
    for _ in range(FRAGMENTS):
        others = digits.pixels[dice.integers(0, len(digits.pixels), len(chosen))]
        source = _squares(dice.integers(0, SIDE - FRAGMENT_PX + 1, corners.shape), FRAGMENT_PX)
        target = _squares(dice.integers(0, IMAGE_PX - FRAGMENT_PX + 1, corners.shape), FRAGMENT_PX)
        images[target] = np.maximum(images[target], others[source])
    centres = torch.from_numpy(corners[:, ::-1] + SIDE / 2)
    classes = torch.from_numpy(digits.classes[chosen])
    return Images(torch.from_numpy(images)[:, None], classes, centres)


def _squares(corners: NDArray[np.int64], side: int) -> tuple[NDArray[np.int64], ...]:
    """Indices of a square of each image, whose upper-left corner (row, column) is given."""
    row, col = corners[:, 0, None, None], corners[:, 1, None, None]
    along = np.arange(side)
    return np.arange(len(corners))[:, None, None], row + along[:, None], col + along


def fully_connected(width: int) -> Callable[[int], tuple[nn.Module, int]]:
    """Two hidden layers."""

    def trunk(side: int) -> tuple[nn.Module, int]:
        first, second = nn.Linear(side**2, width), nn.Linear(width, width)
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU()), width

    return trunk


def convolutional(width: int) -> Callable[[int], tuple[nn.Module, int]]:
    """Two convolutions of 5 px, each halved by its maxima, and a hidden layer over all places."""

    def trunk(side: int) -> tuple[nn.Module, int]:
        left = ((side - 4) // 2 - 4) // 2
        layers = (
            *(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(16 * left**2, width), nn.ReLU()),
        )
        return nn.Sequential(*layers), width

    return trunk


def compact(_: int) -> tuple[nn.Module, int]:
    """Saccade's own small encoder, which takes mean and maximum over all places."""
    encoder = compact_encoder(in_channels=1, width=16)
    return encoder.trunk, encoder.features


VARIANTS: Mapping[str, Variant] = {
    "fully connected": Variant(fully_connected(128)),
    "fully connected, narrow": Variant(fully_connected(36)),
    "attention + fully connected": Variant(fully_connected(128), "attention"),
    "affine + fully connected": Variant(fully_connected(128), "affine"),
    "convolutions": Variant(convolutional(64)),
    "convolutions, narrow": Variant(convolutional(12)),
    "attention + convolutions": Variant(convolutional(64), "attention"),
    "affine + convolutions": Variant(convolutional(64), "affine"),
    "compact": Variant(compact),
    "attention + compact": Variant(compact, "attention"),
    "affine + compact": Variant(compact, "affine"),
}


def build(variant: Variant) -> nn.Sequential:
    """An encoder, with a transformer if it is to have one, and a head."""
    trunk, features = variant.trunk(IMAGE_PX if variant.form == "none" else CUT_PX)
    encoder = Encoder(trunk, features=features, mean=(0.0,), std=(1.0,))
    if variant.form != "none":
        encoder.transformer = tile_transformer(variant.form, channels=1, size_px=CUT_PX)
    return nn.Sequential(encoder, nn.Linear(features, CLASSES))


def batches(digits: Digits, epochs: int, dice: np.random.Generator) -> Iterator[Images]:
    for _ in range(epochs):
        order = dice.permutation(len(digits.pixels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            yield cluttered(digits, order[start : start + BATCH], dice)


def fit(variant: Variant, digits: Digits, seed: int, epochs: int) -> tuple[nn.Sequential, float]:
    """A network, fitted, and its loss at the end."""
    torch.manual_seed(seed)
    network = build(variant)
    steps = epochs * (len(digits.pixels) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses: list[float] = []
    for images in batches(digits, epochs, np.random.default_rng(seed)):
        loss = F.cross_entropy(network(images.pixels), images.classes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return network.eval(), float(np.mean(losses[-100:]))


def run(
    variant: Variant, digits: Digits, test: Images, seed: int, epochs: int
) -> tuple[Run, nn.Sequential]:
    start = time.process_time()
    network, loss = fit(variant, digits, seed, epochs)
    error, scale, off_px = score(network, test)
    return Run(error, loss, time.process_time() - start, scale, off_px), network


@torch.inference_mode()
def score(network: nn.Sequential, test: Images) -> tuple[float, float, float]:
    """Error, scale and distance of a `Run`."""
    found = torch.cat([network(part).argmax(dim=1) for part in test.pixels.split(500)])
    error = float((found != test.classes).float().mean())
    encoder: Any = network[0]
    scale = off = float("nan")
    if encoder.transformer is not None:
        where = encoder.where(test.pixels)
        scale = float(torch.linalg.det(where[:, :, :2]).abs().sqrt().mean())
        centres = (where[:, :, 2] + 1) * IMAGE_PX / 2
        off = float((centres - test.centres_px).norm(dim=1).median())
    return error, scale, off


def row(name: str, runs: Sequence[Run]) -> str:
    parameters = sum(each.numel() for each in build(VARIANTS[name]).parameters())
    errors = 100 * np.array([each.error for each in runs])
    seeds = ", ".join(f"{each:.1f}" for each in errors)
    loss, seconds, scale, off = (np.mean([each[i] for each in runs]) for i in range(1, 5))
    looked = "| | " if np.isnan(scale) else f"| {scale:.2f} | {off:.1f} "
    return (
        f"| {name} | {parameters:,} | {errors.mean():.1f} | {seeds} | {loss:.2f} {looked}"
        f"| {seconds:.0f} |"
    )


@torch.inference_mode()
def draw(path: Path, test: Images, networks: Mapping[str, nn.Sequential], count: int = 12) -> None:
    """The first test images with outlines of what each transformer cut out, and the cuts."""
    pixels = test.pixels[:count]
    figure, axes = plt.subplots(
        2 * len(networks), count, figsize=(count * 0.9, 1.9 * len(networks)), squeeze=False
    )
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
    for i, (name, network) in enumerate(networks.items()):
        encoder: Any = network[0]
        outlines = (CORNERS @ encoder.where(pixels).transpose(1, 2) + 1) * IMAGE_PX / 2
        cuts = encoder.looked_at(pixels)
        for j in range(count):
            above, below = axes[2 * i, j], axes[2 * i + 1, j]
            side = (0, IMAGE_PX, IMAGE_PX, 0)
            above.imshow(pixels[j, 0], cmap="gray_r", extent=side)
            above.add_patch(Polygon(outlines[j].numpy(), fill=False, edgecolor="#0b3d91", lw=1.2))
            above.set(xlim=side[:2], ylim=side[2:])
            below.imshow(cuts[j, 0], cmap="gray_r", vmin=0, vmax=1)
        axes[2 * i, 0].set_title(name, fontsize=9, loc="left")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=90)


def main() -> None:
    args = arguments()
    measure.heading(["saccade", "torch", "numpy"])
    torch.set_num_threads(1)
    train, held_out = (
        Digits(pixels, classes.astype(np.int64))
        for pixels, classes in (read_mnist(args.mnist, part) for part in ("train", "t10k"))
    )
    every = np.arange(len(held_out.pixels))
    test = cluttered(held_out, every, np.random.default_rng(1000))
    shown: dict[str, nn.Sequential] = {}
    runs: dict[str, list[Run]] = {name: [] for name in args.only}
    for seed, name in itertools.product(range(args.seeds), args.only):
        made, network = run(VARIANTS[name], train, test, seed, args.epochs)
        runs[name].append(made)
        print(name, seed, made, file=sys.stderr, flush=True)
        if VARIANTS[name].form != "none":
            shown.setdefault(name, network)
    print("| variant | parameters | test error % | by seed | loss | scale | off, px | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in args.only:
        print(row(name, runs[name]))
    if args.picture is not None:
        draw(args.picture, test, shown)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mnist", type=Path, required=True, help="folder of the idx files")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--picture", type=Path, help="a PNG of what was cut out, of seed 0")
    return parser.parse_args()


if __name__ == "__main__":
    main()
