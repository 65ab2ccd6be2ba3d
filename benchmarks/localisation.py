"""Where a model says the lesion is, and where it is: on drawn slides, from one label a slide.

A cohort of the demo's slides, whose lesions are known as polygons and never trained on. A sampler is
trained, or several from other seeds; its encoder gives features of all tiles with tissue, and on
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
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from saccade.pipeline.bags.cohort import Bag, tensors_of
from saccade.pipeline.bags.config import BagsConfig, FeaturesConfig, HeadConfig
from saccade.pipeline.bags.feature_file import read_features
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
from saccade.pipeline.encoding import encode_tiles
from saccade.pipeline.export.features import write_features_h5
from saccade.pipeline.glance import as_batch, glance_at, sight
from saccade.pipeline.model_file import load_model
from saccade.pipeline.reading import SlideRef, TileReader, TileRequest
from saccade.pipeline.sheet import SheetRow, of_split, read_sheet
from saccade.pipeline.thumbnails import ensure_pyramid, read_thumbnail
from saccade.pipeline.train import train
from saccade.tiling import open_slide
from saccade.tiling.places import Places, corners_l0
from saccade.tiling.pyramid_view import Pyramid

LESION = 1  # number of the class: benign, lesion
HEADS = {
    "SAOL": HeadConfig(head="spatial_output", side=3),
    "SAOL, each tile by itself": HeadConfig(head="spatial_output", side=1),
    "ABMIL": HeadConfig(head="abmil"),
}
Maps = dict[str, NDArray[np.float64]]
"""A value for each tile of a slide, by what it is of."""


@dataclass(frozen=True)
class Place:
    """Where everything of one run of the benchmark lies."""

    out: Path

    def pyramid(self, slide: str) -> Path:
        return self.out / "pyramids" / slide / "pyramid.zarr"

    def sampler(self, seed: int) -> Path:
        return self.out / f"seed_{seed}" / "sampler"

    def features(self, seed: int) -> Path:
        return self.out / f"seed_{seed}" / "features"

    def head(self, seed: int, head: str) -> Path:
        return self.out / f"seed_{seed}" / head.replace(", ", "_").replace(" ", "_")


def sampler_config(seed: int, epochs: int) -> RunConfig:
    """The demo's settings."""
    return RunConfig(
        view=ViewConfig(**RUN["view"]),
        tiles=TilesConfig(**RUN["tiles"]),
        model=ModelConfig(**RUN["model"]),
        training=TrainingConfig(**RUN["training"] | {"epochs": epochs, "seed": seed}),
    )


def write_all_features(rows: Sequence[SheetRow], place: Place, seed: int) -> None:
    """Features of all tiles with tissue, by the sampler's encoder."""
    model, card = load_model(place.sampler(seed) / "model.safetensors")
    tiles = card.tiles
    with TileReader(size_px=tiles.size_px, mpp=tiles.mpp, workers=2) as reader:
        for row in rows:
            path = place.features(seed) / f"{row.slide}.h5"
            if path.exists():
                continue
            with open_slide(row.path) as slide:
                view = Pyramid.open(place.pyramid(row.slide)).view(tiles.size_px * tiles.mpp)
                cells = np.flatnonzero(view.tissue >= card.view.min_tissue)
                side = view.grid.cell_l0
                corners = corners_l0(view.grid.centres_l0(cells), side)
                request = TileRequest(SlideRef(row.path), corners)
                with torch.inference_mode():
                    _, features = encode_tiles(model, request, reader)
                places = Places(
                    corners, tiles.size_px, tiles.mpp, side, cells, np.zeros(len(cells))
                )
                write_features_h5(path, features.numpy(), places, slide, encoder="compact")


def train_heads(rows: Sequence[SheetRow], place: Place, seed: int, epochs: int) -> None:
    for name, head in HEADS.items():
        config = BagsConfig(FeaturesConfig(str(place.features(seed))), head)
        training = type(config.training)(epochs=epochs, seed=seed)
        config = type(config)(config.features, head, training=training)
        train_on_features(config, rows, place.head(seed, name))


@torch.inference_mode()
def maps_of(row: SheetRow, place: Place, seed: int) -> tuple[NDArray[np.float64], Maps]:
    """Middles (tiles, 2) of a slide's tiles on level 0, and what each model says of them."""
    path = place.features(seed) / f"{row.slide}.h5"
    tiles = read_features(path)
    assert tiles.side_l0 is not None
    middles = tiles.corners_l0 + tiles.side_l0 / 2
    maps = {"attention of the sampler": _attention(row, place, seed, middles)}
    for name in HEADS:
        model, card = load_bag_model(place.head(seed, name) / "model.safetensors")
        found = model(*tensors_of(Bag(row.slide, path, LESION), card))
        log_attention = found.attention_logits.double().log_softmax(dim=0)
        maps[f"attention of {name}"] = log_attention.numpy()
        if found.log_classes is not None:
            classes = found.log_classes[LESION].double()
            maps[f"class map of {name}"] = classes.numpy()
            maps[f"evidence of {name}"] = (log_attention + classes).numpy()
    return middles, maps


def _attention(
    row: SheetRow, place: Place, seed: int, middles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Log attention of the sampler at the middles of tiles."""
    model, card = load_model(place.sampler(seed) / "model.safetensors")
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


def measure_seed(
    rows: Sequence[SheetRow], lesions: Mapping[str, Path], place: Place, seed: int
) -> dict[str, tuple[float, float]]:
    """Mean pointing and IoU over the held-out slides with lesions, by map."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in of_split(rows, "test"):
        if row.label != "lesion":
            continue
        middles, maps = maps_of(row, place, seed)
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


def auc_lines(place: Place, seeds: Sequence[int]) -> str:
    lines = ["| head | AUC of the held-out slides |", "|---|---|"]
    for name in HEADS:
        aucs = [
            json.loads((place.head(seed, name) / "results" / "metrics.json").read_text())["auc"]
            for seed in seeds
        ]
        lines.append(f"| {name} | {np.mean(aucs):.3f} ({min(aucs):.3f} to {max(aucs):.3f}) |")
    return "\n".join(lines)


def draw(
    path: Path, rows: Sequence[SheetRow], lesions: Mapping[str, Path], place: Place, seed: int
) -> None:
    """Three slides: the slide with its lesions, attention, class map and evidence."""
    names = ("attention of SAOL", "class map of SAOL", "evidence of SAOL")
    chosen = [row for row in of_split(rows, "test") if row.label == "lesion"][:3]
    figure = Figure(figsize=(11.5, 2.95 * len(chosen) + 0.3), layout="constrained")
    axes = figure.subplots(len(chosen), 4, squeeze=False)
    for line, row in zip(axes, chosen, strict=True):
        thumbnail = read_thumbnail(Pyramid.open(place.pyramid(row.slide)))
        with open_slide(row.path) as slide:
            width, height = slide.size_l0
        middles, maps = maps_of(row, place, seed)
        side = _side(middles)
        for panel, name in zip(line, ("slide", *names), strict=True):
            ground = thumbnail if name == "slide" else thumbnail.mean(axis=2) / 510 + 0.5
            panel.imshow(ground, extent=(0, width, height, 0), cmap="gray", vmin=0, vmax=1)
            if name != "slide":
                values = np.exp(maps[name])
                _paint(panel, middles, values / values.max(), side)
            for polygon in lesion_polygons(lesions[row.slide]):
                panel.plot(*np.vstack([polygon, polygon[:1]]).T, color="#00a0ff", lw=1.2)
            panel.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
            panel.set_title(f"{row.slide}, lesions outlined" if name == "slide" else name, size=9)
    figure.savefig(path, dpi=110)


def _side(middles: NDArray[np.float64]) -> float:
    return float(np.diff(np.unique(middles[:, 0])).min())


def _paint(panel: object, middles: NDArray[np.float64], values: NDArray[np.float64], side: float):  # type: ignore[no-untyped-def]
    first = middles.min(axis=0)
    col, row = np.rint((middles - first) / side).astype(int).T
    image = np.zeros((row.max() + 1, col.max() + 1, 4))
    image[row, col] = mpl.colormaps["inferno"](values, alpha=0.8)
    left, top = first - side / 2
    extent = (left, left + image.shape[1] * side, top + image.shape[0] * side, top)
    panel.imshow(image, extent=extent, interpolation="nearest")  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    parser.add_argument("--slides", type=int, default=40)
    parser.add_argument("--size-px", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60, help="of the sampler")
    parser.add_argument("--head-epochs", type=int, default=30)
    parser.add_argument("--picture", type=Path, help="PNG of three slides, of the first seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    place = Place(options.out)
    cohort: CohortFiles = make_cohort(
        options.out / "cohort", slides=options.slides, size_px=options.size_px, workers=1
    )
    rows = read_sheet(cohort.sheet)
    lesions = dict(zip([row.slide for row in rows], cohort.lesions, strict=True))
    for row in rows:
        with open_slide(row.path) as slide:
            ensure_pyramid(slide, place.pyramid(row.slide), PyramidConfig())
    found = []
    for seed in range(options.seeds):
        config = sampler_config(seed, options.epochs)
        train(config, rows, place.sampler(seed), pyramids=options.out / "pyramids")
        print(f"seed {seed}: sampler", flush=True)
        write_all_features(rows, place, seed)
        print(f"seed {seed}: features", flush=True)
        train_heads(rows, place, seed, options.head_epochs)
        found.append(measure_seed(rows, lesions, place, seed))
        print(f"seed {seed}: heads", flush=True)
        print(table(found), flush=True)
        print(auc_lines(place, range(seed + 1)), flush=True)
        if options.picture and seed == 0:
            draw(options.picture, rows, lesions, place, seed)


if __name__ == "__main__":
    main()
