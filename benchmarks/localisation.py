"""Where a model says the lesion is, and where it is: on drawn slides, from one label a slide.

A cohort of the demo's slides, whose lesions are known as polygons and never trained on. A sampler
is trained, or several from other seeds; its encoder gives features of all tiles with tissue, and on
these a spatially attentive output layer and gated attention are trained, from `--seeds` seeds. Each
map is then held to the lesions of the held-out slides that have any:

* pointing: whether the middle of the tile with the highest value lies in a lesion;
* IoU: of the tiles with the highest values, as many as have their middle in a lesion, with those
  that do. It asks for no threshold.

What is finished in `--out` is kept, so a run that was cut off goes on.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from saccade.pipeline.bags.cohort import Bag, tensors_of
from saccade.pipeline.bags.config import BagsConfig, BagTrainingConfig, FeaturesConfig, HeadConfig
from saccade.pipeline.bags.feature_file import find_features, read_features
from saccade.pipeline.bags.model_file import load_bag_model
from saccade.pipeline.bags.train import train_on_features
from saccade.pipeline.config import (
    ModelConfig,
    PyramidConfig,
    RunConfig,
    TilesConfig,
    TrainingConfig,
    ViewConfig,
)
from saccade.pipeline.demo.lesions import inside, lesion_polygons
from saccade.pipeline.demo.run import RUN
from saccade.pipeline.demo.slides import CohortFiles, make_cohort
from saccade.pipeline.embed.encoder import EncoderChoice
from saccade.pipeline.embed.options import EmbedOptions
from saccade.pipeline.embed.run import embed_slide
from saccade.pipeline.glance import as_batch, glance_at, sight
from saccade.pipeline.model_file import load_model
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.record import RECORD
from saccade.pipeline.sheet import SheetRow, of_split, read_sheet
from saccade.pipeline.thumbnails import ensure_pyramid, read_thumbnail
from saccade.pipeline.train import train
from saccade.tiling import open_slide
from saccade.tiling.pyramid_view import Pyramid
from saccade.tiling.regrid import GriddedTiles

LESION = 1  # number of the class: benign, lesion
HEADS = {
    "SAOL": HeadConfig(head="spatial_output", width=32, side=3),
    "SAOL, each tile by itself": HeadConfig(head="spatial_output", width=32, side=1),
    "ABMIL": HeadConfig(head="abmil", width=32),
}
Maps = dict[str, NDArray[np.float64]]
"""A value for each tile of a slide, by what it is of."""


@dataclass(frozen=True)
class Place:
    """Where everything of one sampler, and of heads from one seed on its features, lies."""

    out: Path
    sampler_seed: int
    seed: int

    def pyramid(self, slide: str) -> Path:
        return self.out / "pyramids" / slide / "pyramid.zarr"

    @property
    def sampler(self) -> Path:
        return self.out / f"sampler_{self.sampler_seed}" / "model"

    @property
    def features(self) -> Path:
        return self.out / f"sampler_{self.sampler_seed}" / "features"

    def head(self, name: str) -> Path:
        folder = name.replace(", ", "_").replace(" ", "_")
        return self.out / f"sampler_{self.sampler_seed}" / f"heads_{self.seed}" / folder


def sampler_config(seed: int, epochs: int) -> RunConfig:
    """The demo's settings."""
    return RunConfig(
        view=ViewConfig(**RUN["view"]),
        tiles=TilesConfig(**RUN["tiles"]),
        model=ModelConfig(**RUN["model"]),
        training=TrainingConfig(**RUN["training"] | {"epochs": epochs, "seed": seed}),
    )


def write_all_features(rows: Sequence[SheetRow], place: Place) -> None:
    """Features of all tiles with tissue, by the sampler's encoder."""
    choice = EncoderChoice(place.sampler / "model.safetensors")
    for row in rows:
        with open_slide(row.path) as slide:
            ensure_pyramid(slide, place.pyramid(row.slide), PyramidConfig())
        options = EmbedOptions(pyramid=place.pyramid(row.slide))
        embed_slide(SlideRef(row.path), choice, place.features / row.slide, options)


def train_heads(rows: Sequence[SheetRow], place: Place, epochs: int) -> None:
    for name, head in HEADS.items():
        training = BagTrainingConfig(epochs=epochs, learning_rate=1e-3, seed=place.seed)
        config = BagsConfig(FeaturesConfig(str(place.features)), head, training=training)
        train_on_features(config, rows, place.head(name))


@torch.inference_mode()
def maps_of(row: SheetRow, place: Place) -> tuple[NDArray[np.float64], Maps]:
    """Middles (tiles, 2) of a slide's tiles on level 0, and what each model says of them."""
    path = find_features(place.features, row.slide)
    tiles = read_features(path)
    assert tiles.side_l0 is not None
    middles = tiles.corners_l0 + tiles.side_l0 / 2
    maps = {"attention of the sampler": _attention(row, place, middles)}
    for name in HEADS:
        model, card = load_bag_model(place.head(name) / "model.safetensors")
        found = model(*tensors_of(Bag(row.slide, path, LESION), card))
        log_attention = found.attention_logits.double().log_softmax(dim=0)
        maps[f"attention of {name}"] = log_attention.numpy()
        if found.log_classes is not None:
            classes = found.log_classes[LESION].double()
            maps[f"class map of {name}"] = classes.numpy()
            maps[f"evidence of {name}"] = (log_attention + classes).numpy()
    return middles, maps


def _attention(row: SheetRow, place: Place, middles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log attention of the sampler at the middles of tiles."""
    model, card = load_model(place.sampler / "model.safetensors")
    stride = model.attention.stride
    glance = glance_at(
        Pyramid.open(place.pyramid(row.slide)), card.view, stride=stride, name=row.slide
    )
    views, tissue = as_batch([sight(glance, stride=stride)], torch.device("cpu"))
    log_attention = model.attend(views, tissue)[0].reshape(glance.grid.shape).double().numpy()
    cell = (middles / np.array(glance.grid.cell_l0)).astype(int)
    rows, cols = glance.grid.shape
    found: NDArray[np.float64] = log_attention[
        np.minimum(cell[:, 1], rows - 1), np.minimum(cell[:, 0], cols - 1)
    ]
    return found


def pointing(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    return float(truth[values.argmax()])


def iou(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Of as many tiles as are true, the highest first."""
    count = int(truth.sum())
    chosen = np.zeros_like(truth)
    chosen[np.argsort(-values, kind="stable")[:count]] = True
    return float((chosen & truth).sum() / (chosen | truth).sum())


def measure_heads(
    rows: Sequence[SheetRow], lesions: Mapping[str, Path], place: Place
) -> dict[str, tuple[float, float]]:
    """Mean pointing and IoU over the held-out slides with lesions, by map."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in of_split(rows, "test"):
        if row.label != "lesion":
            continue
        middles, maps = maps_of(row, place)
        truth = inside(lesion_polygons(lesions[row.slide]), middles)
        chance = np.random.default_rng(0).random(len(middles))
        for name, values in {"chance": chance, **maps}.items():
            found.setdefault(name, []).append((pointing(values, truth), iou(values, truth)))
    return {
        name: (float(np.mean([p for p, _ in each])), float(np.mean([i for _, i in each])))
        for name, each in found.items()
    }


def table(seeds: Sequence[dict[str, tuple[float, float]]]) -> str:
    lines = ["| map | pointing | IoU |", "|---|---|---|"]
    for name in seeds[0]:
        cells = []
        for axis in (0, 1):
            values = [seed[name][axis] for seed in seeds]
            cells.append(f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})")
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def auc_table(places: Sequence[Place]) -> str:
    lines = ["| head | AUC of the held-out slides |", "|---|---|"]
    for name in HEADS:
        files = [place.head(name) / "results" / "metrics.json" for place in places]
        aucs = [json.loads(file.read_text())["auc"] for file in files]
        lines.append(f"| {name} | {np.mean(aucs):.2f} ({min(aucs):.2f} to {max(aucs):.2f}) |")
    return "\n".join(lines)


def draw(path: Path, rows: Sequence[SheetRow], lesions: Mapping[str, Path], place: Place) -> None:
    """Three slides: the slide with its lesions, attention, class map and evidence."""
    shown = {
        "attention of SAOL": "attention, over four decades",
        "class map of SAOL": "class map of lesion, from 0 to 1",
        "evidence of SAOL": "evidence for lesion, over four decades",
    }
    chosen = [row for row in of_split(rows, "test") if row.label == "lesion"][:3]
    figure = Figure(figsize=(11.5, 2.95 * len(chosen) + 0.3), layout="constrained")
    axes = figure.subplots(len(chosen), 4, squeeze=False)
    for line, row in zip(axes, chosen, strict=True):
        thumbnail = read_thumbnail(Pyramid.open(place.pyramid(row.slide)))
        with open_slide(row.path) as slide:
            width, height = slide.size_l0
        tiles = read_features(find_features(place.features, row.slide)).gridded(row.slide)
        _, maps = maps_of(row, place)
        for panel, name in zip(line, ("slide", *shown), strict=True):
            ground = thumbnail if name == "slide" else thumbnail.mean(axis=2) / 510 + 0.5
            panel.imshow(ground, extent=(0, width, height, 0), cmap="gray", vmin=0, vmax=1)
            if name != "slide":
                _paint(panel, tiles, _colours(name, maps[name]))
            for polygon in lesion_polygons(lesions[row.slide]):
                panel.plot(*np.vstack([polygon, polygon[:1]]).T, color="#00a0ff", lw=1.2)
            panel.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
            words = f"{row.slide}, lesions outlined" if name == "slide" else shown[name]
            panel.set_title(words, size=9)
    figure.savefig(path, dpi=110)


def _colours(name: str, log_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1: class maps as they are, what sums to 1 over a slide over four decades."""
    if name.startswith("class map"):
        return np.exp(log_values)
    decades = (log_values - log_values.max()) / np.log(10)
    return np.clip(1 + decades / 4, 0, 1)


def _paint(panel: Axes, tiles: GriddedTiles, values: NDArray[np.float64]) -> None:
    rows, cols = tiles.grid.shape
    image = np.zeros((rows, cols, 4))
    image[tuple(tiles.cells.T)] = mpl.colormaps["inferno"](values, alpha=0.8)
    (left, top), (width, height) = tiles.grid.origin_l0, tiles.grid.cell_l0
    extent = (left, left + cols * width, top + rows * height, top)
    panel.imshow(image, extent=extent, interpolation="nearest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    parser.add_argument("--slides", type=int, default=40)
    parser.add_argument("--size-px", type=int, default=4096)
    parser.add_argument("--samplers", type=int, default=1, help="seeds of the sampler")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the heads, each sampler")
    parser.add_argument("--epochs", type=int, default=60, help="of the sampler")
    parser.add_argument("--head-epochs", type=int, default=60)
    parser.add_argument("--picture", type=Path, help="PNG of three slides")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cohort: CohortFiles = make_cohort(
        options.out / "cohort", slides=options.slides, size_px=options.size_px, workers=1
    )
    rows = read_sheet(cohort.sheet)
    lesions = dict(zip([row.slide for row in rows], cohort.lesions, strict=True))
    found, places = [], []
    for sampler_seed, seed in product(range(options.samplers), range(options.seeds)):
        place = Place(options.out, sampler_seed, seed)
        if not (place.sampler / RECORD).exists():
            config = sampler_config(sampler_seed, options.epochs)
            train(config, rows, place.sampler, pyramids=options.out / "pyramids")
        write_all_features(rows, place)
        train_heads(rows, place, options.head_epochs)
        found.append(measure_heads(rows, lesions, place))
        places.append(place)
        print(f"{place}\n{table(found)}\n{auc_table(places)}", flush=True)
        if options.picture and len(places) == 1:
            draw(options.picture, rows, lesions, place)


if __name__ == "__main__":
    main()
