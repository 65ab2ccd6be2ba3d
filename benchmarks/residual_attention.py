"""Residual attention against naive and none, and its three kinds, on a task of a minute.

    python benchmarks/residual_attention.py --data nuclei_dsb2018

107 stained images of 320 x 256 px with a mask for each nucleus (Data Science Bowl 2018, CC0), of
which `--data` holds `NAME.png` and `NAME_instances.png`. How many nuclei does a crop of 64 px hold:
none, one or two, or more? Every fourth image, by name, is held out; nothing is chosen by those, and
all variants are fitted to the others for as many epochs. Crops are halved to 32 px, which makes a
run a minute.

All variants are the small network of `saccade.models.residual_attention`. Without attention it has
no mask branches, and so fewer parameters; with seven units in each trunk instead of two it has
about as many. A seed is that of the first weights, of the order and of the flips; the crops and
the split are always the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import measure
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from saccade.models.pixels import Standardise, typical_pixels
from saccade.models.residual_attention import small_attention

CROP_PX = 64
FROM = (1, 3)  # nuclei: where the second and the third class begin
CLASSES = len(FROM) + 1
BATCH, LEARNING_RATE, WEIGHT_DECAY = 32, 3e-3, 0.05
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "residual, mixed": {},
    "naive, mixed": {"learning": "naive"},
    "none": {"learning": "none"},
    "none, deeper trunks": {"learning": "none", "t": 7},
    "residual, channel": {"attention": "channel"},
    "residual, spatial": {"attention": "spatial"},
}


class Crops(NamedTuple):
    """Pixels uint8 (n, 3, side, side), and nuclei (n,) whose centre of mass lies in each crop."""

    pixels: Tensor
    nuclei: NDArray[np.int64]


class Run(NamedTuple):
    """What came of one variant with one seed."""

    accuracy: float
    train_loss: float
    seconds: float


def read_crops(folder: Path, names: Sequence[str]) -> Crops:
    """A grid of 4 x 4 crops of each image, which overlap a little or not at all."""
    pixels, nuclei = [], []
    for name in names:
        image = np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))
        centres = centres_of(np.asarray(Image.open(folder / f"{name}_instances.png")))
        tops, lefts = (
            np.linspace(0, length - CROP_PX, 4).astype(int) for length in image.shape[:2]
        )
        for corner in ((top, left) for top in tops for left in lefts):
            pixels.append(image[corner[0] :, corner[1] :][:CROP_PX, :CROP_PX])
            inside = (centres >= corner) & (centres < np.array(corner) + CROP_PX)
            nuclei.append(inside.all(axis=1).sum())
    crops = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
    return Crops(F.avg_pool2d(crops, 2).round().byte(), np.array(nuclei))


def centres_of(instances: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Centres of mass (row, column) of the labels, (n, 2)."""
    labels = instances.ravel().astype(np.int64)
    area = np.bincount(labels)
    sums = [np.bincount(labels, axis.ravel()) for axis in np.indices(instances.shape)]
    present = np.flatnonzero(area[1:]) + 1
    return np.stack([each[present] / area[present] for each in sums], axis=1)


def deal(folder: Path) -> tuple[list[str], list[str]]:
    names = sorted(p.stem for p in folder.glob("*.png") if not p.stem.endswith("_instances"))
    return [n for i, n in enumerate(names) if i % 4], names[::4]


def batches(crops: Tensor, labels: Tensor, dice: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
    """All crops once, in any order, each batch in one of the eight symmetries of the square."""
    for numbers in torch.randperm(len(crops), generator=dice).split(BATCH):
        turns, mirror = torch.randint(4, (), generator=dice), torch.rand((), generator=dice) < 0.5
        seen = crops[numbers].rot90(int(turns), (2, 3))
        yield (seen.flip(3) if mirror else seen), labels[numbers]


def fit(options: Mapping[str, Any], train: tuple[Tensor, Tensor], seed: int, epochs: int) -> Any:
    """A network, fitted; and the mean loss of its last epoch."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        Standardise(*typical_pixels(3)), small_attention(classes=CLASSES, **options)
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dice = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * -(-len(train[0]) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    losses: list[float] = []
    for _ in range(epochs):
        losses.clear()
        for crops, labels in batches(*train, dice):
            loss = F.cross_entropy(network(crops), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
    return network.eval(), float(np.mean(losses))


def run(
    options: Mapping[str, Any],
    train: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    seed: int,
    epochs: int,
) -> Run:
    start = time.process_time()
    network, loss = fit(options, train, seed, epochs)
    with torch.inference_mode():
        found = torch.cat([network(crops).argmax(dim=1) for crops in held_out[0].split(64)])
    accuracy = float((found == held_out[1]).float().mean())
    return Run(accuracy, loss, time.process_time() - start)


def row(name: str, options: Mapping[str, Any], runs: Sequence[Run]) -> str:
    network = small_attention(classes=CLASSES, **options)
    parameters = sum(each.numel() for each in network.parameters())
    accuracy = 100 * np.array([each.accuracy for each in runs])
    seeds = ", ".join(f"{each:.1f}" for each in accuracy)
    loss, seconds = (np.mean([each[i] for each in runs]) for i in (1, 2))
    return (
        f"| {name} | {parameters:,} | {accuracy.mean():.1f} ± {accuracy.std(ddof=1):.1f} "
        f"| {seeds} | {loss:.2f} | {seconds:.0f} |"
    )


def main() -> None:
    args = arguments()
    measure.heading(["saccade", "torch", "numpy"])
    torch.set_num_threads(1)
    parts = [read_crops(args.data, names) for names in deal(args.data)]
    labels = [torch.from_numpy(np.digitize(part.nuclei, FROM)) for part in parts]
    train, held_out = ((part.pixels, each) for part, each in zip(parts, labels, strict=True))
    often = max(int((held_out[1] == i).sum()) for i in range(CLASSES)) / len(held_out[1])
    print(
        f"{len(labels[0])} crops to fit to, {len(labels[1])} held out; always the commonest "
        f"class: {100 * often:.1f} %\n"
    )
    print("| variant | parameters | accuracy % | by seed | training loss | CPU s a run |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in args.only:
        options = VARIANTS[name]
        runs = [run(options, train, held_out, seed, args.epochs) for seed in range(args.seeds)]
        print(row(name, options, runs), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the images")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
