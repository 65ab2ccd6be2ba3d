"""Encoders that look at a part of each tile."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.models.attention_sampling import AttentionSampling
from saccade.models.build import build_model
from saccade.models.finetune import choose_what_learns, parameter_groups

FORMS = ("affine", "attention")
# An encoder of each kind, and one with a module behind it.
ENCODERS: list[dict[str, Any]] = [
    {"encoder": "compact"},
    {"encoder": "paper"},
    {"encoder": "residual_attention"},
    {"encoder": "timm:test_resnet"},
    {"encoder": "compact", "attention_module": "mixed"},
]


def model_of(form: Any = "none", **options: Any) -> AttentionSampling:
    torch.manual_seed(0)
    return build_model(classes=2, spatial_transformer=form, **options).eval()


def pair(form: str, **options: Any) -> tuple[AttentionSampling, AttentionSampling]:
    """A model that looks at whole tiles, and one with its weights that may look at parts."""
    plain, within = model_of(**options), model_of(form, **options)
    missing, strange = within.load_state_dict(plain.state_dict(), strict=False)
    assert not strange
    assert all(name.startswith("encoder.transformer.") for name in missing)
    return plain, within


def tiles_of(side: int, *, as_bytes: bool = True) -> Tensor:
    dice = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (1, 3, 3, side, side), generator=dice, dtype=torch.uint8)
    return pixels if as_bytes else pixels / 255


def fix(model: AttentionSampling, *theta: float) -> None:
    """Make the transformer look there, whatever it sees."""
    assert model.encoder.transformer is not None
    with torch.no_grad():
        model.encoder.transformer.regress.bias.copy_(torch.tensor(theta))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", ENCODERS, ids=lambda each: "+".join(each.values()))
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.inference_mode()
def test_an_untrained_transformer_changes_no_bit_of_the_features(
    form: str, options: dict[str, Any], layout: torch.memory_format
) -> None:
    """Of tiles as they are read, channels last in memory, and in any other order."""
    plain, within = (
        each.to(memory_format=layout)  # type: ignore[call-overload]
        for each in pair(form, **options)
    )
    for tiles in (tiles_of(50), tiles_of(64, as_bytes=False)):
        laid = tiles[0].contiguous(memory_format=layout)[None]
        assert torch.equal(within.encode(laid), plain.encode(laid))


@torch.inference_mode()
def test_an_untrained_transformer_that_gives_half_the_size_gives_means_of_four_pixels() -> None:
    plain, within = pair("attention", transformer_px=32)
    tiles = tiles_of(64, as_bytes=False)
    means = nn.functional.avg_pool2d(tiles[0], 2)[None]

    torch.testing.assert_close(within.encode(tiles), plain.encode(means), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", ENCODERS, ids=lambda each: "+".join(each.values()))
@torch.inference_mode()
def test_what_is_cut_out_at_the_tiles_own_resolution_is_a_crop(options: dict[str, Any]) -> None:
    """The right half of the upper half."""
    plain, within = pair("attention", transformer_px=32, **options)
    fix(within, 0.5, 0.5, -0.5)
    tiles = tiles_of(64)

    crop = plain.encode(tiles[..., :32, 32:])
    torch.testing.assert_close(within.encode(tiles), crop, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_beyond_the_edge_of_a_tile_lies_the_mean_pixel() -> None:
    model = model_of("attention")
    fix(model, 1.0, 2.0, 0.0)
    seen = model.encoder.looked_at(tiles_of(32)[0])

    assert torch.equal(seen, torch.zeros(3, 3, 32, 32))


@torch.inference_mode()
def test_it_says_where_it_looks() -> None:
    model = model_of("attention")
    fix(model, 0.5, 0.25, -0.125)

    wanted = torch.tensor([[0.5, 0, 0.25], [0, 0.5, -0.125]]).expand(3, 2, 3)
    where = model.encoder.where(tiles_of(32)[0])
    assert where is not None
    assert torch.equal(where, wanted)
    assert model_of().encoder.where(tiles_of(32)[0]) is None


def learn(model: AttentionSampling, steps: int = 2) -> None:
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay=0.1), lr=1e-2)
    for _ in range(steps):  # the first step leaves the small network, whose output starts at zero
        logits = model.classify(tiles_of(64), torch.full((1, 3), 1 / 3).log())
        optimizer.zero_grad()
        logits[0, 0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("policy", ["all", "last_block", "frozen"])
def test_where_to_look_is_learned_whatever_stays_frozen_of_the_encoder(
    form: str, policy: Any
) -> None:
    model = model_of(form, transformer_px=32)
    transformer: Any = model.encoder.transformer
    choose_what_learns(model.encoder, policy)
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    untrained = transformer.where(tiles_of(64, as_bytes=False)[0])
    learn(model.train())

    moved = {
        name for name, value in model.encoder.state_dict().items() if not value.equal(before[name])
    }
    assert {name for name in moved if name.startswith("transformer.")} == {
        f"transformer.{name}" for name, _ in transformer.named_parameters()
    }
    assert any(name.startswith("trunk.") for name in moved) is (policy != "frozen")
    learned = transformer.where(tiles_of(64, as_bytes=False)[0])
    assert not torch.isclose(learned, untrained).flatten(1).all(dim=1).any()


def test_it_learns_at_the_rate_of_what_is_new() -> None:
    model = model_of("affine")
    groups = parameter_groups(model, weight_decay=0.1, layer_decay=0.5)
    rates = {id(p): group["lr_scale"] for group in groups for p in group["params"]}

    assert model.encoder.transformer is not None
    assert {rates[id(p)] for p in model.encoder.transformer.parameters()} == {1.0}
