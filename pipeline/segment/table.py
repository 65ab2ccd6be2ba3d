"""How much there is of each class, as a table: over all that was judged, and by region."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.files import atomic_path
from saccade.pipeline.segment.areas import Areas
from saccade.pipeline.segment.class_map import ClassMap

COLUMNS = ("region", "class", "area_mm2", "share", "polygons", "objects", "objects_per_mm2",
           "judged_mm2")  # fmt: skip


def write_table(
    path: Path,
    of: ClassMap,
    areas: Areas,
    polygons: NDArray[np.int64],
    objects: NDArray[np.int64] | None,
) -> None:
    """Write a row for each region and class.

    Args:
        path: of the CSV.
        of: the class map.
        areas: what it holds.
        polygons: (regions, classes) patches.
        objects: (regions,) objects; None if the model knows none.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(_rows(of, areas, polygons, objects))


def _rows(
    of: ClassMap, areas: Areas, polygons: NDArray[np.int64], objects: NDArray[np.int64] | None
) -> Iterator[Mapping[str, object]]:
    for i, region in enumerate(areas.names):
        judged = int(areas.cells[i].sum())
        for j, name in enumerate(of.classes):
            cells = int(areas.cells[i, j])
            counted = j == of.instances and objects is not None
            outlined = j > 0 and j != of.instances
            yield {
                "region": region,
                "class": name,
                "area_mm2": _digits(cells * of.cell_mm2),
                "share": _digits(cells / judged) if judged else "",
                "polygons": polygons[i, j] if outlined else "",
                "objects": objects[i] if counted and objects is not None else "",
                "objects_per_mm2": _per_mm2(objects, i, judged * of.cell_mm2) if counted else "",
                "judged_mm2": _digits(judged * of.cell_mm2),
            }


def _per_mm2(objects: NDArray[np.int64] | None, region: int, judged_mm2: float) -> str:
    return _digits(int(objects[region]) / judged_mm2) if objects is not None and judged_mm2 else ""


def _digits(value: float) -> str:
    """Six digits: fewer than the exact count of cells has, more than anybody can trust."""
    return f"{value:.6g}"
