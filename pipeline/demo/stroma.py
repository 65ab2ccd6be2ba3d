"""Connective tissue and its nuclei: what lies everywhere between the other things."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.demo.layout import Layout
from saccade.pipeline.demo.nuclei import (
    EPITHELIAL,
    FIBROBLAST,
    STROMAL,
    NucleusKind,
    Sprite,
    draw_nuclei,
    draw_nucleus,
    scatter,
    stamp,
)
from saccade.pipeline.demo.textures import (
    CELL_PX,
    FloatField,
    Grain,
    Stroma,
    enlarge,
    make_stroma,
    smooth_noise,
)

TILE_PX = 256
_TURNS = 24
_VARIANTS = 5
_EDGE_UM = 14.0  # how far from its edge tissue may be frayed


@dataclass(frozen=True, slots=True)
class Palette:
    """What tissue is painted with; made once, used for every slide.

    Attributes:
        stroma: periodic picture of connective tissue.
        fine: noise of about 1 um.
        coarse: noise of about 2 um.
        ragged: noise of about 6 um, with which edges are frayed.
        spindles: fibroblast nuclei by the direction in which they point.
        epithelial: gland nuclei by the direction in which they point.
        round: other nuclei of the stroma.
        mpp: microns per pixel of it all.
    """

    stroma: Stroma
    fine: Grain
    coarse: Grain
    ragged: Grain
    spindles: tuple[tuple[Sprite, ...], ...]
    epithelial: tuple[tuple[Sprite, ...], ...]
    round: tuple[Sprite, ...]
    mpp: float


def make_palette(rng: np.random.Generator, *, mpp: float) -> Palette:
    """Draw the palette; `mpp` sets how large a nucleus is in pixels."""

    def turned(kind: NucleusKind) -> tuple[tuple[Sprite, ...], ...]:
        return tuple(
            tuple(
                draw_nucleus(rng, kind, angle=np.pi * i / _TURNS, mpp=mpp) for _ in range(_VARIANTS)
            )
            for i in range(_TURNS)
        )

    fine, coarse, ragged = (Grain.draw(rng, length_um / mpp) for length_um in (0.9, 1.9, 6.0))
    return Palette(
        make_stroma(rng, mpp=mpp),
        fine,
        coarse,
        ragged,
        spindles=turned(FIBROBLAST),
        epithelial=turned(EPITHELIAL),
        round=tuple(draw_nuclei(rng, STROMAL, 60, mpp=mpp)),
        mpp=mpp,
    )


def paint_stroma(
    stains: NDArray[np.uint8], layout: Layout, palette: Palette, rng: np.random.Generator
) -> None:
    """Paint connective tissue and its nuclei onto empty glass, shape (rows, cols, 2)."""
    cells = layout.depth_l0.shape
    bend_px = [90 * smooth_noise(rng, cells, along=20) for _ in range(2)]
    _paint_fibres(stains, layout.depth_l0, bend_px, palette, rng)
    angle = _fibre_angle(palette.stroma, bend_px)
    _paint_nuclei(stains, layout.depth_l0, angle, palette, rng)


def _paint_fibres(
    stains: NDArray[np.uint8],
    depth_l0: FloatField,
    bend_px: list[FloatField],
    palette: Palette,
    rng: np.random.Generator,
) -> None:
    """Paint fibres tile by tile, in uneven strength of both stains.

    The periodic picture is read through a smooth random displacement, which bends the fibres and
    hides the period.
    """
    pinker, bluer, patchy = (smooth_noise(rng, depth_l0.shape, along=n) for n in (16, 9, 3))
    tone = 256 * (1 + 0.13 * pinker + 0.07 * patchy)
    blue = np.clip(1 + 0.35 * bluer, 0.2, 3)
    shape = (TILE_PX, TILE_PX)
    share = np.empty((*shape, 2), np.uint16)
    for y, x in _tiles_with_tissue(depth_l0):
        values = _bent(palette.stroma, bend_px, y, x)
        amount = enlarge(tone, y, x, shape)
        depth_um = enlarge(depth_l0, y, x, shape) * palette.mpp
        if depth_um.min() < _EDGE_UM:
            depth_um += 2.2 * palette.ragged.at(y, x, shape)
            amount *= np.clip(depth_um / 2, 0, 1)
        share[..., 0] = amount * enlarge(blue, y, x, shape)
        share[..., 1] = amount
        spot = stains[y : y + TILE_PX, x : x + TILE_PX]
        np.maximum(spot, (values * share) >> 8, out=spot, casting="unsafe")  # dust stays visible


def _bent(stroma: Stroma, bend_px: list[FloatField], y: int, x: int) -> NDArray[np.uint8]:
    """Read a tile of the periodic picture through the displacement."""
    pairs = stroma.stains.view("<u2").ravel()
    period = np.int32(len(stroma.stains) - 1)  # of a power of two: a mask instead of a division
    steps = np.arange(TILE_PX, dtype=np.float32)
    row, col = (enlarge(bend, y, x, (TILE_PX, TILE_PX)) for bend in bend_px)
    row += (y + steps)[:, None]
    col += x + steps
    at = (row.astype(np.int32) & period) * np.int32(len(stroma.stains))
    at += col.astype(np.int32) & period
    return pairs.take(at).view(np.uint8).reshape(TILE_PX, TILE_PX, 2)


def _fibre_angle(stroma: Stroma, bend_px: list[FloatField]) -> FloatField:
    rows, cols = (np.arange(n) * CELL_PX for n in bend_px[0].shape)
    cells = len(stroma.angle)
    row = ((rows[:, None] + bend_px[0]) / CELL_PX).astype(int) % cells
    col = ((cols + bend_px[1]) / CELL_PX).astype(int) % cells
    return np.asarray(stroma.angle[row, col], np.float32)


def _tiles_with_tissue(depth_l0: FloatField) -> list[tuple[int, int]]:
    """Return the corners (y, x) of tiles that tissue may reach."""
    per_tile = TILE_PX // CELL_PX
    rows, cols = (n // per_tile for n in depth_l0.shape)
    deepest = depth_l0.reshape(rows, per_tile, cols, per_tile).max(axis=(1, 3))
    return [(int(r) * TILE_PX, int(c) * TILE_PX) for r, c in np.argwhere(deepest > -2 * CELL_PX)]


def _paint_nuclei(
    stains: NDArray[np.uint8],
    depth_l0: FloatField,
    angle: FloatField,
    palette: Palette,
    rng: np.random.Generator,
) -> None:
    """Scatter fibroblasts along the fibres and other cells between them, in uneven density."""
    mpp = palette.mpp
    density = np.exp(0.75 * smooth_noise(rng, depth_l0.shape, along=8))
    density *= depth_l0 * mpp > 8
    share = (density / density.sum()).ravel()
    area_mm2 = float((depth_l0 > 0).sum()) * (CELL_PX * mpp / 1000) ** 2

    def throw(per_mm2: float) -> NDArray[np.float64]:
        cells = rng.choice(share.size, size=round(per_mm2 * area_mm2), p=share)
        at = np.stack([cells % density.shape[1], cells // density.shape[1]], axis=1)
        return np.asarray((at + rng.uniform(size=at.shape)) * CELL_PX, np.float64)

    for x, y in throw(1300).tolist():
        turn = angle[int(y) // CELL_PX, int(x) // CELL_PX] + rng.normal(0, 0.2)
        stamp_turned(stains, palette.spindles, x, y, turn, rng)
    scatter(stains, palette.round, throw(420), rng)


def stamp_turned(
    stains: NDArray[np.uint8],
    sprites: tuple[tuple[Sprite, ...], ...],
    x: float,
    y: float,
    turn: float,
    rng: np.random.Generator,
) -> None:
    """Stamp a nucleus that points along `turn`, in radians."""
    pick = sprites[round(turn / np.pi * _TURNS) % _TURNS][rng.integers(_VARIANTS)]
    stamp(stains, pick, round(x), round(y))
