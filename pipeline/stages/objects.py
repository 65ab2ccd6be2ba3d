"""Objects on a slide: shapes in level-0 pixels, with what is known of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """What a stage found: regions, boxes, cells.

    Attributes:
        geometries: valid shapes of shapely's, in level-0 pixels, none empty.
        classes: what each is; None where a stage knows no classes.
        scores: float64 (n,), how sure the stage is, or how strong the object.
        measurements: further numbers (n,) by name.
        provenance: what made them; plain values for JSON.

    Raises:
        ValueError: if lengths differ, or a shape is empty or invalid.
    """

    geometries: tuple[shapely.Geometry, ...]
    classes: tuple[str | None, ...]
    scores: NDArray[np.float64]
    measurements: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.geometries)
        shapes = {"scores": self.scores.shape}
        shapes |= {name: each.shape for name, each in self.measurements.items()}
        wrong = [name for name, shape in shapes.items() if shape != (n,)]
        if wrong or len(self.classes) != n:
            raise ValueError(f"{n} objects need {n} classes and numbers each; see {wrong}.")
        shape = np.array(self.geometries, object)
        if n and not (shapely.is_valid(shape) & ~shapely.is_empty(shape)).all():
            raise ValueError("every shape must be valid and not empty; try shapely.make_valid.")

    def __len__(self) -> int:
        return len(self.geometries)

    def take(self, numbers: NDArray[np.integer[Any]]) -> Objects:
        """Some of the objects, by their numbers."""
        return Objects(
            tuple(self.geometries[i] for i in numbers),
            tuple(self.classes[i] for i in numbers),
            self.scores[numbers],
            {name: each[numbers] for name, each in self.measurements.items()},
            self.provenance,
        )

    def centred_in(self, box_l0: tuple[float, float, float, float]) -> Objects:
        """Those whose centroid lies in (x, y, width, height); right and bottom edge do not count.

        Tiles whose cores lie side by side then have each object once, in its whole shape, however
        many of them saw it.
        """
        x, y, width, height = box_l0
        centres = shapely.get_coordinates(shapely.centroid(np.array(self.geometries, object)))
        inside = (centres >= (x, y)) & (centres < (x + width, y + height))
        return self.take(np.flatnonzero(inside.all(axis=1)))


def areas_of(shape: shapely.Geometry) -> shapely.Geometry:
    """The areas of a shape, mended where it crosses itself; empty if it has none."""
    parts = shapely.get_parts(shapely.make_valid(shape))
    return shapely.union_all([each for each in parts if each.geom_type.endswith("Polygon")])
