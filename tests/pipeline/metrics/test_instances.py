"""Measures of objects by hand, and against their definitions, pair by pair."""

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.pipeline.metrics.instances import InstanceTally

# Two of three pixels of the first object, all of the second; the third is missed, one is wrong.
TRUTH = np.array([[1, 1, 1, 0, 2, 2, 0, 3, 3, 0, 0]])
FOUND = np.array([[7, 7, 0, 0, 5, 5, 0, 0, 9, 9, 8]])


def test_by_hand() -> None:
    tally = InstanceTally.of(FOUND, TRUTH)

    assert (tally.hits.found, tally.hits.wrong, tally.hits.missed) == (2, 2, 1)
    f1 = 2 * 2 / (2 * 2 + 2 + 1)
    assert tally.hits.f1 == pytest.approx(f1)
    assert tally.panoptic_quality == pytest.approx((2 / 3 + 1) / 2 * f1)
    # Shared 2, 2 and 1 of the 3, 2 and 3 of either, and object 8, which nothing overlaps.
    assert tally.aggregated_jaccard == pytest.approx((2 + 2 + 1) / (3 + 2 + 3 + 1))


@pytest.mark.parametrize("seed", range(20))
def test_against_the_definitions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = (rng.integers(0, 5, (4, 4)).repeat(3, 0).repeat(3, 1) for _ in range(2))
    found = np.where(rng.random(found.shape) < 0.8, truth, found) * 3  # numbers may have gaps
    tally = InstanceTally.of(found, truth)

    masks = [truth == n for n in np.unique(truth[truth > 0])]
    others = [found == n for n in np.unique(found[found > 0])]
    iu = np.array([[(a & b).sum() / (a | b).sum() for b in others] for a in masks])
    right = int((iu > 0.5).sum())
    assert tally.hits.found == right
    assert tally.hits.wrong == len(others) - right
    assert tally.hits.missed == len(masks) - right
    assert tally.iu == pytest.approx(iu[iu > 0.5].sum())
    common, union, used = 0, 0, set()
    for mask, row in zip(masks, iu, strict=True):
        best = int(row.argmax())
        if row[best] > 0:
            common += int((mask & others[best]).sum())
            union += int((mask | others[best]).sum())
            used.add(best)
        else:
            union += int(mask.sum())
    union += sum(int(each.sum()) for i, each in enumerate(others) if i not in used)
    assert (tally.common, tally.union) == (common, union)


def test_images_add_up() -> None:
    one, other = InstanceTally.of(FOUND, TRUTH), InstanceTally.of(TRUTH, TRUTH)
    both = InstanceTally.of(
        np.concatenate([FOUND, np.where(TRUTH > 0, TRUTH + 20, 0)]),
        np.concatenate([TRUTH, np.where(TRUTH > 0, TRUTH + 20, 0)]),
    )

    assert one + other == both


EMPTY = np.zeros((1, 11), np.int64)


@pytest.mark.parametrize(
    ("found", "truth", "quality"), [(EMPTY, EMPTY, 1.0), (EMPTY, TRUTH, 0.0), (FOUND, EMPTY, 0.0)]
)
def test_nothing_found_or_nothing_there(
    found: NDArray[np.int64], truth: NDArray[np.int64], quality: float
) -> None:
    tally = InstanceTally.of(found, truth)

    assert (tally.panoptic_quality, tally.aggregated_jaccard) == (quality, quality)


def test_maps_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="maps must have one shape"):
        InstanceTally.of(FOUND, TRUTH.T)
