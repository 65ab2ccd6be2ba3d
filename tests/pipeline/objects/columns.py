"""Objects made up for tests, as columns."""

import numpy as np

from saccade.pipeline.objects.batch import ObjectBatch

CLASSES = ("nucleus", "mitosis: sure")


def some_boxes(count: int, seed: int = 0, extent: float = 1e5) -> ObjectBatch:
    """Boxes of two classes with an area, anywhere."""
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, extent, (count, 2)), rng.uniform(5, 40, (count, 2))
    return ObjectBatch.of_boxes(
        np.concatenate([corner, corner + size], axis=1),
        rng.integers(0, 2, count),
        rng.random(count),
        {"area": size.prod(axis=1)},
    )


def same(left: ObjectBatch, right: ObjectBatch) -> bool:
    pairs = [
        (left.points_l0, right.points_l0),
        (left.lengths, right.lengths),
        (left.classes, right.classes),
        (left.scores, right.scores),
        *((left.measurements[name], right.measurements[name]) for name in left.measurements),
    ]
    kinds = left.measurements.keys() == right.measurements.keys()
    return kinds and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)
