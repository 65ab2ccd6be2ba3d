"""Some of very many objects, as columns: what one object costs is a few numbers, not a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class ObjectBatch:
    """Objects with one outline each, without holes, in level-0 pixels.

    Attributes:
        points_l0: float64 (points, 2), corners (x, y) of all outlines, object after object; the
            first corner of an outline is not repeated at its end.
        lengths: int64 (n,), corners of each outline.
        classes: int64 (n,), what each object is, from 0 on.
        scores: float32 (n,), how sure whatever found it is.
        measurements: further numbers by name, float32 (n,); NaN where there is none.

    Raises:
        ValueError: if lengths differ, an outline has less than three corners, or a number that
            has to be finite is not.
    """

    points_l0: NDArray[np.float64]
    lengths: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    measurements: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.lengths)
        columns: dict[str, NDArray[Any]] = {"classes": self.classes, "scores": self.scores}
        columns |= self.measurements
        wrong = [name for name, each in columns.items() if each.shape != (n,)]
        if wrong or self.points_l0.shape != (int(self.lengths.sum()), 2):
            raise ValueError(
                f"{n} objects of {self.lengths.sum()} corners need a number each, and their "
                f"corners (x, y); got points {self.points_l0.shape}, and see {wrong}."
            )
        if n and (self.lengths.min() < 3 or self.classes.min() < 0):
            raise ValueError("an outline needs three corners, and classes count from 0.")
        if not (np.isfinite(self.points_l0).all() and np.isfinite(self.scores).all()):
            raise ValueError("corners and scores of objects must be finite numbers.")

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of_boxes(
        cls,
        boxes_l0: NDArray[np.floating[Any]],
        classes: NDArray[np.integer[Any]],
        scores: NDArray[np.floating[Any]],
        measurements: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    ) -> ObjectBatch:
        """Objects whose outlines are boxes.

        Args:
            boxes_l0: (n, 4) left, top, right, bottom edges.
            classes: (n,) from 0 on.
            scores: (n,).
            measurements: further numbers (n,) by name.

        Raises:
            ValueError: if a box has no area.
        """
        boxes = np.asarray(boxes_l0, np.float64).reshape(-1, 4)
        if not (boxes[:, 2:] > boxes[:, :2]).all():
            raise ValueError("a box needs its right edge right of its left, and its bottom below.")
        corners = boxes[:, [0, 1, 0, 3, 2, 3, 2, 1]].reshape(-1, 2)
        return cls._plain(corners, np.full(len(boxes), 4), classes, scores, measurements or {})

    @classmethod
    def of_polygons(
        cls,
        polygons_l0: Sequence[shapely.Polygon],
        classes: NDArray[np.integer[Any]],
        scores: NDArray[np.floating[Any]],
        measurements: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    ) -> ObjectBatch:
        """Objects whose outlines are the outer rings of polygons; holes are filled.

        Raises:
            ValueError: if a polygon is empty or not valid.
        """
        rings = shapely.get_exterior_ring(np.asarray(polygons_l0, object))
        whole = shapely.polygons(rings) if len(rings) else rings
        if not (shapely.is_valid(whole) & (shapely.area(whole) > 0)).all():
            raise ValueError("every polygon must be valid and not empty; try shapely.make_valid.")
        lengths = shapely.get_num_points(rings).astype(np.int64) - 1
        every = np.ones(int(lengths.sum()) + len(lengths), bool)
        every[np.cumsum(lengths + 1) - 1] = False  # the repeated corners
        points = shapely.get_coordinates(rings)[every]
        return cls._plain(points, lengths, classes, scores, measurements or {})

    @classmethod
    def _plain(
        cls,
        points: NDArray[np.float64],
        lengths: NDArray[Any],
        classes: NDArray[Any],
        scores: NDArray[Any],
        measurements: Mapping[str, NDArray[Any]],
    ) -> ObjectBatch:
        return cls(
            np.asarray(points, np.float64),
            np.asarray(lengths, np.int64),
            np.asarray(classes, np.int64),
            np.asarray(scores, np.float32),
            {name: np.asarray(each, np.float32) for name, each in measurements.items()},
        )

    @property
    def starts(self) -> NDArray[np.int64]:
        """(n,) where the corners of each object begin in `points_l0`."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def boxes_l0(self) -> NDArray[np.float64]:
        """(n, 4) left, top, right and bottom of each outline."""
        if not len(self):
            return np.empty((0, 4))
        low = np.minimum.reduceat(self.points_l0, self.starts)
        high = np.maximum.reduceat(self.points_l0, self.starts)
        return np.concatenate([low, high], axis=1)

    @property
    def centres_l0(self) -> NDArray[np.float64]:
        """(n, 2) the middle (x, y) of each outline's bounding box."""
        return centres_of(self.boxes_l0)

    def take(self, numbers: NDArray[np.integer[Any]]) -> ObjectBatch:
        """Some of the objects, by their numbers."""
        starts, lengths = self.starts[numbers], self.lengths[numbers]
        ends = np.cumsum(lengths)
        corners = np.arange(int(lengths.sum())) + np.repeat(starts - ends + lengths, lengths)
        return ObjectBatch(
            self.points_l0[corners],
            lengths,
            self.classes[numbers],
            self.scores[numbers],
            {name: each[numbers] for name, each in self.measurements.items()},
        )


def centres_of(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) the middle (x, y) of boxes (n, 4)."""
    middle: NDArray[np.float64] = (boxes[:, :2] + boxes[:, 2:]) / 2
    return middle
