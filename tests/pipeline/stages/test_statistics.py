"""Statistics of parts merge to that of the whole, in whatever parts it is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from saccade.pipeline.stages.statistics import Extremes, LogSumExp, Mean, Statistic

VALUES = np.random.default_rng(0).normal(scale=50, size=(3, 40)).astype(np.float32)


@pytest.mark.parametrize("kind", [Mean, Extremes, LogSumExp])
@given(cut=st.lists(st.integers(1, 39), min_size=1, max_size=5, unique=True))
def test_parts_merge_to_the_whole(kind: type[Statistic], cut: list[int]) -> None:
    parts = [kind.of(part) for part in np.split(VALUES, sorted(cut), axis=1)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(kind.from_vector(part.vector))
    np.testing.assert_allclose(merged.vector, kind.of(VALUES).vector, rtol=1e-13)


def test_what_they_are_of_a_whole() -> None:
    np.testing.assert_allclose(Mean.of(VALUES).value, VALUES.mean(axis=1, dtype=float))
    found = Extremes.of(VALUES)
    np.testing.assert_array_equal([found.low, found.high], [VALUES.min(axis=1), VALUES.max(axis=1)])
    np.testing.assert_allclose(LogSumExp.of(VALUES).value, logsumexp(VALUES.astype(float), axis=1))


def test_a_log_sum_neither_overflows_nor_minds_what_cannot_be() -> None:
    nothing, large = np.full((1, 2), -np.inf), np.array([[1e5, 1e5]])
    merged = LogSumExp.of(nothing).merge(LogSumExp.of(large))
    np.testing.assert_allclose(merged.value, 1e5 + np.log(2))
    assert LogSumExp.of(nothing).merge(LogSumExp.of(nothing)).value == [-np.inf]
