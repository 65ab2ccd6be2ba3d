"""Six held-out images of nuclei: what is there, what segmentation and detection say.

    python benchmarks/nuclei_picture.py --data nuclei_dsb2018 --detector detector.safetensors \
        --segmentation segmentation.safetensors --out docs/images/nuclei.png

The images are the first six of the test part (`nuclei_data.py`); of each that square is shown of
which nuclei cover most. A row each: outlines of the nuclei that people drew, of those that
segmentation told apart, as `saccade segment` does, and boxes of those that detection found at the
score that was best on the validation images.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from nuclei import learned
from nuclei_data import image, instances, split
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from saccade.pipeline.detection.model_file import load_detection_model

SIDE, GAP, TITLE, COLOURS = 150, 4, 22, 96
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


def titled(rows: Sequence[tuple[str, Pixels]]) -> Image.Image:
    """Rows of images below each other, what each is at its left, from the bottom to the top."""
    titles = Image.new("RGB", (TITLE, sum(len(row) for _, row in rows)), "white")
    font, top = ImageFont.load_default(size=13), 0
    for title, row in rows:
        written = Image.new("RGB", (len(row), TITLE), "white")
        ImageDraw.Draw(written).text(
            (len(row) / 2, TITLE / 2), title, fill="black", font=font, anchor="mm"
        )
        titles.paste(written.rotate(90, expand=True), (0, top))
        top += len(row)
    pixels = np.concatenate([row for _, row in rows])
    return Image.fromarray(np.concatenate([np.asarray(titles), pixels], axis=1))


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--segmentation", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    detector, card = load_detection_model(arguments.detector)
    least = card.training["val"]["score"]
    segment = learned(arguments.segmentation)
    rows: dict[str, list[Pixels]] = {"drawn by people": [], "segmentation": [], "detection": []}
    for name in split(arguments.data)["test"][:6]:
        pixels, true = image(arguments.data, name), instances(arguments.data, name)
        (found,) = detector.find(torch.tensor(pixels).movedim(-1, 0)[None], min_score=least)
        shown = (
            outlined(pixels, true, TRUE),
            outlined(pixels, segment(pixels)[1], FOUND),
            boxed(pixels, found.boxes.numpy(), FOUND),
        )
        for row, each in zip(rows.values(), shown, strict=True):
            row.append(np.pad(each[fullest(true)], _FRAME, constant_values=255))
    picture = titled([(title, np.concatenate(row, axis=1)) for title, row in rows.items()])
    picture.quantize(COLOURS).save(arguments.out, optimize=True)


_FRAME = ((GAP // 2, GAP // 2), (GAP // 2, GAP // 2), (0, 0))


if __name__ == "__main__":
    main()
