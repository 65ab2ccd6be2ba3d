"""Six held-out images of nuclei: what is there, what segmentation and detection say.

    python benchmarks/nuclei_picture.py --data nuclei_dsb2018 --detector detector.safetensors \
        --segmentation segmentation.safetensors --out docs/images/nuclei.png

The images are the first six of the test part (`nuclei_data.py`); of each that square is shown of
which nuclei cover most. A row each: outlines of the nuclei that people drew, of those that
segmentation told apart, and boxes of those that detection found at the score that was best on the
validation images. Segmentation's nuclei are pixels of that class that touch, those of its rim left
out if it has one.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from nuclei_data import image, instances, split
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from saccade.pipeline.detection.model_file import load_detection_model
from saccade.pipeline.segmentation.model_file import load_segmentation_model

SIDE, GAP, COLOURS = 150, 4, 96
TRUE, FOUND = (20, 160, 60), (250, 220, 0)
Pixels = NDArray[np.uint8]


def fullest(numbers: NDArray[np.int32]) -> tuple[slice, slice]:
    """The square of SIDE px of which nuclei cover most."""
    summed = np.pad(numbers > 0, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    covered = (
        summed[SIDE:, SIDE:]
        - summed[:-SIDE, SIDE:]
        - summed[SIDE:, :-SIDE]
        + summed[:-SIDE, :-SIDE]
    )
    row, col = np.unravel_index(covered.argmax(), covered.shape)
    return slice(int(row), int(row) + SIDE), slice(int(col), int(col) + SIDE)


def outlined(pixels: Pixels, numbers: NDArray[np.int32], colour: tuple[int, int, int]) -> Pixels:
    """An image with the outermost pixels of each object coloured."""
    lowest = ndimage.minimum_filter(numbers, 3)
    shown = pixels.copy()
    shown[(numbers > 0) & (lowest != ndimage.maximum_filter(numbers, 3))] = colour
    return shown


def boxed(pixels: Pixels, boxes: NDArray[np.float32], colour: tuple[int, int, int]) -> Pixels:
    """An image with boxes drawn along their first and last pixels."""
    shown = Image.fromarray(pixels)
    draw = ImageDraw.Draw(shown)
    for x1, y1, x2, y2 in boxes.round().tolist():
        draw.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour)
    return np.asarray(shown)


def segmented(path: Path, pixels: Pixels) -> NDArray[np.int32]:
    """Number of the nucleus of each pixel, 0 for none, as a segmentation model has it."""
    network, card = load_segmentation_model(path)
    with torch.no_grad():
        scores = network(torch.tensor(pixels).movedim(-1, 0)[None])
    nuclei = scores[0].argmax(dim=0).numpy() == card.classes.index(str(card.instances))
    numbers: NDArray[np.int32] = ndimage.label(nuclei)[0].astype(np.int32)
    return numbers


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--segmentation", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    detector, card = load_detection_model(arguments.detector)
    least = card.training["val"]["score"]
    columns = []
    for name in split(arguments.data)["test"][:6]:
        pixels = image(arguments.data, name)
        (found,) = detector.find(torch.tensor(pixels).movedim(-1, 0)[None], min_score=least)
        true = instances(arguments.data, name)
        part = fullest(true)
        rows = [outlined(pixels, true, TRUE)]
        if arguments.segmentation:
            rows.append(outlined(pixels, segmented(arguments.segmentation, pixels), FOUND))
        rows.append(boxed(pixels, found.boxes.numpy(), FOUND))
        columns.append(
            np.concatenate([np.pad(row[part], _FRAME, constant_values=255) for row in rows])
        )
    picture = Image.fromarray(np.concatenate(columns, axis=1))
    picture.quantize(COLOURS).save(arguments.out, optimize=True)


_FRAME = ((GAP // 2, GAP // 2), (GAP // 2, GAP // 2), (0, 0))


if __name__ == "__main__":
    main()
