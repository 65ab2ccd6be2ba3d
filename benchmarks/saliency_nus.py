"""Saliency on photographs: a small MSI-Net from nothing against priors and other people.

500 photographs with the fixations of 12 subjects (Liang and Zhao, "Scene saliency dataset", NUS
2015), of which `--data` holds `fixations.mat` and `stimuli/`. Photographs are shrunk to a longest
side of `--longest` pixels and dealt into 350, 50 and 100, to fit, to choose the epoch by, and
to judge. All that is said below is of the 100.

The network's training resumes where it was cut off; once it is done, only the rest is done again.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import measure
import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from saccade.models.saliency import MSINet
from saccade.pipeline.lock import exclusive
from saccade.pipeline.metrics.saliency import (
    auc_judd,
    cc,
    information_gain,
    kld,
    nss,
    shuffled_auc,
    sim,
)
from saccade.pipeline.record import Stopwatch
from saccade.pipeline.saliency.config import NetworkConfig, SaliencyTrainingConfig
from saccade.pipeline.saliency.fit import Example, Picture
from saccade.pipeline.saliency.network import card_of, fresh_network
from saccade.pipeline.saliency.run import run_epochs
from saccade.pipeline.saliency.targets import count_fixations, from_fixations
from saccade.pipeline.saliency_model import load_saliency_model

SHARE = 0.045  # standard deviation of the blur, of the longest side: about 1 degree in such studies
SUBJECTS = 12
UNIT = 64  # the prior is kept on so many rows and columns

Map = NDArray[np.float64]


@dataclass(frozen=True)
class Photograph:
    """A photograph, and where each subject looked, in its pixels as they are here."""

    name: str
    pixels: NDArray[np.uint8]
    points_px: tuple[NDArray[np.float64], ...]

    @property
    def shape(self) -> tuple[int, int]:
        rows, cols = self.pixels.shape[:2]
        return rows, cols

    @property
    def sigma_px(self) -> float:
        return SHARE * max(self.shape)

    def counts(self, subjects: Sequence[int] | None = None) -> Map:
        return count_fixations(self._points(subjects), self.shape)

    def density(self, subjects: Sequence[int] | None = None) -> NDArray[np.float32]:
        return from_fixations(self._points(subjects), self.shape, self.sigma_px)

    def example(self) -> Example:
        return Example(self.name, Picture(self.pixels, self.density()))

    def _points(self, subjects: Sequence[int] | None) -> NDArray[np.float64]:
        chosen = range(len(self.points_px)) if subjects is None else subjects
        return np.concatenate([self.points_px[i] for i in chosen])


def read_photographs(folder: Path, longest: int) -> list[Photograph]:
    fixations = scipy.io.loadmat(folder / "fixations.mat")["fixations"]
    return [
        read_photograph(folder / "stimuli" / f"{number:03d}.jpg", by_subject, longest)
        for number, by_subject in enumerate(fixations, start=1)
    ]


def read_photograph(path: Path, by_subject: NDArray[np.object_], longest: int) -> Photograph:
    """Rows of the table are (y, x, onset, duration)."""
    with Image.open(path) as image:
        factor = longest / max(image.size)
        size = (round(image.width * factor), round(image.height * factor))
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX))
    scale = np.array(size) / np.array(image.size)
    points = tuple(each.reshape(-1, 4)[:, [1, 0]] * scale for each in by_subject)
    return Photograph(path.stem, pixels, points)


def deal(photographs: Sequence[Photograph]) -> tuple[list[Photograph], ...]:
    order = np.random.default_rng(0).permutation(len(photographs))
    parts = order[:350], order[350:400], order[400:]
    return tuple([photographs[i] for i in part] for part in parts)


def mean_counts(photographs: Sequence[Photograph]) -> Map:
    """Where people look whatever the photograph: fixations of all, on the unit square."""
    total = np.zeros((UNIT, UNIT))
    for each in photographs:
        scale = UNIT / np.array(each.shape[::-1])
        total += count_fixations(np.concatenate(each.points_px) * scale, (UNIT, UNIT))
    return total


def stretched(values: Map, shape: tuple[int, int]) -> Map:
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR), np.float64)


@dataclass(frozen=True)
class Judge:
    """What all maps are held against."""

    counts: Map  # fixations of the training photographs on the unit square
    prior: Map  # the same, blurred

    def prior_for(self, photograph: Photograph) -> Map:
        return stretched(self.prior, photograph.shape)

    def of(self, saliency: Map, photograph: Photograph, seen: Sequence[int] | None) -> list[float]:
        """The seven metrics, against the fixations of some subjects."""
        counts, density = photograph.counts(seen), photograph.density(seen)
        return [
            nss(saliency, counts),
            auc_judd(saliency, counts),
            shuffled_auc(saliency, counts, nearest(self.counts, photograph.shape)),
            cc(saliency, density),
            sim(saliency, density),
            kld(saliency, density),
            information_gain(saliency, counts, self.prior_for(photograph)),
        ]


METRICS = ("NSS", "AUC-Judd", "sAUC", "CC", "SIM", "KLD", "IG, bits")


def nearest(values: Map, shape: tuple[int, int]) -> Map:
    rows, cols = (np.arange(n) * UNIT // n for n in shape)
    return values[np.ix_(rows, cols)]


def predicted(model: MSINet, photograph: Photograph) -> Map:
    view, _ = Picture(photograph.pixels, np.zeros(photograph.shape, np.float32)).tensors()
    with torch.no_grad():
        return model(view)[0, 0].double().numpy()


Maker = Callable[[Photograph], Map]


def halves(seed: int) -> tuple[list[int], list[int]]:
    order = np.random.default_rng(seed).permutation(SUBJECTS).tolist()
    return order[: SUBJECTS // 2], order[SUBJECTS // 2 :]


def judge_all(judge: Judge, makers: Mapping[str, Maker], held_out: Sequence[Photograph]) -> None:
    print("| map | " + " | ".join(METRICS) + " |\n| --- |" + " --- |" * len(METRICS))
    found = {
        name: [judge.of(make(each), each, None) for each in held_out]
        for name, make in makers.items()
    }
    for name, rows in found.items():
        print_row(name, rows)
    split = [(each, *halves(number)) for number, each in enumerate(held_out)]
    for name, make in makers.items():
        print_row(f"{name}, on 6", [judge.of(make(e), e, others) for e, _, others in split])
    people = [judge.of(people_map(judge, e, some), e, others) for e, some, others in split]
    print_row("the other 6 subjects, on 6", people)
    prior, ours = (np.array(found[name]) for name in ("centre prior", "MSI-Net"))
    for column in (0, 1):
        better = (ours[:, column] > prior[:, column]).sum()
        print(f"{METRICS[column]} above the prior's on {better} of {len(ours)} photographs")


def people_map(judge: Judge, photograph: Photograph, subjects: Sequence[int]) -> Map:
    """Where some subjects looked, blurred; a tenth of the prior, as they cannot look everywhere."""
    prior = judge.prior_for(photograph)
    return 0.9 * photograph.density(subjects) + 0.1 * prior / prior.sum()


def print_row(name: str, rows: Sequence[Sequence[float]]) -> None:
    means = np.mean(rows, axis=0)
    print(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |", flush=True)


def main() -> None:
    args = arguments()
    measure.heading(["saccade", "torch", "numpy"])
    torch.set_num_threads(1)
    watch = Stopwatch()
    fit, choose, held_out = deal(read_photographs(args.data, args.longest))
    counts = mean_counts(fit)
    judge = Judge(counts, gaussian_filter(counts, SHARE * UNIT, mode="constant") + 1e-3)
    settings = SaliencyTrainingConfig(
        epochs=args.epochs,
        batch=4,
        learning_rate=1e-3,
        schedule="cosine",
        warmup_epochs=1,
        weight_decay=0.01,
        turn="mirror",
    )
    network = NetworkConfig(width=args.width, convolutions=args.convolutions)
    with exclusive(args.out):
        run_epochs(
            settings,
            fresh_network(network, seed=0),
            card_of(network, mpp=None),
            [each.example() for each in fit],
            [each.example() for each in choose],
            args.out,
            key=str((settings, network, args.longest)),
            report=lambda line: print(line, watch.cost()["cpu_seconds"], flush=True),
        )
    print(watch.cost())
    model, _ = load_saliency_model(args.out / "model.safetensors")

    def network_map(photograph: Photograph) -> Map:
        return predicted(model, photograph)

    makers: dict[str, Maker] = {
        "uniform": lambda each: np.ones(each.shape),
        "centre prior": judge.prior_for,
        "MSI-Net": network_map,
    }
    judge_all(judge, makers, held_out)
    draw(args.out / "maps.png", network_map, held_out[:5])


def draw(path: Path, make: Maker, photographs: Sequence[Photograph]) -> None:
    """Predicted maps above what people looked at; no photograph, whose rights are unclear."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(photographs), figsize=(2.4 * len(photographs), 4.2))
    for column, each in enumerate(photographs):
        maps = (make(each), each.density().astype(np.float64))
        for axis, values in zip(axes[:, column], maps, strict=True):
            axis.imshow(values / values.max(), cmap="magma", vmin=0, vmax=1)
            axis.set_axis_off()
        x, y = np.concatenate(each.points_px).T
        axes[1, column].plot(x - 0.5, y - 0.5, ".", color="white", markersize=1, alpha=0.6)
    axes[0, 0].set_title("predicted", loc="left", fontsize=9)
    axes[1, 0].set_title("where 12 people looked", loc="left", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the set")
    parser.add_argument("--out", type=Path, default=Path("saliency_nus"), help="folder of the run")
    parser.add_argument("--longest", type=int, default=128, help="longest side, in pixels")
    parser.add_argument("--width", type=int, default=16, help="channels of the first block")
    parser.add_argument("--convolutions", type=int, default=1, help="of each block, at most")
    parser.add_argument("--epochs", type=int, default=12)
    return parser.parse_args()


if __name__ == "__main__":
    main()
