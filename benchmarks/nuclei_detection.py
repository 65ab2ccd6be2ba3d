"""Which nuclei of held-out images are found: by a detector, a sliding window, and without learning.

    python benchmarks/nuclei_detection.py --data nuclei_dsb2018 --out runs

fits what `--out` does not hold yet, judges it on the 22 test images, and prints the table of
benchmarks/RESULTS.md. `nuclei_data.py` says what the images are. The score from which on something
counts for F1 is chosen on the validation images, and so are the numbers of the method without
learning: colours are split into stains (Ruifrok and Johnston, 2001), haematoxylin is cut at Otsu's
threshold, and what touches is parted by the watershed of the distance to the background.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nuclei_data import MPP, image, instances, sheet, split
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.measure import regionprops
from skimage.segmentation import watershed

from saccade.models.detector import Detector, Found, Known
from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.config import AugmentConfig
from saccade.pipeline.detection.config import (
    DetectionConfig,
    DetectionNetworkConfig,
    DetectionTilesConfig,
    DetectionTrainingConfig,
)
from saccade.pipeline.detection.judge import LOWEST_SCORE, judge
from saccade.pipeline.detection.known import boxes_of
from saccade.pipeline.detection.model_file import load_detection_model
from saccade.pipeline.detection.train import train_detection

NEAR_UM = 1.5
Method = Callable[[NDArray[np.uint8]], Found]

RUNS: dict[str, dict[str, Any]] = {
    "Faster R-CNN on resnet18": {
        "network": {
            "name": "faster_rcnn:resnet18",
            "options": {"hidden": 128, "sides_px": [10, 18, 32, 56]},
        },
        "tiles": {"per_epoch": 200, "validation": 6},
        "training": {"epochs": 14, "batch": 4, "learning_rate": 1e-3},
    },
    "sliding window, resnet18": {
        "network": {"name": "window:resnet18", "options": {"sides_px": [12, 20, 34]}},
        "tiles": {"per_epoch": 200, "validation": 1},
        "training": {"epochs": 4, "batch": 4, "learning_rate": 5e-4},
    },
}


def settings(data: Path, run: Mapping[str, Any]) -> DetectionConfig:
    """Settings of a run: crops of 128 px, colours that vary, and the rest as it comes."""
    return DetectionConfig(
        annotations=AnnotationsConfig(folder=str(data), classes=("background", "nucleus")),
        tiles=DetectionTilesConfig(size_px=128, mpp=MPP, uniform=0.5, **run["tiles"]),
        network=DetectionNetworkConfig(**run["network"]),
        augment=AugmentConfig(stain=0.2, colour=0.1),
        training=DetectionTrainingConfig(near_um=NEAR_UM, **run["training"]),
    )


def learned(detector: Detector) -> Method:
    """Finds nuclei in a whole image at once."""

    def find(pixels: NDArray[np.uint8]) -> Found:
        tile = torch.tensor(pixels).movedim(-1, 0)[None]
        return detector.find(tile, min_score=LOWEST_SCORE)[0]

    return find


def classical(sigma_px: float, apart_px: int, least_px: int) -> Method:
    """Haematoxylin, Otsu, watershed; scores are how much haematoxylin an object has, from 0 to 1.

    Args:
        sigma_px: of the Gaussian that smooths haematoxylin and distance.
        apart_px: how far the middles of two objects have to lie apart.
        least_px: area below which an object is none.
    """

    def find(pixels: NDArray[np.uint8]) -> Found:
        stain = ndimage.gaussian_filter(rgb2hed(pixels)[..., 0], sigma_px)
        inside = ndimage.binary_fill_holes(stain > threshold_otsu(stain))
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), sigma_px)
        peaks = peak_local_max(depth, min_distance=apart_px, labels=inside.astype(int))
        seeds = np.zeros(inside.shape, int)
        seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        regions = regionprops(watershed(-depth, seeds, mask=inside), intensity_image=stain)
        kept = [each for each in regions if each.area >= least_px]
        boxes = [(each.bbox[1], each.bbox[0], each.bbox[3], each.bbox[2]) for each in kept]
        means = np.array([each.intensity_mean for each in kept])
        scores = 0.05 + 0.95 * (means - stain.min()) / max(np.ptp(stain), 1e-9)
        return Found(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(scores, dtype=torch.float32),
            torch.zeros(len(kept), dtype=torch.int64),
        )

    return find


def judged(method: Method, data: Path, names: list[str], least: float = 0.0) -> dict[str, float]:
    """AP50 of all that a method finds, and its hits from a score on; seconds an image."""
    start, found, known = time.process_time(), [], []
    for name in names:
        found.append(method(image(data, name)))
    seconds = (time.process_time() - start) / len(names)
    for name in names:
        boxes = torch.from_numpy(boxes_of(instances(data, name))[1])
        known.append(Known(boxes, torch.zeros(len(boxes), dtype=torch.int64)))
    near_px = NEAR_UM / MPP
    of_all = judge(found, known, classes=1, near_px=near_px)
    if least:  # the score was chosen elsewhere
        sure = [_from(each, least) for each in found]
        of_all |= _hits(sure, known, near_px)
    return {**of_all, "seconds": seconds}


def _from(found: Found, least: float) -> Found:
    kept = found.scores >= least
    return Found(found.boxes[kept], torch.ones(int(kept.sum())), found.classes[kept])


def _hits(found: list[Found], known: list[Known], near_px: float) -> dict[str, float]:
    """F1 and what it is made of, of everything that is found."""
    result = judge(found, known, classes=1, near_px=near_px)
    return {name: result[name] for name in ("f1", "precision", "recall")}


def best_classical(data: Path, names: list[str]) -> tuple[Method, float]:
    """The numbers whose F1 is highest, and the score from which on it is."""
    tried = []
    for sigma_px, apart_px, least_px in product((1, 1.5, 2), (4, 6, 8), (15, 40)):
        method = classical(sigma_px, apart_px, least_px)
        result = judged(method, data, names)
        tried.append((result["f1"], result["score"], method))
    _, score, method = max(tried, key=lambda each: each[0])
    return method, score


def main() -> None:
    """Fit what is missing, judge all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, names = arguments.data, split(arguments.data)
    method, score = best_classical(data, names["val"])
    results = {"haematoxylin, Otsu, watershed": judged(method, data, names["test"], score)}
    for name, run in RUNS.items():
        config = settings(data, run)
        folder = arguments.out / run["network"]["name"].replace(":", "_")
        print(f"fitting {name}", flush=True)
        fitted = train_detection(
            config, sheet(data), folder, report=lambda line: print(line, flush=True)
        )
        detector, _ = load_detection_model(fitted.model)
        score = judged(learned(detector), data, names["val"])["score"]
        results[name] = judged(learned(detector), data, names["test"], score)
    print("| | AP50 | F1 of centres | precision | recall | s an image |\n|---|---|---|---|---|---|")
    for name, result in results.items():
        cells = [f"{result[each]:.3f}" for each in ("ap50", "f1", "precision", "recall")]
        print(f"| {name} | {' | '.join(cells)} | {result['seconds']:.2f} |")


if __name__ == "__main__":
    main()
