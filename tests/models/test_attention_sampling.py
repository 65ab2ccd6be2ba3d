"""The whole model: attend, draw, classify, and say why."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import nn

from saccade.models.attention_sampling import (
    AttentionSampling,
    draw_places,
    entropy_penalty,
    mix_with_uniform,
)
from saccade.models.build import build_model


def model_of(attention: str = "residual", **options: object) -> AttentionSampling:
    """A model whose attention is not even."""
    torch.manual_seed(0)
    model = build_model(classes=3, attention=attention, encoder="paper", **options)  # type: ignore[arg-type]
    for parameter in model.attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def tissue(images: int, rows: int, cols: int) -> torch.Tensor:
    valid = torch.rand(images, rows, cols) > 0.5
    valid[:, 2:6, 2:6] = True
    return valid


@pytest.mark.parametrize("stride", [1, 3])
@torch.inference_mode()
def test_attention_is_spread_over_valid_places_alone(stride: int) -> None:
    model = model_of(attention_options={"stride": stride})
    valid = torch.zeros(2, 10, 14, dtype=torch.bool)
    valid[0, 4:7, 5:9] = True
    valid[1, 0, 0] = True

    log_attention = model.attend(torch.rand(2, 3, 10, 14), valid)

    offered = F.max_pool2d(valid.float(), stride, ceil_mode=True).flatten(1).bool()
    assert torch.equal(log_attention > -torch.inf, offered)
    torch.testing.assert_close(log_attention.exp().sum(dim=1), torch.ones(2))


@torch.inference_mode()
def test_all_is_valid_unless_said() -> None:
    model, views = model_of(), torch.rand(2, 3, 9, 9)

    assert torch.equal(model.attend(views), model.attend(views, torch.ones(2, 9, 9).bool()))


@pytest.mark.parametrize("attention", ["paper", "residual"])
@torch.inference_mode()
def test_a_batch_of_sizes_equals_one_by_one(attention: str) -> None:
    model = model_of(attention).double()  # so that rounding cannot hide what leaks
    sizes = [(12, 20), (31, 8), (17, 17)]
    views = [torch.rand(3, rows, cols, dtype=torch.float64) for rows, cols in sizes]
    masks = [tissue(1, rows, cols)[0] for rows, cols in sizes]
    pads = [(0, 20 - cols, 0, 31 - rows) for rows, cols in sizes]

    batch = model.attend(
        torch.stack([F.pad(view, pad, value=1.0) for view, pad in zip(views, pads, strict=True)]),
        torch.stack([F.pad(mask, pad) for mask, pad in zip(masks, pads, strict=True)]),
    ).unflatten(1, (31, 20))

    for i, (rows, cols) in enumerate(sizes):
        alone = model.attend(views[i][None], masks[i][None]).view(rows, cols)
        torch.testing.assert_close(batch[i, :rows, :cols], alone, rtol=0, atol=1e-10)
        assert batch[i].exp().sum().item() == pytest.approx(1)


def test_a_view_without_a_valid_pixel_is_refused() -> None:
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    valid[1] = False

    with pytest.raises(ValueError, match="nowhere to look"):
        model_of().attend(torch.rand(2, 3, 8, 8), valid)


def step(model: AttentionSampling, scale: float = 1.0) -> AttentionSampling:
    """One training step's gradients, with most places at minus infinity."""
    torch.manual_seed(1)
    log_attention = model.attend(torch.rand(2, 3, 16, 16) * scale, tissue(2, 16, 16))
    log_proposal = mix_with_uniform(log_attention.detach(), 0.2)
    places = draw_places(log_proposal, 4)
    logits = model.classify(
        torch.rand(2, 4, 3, 24, 24), log_attention.gather(1, places), log_proposal.gather(1, places)
    )
    loss = F.cross_entropy(logits, torch.tensor([0, 2]))
    (loss + entropy_penalty(log_attention.exp(), 1e-2)).backward()
    return model


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_no_gradient_is_nan_or_missing_however_peaked(scale: float) -> None:
    parameters = dict(step(model_of(), scale).named_parameters())
    gradients = {name: p.grad for name, p in parameters.items() if p.requires_grad}

    # Of all parameters only the bias of the score cannot matter: it lifts every place alike.
    assert parameters.keys() - gradients.keys() == {"attention.score.bias"}
    assert all(grad is not None and grad.isfinite().all() for grad in gradients.values())
    assert scale > 1 or all(grad is not None and grad.any() for grad in gradients.values())


def test_evidence_of_all_tiles_and_the_bias_are_the_outputs() -> None:
    model = model_of()
    nn.init.normal_(model.head.bias)
    tiles = torch.rand(2, 5, 3, 20, 20)
    log_probs = torch.tensor([[0.3, 0.2, 0.1, 0.1, 0.05], [0.9, 0.01, 0.02, 0.03, 0.01]]).log()

    reading = model.weigh(model.encode(tiles), log_probs)
    evidence = model.evidence(reading.features)

    assert evidence.shape == (2, 5, 3)
    total = (reading.weights[..., None] * evidence).sum(dim=1) + model.head.bias
    torch.testing.assert_close(total, reading.logits)
    torch.testing.assert_close(model.classify(tiles, log_probs), reading.logits)


@pytest.mark.parametrize("unit", [True, False])
@torch.inference_mode()
def test_features_are_of_length_one_where_asked(unit: bool) -> None:
    model = model_of(unit_features=unit)
    lengths = model.encode(torch.rand(1, 4, 3, 20, 20)).norm(dim=-1)

    assert torch.allclose(lengths, torch.ones(1, 4)) == unit


def test_the_same_seed_builds_the_same_model() -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return build_model(classes=2).state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_papers_model_has_its_number_of_parameters() -> None:
    model = build_model(classes=10, attention="paper", encoder="paper", in_channels=1)

    assert sum(parameter.numel() for parameter in model.parameters()) == 30_411


@pytest.mark.parametrize("smooth", [0.0, 0.2])
@torch.inference_mode()
def test_smoothing_leaves_every_valid_place_its_share(smooth: float) -> None:
    model = model_of(smooth=smooth)
    valid = tissue(1, 10, 10)
    attention = model.attend(torch.rand(1, 3, 10, 10) * 1e3, valid).exp()[valid.flatten(1)]

    assert attention.min().item() == pytest.approx(smooth / len(attention))
