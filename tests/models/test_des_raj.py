"""Exact where it can be: sums over every possible draw instead of trusting many random ones."""

from itertools import permutations

import pytest
import torch
from torch import Tensor

from saccade.models.attention_sampling import sampling_weights
from saccade.models.des_raj import estimates_by_draw

PLACES = 5


def every_draw(probs: Tensor, k: int) -> list[tuple[list[int], float]]:
    """All ordered draws of `k` places without replacement, each with its chance."""
    draws = []
    for places in permutations(range(len(probs)), k):
        chance, left = 1.0, 1.0
        for place in places:
            chance, left = chance * float(probs[place]) / left, left - float(probs[place])
        draws.append((list(places), chance))
    return draws


class Slide:
    """Attention, what places are drawn from, and features of a few places."""

    def __init__(self, *, by_attention: bool) -> None:
        torch.manual_seed(0)
        self.log_a = torch.randn(PLACES, dtype=torch.float64).log_softmax(0)
        other = torch.randn(PLACES, dtype=torch.float64).log_softmax(0)
        self.log_q = self.log_a if by_attention else other
        self.features = torch.randn(PLACES, 3, dtype=torch.float64)
        self.wanted = self.log_a.exp() @ self.features

    def estimates(self, places: list[int]) -> Tensor:
        of = [each[places][None] for each in (self.features, self.log_a, self.log_q)]
        return estimates_by_draw(*of)[0]


@pytest.fixture(params=[True, False], ids=["by attention", "by another proposal"])
def slide(request: pytest.FixtureRequest) -> Slide:
    return Slide(by_attention=request.param)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_every_estimate_is_unbiased_and_no_two_are_correlated(slide: Slide, k: int) -> None:
    mean, product = torch.zeros(k, 3), torch.zeros(k, k, 3)
    for places, chance in every_draw(slide.log_q.exp(), k):
        off = slide.estimates(places) - slide.wanted
        mean = mean + chance * off
        product = product + chance * off[:, None] * off[None]

    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-12)
    apart = product[~torch.eye(k, dtype=torch.bool)]
    torch.testing.assert_close(apart, torch.zeros_like(apart), rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_the_spread_tells_the_variance_of_the_mean_without_bias(slide: Slide, k: int) -> None:
    variance, told = torch.zeros(3), torch.zeros(3)
    for places, chance in every_draw(slide.log_q.exp(), k):
        estimates = slide.estimates(places)
        variance = variance + chance * (estimates.mean(0) - slide.wanted) ** 2
        told = told + chance * estimates.var(0) / k

    assert (variance > 1e-4).all()
    torch.testing.assert_close(told, variance, rtol=1e-9, atol=0)


def test_their_mean_is_what_the_weights_make(slide: Slide) -> None:
    places = [3, 0, 4]
    weights = sampling_weights(slide.log_a[places][None], slide.log_q[places][None])[0]

    torch.testing.assert_close(slide.estimates(places).mean(0), weights @ slide.features[places])


def test_the_last_of_all_places_knows_the_answer() -> None:
    slide = Slide(by_attention=True)

    torch.testing.assert_close(slide.estimates([2, 0, 4, 1, 3])[-1], slide.wanted)
