"""Images of stained tissue with every nucleus drawn: how they are dealt, and read.

107 images of the Data Science Bowl 2018 (BBBC038), 256 x 320 px, with `<name>.png` and
`<name>_instances.png` each. Sorted by the SHA-256 of their names, the first 70 are to fit, the next
15 to choose the epoch by, and the last 22 to judge. They have no scale; 0.25 um/px is taken, at
which the median nucleus is 5 um across.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.pipeline.sheet import SheetRow

MPP = 0.25
TRAIN, VAL = 70, 15


def split(data: Path) -> Mapping[str, list[str]]:
    """Names of the images to fit, to choose by and to judge: `train`, `val` and `test`."""
    names = [path.name.removesuffix("_instances.png") for path in data.glob("*_instances.png")]
    names.sort(key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return {
        "train": names[:TRAIN],
        "val": names[TRAIN : TRAIN + VAL],
        "test": names[TRAIN + VAL :],
    }


def sheet(data: Path) -> list[SheetRow]:
    """A row for each image, as a sample sheet would have it."""
    return [
        SheetRow(name, data / f"{name}.png", patient=name, split=part, mpp=MPP)
        for part, names in split(data).items()
        for name in names
    ]


def image(data: Path, name: str) -> NDArray[np.uint8]:
    """Pixels (rows, cols, 3)."""
    return np.asarray(Image.open(data / f"{name}.png").convert("RGB"))


def instances(data: Path, name: str) -> NDArray[np.int32]:
    """Number of the nucleus of each pixel, 0 for none, (rows, cols)."""
    return np.asarray(Image.open(data / f"{name}_instances.png")).astype(np.int32)
