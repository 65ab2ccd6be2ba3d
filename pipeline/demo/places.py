"""Dense places: benign foci, and lesions that only a close look tells from them.

From afar both are the same dark patch; near by, a focus is a crowd of small round nuclei and a
lesion a sheet of large, irregular, pale ones with nucleoli. A lesion is made as a hybrid image
(Oliva, Torralba and Schyns, "Hybrid images", 2006): what is seen from afar is taken from a focus
that is drawn in the same place, what is seen near by from the large nuclei. So the two agree at
low resolution by construction, in their texture as in their mean.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d

from saccade.pipeline.demo.layout import Ring
from saccade.pipeline.demo.nuclei import (
    LYMPHOCYTE,
    TUMOUR,
    NucleusKind,
    Sprite,
    draw_nuclei,
    scatter,
)
from saccade.pipeline.demo.stains import Stain, colours
from saccade.pipeline.demo.textures import FloatField, Grain, enlarge

_AFAR_UM = 4.0  # the grid on which a lesion is made to agree with a focus
_ROUNDS = 4
_RIM_UM = 30.0
_CUFF_UM = 14.0  # a lesion keeps so much of the focus around it
_MARGIN_UM = 24.0
_ENLARGED = (0.125, 0.75, 0.125)


@dataclass(frozen=True, slots=True)
class Crowd:
    """A kind of tissue that is mostly nuclei.

    Attributes:
        nuclei: pictures to draw from.
        spacing_um: distance between neighbours.
        jitter: how far they stray, relative to the spacing.
        between: hematoxylin and eosin between the nuclei.
    """

    nuclei: tuple[Sprite, ...]
    spacing_um: float
    jitter: float
    between: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Crowds:
    """The two kinds of dense places, and noise for both.

    Attributes:
        focus: the benign kind.
        lesion: the other.
        fine: noise of about 1 um.
        coarse: noise of about 8 um.
    """

    focus: Crowd
    lesion: Crowd
    fine: Grain
    coarse: Grain


def draw_crowds(rng: np.random.Generator, *, mpp: float) -> Crowds:
    """Draw the nuclei of foci and of lesions."""

    def pictures(kind: NucleusKind, count: int) -> tuple[Sprite, ...]:
        return tuple(draw_nuclei(rng, kind, count, mpp=mpp))

    return Crowds(
        focus=Crowd(pictures(LYMPHOCYTE, 80), 6.5, 0.11, (66, 44)),
        lesion=Crowd(pictures(TUMOUR, 160), 13.8, 0.11, (88, 54)),
        fine=Grain.draw(rng, 1.2 / mpp),
        coarse=Grain.draw(rng, 8 / mpp),
    )


def paint_focus(
    stains: NDArray[np.uint8], ring: Ring, crowds: Crowds, rng: np.random.Generator, *, mpp: float
) -> None:
    """Paint a benign focus onto the stains of the slide, shape (rows, cols, 2)."""
    spot, corner_l0 = _cut(stains, ring, mpp)
    depth_um = _depth_um(spot, corner_l0, ring, crowds, rng, mpp)
    spot[...] = _crowded(spot, _fullness(depth_um), crowds.focus, crowds.fine, rng, mpp)


def paint_lesion(
    stains: NDArray[np.uint8],
    ring: Ring,
    crowds: Crowds,
    stain: Stain,
    rng: np.random.Generator,
    *,
    mpp: float,
) -> None:
    """Paint a lesion onto the stains of the slide, shape (rows, cols, 2)."""
    spot, corner_l0 = _cut(stains, ring, mpp)
    depth_um = _depth_um(spot, corner_l0, ring, crowds, rng, mpp)
    afar = _crowded(spot, _fullness(depth_um), crowds.focus, crowds.fine, rng, mpp)
    inner = np.asarray(np.clip((depth_um - _CUFF_UM) / 4, 0, 1), np.float32)
    near = _crowded(afar, inner, crowds.lesion, crowds.fine, rng, mpp)
    spot[...] = hybrid(near, afar, stain, block_px=_block_px(mpp))


def _block_px(mpp: float) -> int:
    return round(_AFAR_UM / mpp)


def hybrid(
    near: NDArray[np.uint8], afar: NDArray[np.uint8], stain: Stain, *, block_px: int
) -> NDArray[np.uint8]:
    """Return `near` with its stains shifted smoothly until its colour from afar is that of `afar`.

    The mean colour over blocks is compared, since that is what a low level of a pyramid shows,
    and Newton steps on both stains take the difference in red and green away.

    Args:
        near: stains, shape (rows, cols, 2), both divisible by `block_px`.
        afar: stains of the same shape.
        stain: the dyes, which turn stains into colours.
        block_px: edge of the blocks that are averaged.
    """
    table = stain.table()
    wanted = _mean_colour(afar, table, block_px)
    levels, mixed = near.astype(np.float32), near
    for _ in range(_ROUNDS):
        colour = _mean_colour(mixed, table, block_px)
        jacobian = colour[..., :, None] * stain.slopes()
        step = np.linalg.solve(jacobian, (wanted - colour)[..., None])[..., 0]
        step = _sharpened(np.clip(step, -40, 40))
        for channel in (0, 1):
            field = np.ascontiguousarray(step[..., channel])
            levels[..., channel] += enlarge(field, 0, 0, near.shape[:2], block_px)
        np.clip(levels, 0, 255, out=levels)
        mixed = np.rint(levels).astype(np.uint8)
    return mixed


def _sharpened(step: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what has to be enlarged so that the means over blocks become `step`.

    Linear enlargement gives a block 3/4 of its own value and 1/8 of each neighbour's, along
    either axis; that is undone by fixed-point iteration.
    """
    sharp = step.copy()
    for _ in range(6):
        blurred = convolve1d(sharp, _ENLARGED, axis=0, mode="nearest")
        sharp += step - convolve1d(blurred, _ENLARGED, axis=1, mode="nearest")
    return sharp


def _mean_colour(
    stains: NDArray[np.uint8], table: NDArray[np.uint32], block_px: int
) -> NDArray[np.float32]:
    """Return mean red and green over blocks, shape (rows / block, cols / block, 2)."""
    rgb = colours(stains, table)
    rows, cols = rgb.shape[0] // block_px, rgb.shape[1] // block_px
    blocks = rgb[..., :2].reshape(rows, block_px, cols, block_px, 2)
    return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float32), np.float32)


def _cut(
    stains: NDArray[np.uint8], ring: Ring, mpp: float
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return a window on the stains around a ring, in whole blocks, and its corner."""
    reach = ring.reach_l0 + _MARGIN_UM / mpp
    block_px, (rows, cols) = _block_px(mpp), stains.shape[:2]
    left, top = (max(0, int((at - reach) // block_px)) * block_px for at in ring.centre_l0)
    right, bottom = (
        min(n // block_px, int((at + reach) // block_px) + 1) * block_px
        for n, at in zip((cols, rows), ring.centre_l0, strict=True)
    )
    return stains[top:bottom, left:right], (left, top)


def _depth_um(
    spot: NDArray[np.uint8],
    corner_l0: tuple[int, int],
    ring: Ring,
    crowds: Crowds,
    rng: np.random.Generator,
    mpp: float,
) -> FloatField:
    """Return how deep each pixel lies in the ring, whose edge is frayed."""
    y, x = np.indices(spot.shape[:2], dtype=np.float32) + 0.5
    depth_um = ring.depth_l0(x + corner_l0[0], y + corner_l0[1]) * mpp
    return depth_um + 5 * crowds.coarse.cut(rng, spot.shape)


def _fullness(depth_um: FloatField) -> FloatField:
    """Return how densely cells lie, 0 to 1: less towards the edge and a little beyond it."""
    return np.asarray(np.clip(depth_um / _RIM_UM + 0.6, 0, 1), np.float32)


def _crowded(
    spot: NDArray[np.uint8],
    full: FloatField,
    crowd: Crowd,
    fine: Grain,
    rng: np.random.Generator,
    mpp: float,
) -> NDArray[np.uint8]:
    """Return a copy of the spot, filled with a crowd as densely as `full` says."""
    shape = spot.shape[:2]
    between = np.array(crowd.between, np.float32) + 5 * fine.cut(rng, shape)[..., None]
    filled = np.rint(spot + (between - spot) * (0.92 * full[..., None]))
    crowded = np.clip(filled, 0, 255).astype(np.uint8)
    points = _jittered_points(rng, shape, crowd.spacing_um / mpp, crowd.jitter)
    at = points.astype(int)
    stays = rng.uniform(size=len(points)) < full[at[:, 1], at[:, 0]] ** 0.7
    scatter(crowded, crowd.nuclei, points[stays], rng)
    return crowded


def _jittered_points(
    rng: np.random.Generator, shape: tuple[int, int], spacing_px: float, jitter: float
) -> NDArray[np.float64]:
    """Return points (x, y) near a hexagonal lattice of random turn, within the shape."""
    rows, cols = shape
    reach = np.hypot(rows, cols) / 2 + spacing_px
    count = int(np.ceil(reach / spacing_px)) + 2
    j, i = np.mgrid[-count * 2 : count * 2 + 1, -count : count + 1].reshape(2, -1)
    lattice = np.stack([i + 0.5 * (j % 2), j * np.sqrt(0.75)], axis=1) * spacing_px
    lattice += rng.normal(0, jitter * spacing_px, lattice.shape)
    turn = rng.uniform(0, np.pi / 3)
    cos, sin = np.cos(turn), np.sin(turn)
    x = lattice[:, 0] * cos - lattice[:, 1] * sin + cols / 2
    y = lattice[:, 0] * sin + lattice[:, 1] * cos + rows / 2
    inside = (x >= 0) & (x < cols) & (y >= 0) & (y < rows)
    return np.stack([x[inside], y[inside]], axis=1)
