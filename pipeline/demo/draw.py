"""One synthetic slide, from its seed to the stains on its glass."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.demo.layout import Layout, draw_layout
from saccade.pipeline.demo.places import Crowds, draw_crowds, paint_focus, paint_lesion
from saccade.pipeline.demo.stains import Stain, draw_stain
from saccade.pipeline.demo.stroma import Palette, make_palette, paint_stroma
from saccade.pipeline.demo.structures import paint_structures
from saccade.pipeline.demo.textures import smooth_noise

GLASS_PX = 1024
_DUST_PER_MM2 = 0.8


@dataclass(frozen=True, slots=True)
class Drawing:
    """A slide before it is written.

    Attributes:
        stains: hematoxylin and eosin, uint8, shape (rows, cols, 2); zero where the glass is bare.
        stain: the dyes, which turn stains into colours.
        layout: what lies where.
    """

    stains: NDArray[np.uint8]
    stain: Stain
    layout: Layout


def draw_slide(seed: int, index: int, *, lesion: bool, size_px: int, mpp: float) -> Drawing:
    """Draw slide number `index` of the cohort of this seed; the same arguments, the same pixels."""
    layout = plan_slide(seed, index, lesion=lesion, size_px=size_px, mpp=mpp)
    _, dyes, cells, dense = _seeds(seed, index)
    stain = draw_stain(np.random.default_rng(dyes))
    palette, crowds = _materials(seed, mpp)
    stains = np.zeros((size_px, size_px, 2), np.uint8)
    rng = np.random.default_rng(cells)
    _paint_dust(stains, rng, mpp)
    paint_stroma(stains, layout, palette, rng)
    paint_structures(stains, layout, palette, rng)
    drawing = Drawing(stains, stain, layout)
    _paint_places(drawing, crowds, dense, mpp)
    return drawing


def _paint_places(
    drawing: Drawing, crowds: Crowds, seed: np.random.SeedSequence, mpp: float
) -> None:
    """Paint foci and lesions, each from a seed of its own.

    So a place has the same cells from afar whether it is a focus or a lesion, and a slide and its
    twin of the other label differ only within the lesions, and there only from near by.
    """
    layout = drawing.layout
    places = [(r.centre_l0, r, False) for r in layout.foci]
    places += [(r.centre_l0, r, True) for r in layout.lesions]
    places.sort(key=lambda place: place[0])
    for (_, ring, lesion), own in zip(places, seed.spawn(len(places)), strict=True):
        rng = np.random.default_rng(own)
        if lesion:
            paint_lesion(drawing.stains, ring, crowds, drawing.stain, rng, mpp=mpp)
        else:
            paint_focus(drawing.stains, ring, crowds, rng, mpp=mpp)


def plan_slide(seed: int, index: int, *, lesion: bool, size_px: int, mpp: float) -> Layout:
    """Return the layout of that slide alone, which takes a small part of the time."""
    return draw_layout(_seeds(seed, index)[0], size_px, mpp=mpp, lesion=lesion)


def _seeds(seed: int, index: int) -> list[np.random.SeedSequence]:
    """Return seeds for the layout, the dyes, the tissue and the dense places of a slide."""
    return np.random.SeedSequence(seed, spawn_key=(1, index)).spawn(4)


@lru_cache(maxsize=2)
def _materials(seed: int, mpp: float) -> tuple[Palette, Crowds]:
    """Draw what all slides of a cohort are painted with, once in a process."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    return make_palette(rng, mpp=mpp), draw_crowds(rng, mpp=mpp)


@lru_cache(maxsize=1)
def draw_glass() -> NDArray[np.uint8]:
    """Return what bare glass adds to the stains: noise, and each field of view darker at its rim.

    Periodic, shape (1024, 1024, 2); added to every part of every slide.
    """
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:GLASS_PX, :GLASS_PX].astype(np.float32) / GLASS_PX * 2 - 1
    shade = 0.5 * (x**2 + y**2)
    grain = [smooth_noise(rng, (GLASS_PX, GLASS_PX), along=0.5) for _ in range(2)]
    levels = np.stack([shade + 0.9 + 0.7 * g for g in grain], axis=2)
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)


def _paint_dust(stains: NDArray[np.uint8], rng: np.random.Generator, mpp: float) -> None:
    """Drop a few dark specks anywhere, on the glass and on tissue to come."""
    side = len(stains)
    for _ in range(rng.poisson(_DUST_PER_MM2 * (side * mpp / 1000) ** 2)):
        reach = int(rng.uniform(4, 14) / mpp)
        top, left = (int(v) for v in rng.integers(0, side - 2 * reach, size=2))
        y, x = np.mgrid[-reach:reach, -reach:reach].astype(np.float32) / reach
        away = np.hypot(x, y * rng.uniform(1, 3)) + 0.2 * smooth_noise(rng, x.shape, along=3 / mpp)
        amount = np.clip(2.5 * (0.7 - away), 0, 1) * rng.uniform(40, 120)
        spot = stains[top : top + 2 * reach, left : left + 2 * reach]
        spot[...] = np.maximum(spot, np.rint(amount).astype(np.uint8)[..., None])
