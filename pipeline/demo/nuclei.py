"""Nuclei as small pictures, drawn once and stamped many times."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.demo.textures import FloatField, smooth_noise


@dataclass(frozen=True, slots=True)
class NucleusKind:
    """How the nuclei of one kind of cell look.

    Attributes:
        length_um: shortest and longest.
        width_to_length: least and most.
        irregular: how far the outline strays from an ellipse, relative to its radius.
        body: hematoxylin inside, in levels.
        rim: hematoxylin that the membrane adds.
        rim_um: thickness of the membrane as it shows.
        clump: standard deviation of the chromatin.
        nucleoli: fewest and most.
        eosin: eosin inside, in levels.
    """

    length_um: tuple[float, float]
    width_to_length: tuple[float, float]
    irregular: float
    body: float
    rim: float
    rim_um: float
    clump: float
    nucleoli: tuple[int, int]
    eosin: float

    def __post_init__(self) -> None:
        if not 0 < self.length_um[0] <= self.length_um[1]:
            raise ValueError(f"lengths must be positive and in order, got {self.length_um}.")
        if not 0 < self.width_to_length[0] <= self.width_to_length[1] <= 1:
            raise ValueError(f"a width is at most the length, got {self.width_to_length}.")


LYMPHOCYTE = NucleusKind((5.4, 6.6), (0.86, 1.0), 0.04, 106, 16, 0.5, 18, (0, 0), 40)
FIBROBLAST = NucleusKind((11, 19), (0.16, 0.3), 0.07, 88, 14, 0.5, 15, (0, 0), 40)
STROMAL = NucleusKind((6, 9), (0.6, 0.95), 0.07, 90, 24, 0.5, 16, (0, 1), 40)
EPITHELIAL = NucleusKind((8, 10.5), (0.5, 0.68), 0.05, 84, 24, 0.5, 15, (0, 1), 36)
TUMOUR = NucleusKind((11, 17), (0.55, 0.85), 0.09, 52, 92, 0.75, 11, (1, 2), 34)


@dataclass(frozen=True, slots=True)
class Sprite:
    """A small picture with its opacity, ready to be laid over a slide in the making.

    Attributes:
        ink: stains times opacity, uint16, shape (side, side, 2).
        keep: 256 less the opacity, uint16, shape (side, side, 1).
    """

    ink: NDArray[np.uint16]
    keep: NDArray[np.uint16]

    @classmethod
    def of(cls, hematoxylin: FloatField, eosin: FloatField, opacity: FloatField) -> "Sprite":
        """Build from levels of stain and an opacity between 0 and 1, all (side, side)."""
        alpha = np.rint(256 * np.clip(opacity, 0, 1)).astype(np.uint16)[..., None]
        levels = np.clip(np.rint(np.stack([hematoxylin, eosin], axis=2)), 0, 255)
        return cls(levels.astype(np.uint16) * alpha, 256 - alpha)


def stamp(stains: NDArray[np.uint8], sprite: Sprite, x: int, y: int) -> None:
    """Lay a sprite over the stains, centred on (x, y); nothing happens if it does not fit in."""
    side = sprite.ink.shape[0]
    top, left = y - side // 2, x - side // 2
    if top < 0 or left < 0 or top + side > stains.shape[0] or left + side > stains.shape[1]:
        return
    spot = stains[top : top + side, left : left + side]
    mixed = spot * sprite.keep
    mixed += sprite.ink
    spot[...] = mixed >> 8


def scatter(
    stains: NDArray[np.uint8],
    sprites: Sequence[Sprite],
    points: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    """Stamp a sprite drawn at random on each point (x, y)."""
    picks = rng.integers(len(sprites), size=len(points))
    for (x, y), pick in zip(np.rint(points).astype(int).tolist(), picks.tolist(), strict=True):
        stamp(stains, sprites[pick], x, y)


def draw_nuclei(
    rng: np.random.Generator, kind: NucleusKind, count: int, *, mpp: float
) -> list[Sprite]:
    """Draw nuclei of one kind, turned at random."""
    return [draw_nucleus(rng, kind, angle=rng.uniform(0, 2 * np.pi), mpp=mpp) for _ in range(count)]


def draw_nucleus(
    rng: np.random.Generator, kind: NucleusKind, *, angle: float, mpp: float
) -> Sprite:
    """Draw one nucleus whose long axis points along `angle`."""
    long_px = rng.uniform(*kind.length_um) / mpp / 2
    wide_px = long_px * rng.uniform(*kind.width_to_length)
    reach = int(np.ceil(long_px * (1.05 + 2 * kind.irregular))) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    u = (x * np.cos(angle) + y * np.sin(angle)) / long_px
    v = (y * np.cos(angle) - x * np.sin(angle)) / wide_px
    depth_px = (_outline(rng, np.arctan2(v, u), kind.irregular) - np.hypot(u, v)) * wide_px

    soft_px = 0.5 / mpp  # the blur of the optics, 0.5 um
    membrane = np.exp(-((np.maximum(depth_px, 0) / (2 * kind.rim_um / mpp)) ** 2))
    hematoxylin = kind.body * rng.uniform(0.88, 1.12) + kind.rim * membrane
    hematoxylin += kind.clump * smooth_noise(rng, x.shape, along=max(0.7 * soft_px, 0.3))
    eosin = np.full_like(x, kind.eosin)
    for _ in range(rng.integers(kind.nucleoli[0], kind.nucleoli[1] + 1)):
        spot = _nucleolus(rng, u, v, radius=1.8 * soft_px / np.sqrt(long_px * wide_px))
        hematoxylin = hematoxylin + spot * (190 - hematoxylin)
        eosin = eosin + spot * (95 - eosin)
    return Sprite.of(hematoxylin, eosin, np.clip(depth_px / soft_px + 0.5, 0, 1))


def _outline(rng: np.random.Generator, theta: FloatField, irregular: float) -> FloatField:
    """Return the radius in each direction: 1, with a few waves of random phase."""
    radius = np.ones_like(theta)
    for waves in (2, 3, 4, 5):
        height = irregular * rng.uniform(0.3, 1) * (2 / waves) ** 0.5
        radius += height * np.cos(waves * theta + rng.uniform(0, 2 * np.pi))
    return radius


def _nucleolus(
    rng: np.random.Generator, u: FloatField, v: FloatField, *, radius: float
) -> FloatField:
    """Return the opacity of a nucleolus somewhere near the middle of the nucleus."""
    at, angle = 0.42 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
    away = np.hypot(u - at * np.cos(angle), v - at * np.sin(angle)) / radius
    return np.asarray(np.clip(2.2 - 1.6 * away, 0, 1), np.float32)
