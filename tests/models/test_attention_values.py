"""Softmax, penalty, normalisation and expectation, against the published implementation."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.models.attention_sampling import (
    entropy_penalty,
    l2_normalize,
    log_smoothed_softmax,
    mix,
    mix_with_uniform,
    sampling_weights,
    sampling_weights_with_replacement,
    smoothed_softmax,
)

# Attention (2, 4), features (2, 4, 2) and gradient (2, 2) of drawn places, and what the published
# implementation makes of them; the gradient to the attention is the unbiased one.
DRAWN: dict[str, list[Any]] = {
    "attention": [[0.4, 0.3, 0.1, 0.05], [0.02, 0.5, 0.2, 0.01]],
    "features": [
        [[0.196861237, 0.738466561], [-0.115648285, -0.301103681],
         [-0.719844222, -0.460638762], [0.343618304, -1.763040185]],
        [[-0.385082275, -0.676922023], [1.030999541, 0.931280136],
         [-0.309212387, 0.331263423], [-0.479174227, -0.185658976]],
    ],
    "out": [[0.018775687, 0.18160966], [0.322189689, 0.324918002]],
}  # fmt: skip


def close(actual: Tensor, expected: object) -> None:
    expected = torch.as_tensor(expected, dtype=actual.dtype)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smooth", [0.0, 1e-5])
def test_softmax_as_published(golden: dict[str, Any], smooth: float) -> None:
    vector = golden[f"softmax_smooth_{smooth:g}"]
    close(smoothed_softmax(torch.tensor(vector["in"])[..., 0], smooth), vector["out"])


@pytest.mark.parametrize("strength", [1e-4, 1e-2])
def test_entropy_as_published(golden: dict[str, Any], strength: float) -> None:
    vector = golden[f"entropy_{strength:g}"]
    penalty = entropy_penalty(torch.tensor(vector["in"]), strength)
    assert penalty.item() == pytest.approx(vector["out"], rel=1e-5)


def test_l2_as_published(golden: dict[str, Any]) -> None:
    close(l2_normalize(torch.tensor(golden["l2"]["in"])), golden["l2"]["out"])


@pytest.mark.parametrize(
    ("name", "weigh", "gradient"),
    [
        ("expectation_wor", sampling_weights, "grad_attention_unbiased"),
        ("expectation_wr", sampling_weights_with_replacement, "grad_attention_official"),
    ],
)
def test_expectation_and_gradients_as_published(
    golden: dict[str, Any], name: str, weigh: Any, gradient: str
) -> None:
    vector = golden[name]
    attention = torch.tensor(vector["attention"]).requires_grad_()
    features = torch.tensor(vector["features"]).requires_grad_()

    out = torch.einsum("ik,ikf->if", weigh(attention.log()), features)
    out.backward(torch.tensor(vector["grad_out"]))

    close(out, vector["out"])
    assert features.grad is not None
    close(features.grad, vector["grad_features"])
    assert attention.grad is not None
    close(attention.grad, vector[gradient])


def test_expectation_of_a_few_published_numbers() -> None:
    weights = sampling_weights(torch.tensor(DRAWN["attention"]).log())
    close(torch.einsum("ik,ikf->if", weights, torch.tensor(DRAWN["features"])), DRAWN["out"])


def test_smoothed_softmax_of_a_few_numbers() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]])

    close(smoothed_softmax(logits, 0), [[0.0900306, 0.2447285, 0.6652410]])
    close(smoothed_softmax(logits, 0.3), [[0.1630214, 0.2713099, 0.5656687]])


def test_entropy_penalty_is_least_for_even_attention() -> None:
    even, peaked = torch.full((2, 4), 0.25), torch.eye(4)[:2]

    assert entropy_penalty(even, 2.0).item() == pytest.approx(-2 * 1.3862944, rel=1e-4)
    assert entropy_penalty(peaked, 2.0).item() == pytest.approx(0, abs=1e-4)


def test_l2_normalize_keeps_zero_and_its_gradient_finite() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    unit = l2_normalize(rows)
    unit.sum().backward()

    close(unit, [[0.6, 0.8], [0.0, 0.0]])
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


@given(
    logits=st.lists(
        st.one_of(st.just(-float("inf")), st.floats(-1e4, 1e4, width=32)), min_size=1, max_size=12
    ).filter(lambda row: max(row) > -float("inf")),
    smooth=st.sampled_from([0.0, 1e-5, 0.3, 0.9]),
)
def test_attention_is_a_distribution_over_the_places_above_minus_infinity(
    logits: list[float], smooth: float
) -> None:
    row = torch.tensor([logits], dtype=torch.float64, requires_grad=True)
    offered = row > -torch.inf

    log_attention = log_smoothed_softmax(row, smooth)
    (log_attention.exp() * torch.arange(len(logits))).sum().backward()

    assert log_attention.exp().sum().item() == pytest.approx(1)
    assert (log_attention[~offered] == -torch.inf).all()
    if smooth:
        least = smooth / int(offered.sum())
        assert (log_attention[offered].exp() >= least * (1 - 1e-9)).all()
    assert row.grad is not None
    assert row.grad.isfinite().all()


def test_a_mixture_spreads_over_offered_places_only() -> None:
    log_probs = torch.tensor([[0.8, 0.2, 0.0], [0.5, 0.25, 0.25]]).log()

    mixed = mix_with_uniform(log_probs, 0.5).exp()

    close(mixed, [[0.65, 0.35, 0.0], [5 / 12, 7 / 24, 7 / 24]])


def test_a_mixture_with_a_prior_leaves_out_only_what_both_leave_out() -> None:
    """By hand; and places that neither offers spoil no gradient."""
    logits = torch.tensor([[0.8, 0.2, 1e-9, 0.0]], dtype=torch.float64).log().requires_grad_()
    log_probs = logits.log_softmax(dim=1)
    prior = torch.tensor([[0.0, 0.5, 0.5, 0.0]], dtype=torch.float64)

    mixed = mix(log_probs, prior.log(), 0.25).exp()

    close(mixed.float(), [[0.6, 0.275, 0.125, 0.0]])
    (gradient,) = torch.autograd.grad(mixed[0, 0], logits)
    close(gradient.float(), [[0.75 * 0.16, -0.75 * 0.16, 0.0, 0.0]])


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
        mix_with_uniform(torch.zeros(1, 3), share)
