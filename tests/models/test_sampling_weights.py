"""The estimator is proven by summing over every ordered draw: no randomness is left to chance."""

from collections.abc import Callable
from itertools import permutations, product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.models.attention_sampling import (
    mix,
    mix_with_uniform,
    sampling_weights,
    sampling_weights_with_replacement,
)

PLACES = 5
PRIOR = torch.tensor([[0.0, 0.5, 0.0, 0.3, 0.2]], dtype=torch.float64)
PROPOSALS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "attention, by default": lambda _: None,
    "attention, said": lambda attention: attention,
    "defensive mixture": lambda attention: mix_with_uniform(attention.log()[None], 0.3)[0].exp(),
    "mixture with a prior": lambda attention: mix(attention.log()[None], PRIOR.log(), 0.6)[0].exp(),
    "uniform": lambda attention: torch.full_like(attention, 1 / len(attention)),
    "something else": lambda attention: attention.flip(0),
}


def attention_of(sharpness: float, seed: int = 0) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    logits = torch.randn(PLACES, generator=dice, dtype=torch.float64)
    return (logits * sharpness).softmax(dim=0)


def features_of(seed: int = 1) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    return torch.randn(PLACES, 3, generator=dice, dtype=torch.float64)


def chance_without_replacement(draws: Tensor, proposal: Tensor) -> Tensor:
    """Probability of each ordered draw, one place after the other."""
    chance, left = torch.ones(len(draws), dtype=proposal.dtype), torch.ones(len(draws), PLACES)
    for place in draws.unbind(dim=1):
        chance = chance * proposal[place] / (left * proposal).sum(dim=1)
        left = left.scatter(1, place[:, None], 0)
    return chance


def chance_with_replacement(draws: Tensor, proposal: Tensor) -> Tensor:
    return proposal[draws].prod(dim=1)


def expectation(
    weigh: Callable[[Tensor, Tensor | None], Tensor],
    chance: Callable[[Tensor, Tensor], Tensor],
    draws: Tensor,
    attention: Tensor,
    features: Tensor,
    proposal: Tensor | None,
) -> Tensor:
    """Estimate from each possible draw, times the chance of that draw, summed."""
    q = (attention if proposal is None else proposal).detach()
    log_q = None if proposal is None else proposal.log()[draws]
    weights = weigh(attention.log()[draws], log_q)
    estimates = torch.einsum("dk,dkf->df", weights, features[draws])
    return chance(draws, q) @ estimates


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
@pytest.mark.parametrize("name", PROPOSALS)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_value_and_both_gradients_are_unbiased(k: int, name: str, sharpness: float) -> None:
    draws = torch.tensor(list(permutations(range(PLACES), k)))
    attention = attention_of(sharpness).requires_grad_()
    features = features_of().requires_grad_()
    direction = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    proposal = PROPOSALS[name](attention.detach())

    mean = expectation(
        sampling_weights, chance_without_replacement, draws, attention, features, proposal
    )
    to_attention, to_features = torch.autograd.grad(mean @ direction, [attention, features])

    torch.testing.assert_close(mean, attention @ features, rtol=0, atol=1e-12)
    torch.testing.assert_close(to_attention, features @ direction, rtol=0, atol=1e-10)
    torch.testing.assert_close(to_features, attention.outer(direction), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PROPOSALS)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_with_replacement_all_are_unbiased_too(k: int, name: str) -> None:
    draws = torch.tensor(list(product(range(PLACES), repeat=k)))
    attention = attention_of(2.0).requires_grad_()
    features = features_of().requires_grad_()
    direction = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    proposal = PROPOSALS[name](attention.detach())

    mean = expectation(
        sampling_weights_with_replacement,
        chance_with_replacement,
        draws,
        attention,
        features,
        proposal,
    )
    to_attention, to_features = torch.autograd.grad(mean @ direction, [attention, features])

    torch.testing.assert_close(mean, attention @ features, rtol=0, atol=1e-12)
    torch.testing.assert_close(to_attention, features @ direction, rtol=0, atol=1e-10)
    torch.testing.assert_close(to_features, attention.outer(direction), rtol=0, atol=1e-12)


@st.composite
def drawn_attention(draw: st.DrawFn) -> Tensor:
    """Log attention of the first k of some places, (1, k), even or as peaked as can be."""
    logits = draw(st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=9))
    k = draw(st.integers(1, len(logits)))
    return torch.tensor([logits], dtype=torch.float32).log_softmax(dim=1)[:, :k]


@given(drawn_attention())
def test_weights_of_attention_are_not_negative_and_sum_to_one(log_probs: Tensor) -> None:
    weights = sampling_weights(log_probs)

    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(1, abs=1e-5)


@given(drawn_attention())
def test_weights_and_gradients_stay_finite(log_probs: Tensor) -> None:
    log_probs = log_probs.clone().requires_grad_()
    weights = sampling_weights(log_probs)
    (gradient,) = torch.autograd.grad(weights.sum(), log_probs)

    assert weights.isfinite().all()
    # The score term: the gradient towards log attention is the weight itself.
    torch.testing.assert_close(gradient, weights)


def test_a_place_of_no_attention_drawn_all_the_same_weighs_nothing() -> None:
    log_probs = torch.tensor([[-torch.inf, 0.0]]).requires_grad_()
    weights = sampling_weights(log_probs, torch.full((1, 2), 0.5).log())
    (gradient,) = torch.autograd.grad(weights.sum(), log_probs)

    assert weights[0, 0] == 0
    assert gradient.isfinite().all()


def test_drawing_every_place_keeps_what_the_rest_cannot_hold() -> None:
    """In single precision 1 - 0.99999999 is 0, yet 1e-8 is left to draw."""
    log_probs = torch.tensor([[1 - 1e-8, 1e-8]], dtype=torch.float64).log().float()
    log_attention = torch.tensor([[0.5, 0.5]]).log()

    weights = sampling_weights(log_attention, log_probs)

    # Second draw: undrawn / q = 1 whatever the size of q, times a = 0.5, over n = 2.
    assert weights[0, 1].item() == pytest.approx(0.25, rel=1e-4)


def test_the_order_of_the_draw_matters() -> None:
    log_probs = torch.tensor([[0.6, 0.3]]).log()

    forth, back = sampling_weights(log_probs), sampling_weights(log_probs.flip(1)).flip(1)

    # (0.6 / 2) (1 / 0.6 + 1), (0.3 / 2) (0.4 / 0.3); and the other way round
    torch.testing.assert_close(forth, torch.tensor([[0.8, 0.2]]))
    torch.testing.assert_close(back, torch.tensor([[0.35, 0.65]]))
