"""Cox's partial likelihood against the formula as the paper has it, written out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.pipeline.tasks.cox import cox_loss
from saccade.pipeline.tasks.survival import Survival
from saccade.pipeline.tasks.task import mean_loss

A, B, C = 0.3, -1.1, 0.8


def loss(risks: list[float], times: list[float], events: list[int]) -> float:
    return cox_loss(numbers(risks), numbers(times), torch.tensor(events) > 0).item()


def numbers(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def log_sum(*terms: float) -> float:
    return math.log(sum(map(math.exp, terms)))


def test_each_event_is_a_choice_among_those_still_followed() -> None:
    wanted = (log_sum(A, B, C) - A) + (log_sum(B, C) - B) + (C - C)
    assert loss([A, B, C], [1, 2, 3], [1, 1, 1]) == pytest.approx(wanted)
    assert loss([C, A, B], [3, 1, 2], [1, 1, 1]) == pytest.approx(wanted)


def test_the_censored_are_at_risk_until_then_and_choose_nothing() -> None:
    assert loss([A, B, C], [1, 2, 3], [0, 1, 1]) == pytest.approx(log_sum(B, C) - B)
    assert loss([A, B, C], [2, 2, 3], [0, 1, 0]) == pytest.approx(log_sum(A, B, C) - B)
    assert loss([A, B, C], [1, 1, 3], [0, 0, 1]) == 0


def test_of_events_at_one_time_the_later_choose_among_fewer() -> None:
    """Efron: of two, the second chooses where each of them counts a half."""
    both = math.log(0.5 * math.exp(A) + 0.5 * math.exp(B) + math.exp(C))
    wanted = (log_sum(A, B, C) - A) + (both - B)
    assert loss([A, B, C], [1, 1, 2], [1, 1, 0]) == pytest.approx(wanted)


def written_out(risks: list[float], times: list[float], events: list[int]) -> float:
    """Efron's likelihood, time by time."""
    total = 0.0
    for moment in sorted({t for t, e in zip(times, events, strict=True) if e}):
        tied = [r for r, t, e in zip(risks, times, events, strict=True) if e and t == moment]
        at_risk = sum(math.exp(r) for r, t in zip(risks, times, strict=True) if t >= moment)
        for gone in range(len(tied)):
            left = at_risk - gone / len(tied) * sum(map(math.exp, tied))
            total += math.log(left)
        total -= sum(tied)
    return total


slides = st.lists(
    st.tuples(st.floats(-3, 3), st.integers(1, 4), st.integers(0, 1)), min_size=1, max_size=7
)


@given(slides)
def test_it_is_the_formula_whatever_is_tied_or_censored(
    cohort: list[tuple[float, int, int]],
) -> None:
    risks, times, events = (list(each) for each in zip(*cohort, strict=True))
    wanted = written_out(risks, times, events)
    assert loss(risks, times, events) == pytest.approx(wanted, abs=1e-9)


@given(slides, st.floats(-50, 50), st.floats(0.1, 10))
def test_only_differences_of_risk_and_the_order_of_times_count(
    cohort: list[tuple[float, int, int]], shift: float, stretch: float
) -> None:
    risks, times, events = (list(each) for each in zip(*cohort, strict=True))
    found = loss([r + shift for r in risks], [math.exp(stretch * t) for t in times], events)
    assert found == pytest.approx(loss(risks, times, events), abs=1e-9)


@pytest.mark.filterwarnings("ignore:Starting with pandas")  # of how lifelines calls it
def test_it_is_what_lifelines_makes_as_small_as_it_gets() -> None:
    """With ties and censored slides: at its fit, our loss is its likelihood, and level."""
    from lifelines import CoxPHFitter
    from pandas import DataFrame

    x, times, events = [2, 0, 1, -1, 1, 0, -2.5], [1, 2, 2, 2, 3, 4, 4], [1, 1, 1, 0, 0, 1, 1]
    table = DataFrame({"x": x, "t": times, "e": events})
    fit = CoxPHFitter().fit(table, "t", "e", fit_options={"precision": 1e-12})
    slope = torch.tensor(fit.params_["x"], dtype=torch.float64, requires_grad=True)

    found = cox_loss(slope * numbers(x), numbers(times), torch.tensor(events) > 0)
    found.backward()

    assert found.item() == pytest.approx(-fit.log_likelihood_, rel=1e-9)
    assert slope.grad is not None
    assert slope.grad.item() == pytest.approx(0, abs=1e-5)


def test_the_gradient_pulls_risks_apart_and_moves_none_of_them_together() -> None:
    risks = numbers([A, B, C]).requires_grad_()
    cox_loss(risks, numbers([1, 2, 3]), torch.tensor([True, True, False])).backward()
    assert risks.grad is not None
    assert risks.grad.sum().item() == pytest.approx(0, abs=1e-12)
    assert risks.grad[0] < 0 < risks.grad[2]


def test_a_batch_without_an_event_teaches_nothing() -> None:
    outputs = torch.randn(3, 1, requires_grad=True)
    targets = numbers([1, 0, 2, 0, 3, 0]).view(3, 2)
    step = mean_loss(Survival().criterion(targets, "none"), outputs, targets)
    step.backward()
    assert outputs.grad is not None
    assert step.item() == 0
    assert not outputs.grad.any()


def test_the_loss_of_a_step_is_a_mean_over_events() -> None:
    outputs = torch.tensor([[A], [B], [C]], dtype=torch.float64)
    targets = numbers([1, 1, 2, 1, 3, 0]).view(3, 2)
    found = mean_loss(Survival().criterion(targets, "none"), outputs, targets)
    assert found.item() == pytest.approx(loss([A, B, C], [1, 2, 3], [1, 1, 0]) / 2)
