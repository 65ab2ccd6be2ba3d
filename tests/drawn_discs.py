"""Small slides of dark discs on pale ground, every disc numbered: learned in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from saccade.pipeline.sheet import SheetRow

SPLITS = ("train", "train", "train", "val")
MPP = 0.5


def draw_discs(
    seed: int, *, side: int = 96, discs: int = 9
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Pixels (rows, cols, 3) and the number of the disc of each, 0 for none."""
    rng = np.random.default_rng(seed)
    numbers = np.zeros((side, side), np.uint16)
    rows, cols = np.ogrid[:side, :side]
    for number in range(1, discs + 1):
        (row, col), radius = rng.uniform(6, side - 6, 2), rng.uniform(5, 8)
        inside = (rows - row) ** 2 + (cols - col) ** 2 < radius**2
        numbers[inside & (numbers == 0)] = number
    pixels = rng.normal((225, 180, 215), 8, (side, side, 3))
    pixels[numbers > 0] = rng.normal((95, 60, 140), 8, ((numbers > 0).sum(), 3))
    return pixels.clip(0, 255).astype(np.uint8), numbers


def write_discs(folder: Path) -> list[SheetRow]:
    """Slides `d0` to `d3` as PNG, with `<slide>_instances.png` beside each."""
    rows = []
    for seed, split in enumerate(SPLITS):
        pixels, numbers = draw_discs(seed)
        Image.fromarray(pixels).save(folder / f"d{seed}.png")
        Image.fromarray(numbers).save(folder / f"d{seed}_instances.png")
        rows.append(SheetRow(f"d{seed}", folder / f"d{seed}.png", "", f"d{seed}", split, MPP))
    return rows
