import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.pipeline.metrics.survival import concordance


def index(risks: list[float], times: list[float], events: list[int]) -> float | None:
    return concordance(np.array(risks), np.array(times), np.array(events) > 0)


def test_pairs_of_four_slides_by_hand() -> None:
    """Comparable: 1 with 2, 3, 4; 3 with 4. The second is censored and is before nobody."""
    assert index([4, 1, 2, 3], [1, 2, 3, 4], [1, 0, 1, 1]) == pytest.approx(3 / 4)
    assert index([4, 1, 3, 2], [1, 2, 3, 4], [1, 0, 1, 1]) == 1
    assert index([1, 4, 2, 3], [1, 2, 3, 4], [1, 0, 1, 1]) == 0


def test_equal_risks_count_a_half_and_equal_times_are_compared_if_one_is_censored() -> None:
    assert index([1, 1, 0], [1, 2, 3], [1, 1, 0]) == pytest.approx(2.5 / 3)
    assert index([1, 0], [2, 2], [1, 0]) == 1
    assert index([0, 1], [2, 2], [1, 0]) == 0


def test_nothing_to_compare_has_no_index() -> None:
    assert index([1, 0], [1, 2], [0, 0]) is None
    assert index([1, 0], [2, 2], [1, 1]) is None
    assert index([1, 0], [1, 2], [0, 1]) is None


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 4), st.integers(0, 1)), min_size=1, max_size=8
    )
)
def test_it_is_the_share_of_comparable_pairs(slides: list[tuple[int, int, int]]) -> None:
    right = [
        1.0 if risk > other else 0.5 * (risk == other)
        for risk, time, event in slides
        for other, later, happened in slides
        if event and (later > time or (later == time and not happened))
    ]
    risks, times, events = (list(each) for each in zip(*slides, strict=True))
    wanted = None if not right else pytest.approx(np.mean(right))
    assert index(risks, times, events) == wanted
