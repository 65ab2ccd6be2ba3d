"""Gated attention over bags: the formula by hand, any order, and padding that is not there."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.models.abmil import GatedAttentionMIL, pad_bags

DOUBLE: Any = {"dtype": torch.float64}


@pytest.fixture
def model() -> GatedAttentionMIL:
    torch.manual_seed(0)
    return GatedAttentionMIL(features=4, classes=3, hidden=5).double()


def bag(tiles: int, seed: int = 1) -> Tensor:
    return torch.randn(tiles, 4, generator=torch.Generator().manual_seed(seed), **DOUBLE)


def test_the_gate_by_hand() -> None:
    """Two tiles of one feature: score = w tanh(v h) sigmoid(u h), and nothing added to it."""
    model = GatedAttentionMIL(features=1, classes=1, hidden=1).double()
    v, u, w, a, b = 0.5, -2.0, 3.0, 1.5, 0.25
    for layer, value in ((model.content, v), (model.gate, u), (model.score, w)):
        layer.weight.data.fill_(value)
    model.classify.weight.data.fill_(a)
    model.classify.bias.data.fill_(b)

    found = model(torch.tensor([[[1.0], [-0.4]]], **DOUBLE))

    scores = [w * math.tanh(v * h) / (1 + math.exp(-u * h)) for h in (1.0, -0.4)]
    assert found.attention_logits[0].tolist() == pytest.approx(scores)
    parts = [math.exp(score) for score in scores]
    mean = (parts[0] * 1.0 + parts[1] * -0.4) / sum(parts)
    assert float(found.logits.detach()) == pytest.approx(a * mean + b)


def test_the_order_of_tiles_does_not_count(model: GatedAttentionMIL) -> None:
    tiles, order = bag(7), torch.randperm(7)

    found, turned = model(tiles[None]), model(tiles[order][None])

    torch.testing.assert_close(turned.logits, found.logits)
    torch.testing.assert_close(turned.attention_logits, found.attention_logits[:, order])


def test_attention_sums_to_one(model: GatedAttentionMIL) -> None:
    found = model(*pad_bags([bag(3), bag(6)]))

    torch.testing.assert_close(found.log_attention.exp().sum(dim=1), torch.ones(2, **DOUBLE))


@pytest.mark.parametrize("filling", [0.0, 1e6, float("nan")])
def test_padding_changes_nothing(model: GatedAttentionMIL, filling: float) -> None:
    bags = [bag(2, seed=1), bag(5, seed=2)]
    tiles, present = pad_bags(bags)
    tiles[~present] = filling

    found = model(tiles, present)
    found.logits.sum().backward()

    for number, each in enumerate(bags):
        alone = model(each[None])
        torch.testing.assert_close(found.logits[number], alone.logits[0])
        kept = found.attention_logits[number, : len(each)]
        torch.testing.assert_close(kept, alone.attention_logits[0])
    assert found.log_attention[0, 2:].exp().eq(0).all()
    assert all(each.grad.isfinite().all() for each in model.parameters() if each.grad is not None)


def test_a_bag_without_tiles_is_refused(model: GatedAttentionMIL) -> None:
    with pytest.raises(ValueError, match="at least one tile"):
        model(*pad_bags([bag(0), bag(1)]))
