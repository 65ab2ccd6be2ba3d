"""Where things lie on a slide: tissue, dense places, glands, vessels. Plans, and no pixels yet."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter

from saccade.pipeline.demo.textures import CELL_PX, FloatField, smooth_noise

_TISSUE_SHARE = (0.33, 0.41)
_PLACES = (5, 7)
_LESIONS = (1, 2)
# Two lesions together stay under 2 % of the tissue whatever is drawn, with room for the lumens
# that glands and vessels cut out of it.
_PLACE_SHARE = (0.0065, 0.0092)
# Below this a place holds too few cells to be of any kind. Slides so small that it matters are
# for tests; there lesions take more than 2 % of the tissue.
_LEAST_DIAMETER_UM = 110.0
_CORNERS = 96


@dataclass(frozen=True, slots=True)
class Ring:
    """A closed outline around a centre, given by its radius in equally spaced directions.

    Attributes:
        centre_l0: (x, y).
        radii_l0: radius in each direction, counted from the x axis towards y.
    """

    centre_l0: tuple[float, float]
    radii_l0: NDArray[np.float64]

    @property
    def reach_l0(self) -> float:
        """The largest radius."""
        return float(self.radii_l0.max())

    def corners_l0(self) -> NDArray[np.float64]:
        """Return the outline's corners (x, y), shape (corners, 2), the first not repeated."""
        theta = np.linspace(0, 2 * np.pi, len(self.radii_l0), endpoint=False)
        turned = np.stack([np.cos(theta), np.sin(theta)], axis=1)
        return np.asarray(self.centre_l0) + turned * self.radii_l0[:, None]

    def depth_l0(self, x_l0: FloatField, y_l0: FloatField) -> FloatField:
        """Return how far each point lies within the outline, along its radius; outside < 0."""
        dx, dy = x_l0 - self.centre_l0[0], y_l0 - self.centre_l0[1]
        turned = np.linspace(-np.pi, np.pi, len(self.radii_l0) + 1)
        from_behind = np.roll(self.radii_l0, len(self.radii_l0) // 2)
        closed = np.append(from_behind, from_behind[0])
        radii = np.interp(np.arctan2(dy, dx), turned, closed)
        return np.asarray(radii - np.sqrt(dx * dx + dy * dy), np.float32)


@dataclass(frozen=True, slots=True)
class Layout:
    """The plan of a slide.

    Attributes:
        depth_l0: how deep each cell of 16 px lies in tissue, in level-0 pixels; outside < 0.
        foci: dense places with small round nuclei; every slide has them.
        lesions: dense places with large nuclei; none on a benign slide.
        glands: outlines of glands.
        vessels: outlines of vessels.
    """

    depth_l0: FloatField
    foci: tuple[Ring, ...]
    lesions: tuple[Ring, ...]
    glands: tuple[Ring, ...]
    vessels: tuple[Ring, ...]


def draw_layout(seed: np.random.SeedSequence, size_px: int, *, mpp: float, lesion: bool) -> Layout:
    """Plan a slide. Label and plan share nothing but the choice of which places are lesions.

    Tissue and dense places are the same for both labels; only then are one or two of the places
    made lesions, so that neither their number nor size nor position tells the label.
    """
    plan, choice = (np.random.default_rng(s) for s in seed.spawn(2))
    depth_l0 = _draw_tissue(plan, size_px // CELL_PX)
    places = _draw_places(plan, depth_l0, mpp)
    glands, vessels = _draw_structures(plan, depth_l0, places, mpp)
    count = min(int(choice.integers(_LESIONS[0], _LESIONS[1] + 1)), max(1, len(places) - 1))
    chosen = set(choice.permutation(len(places))[: count if lesion else 0].tolist())
    return Layout(
        depth_l0,
        foci=tuple(p for i, p in enumerate(places) if i not in chosen),
        lesions=tuple(p for i, p in enumerate(places) if i in chosen),
        glands=glands,
        vessels=vessels,
    )


def _draw_tissue(rng: np.random.Generator, cells: int) -> FloatField:
    """Draw one to three pieces that cover a set share of the glass; return the signed depth."""
    y, x = np.mgrid[:cells, :cells].astype(np.float32) / cells * 2 - 1
    height = np.full((cells, cells), -9, np.float32)
    pieces = int(rng.integers(1, 4))
    start = rng.uniform(0, 2 * np.pi)
    for i in range(pieces):
        turn, away = start + 2 * np.pi * i / pieces, 0.48 * (pieces > 1)
        angle, longer = rng.uniform(0, np.pi), rng.uniform(1.0, 1.45)
        dx, dy = x - away * np.cos(turn), y - away * np.sin(turn)
        u = (dx * np.cos(angle) + dy * np.sin(angle)) / longer
        v = (dy * np.cos(angle) - dx * np.sin(angle)) * longer
        height = np.maximum(height, -np.hypot(u, v) * rng.uniform(0.9, 1.15))
    height += 0.13 * smooth_noise(rng, height.shape, along=cells / 14)
    height += 0.025 * smooth_noise(rng, height.shape, along=cells / 60)
    height -= 20 * np.clip(np.maximum(abs(x), abs(y)) - 0.72, 0, None) ** 2
    tissue = height > np.quantile(height, 1 - rng.uniform(*_TISSUE_SHARE))
    tissue = binary_fill_holes(tissue)
    return _depth(tissue) * CELL_PX


def _depth(inside: NDArray[np.bool_]) -> FloatField:
    """Return the distance to the edge in cells, negative outside."""
    within = distance_transform_edt(inside)
    beyond = distance_transform_edt(~inside)
    signed = np.where(inside, within - 0.5, 0.5 - beyond)
    return np.asarray(gaussian_filter(signed, 1.5), np.float32)


def _draw_places(rng: np.random.Generator, depth_l0: FloatField, mpp: float) -> tuple[Ring, ...]:
    """Draw the dense places, well inside the tissue and clear of each other."""
    tissue_l0 = float((depth_l0 > 0).sum()) * CELL_PX**2
    free_l0 = depth_l0.copy()
    places: list[Ring] = []
    for _ in range(int(rng.integers(_PLACES[0], _PLACES[1] + 1))):
        diameter_l0 = 2 * np.sqrt(rng.uniform(*_PLACE_SHARE) * tissue_l0 / np.pi)
        radius_l0 = max(diameter_l0, _LEAST_DIAMETER_UM / mpp) / 2
        radii_l0 = _draw_outline(rng, radius_l0, wavy=0.12)
        fits = free_l0 > radii_l0.max() + 30 / mpp
        if not places and not fits.any():
            fits = free_l0 == free_l0.max()
        if fits.any():
            places.append(Ring(_pick(rng, fits), radii_l0))
            free_l0 = np.minimum(free_l0, _distance(free_l0.shape, places[-1]))
    return tuple(places)


def _draw_structures(
    rng: np.random.Generator, depth_l0: FloatField, places: tuple[Ring, ...], mpp: float
) -> tuple[tuple[Ring, ...], tuple[Ring, ...]]:
    """Draw glands, in groups, and vessels, anywhere; all clear of the places and each other."""
    free_l0 = depth_l0.copy()
    for place in places:
        free_l0 = np.minimum(free_l0, _distance(free_l0.shape, place))
    area_mm2 = float((depth_l0 > 0).sum()) * (CELL_PX * mpp / 1000) ** 2
    grouped = smooth_noise(rng, depth_l0.shape, along=max(3.0, 300 / (CELL_PX * mpp))) > 0.4

    def throw(count: int, radius_um: tuple[float, float], where: NDArray[np.bool_]) -> list[Ring]:
        rings = []
        for _ in range(count):
            radius_l0 = rng.uniform(*radius_um) / mpp
            fits = where & (free_l0 > 1.15 * radius_l0 + 12 / mpp)
            if fits.any():
                stretch = rng.uniform(0.04, 0.17)
                ring = Ring(_pick(rng, fits), _draw_outline(rng, radius_l0, wavy=stretch))
                rings.append(ring)
                np.minimum(free_l0, _distance(free_l0.shape, ring), out=free_l0)
        return rings

    vessels = throw(round(2.0 * area_mm2) + 1, (18, 42), depth_l0 > 0)
    glands = throw(round(16 * area_mm2) + 1, (28, 58), grouped)
    return tuple(glands), tuple(vessels)


def _draw_outline(
    rng: np.random.Generator, radius_l0: float, *, wavy: float
) -> NDArray[np.float64]:
    """Draw the radii of a wavy ring whose area is that of a circle of the radius."""
    theta = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    radii = np.ones(_CORNERS)
    for waves in (2, 3, 4, 5, 7):
        height = wavy * rng.uniform(0.4, 1) * (2 / waves)
        radii += height * np.cos(waves * theta + rng.uniform(0, 2 * np.pi))
    wedges = radii * np.roll(radii, -1) * np.sin(2 * np.pi / _CORNERS) / 2
    return np.asarray(radii * radius_l0 * np.sqrt(np.pi / wedges.sum()), np.float64)


def _pick(rng: np.random.Generator, fits: NDArray[np.bool_]) -> tuple[float, float]:
    """Pick a point (x, y) in level-0 pixels, uniformly over the cells that are True."""
    cells = np.flatnonzero(fits)
    row, col = divmod(int(cells[rng.integers(len(cells))]), fits.shape[1])
    x, y = rng.uniform(0, 1, size=2)
    return (col + float(x)) * CELL_PX, (row + float(y)) * CELL_PX


def _distance(shape: tuple[int, ...], ring: Ring) -> FloatField:
    """Return each cell's distance to the circle around a ring, negative within."""
    y, x = (np.arange(n, dtype=np.float32) * CELL_PX + CELL_PX / 2 for n in shape)
    dx, dy = x - ring.centre_l0[0], y - ring.centre_l0[1]
    return np.asarray(np.sqrt(dx**2 + (dy**2)[:, None]) - ring.reach_l0, np.float32)
