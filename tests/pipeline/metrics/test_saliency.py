"""Metrics of saliency, by hand on small maps and by brute force on random ones."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from saccade.pipeline.metrics.saliency import (
    auc_judd,
    cc,
    information_gain,
    kld,
    nss,
    shuffled_auc,
    sim,
)

MAP = np.array([[1.0, 2.0], [3.0, 6.0]])  # mean 3, variance 3.5
ONCE = np.array([[0, 0], [0, 1]])
TWICE = np.array([[1, 0], [0, 2]])


def test_nss_counts_each_fixation() -> None:
    assert nss(MAP, ONCE) == pytest.approx(3 / math.sqrt(3.5))
    assert nss(MAP, TWICE) == pytest.approx((2 * 3 - 2) / 3 / math.sqrt(3.5))
    assert nss(10 * MAP - 7, TWICE) == pytest.approx(nss(MAP, TWICE))


def test_cc_by_hand() -> None:
    other = np.array([[0.0, 1.0], [1.0, 2.0]])  # mean 1, variance 1/2; covariance 5/4

    assert cc(MAP, other) == pytest.approx(1.25 / math.sqrt(3.5 * 0.5))
    assert cc(MAP, 3 - MAP) == pytest.approx(-1)


def test_sim_by_hand() -> None:
    """(1, 2, 3, 6)/12 and (1, 1, 1, 1)/4 have 1 + 2 + 3 + 3 twelfths in common."""
    assert sim(MAP, np.ones((2, 2))) == pytest.approx(9 / 12)
    assert sim(MAP, 5 * MAP) == pytest.approx(1)


def test_only_negative_maps_are_moved() -> None:
    assert sim(MAP - 1, np.ones((2, 2))) == pytest.approx((1 + 2 + 2) / 8)
    assert sim(MAP - 2, np.ones((2, 2))) == pytest.approx((1 + 2 + 2) / 8)  # -1 becomes 0


def test_kld_by_hand_and_not_symmetric() -> None:
    p, q = np.array([[1.0, 1.0]]), np.array([[1.0, 3.0]])

    assert kld(p, q) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert kld(q, p) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert kld(MAP, MAP) == pytest.approx(0, abs=1e-12)


def test_kld_has_the_epsilon_of_the_benchmark() -> None:
    """Where nothing was predicted, log(1 / 2.2204e-16), which training's 1e-7 would make 16."""
    assert kld(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])) == pytest.approx(52 * math.log(2))


def test_auc_takes_every_pixel_as_negative() -> None:
    """6 is above three of four pixels and ties with itself; 1 only ties with itself."""
    assert auc_judd(MAP, ONCE) == 3.5 / 4
    assert auc_judd(MAP, TWICE) == pytest.approx((2 * 3.5 + 0.5) / 3 / 4)


def test_shuffled_auc_takes_fixations_of_other_images() -> None:
    others = np.array([[0, 1], [3, 0]])

    assert shuffled_auc(MAP, ONCE, others) == 1
    assert shuffled_auc(MAP, others, others) == 0.5
    assert shuffled_auc(MAP, np.array([[0, 1], [0, 0]]), others) == 0.5 * 1 / 4


def test_information_gain_by_hand() -> None:
    """At 6: from 1/4 to 1/2, a bit. At 1: from 1/4 to 1/12, minus log2(3)."""
    even = np.ones((2, 2))

    assert information_gain(MAP, ONCE, even) == pytest.approx(1)
    assert information_gain(MAP, TWICE, even) == pytest.approx((2 - math.log2(3)) / 3)
    assert information_gain(MAP, TWICE, 7 * MAP) == pytest.approx(0)


def test_a_map_that_says_nothing() -> None:
    even = np.full((3, 5), 0.1)
    seen = np.zeros((3, 5))
    seen[1, 2] = 2

    assert nss(even, seen) == 0
    assert cc(even, seen) == cc(seen, even) == 0
    assert auc_judd(even, seen) == 0.5
    assert sim(np.zeros((3, 5)), even) == pytest.approx(1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    dice = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape = (draw(st.integers(1, 5)), draw(st.integers(2, 5)))
    seen, others = dice.integers(0, 3, shape), dice.integers(0, 3, shape)
    seen[0, 0] += 1
    others[-1, -1] += 1
    return dice.integers(0, 6, shape) / 4, seen, others  # few values: many ties


@given(cases())
def test_auc_is_the_share_of_pairs_in_order(case: tuple[NDArray[Any], ...]) -> None:
    saliency, seen, others = case
    positive = np.repeat(saliency.ravel(), seen.ravel())[:, None]
    negative = np.repeat(saliency.ravel(), others.ravel())[None]
    every = saliency.ravel()[None]

    shuffled = ((positive > negative) + 0.5 * (positive == negative)).mean()
    judd = ((positive > every) + 0.5 * (positive == every)).mean()
    assert shuffled_auc(saliency, seen, others) == pytest.approx(shuffled)
    assert auc_judd(saliency, seen) == pytest.approx(judd)


@pytest.mark.parametrize("metric", [nss, auc_judd])
def test_no_fixation_no_number(metric: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        metric(MAP, np.zeros((2, 2)))


@pytest.mark.parametrize("metric", [nss, cc, sim, kld, auc_judd])
def test_maps_of_two_shapes_are_refused(metric: Any) -> None:
    with pytest.raises(ValueError, match="one shape"):
        metric(MAP, np.ones((1, 2)))
