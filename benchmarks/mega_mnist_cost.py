"""What a training step costs as images grow, beside the same feature network on everything.

    python benchmarks/mega_mnist_cost.py --mnist DIR --work DIR

Images of 1500, 3000, 6000 and 12000 px a side hold what Megapixel MNIST has at 1500 px, five
digits and 50 boxes of noise; their overview always has 180 px a side. Attention sampling (networks
`paper`, 10 tiles of 50 px, batches of 16) reads them as slides, as `saccade train` does: reading
and drawing are part of a step. Beside it, one step of the same feature network on the whole image,
and on all patches of 50 px of it, batch 1, from memory: reading costs them nothing. The feature
network alone on the tiles of a step, by torch's own backward pass, says how fast the machine is: it
stands for what others measured elsewhere. Each figure is the median of rounds, each from a fresh
process; memory is its peak, all libraries included. All of an image is tried up to 3000 px a side.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from statistics import median

import matplotlib as mpl
import measure
import mega_mnist_set as mega
import numpy as np
import torch

from saccade.models.encoders import paper_encoder
from saccade.pipeline import train as training
from saccade.pipeline.cohort import load_cohort
from saccade.pipeline.fit import train_epoch
from saccade.pipeline.reading import TileReader
from saccade.pipeline.sheet import read_sheet
from saccade.pipeline.tasks.truth import truth_of
from saccade.pipeline.yaml_config import load_config

mpl.use("Agg")

SIDES = (1500, 3000, 6000, 12000)
ALONE = "tiles alone"
WAYS = {"sampling": SIDES, ALONE: SIDES[:1], "whole image": SIDES[:2], "all patches": SIDES[:2]}
BATCHES = {"sampling": 16, ALONE: 16}  # images a step, others one
_OVERVIEW, _BATCH, _STEPS, _TILES = 180, 16, 5, 10


def write_set(folder: Path, mnist: Path, side: int) -> None:
    """A batch of slides, with sheet and settings; nothing where they are already."""
    if (folder / "run.yaml").exists():
        return
    kind = mega.Kind(width=side, scale=_OVERVIEW / 1500)
    drawn = mega.Part.draw(mnist, "train", _BATCH, 1500, seed=0)
    (folder / "slides").mkdir(parents=True, exist_ok=True)
    with (folder / "slides.csv").open("w", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow(["slide", "path", "label", "split"])
        for number in range(_BATCH):
            stamps = drawn.stamps(number, kind)
            low = mega.pasted(stamps, _OVERVIEW, kind.scale)
            apart = [
                mega.Stamp(one.pixels, tuple(int(at * side / 1500) for at in one.corner))
                for one in stamps
            ]
            mega.write_slide(folder / f"slides/{number}.tif", mega.pasted(apart, side), low)
            sheet.writerow([number, f"slides/{number}.tif", f"digit_{number % 10}", "train"])
    (folder / "run.yaml").write_text(mega.RUN.format(mpp=side / _OVERVIEW, tiles=_TILES))


def sampling(folder: Path) -> None:
    """Steps of `saccade train`; the first is not counted."""
    config, rows = load_config(folder / "run.yaml"), read_sheet(folder / "slides.csv")
    truth = truth_of(config.task, rows)
    model = training._fresh_model(config, len(truth.names))
    cohort = load_cohort(rows, truth, folder / "pyramids", config, stride=model.attention.stride)
    with TileReader(size_px=50, mpp=1.0, workers=1) as reader:
        bench = training._bench(config, model, cohort, reader)
        costs = []
        for epoch in range(1 + _STEPS):
            with measure.clock() as spent:
                train_epoch(bench, cohort.train, epoch)
            costs.append(spent.cpu)
        decoded = reader.counts().tiles / len(costs)
    measure.report(cpu=median(costs[1:]), decoded=decoded, peak_mb=measure.own_peak_mb())


def everything(folder: Path, *, patches: bool) -> None:
    """A step of the feature network alone on one image."""
    from saccade.tiling import open_slide

    with open_slide(folder / "slides/0.tif") as slide:
        side = slide.size_l0[0]
        pixels = slide.read(x_l0=0, y_l0=0, size_px=side, mpp=1.0)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    if patches:
        count = side // 50
        cut = image.view(3, count, 50, count, 50).permute(1, 3, 0, 2, 4)
        image = cut.reshape(-1, 3, 50, 50)
    torch.manual_seed(0)
    encoder, head = paper_encoder(), torch.nn.Linear(32, 10)
    costs = []
    for _ in range(3):
        with measure.clock() as spent:
            logits = head(encoder(image).mean(dim=0, keepdim=True))
            logits.logsumexp(dim=1).sum().backward()
        costs.append(spent.cpu)
    measure.report(cpu=median(costs[1:]), peak_mb=measure.own_peak_mb())


def tiles_alone() -> None:
    """A step of the feature network alone on as many tiles as one of sampling reads."""
    torch.manual_seed(0)
    encoder, head = paper_encoder(), torch.nn.Linear(32, 10)
    layers = torch.nn.Sequential(*encoder.trunk).to(memory_format=torch.channels_last)
    tiles = torch.rand(_BATCH * _TILES, 3, 50, 50).to(memory_format=torch.channels_last)
    costs = []
    for _ in range(1 + _STEPS):
        with measure.clock() as spent:
            head(layers(tiles).amax(dim=(2, 3))).logsumexp(dim=1).sum().backward()
        costs.append(spent.cpu)
    measure.report(cpu=median(costs[1:]), peak_mb=measure.own_peak_mb())


def draw_plot(path: Path, found: dict[tuple[str, int], list[measure.Result]]) -> None:
    """CPU time and memory over the side of the image."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key, label in zip(
        axes, ("cpu", "peak_mb"), ("CPU seconds an image", "peak memory, MB"), strict=True
    ):
        for way in (way for way in WAYS if way != ALONE):
            each = BATCHES.get(way, 1) if key == "cpu" else 1
            points = [
                (side, measure.middle(found[way, side], key) / each)
                for side in WAYS[way]
                if not measure.has_failed(found[way, side])
            ]
            axis.plot(*np.array(points).T, marker="o", label=way)
        axis.set(xscale="log", yscale="log", xlabel="pixels a side", ylabel=label)
        axis.set_xticks(SIDES, [str(side) for side in SIDES])
        axis.xaxis.minorticks_off()  # memory spans less than a decade: its axis needs them
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mnist", type=Path, help="folder of the idx files")
    parser.add_argument("--work", type=Path, required=True, help="folder for slides and the plot")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "SIDE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, side = options.one
        measure_one(way, options.work / side)
        return
    measure.heading(["saccade", "torch"])
    for side in SIDES:
        write_set(options.work / str(side), options.mnist, side)
    wanted = [(way, side) for way, sides in WAYS.items() for side in sides]

    def run(name: str, _: int) -> measure.Result:
        way, side = wanted[int(name)]
        one = ["--work", str(options.work), "--one", way, str(side)]
        return measure.fresh(sys.argv[0], one, threads=1, memory_gb=9)

    results = measure.rounds([str(i) for i in range(len(wanted))], options.rounds, run)
    found = {each: results[str(i)] for i, each in enumerate(wanted)}
    columns = (
        *("what is computed", "side, px", "CPU s a step", "by tiles alone"),
        *("CPU s an image", "source tiles decoded", "peak, MB"),
    )
    measure.table("A training step", columns, [_row(*each, found) for each in wanted])
    measure.failures({f"{way}, {side} px": each for (way, side), each in found.items()})
    draw_plot(options.work / "cost.png", found)


def measure_one(way: str, folder: Path) -> None:
    """One way on one set, in a process of its own."""
    if way == "sampling":
        sampling(folder)
    elif way == ALONE:
        tiles_alone()
    else:
        everything(folder, patches="patch" in way)


def _row(way: str, side: int, found: dict[tuple[str, int], list[measure.Result]]) -> list[str]:
    own = found[way, side]
    if measure.has_failed(own):
        return [way, str(side), *[""] * 5]
    cpu = measure.middle(own, "cpu")
    relative = measure.ratio(own, found[ALONE, SIDES[0]], "cpu")
    an_image = cpu / BATCHES.get(way, 1)
    decoded = f"{measure.middle(own, 'decoded'):.0f}" if "decoded" in own[0] else ""
    peak = f"{measure.middle(own, 'peak_mb'):.0f}"
    return [way, str(side), f"{cpu:.2f}", relative, f"{an_image:.3f}", decoded, peak]


if __name__ == "__main__":
    main()
