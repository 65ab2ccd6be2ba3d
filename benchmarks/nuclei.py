"""Segmentation of nuclei from random weights, held against colour deconvolution and a watershed.

    python benchmarks/nuclei.py --data nuclei_dsb2018 --work DIR

Both networks learn from 70 images (`nuclei_data.py`) by `saccade train`'s own code, and 15 choose
the epoch; the three numbers of the classical method are chosen by the same 15. All that is printed
is of the 22 that neither saw. Training resumes where it was cut off; once it is done, only the rest
is done again. Objects are those of `saccade segment`, specks below `LEAST_PX` left out.
"""

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import measure
import nuclei_data
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.config import AugmentConfig
from saccade.pipeline.metrics.instances import InstanceTally
from saccade.pipeline.metrics.segmentation import confusion, segmentation_metrics
from saccade.pipeline.segment.splitting import split_of
from saccade.pipeline.segmentation.config import (
    ObjectsConfig,
    SegmentationConfig,
    SegmentationNetworkConfig,
    SegmentationTilesConfig,
    SegmentationTrainingConfig,
)
from saccade.pipeline.segmentation.model_file import load_segmentation_model
from saccade.pipeline.segmentation.train import train_segmentation

LEAST_PX = 20
NETWORKS = {
    "unet": SegmentationNetworkConfig("smp:unet/resnet18"),
    "fcn": SegmentationNetworkConfig("fcn:resnet18", {"finest": 4}),
}
Numbers = NDArray[np.integer]
Method = Callable[[NDArray[np.uint8]], tuple[NDArray[np.bool_], Numbers]]
"""Pixels (rows, cols, 3) to what is nucleus, and to the number of the nucleus of each pixel."""


@dataclass(frozen=True)
class Score:
    """How good a method is on some images, which count together."""

    mean_iu: float
    dice: float
    panoptic_quality: float
    aggregated_jaccard: float
    f1: float

    def cells(self) -> list[str]:
        return [f"{value:.3f}" for value in vars(self).values()]


def settings(data: Path, network: SegmentationNetworkConfig) -> SegmentationConfig:
    """40 epochs of 200 tiles of 128 px."""
    return SegmentationConfig(
        annotations=AnnotationsConfig(folder=str(data), classes=("background", "nucleus")),
        tiles=SegmentationTilesConfig(size_px=128, mpp=nuclei_data.MPP, per_epoch=200),
        network=network,
        objects=ObjectsConfig(rim_um=0.5),
        augment=AugmentConfig(stain=0.2, colour=0.1, tile_stain=0.0),
        training=SegmentationTrainingConfig(epochs=40, batch=8, learning_rate=1e-3),
    )


def learned(path: Path) -> Method:
    """What a model makes of a whole image at once."""
    network, card = load_segmentation_model(path)
    split = split_of(card)
    assert split is not None

    @torch.inference_mode()
    def find(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], Numbers]:
        scores = network(torch.tensor(pixels).movedim(-1, 0)[None]).softmax(dim=1)[0].numpy()
        mask = scores[0] < 0.5  # nucleus or rim
        return mask, without_specks(split(scores, mask), LEAST_PX)

    return find


def classical(sigma_px: float, apart_px: int, least_px: int) -> Method:
    """Haematoxylin by colour deconvolution, Otsu's threshold, watershed of the distance.

    Args:
        sigma_px: of the Gaussian that smooths haematoxylin and distance.
        apart_px: how far the middles of two nuclei have to lie apart.
        least_px: area below which a nucleus is none.
    """

    def find(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], Numbers]:
        stain = ndimage.gaussian_filter(rgb2hed(pixels)[..., 0], sigma_px)
        inside = ndimage.binary_fill_holes(stain > threshold_otsu(stain))
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), sigma_px)
        peaks = peak_local_max(depth, min_distance=apart_px, labels=inside.astype(int))
        seeds = np.zeros(inside.shape, int)
        seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        numbers = without_specks(watershed(-depth, seeds, mask=inside), least_px)
        return numbers > 0, numbers

    return find


def without_specks(numbers: Numbers, least_px: int) -> Numbers:
    """Objects that are large enough."""
    large = np.bincount(numbers.ravel()) >= least_px
    return np.where(large[numbers], numbers, 0)


def score(method: Method, data: Path, names: Sequence[str]) -> Score:
    """Hold a method against what people drew."""
    table, tallies = np.zeros((2, 2), np.int64), []
    for name in names:
        truth = nuclei_data.instances(data, name)
        mask, numbers = method(nuclei_data.image(data, name))
        table += confusion(mask.astype(int), (truth > 0).astype(int), classes=2)
        tallies.append(InstanceTally.of(numbers, truth))
    pixels, objects = segmentation_metrics(table), sum(tallies[1:], tallies[0])
    return Score(
        pixels["mean_iu"],
        pixels["dice"][1],
        objects.panoptic_quality,
        objects.aggregated_jaccard,
        objects.hits.f1,
    )


def best_classical(data: Path, names: Sequence[str]) -> tuple[float, int, int]:
    """Numbers of the classical method with the best panoptic quality on some images."""
    tried = itertools.product((1.0, 1.5, 2.0, 3.0), (4, 6, 8), (20, 60))
    return max(tried, key=lambda each: score(classical(*each), data, names).panoptic_quality)


def main() -> None:
    """Train what is not trained, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="Folder of the training runs.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, parts = arguments.data, nuclei_data.split(arguments.data)
    chosen = best_classical(data, parts["val"])
    rows = [[f"haematoxylin, Otsu, watershed {chosen}", "", *_cells(classical(*chosen), data)]]
    for name, network in NETWORKS.items():
        config = settings(data, network)
        run = train_segmentation(
            config, nuclei_data.sheet(data), arguments.work / name, report=print
        )
        _, card = load_segmentation_model(run.model)
        rows.append(
            [f"`{network.name}`", str(card.training["epoch"]), *_cells(learned(run.model), data)]
        )
    columns = ["method", "epoch", "mIoU", "Dice", "PQ", "AJI", "F1 at IoU 0.5"]
    measure.table("Nuclei told apart", columns, rows)


def _cells(method: Method, data: Path) -> list[str]:
    return score(method, data, nuclei_data.split(data)["test"]).cells()


if __name__ == "__main__":
    main()
