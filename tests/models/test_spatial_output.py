"""SAOL: what its maps sum to, what is absent does not count, and pieces that make up the whole."""

import math
import re
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from saccade.models.spatial_output import SpatialOutput, SpatialReading

DOUBLE: Any = {"dtype": torch.float64}


def layer(channels: int | tuple[int, ...] = 5, classes: int = 3, **options: Any) -> SpatialOutput:
    torch.manual_seed(0)
    return SpatialOutput(channels, classes, mid=4, **options).double()


def level(rows: int = 6, cols: int = 7, *, channels: int = 5, images: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(images, channels, rows, cols, **DOUBLE)


def logs(of: SpatialReading) -> tuple[torch.Tensor, torch.Tensor]:
    return of.attention_logits, of.log_classes


def reading(rows: int = 3, cols: int = 4) -> SpatialReading:
    torch.manual_seed(2)
    classes = torch.randn(2, 3, rows, cols, **DOUBLE).log_softmax(dim=1)
    return SpatialReading(torch.randn(2, rows, cols, **DOUBLE), classes)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("side", [1, 3])
def test_attention_classes_and_output_sum_to_one(side: int, norm: str) -> None:
    found = layer(side=side, norm=norm)(level())

    one = torch.ones((), **DOUBLE)
    torch.testing.assert_close(found.log_attention.exp().sum(dim=(1, 2)), one.expand(2))
    torch.testing.assert_close(found.log_classes.exp().sum(dim=1), one.expand(2, 6, 7))
    torch.testing.assert_close(found.log_probs.exp().sum(dim=1), one.expand(2))


def test_evidence_sums_to_the_output() -> None:
    found = layer()(level())

    wanted = torch.einsum("irc,ikrc->ik", found.log_attention.exp(), found.log_classes.exp())
    torch.testing.assert_close(found.log_probs.exp(), wanted)
    torch.testing.assert_close(found.log_evidence.exp().sum(dim=(2, 3)), wanted)


def test_of_even_ground_attention_is_even_and_the_output_that_of_any_place() -> None:
    even = torch.full((1, 5, 9, 9), 0.7, **DOUBLE)

    alone = layer(side=1).eval()(even)
    torch.testing.assert_close(alone.log_attention.exp(), torch.full((1, 9, 9), 1 / 81, **DOUBLE))
    torch.testing.assert_close(alone.log_probs, alone.log_classes[:, :, 4, 4])

    among = layer(side=3).eval()(even)  # padding is seen up to two places from the edge
    inner = SpatialReading(*(each[..., 2:-2, 2:-2] for each in logs(among)))
    torch.testing.assert_close(inner.log_attention.exp(), torch.full((1, 5, 5), 1 / 25, **DOUBLE))
    torch.testing.assert_close(inner.log_probs, inner.log_classes[:, :, 2, 2])


def test_it_unpacks_into_probabilities_attention_and_class_maps() -> None:
    found = reading()
    probabilities, attention, classes = found

    torch.testing.assert_close(probabilities, found.log_probs.exp())
    torch.testing.assert_close(attention.sum(dim=(1, 2)), torch.ones(2, **DOUBLE))
    torch.testing.assert_close(classes.sum(dim=1), torch.ones(2, 3, 4, **DOUBLE))
    mean = torch.einsum("irc,ikrc->ik", attention, classes)
    torch.testing.assert_close(mean, probabilities)


def test_the_order_of_places_does_not_count() -> None:
    found = reading()
    order = torch.randperm(12)
    mixed = SpatialReading(
        found.attention_logits.flatten(1)[:, order].view(2, 3, 4),
        found.log_classes.flatten(2)[:, :, order].view(2, 3, 3, 4),
    )

    torch.testing.assert_close(mixed.log_probs, found.log_probs)


def test_attention_on_one_place_gives_its_classes() -> None:
    found = reading()
    logits = torch.full((2, 3, 4), -torch.inf, **DOUBLE)
    logits[:, 1, 2] = 0.3

    only = SpatialReading(logits, found.log_classes)
    torch.testing.assert_close(only.log_probs, found.log_classes[:, :, 1, 2])


def test_the_number_of_parameters_is_that_of_the_wiring() -> None:
    with torch.device("meta"):
        head = SpatialOutput((512, 1024, 2048), 1000)

    assert sum(each.numel() for each in head.parameters()) == 9_946_240


def test_what_hardly_counts_has_a_gradient_all_the_same() -> None:
    """Attention of e^-300 and a class of e^-500: as plain numbers their product would be 0."""
    logits = torch.tensor([[[0.0, -300.0]]], requires_grad=True)
    classes = torch.tensor([[[[-900.0, -500.0]], [[0.0, 0.0]]]], requires_grad=True)

    log_prob = SpatialReading(logits, classes).log_probs[0, 0]
    log_prob.backward()  # type: ignore[no-untyped-call]

    assert float(log_prob.detach()) == pytest.approx(-800)
    assert classes.grad is not None
    assert classes.grad[0, 0, 0].tolist() == pytest.approx([math.exp(-100), 1])


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_absent_places_have_no_influence(norm: str) -> None:
    """Not on the places, not on the output, not on what is normalised by; whatever they hold."""
    inside = level(4, 5)
    around = torch.full((2, 5, 9, 8), torch.nan, **DOUBLE)
    around[:, :, 3:7, 2:7] = inside
    present = torch.zeros(2, 9, 8, dtype=torch.bool)
    present[:, 3:7, 2:7] = True
    alone, among = layer(norm=norm), layer(norm=norm)

    wanted, found = alone(inside), among(around, present)
    torch.testing.assert_close(found.log_probs, wanted.log_probs)
    torch.testing.assert_close(found.attention_logits[:, 3:7, 2:7], wanted.attention_logits)
    assert found.attention_logits[~present].eq(-torch.inf).all()
    torch.testing.assert_close(dict(among.named_buffers()), dict(alone.named_buffers()))
    found.log_probs.sum().backward()
    assert all(each.grad.isfinite().all() for each in among.parameters() if each.grad is not None)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_pieces_with_their_margin_merge_to_the_whole(norm: str) -> None:
    head = layer(norm=norm).eval()
    whole = level(11, 4, images=1)
    wanted = head(whole)

    parts = []
    for first, after in [(0, 3), (3, 4), (4, 9), (9, 11)]:
        top, bottom = max(0, first - head.margin), min(11, after + head.margin)
        piece = head(whole[:, :, top:bottom])
        parts.append([each[..., first - top : after - top, :] for each in logs(piece)])
    merged = SpatialReading(*(torch.cat(each, dim=-2) for each in zip(*parts, strict=True)))

    torch.testing.assert_close(logs(merged), logs(wanted))
    sums = [SpatialReading(*part) for part in parts]
    size = torch.stack([each.attention_logits.flatten().logsumexp(0) for each in sums])
    each_log = torch.stack([each.log_probs[0] for each in sums])
    log_probs = (each_log + size[:, None]).logsumexp(0) - size.logsumexp(0)
    torch.testing.assert_close(log_probs, wanted.log_probs[0])


def test_over_a_batch_it_normalises_as_batch_norm_does() -> None:
    head, x = layer(side=1), level()
    reference = nn.BatchNorm2d(4).double()

    torch.testing.assert_close(
        head(x).attention_logits,
        head.attention.outer(reference(head.attention.inner(x)).relu())[:, 0],
    )
    torch.testing.assert_close(head.attention.norm.running_var, reference.running_var)


def test_levels_of_a_network_of_timm() -> None:
    network = timm.create_model("test_resnet", features_only=True, out_indices=(2, 3, 4))
    head = SpatialOutput(network.feature_info.channels(), 3, mid=4)

    levels = network(torch.rand(2, 3, 96, 128))
    found = head(levels)
    assert found.attention_logits.shape == levels[-1].shape[:1] + levels[-1].shape[2:]
    found.log_probs[:, 0].sum().backward()
    assert all(each.grad is not None for each in network.parameters())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"levels": [level(), level()]}, "need 1 levels, got 2"),
        ({"levels": level(), "present": torch.zeros(2, 6, 7, dtype=torch.bool)}, "at least one"),
    ],
)
def test_what_cannot_be_judged_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer()(**given)


@pytest.mark.parametrize(
    "change", [{"side": 2}, {"mid": 0}, {"classes": 0}, {"channels": ()}, {"channels": (4, 0)}]
)
def test_impossible_layers_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=re.escape("must be positive and side odd")):
        SpatialOutput(**{"channels": 4, "classes": 2} | change)
