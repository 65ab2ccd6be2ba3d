"""How many objects there are of each class: over all that was judged, and by region."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from saccade.pipeline.detect.plan import DetectPlan
from saccade.pipeline.files import atomic_path
from saccade.pipeline.objects.batch import ObjectBatch
from saccade.pipeline.stages.region_of_interest import Region
from saccade.tiling.pyramid_view import Pyramid

ALL = "all"
"""What the whole of what was judged is called, beside the names of regions."""
COLUMNS = (
    "region", "class", "objects", "judged_mm2", "tissue_mm2", "per_mm2", "per_hpf", "hpf_mm2"
)  # fmt: skip
_MOST_CELLS = 1 << 24  # of the map that areas are measured on


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """How large is what was judged.

    Attributes:
        names: of the regions; the first is `ALL`.
        area_mm2: float64 (regions,), of cores on the slide, as far as they lie in the region.
        tissue_mm2: float64 (regions,), of the tissue in it.
    """

    names: tuple[str, ...]
    area_mm2: NDArray[np.float64]
    tissue_mm2: NDArray[np.float64]


def judged_areas(pyramid: Pyramid, plan: DetectPlan, regions: Sequence[Region]) -> Judged:
    """Measure what was judged on the finest tissue mask there is, in squares of its pixels.

    A square counts where its centre lies in a core and, if there are regions, in one of these.
    Larger squares are taken on slides of more than 16 million pixels of the mask.
    """
    width, height = (size * mpp for size, mpp in zip(pyramid.size_l0, pyramid.mpp_l0, strict=True))
    side_um = max(*pyramid.levels[0].mpp_xy, np.sqrt(width * height / _MOST_CELLS))
    share = pyramid.tissue_share(side_um)
    side_l0 = side_um / np.array(pyramid.mpp_l0)
    in_core = _in_cores(share.shape, plan.cores_l0, side_l0)
    rows, cols = np.nonzero(in_core)
    x, y = (cols + 0.5) * side_l0[0], (rows + 0.5) * side_l0[1]
    on_slide = (x < pyramid.size_l0[0]) & (y < pyramid.size_l0[1])
    rows, cols, x, y = (each[on_slide] for each in (rows, cols, x, y))
    shapes = [each.shape for each in regions]
    if shapes:
        masks = [_inside(shapely.union_all(shapes), x, y), *(_inside(e, x, y) for e in shapes)]
    else:
        masks = [np.ones(len(x), bool)]
    square_mm2 = side_um**2 / 1e6
    tissue = share[rows, cols].astype(np.float64)
    return Judged(
        (ALL, *(each.name for each in regions)),
        np.array([mask.sum() for mask in masks]) * square_mm2,
        np.array([tissue[mask].sum() for mask in masks]) * square_mm2,
    )


def _in_cores(
    shape: tuple[int, ...], cores_l0: NDArray[np.float64], side_l0: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which squares have their centres in some core."""
    found = np.zeros(shape, bool)
    edges = np.ceil(cores_l0 / np.tile(side_l0, 2) - 0.5).clip(min=0).astype(int)
    for left, top, right, bottom in edges.tolist():
        found[top:bottom, left:right] = True
    return found


def _inside(
    shape: shapely.Geometry, x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.bool_]:
    left, top, right, bottom = shape.bounds
    near = np.flatnonzero((x >= left) & (x <= right) & (y >= top) & (y <= bottom))
    shapely.prepare(shape)
    found = np.zeros(len(x), bool)
    found[near] = shapely.contains_xy(shape, x[near], y[near])
    return found


def count_objects(
    batches: Iterable[ObjectBatch], regions: Sequence[Region], classes: int
) -> NDArray[np.int64]:
    """Objects whose centres lie in each region, int64 (1 + regions, classes); first of all."""
    counts = np.zeros((1 + len(regions), classes), np.int64)
    tree = shapely.STRtree([each.shape for each in regions])
    for batch in batches:
        counts[0] += np.bincount(batch.classes, minlength=classes)
        points, of = tree.query(shapely.points(batch.centres_l0), predicate="within")
        np.add.at(counts, (of + 1, batch.classes[points]), 1)
    return counts


def write_counts(
    path: Path,
    counts: NDArray[np.int64],
    judged: Judged,
    *,
    classes: Sequence[str],
    hpf_mm2: float,
) -> None:
    """Write a row for each region and class; objects by area are by area of tissue."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(_rows(counts, judged, classes, hpf_mm2))


def _rows(
    counts: NDArray[np.int64], judged: Judged, classes: Sequence[str], hpf_mm2: float
) -> Iterator[Mapping[str, object]]:
    for i, region in enumerate(judged.names):
        tissue = float(judged.tissue_mm2[i])
        for name, count in zip(classes, counts[i].tolist(), strict=True):
            per_mm2 = count / tissue if tissue else None
            yield {
                "region": region,
                "class": name,
                "objects": count,
                "judged_mm2": _digits(float(judged.area_mm2[i])),
                "tissue_mm2": _digits(tissue),
                "per_mm2": _digits(per_mm2),
                "per_hpf": _digits(None if per_mm2 is None else per_mm2 * hpf_mm2),
                "hpf_mm2": _digits(hpf_mm2),
            }


def _digits(value: float | None) -> str:
    """Six digits, more than anybody can trust; nothing where there is no tissue."""
    return "" if value is None else f"{value:.6g}"
