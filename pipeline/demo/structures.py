"""Glands and vessels: rings of cells around a hollow."""

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.demo.layout import Layout, Ring
from saccade.pipeline.demo.nuclei import Sprite
from saccade.pipeline.demo.stroma import Palette, stamp_turned
from saccade.pipeline.demo.textures import FloatField


def paint_structures(
    stains: NDArray[np.uint8], layout: Layout, palette: Palette, rng: np.random.Generator
) -> None:
    """Paint the glands and vessels of a layout over its stroma, shape (rows, cols, 2)."""
    for ring in layout.vessels:
        _paint_vessel(stains, ring, palette, rng)
    for ring in layout.glands:
        _paint_gland(stains, ring, palette, rng)


def _window(
    stains: NDArray[np.uint8], ring: Ring, margin_px: float
) -> tuple[NDArray[np.uint8], FloatField, FloatField]:
    """Return the stains around a ring, each pixel's depth in it and direction from its centre."""
    (x, y), reach = ring.centre_l0, ring.reach_l0 + margin_px
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    spot = stains[top : int(y + reach), left : int(x + reach)]
    row, col = np.mgrid[: spot.shape[0], : spot.shape[1]].astype(np.float32) + 0.5
    theta = np.arctan2(row + top - y, col + left - x)
    return spot, ring.depth_l0(col + left, row + top), np.asarray(theta, np.float32)


def _lay(
    spot: NDArray[np.uint8], hematoxylin: FloatField, eosin: FloatField, opacity: FloatField
) -> None:
    """Cover the stains of a window where the opacity says so."""
    cover = np.stack([hematoxylin, eosin], axis=2)
    mixed = spot + (cover - spot) * np.clip(opacity, 0, 1)[..., None]
    spot[...] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _paint_gland(
    stains: NDArray[np.uint8], ring: Ring, palette: Palette, rng: np.random.Generator
) -> None:
    """Paint tall cells around a lumen: nuclei at the base, pale mucus towards the lumen."""
    mpp = palette.mpp
    spot, depth_px, theta = _window(stains, ring, 6 / mpp)
    depth_um = depth_px * mpp
    height_um = min(rng.uniform(17, 23), 0.62 * ring.reach_l0 * mpp)
    cells = max(8, round(2 * np.pi * ring.reach_l0 * mpp / 7))
    walls = np.cos(theta * cells / 2 + rng.uniform(0, 6))
    for _ in range(4):  # to the power of 16: thin lines
        walls *= walls
    noise = palette.fine.cut(rng, depth_px.shape)
    mucus = np.clip((depth_um - 0.42 * height_um) / 3, 0, 1) * (1 - 0.75 * walls)
    lumen = np.clip((depth_um + noise - height_um) / 1.2, 0, 1)
    apical = np.exp(-(((depth_um - height_um) / 1.3) ** 2))
    eosin = (48 + 4 * noise - 30 * mucus + 16 * apical) * (1 - lumen) + 2
    hematoxylin = (22 + 3 * noise - 8 * mucus) * (1 - lumen) + 1
    _lay(spot, 5 + noise, 14 + 2 * noise, 0.5 * (depth_um + 2.2 + noise))  # a cleft around it
    _lay(spot, hematoxylin, eosin, depth_um)
    _line_with_nuclei(stains, ring, palette.epithelial, rng, mpp, inset_um=5.5, every_um=5.6)


def _line_with_nuclei(
    stains: NDArray[np.uint8],
    ring: Ring,
    sprites: tuple[tuple[Sprite, ...], ...],
    rng: np.random.Generator,
    mpp: float,
    *,
    inset_um: float,
    every_um: float,
    along: bool = False,
) -> None:
    """Stamp nuclei inside a ring, pointing at its centre, or `along` its wall."""
    count = max(5, round(2 * np.pi * ring.radii_l0.mean() * mpp / every_um))
    theta = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.normal(0, 0.6 / count, count)
    at = np.floor(theta / (2 * np.pi) * len(ring.radii_l0)).astype(int) % len(ring.radii_l0)
    radii = ring.radii_l0[at] - (inset_um + rng.normal(0, 0.9, count)) / mpp
    for turn, radius in zip(theta.tolist(), radii.tolist(), strict=True):
        x = ring.centre_l0[0] + radius * np.cos(turn)
        y = ring.centre_l0[1] + radius * np.sin(turn)
        stamp_turned(stains, sprites, x, y, turn + np.pi / 2 * along, rng)


def _paint_vessel(
    stains: NDArray[np.uint8], ring: Ring, palette: Palette, rng: np.random.Generator
) -> None:
    """Paint a muscular wall around a lumen with red cells in it."""
    mpp = palette.mpp
    spot, depth_px, theta = _window(stains, ring, 6 / mpp)
    depth_um = depth_px * mpp
    wall_um = rng.uniform(5, 11)
    noise = palette.fine.cut(rng, depth_px.shape)
    layers = np.sin(depth_um * 2.1 + 2 * np.sin(3 * theta))
    lumen = np.clip((depth_um - wall_um) / 1.0, 0, 1)
    blood = palette.coarse.cut(rng, depth_px.shape)
    red = np.clip(4 * (blood - rng.uniform(-0.6, 0.9)), 0, 1) * (depth_um > wall_um + 2)
    eosin = (52 + 6 * layers + 3 * noise) * (1 - lumen) + lumen * (3 + 82 * red)
    hematoxylin = (9 + 2 * noise) * (1 - lumen) + lumen * (1 + 3 * red)
    _lay(spot, hematoxylin, eosin, depth_um / 1.5)
    for inset_um in (wall_um - 0.5, 0.4 * wall_um):
        _line_with_nuclei(
            stains, ring, palette.spindles, rng, mpp, inset_um=inset_um, every_um=19, along=True
        )
