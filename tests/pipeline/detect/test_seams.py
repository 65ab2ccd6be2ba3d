"""What several tiles saw is one object, and two objects stay two."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.pipeline.detect import seams
from saccade.pipeline.detect.seams import Candidates, one_of_each


def candidates(
    *rows: tuple[tuple[float, float, float, float], float, int, int, bool],
) -> Candidates:
    boxes, scores, classes, tiles, owned = zip(*rows, strict=True)
    return Candidates(
        np.array(boxes, float),
        np.array(scores, np.float32),
        np.array(classes),
        np.array(tiles),
        np.array(owned),
    )


HERE, NEAR, FAR = (0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 11.0, 10.0), (30.0, 0.0, 40.0, 10.0)


def test_the_better_one_stays() -> None:
    score = candidates((HERE, 0.8, 0, 0, True), (NEAR, 0.9, 0, 1, True), (FAR, 0.1, 0, 1, True))
    assert one_of_each(score, 0.3).tolist() == [False, True, True]
    owner = candidates((HERE, 0.8, 0, 0, True), (NEAR, 0.9, 0, 1, False))
    assert one_of_each(owner, 0.3).tolist() == [True, False]
    neither = candidates((HERE, 0.8, 0, 0, False), (NEAR, 0.9, 0, 1, False))
    assert one_of_each(neither, 0.3).tolist() == [False, True]
    first = candidates((HERE, 0.8, 0, 0, True), (NEAR, 0.8, 0, 1, True))
    assert one_of_each(first, 0.3).tolist() == [True, False]


def test_other_classes_the_same_tile_and_little_overlap_are_other_objects() -> None:
    classes = candidates((HERE, 0.8, 0, 0, True), (NEAR, 0.9, 1, 1, True))
    tile = candidates((HERE, 0.8, 0, 0, True), (NEAR, 0.9, 0, 0, True))
    both = candidates((HERE, 0.8, 0, 0, True), (NEAR, 0.9, 0, 1, True))
    for found, most in ((classes, 0.3), (tile, 0.3), (both, 90 / 110)):
        assert one_of_each(found, most).all()
    assert not one_of_each(both, 90 / 110 - 1e-9).all()


def test_what_has_fallen_makes_nothing_fall() -> None:
    """Of a chain, the best and what it does not touch stay, whatever the order."""
    chain = [(float(x), 0.0, x + 10.0, 10.0) for x in (0, 3, 6, 9)]
    for scores in permutations((0.9, 0.8, 0.7, 0.6)):
        found = candidates(*((box, s, 0, i, True) for i, (box, s) in enumerate(zip(chain, scores))))  # noqa: B905
        assert one_of_each(found, 0.5).tolist() == one_by_one(found, 0.5)


def one_by_one(found: Candidates, most_iou: float) -> list[bool]:
    """The rule as it reads: from the best to the worst, each against all that stay."""
    order = sorted(
        range(len(found.scores)), key=lambda i: (not found.owned[i], -found.scores[i], i)
    )
    stays: list[int] = []
    for i in order:
        if not any(
            found.classes[i] == found.classes[j]
            and found.tiles[i] != found.tiles[j]
            and iou(found.boxes_l0[i], found.boxes_l0[j]) > most_iou
            for j in stays
        ):
            stays.append(i)
    return [i in stays for i in range(len(order))]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (a, b)]
    return float(shared / (sum(areas) - shared))


@st.composite
def crowds(draw: st.DrawFn) -> Candidates:
    n = draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    corner, size = rng.integers(0, 25, (n, 2)), rng.integers(1, 20, (n, 2))
    return Candidates(
        np.concatenate([corner, corner + size], axis=1).astype(float),
        (rng.integers(0, 4, n) / 4).astype(np.float32),
        rng.integers(0, 2, n),
        np.sort(rng.integers(0, 4, n)),
        rng.random(n) < 0.6,
    )


@settings(deadline=None, max_examples=60)
@given(crowds(), st.sampled_from([0.0, 0.1, 0.3, 0.7]), st.sampled_from([3, 1 << 15]))
def test_crowds_are_thinned_as_the_rule_says(
    found: Candidates, most_iou: float, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seams, "_CHUNK", chunk)
        assert one_of_each(found, most_iou).tolist() == one_by_one(found, most_iou)
