"""A slide with objects whose places are known, and a detector that finds what is to be seen.

Objects are rectangles of one colour on tissue, a colour a class. In a tile the detector finds each
one that it sees, and of one that the tile cuts the part that it sees, as detectors do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from saccade.pipeline.detect.run import Model
from tests.slides import write_pyramid_tiff

CLASSES = ("green", "blue")
TISSUE, GLASS = (200, 90, 160), (243, 243, 243)
COLOURS = ((20, 200, 20), (20, 20, 220))
MPP = 0.5
Box = tuple[int, int, int, int]


class Seen(NamedTuple):
    boxes: Tensor
    scores: Tensor
    classes: Tensor


@dataclass
class ColourFinder:
    """Finds connected areas of the colours.

    Attributes:
        shift_px: how far right of where it is it sees what begins left of the middle of a tile,
            and how far left all else.
        tiles: how many it was shown.
    """

    shift_px: float = 0
    tiles: int = 0
    shapes: set[tuple[int, ...]] = field(default_factory=set)

    def find(self, tiles: Tensor, *, min_score: float) -> Sequence[Seen]:
        self.tiles += len(tiles)
        self.shapes.add(tuple(tiles.shape[1:]))
        return [self._in_one(tile.permute(1, 2, 0).cpu().numpy()) for tile in tiles]

    def _in_one(self, tile: NDArray[np.uint8]) -> Seen:
        boxes, classes = [], []
        for number, colour in enumerate(COLOURS):
            near = np.abs(tile.astype(int) - colour).max(axis=2) < 30
            for rows, cols in ndimage.find_objects(ndimage.label(near)[0]):
                boxes.append((cols.start, rows.start, cols.stop, rows.stop))
                classes.append(number)
        found = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        left = found[:, 0] < tile.shape[1] / 2
        found[:, ::2] += torch.where(left, self.shift_px, -self.shift_px)[:, None]
        scores = 0.6 + 0.3 * (found[:, 0] * 7 % 10) / 10
        return Seen(found, scores, torch.tensor(classes, dtype=torch.int64))


@dataclass(frozen=True)
class PlantedCard:
    mpp: float = MPP
    classes: tuple[str, ...] = CLASSES
    tile_px: int = 64
    network: str = "colours"
    options: dict[str, Any] = field(default_factory=dict)


def planted_model(finder: Any | None = None, **card: Any) -> Model:
    return Model("sha256:planted", PlantedCard(**card), lambda: finder or ColourFinder())


def write_planted(path: Path, boxes: Sequence[tuple[Box, int]], size: tuple[int, int]) -> Path:
    """A slide of tissue with a rim of glass, and the boxes on it."""
    width, height = size
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = TISSUE
    pixels[:, -width // 8 :] = GLASS
    for (left, top, right, bottom), number in boxes:
        pixels[top:bottom, left:right] = COLOURS[number]
    return write_pyramid_tiff(path, pixels, mpp=MPP, levels=2, compression="zlib")
