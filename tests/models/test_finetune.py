"""What is frozen stays, what learns moves, each at its own rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saccade.models.attention_sampling import AttentionSampling
from saccade.models.build import build_model
from saccade.models.finetune import (
    Finetune,
    choose_what_learns,
    layers_of,
    parameter_groups,
)

ENCODERS = ("compact", "paper", "timm:test_resnet", "timm:test_vit", "timm:test_convnext")


def model_of(encoder: str, finetune: Finetune = "all", **options: Any) -> AttentionSampling:
    torch.manual_seed(0)
    if encoder == "timm:test_vit":
        options["dynamic_img_size"] = True
    model = build_model(classes=2, encoder=encoder, encoder_options=options)
    nn.init.normal_(model.attention.score.weight)  # type: ignore[arg-type, union-attr]
    choose_what_learns(model.encoder, finetune)
    return model.train()


def tiles() -> Tensor:
    return torch.rand(1, 4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def step(model: AttentionSampling) -> None:
    groups = parameter_groups(model, weight_decay=0.1)
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    for _ in range(2):  # what starts at zero holds back the gradient of what comes before it
        logits = model.classify(tiles(), model.attend(torch.rand(1, 3, 2, 2)))
        optimizer.zero_grad()
        logits[0, 0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def changed(model: AttentionSampling) -> set[str]:
    """Parameters and statistics that two steps change, by name."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step(model)
    return {name for name, value in model.state_dict().items() if not value.equal(before[name])}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_frozen_encoder_stays_bit_for_bit_and_attention_and_head_move(encoder: str) -> None:
    moved = changed(model_of(encoder, "frozen"))

    assert not {name for name in moved if name.startswith("encoder.")}
    assert any(name.startswith("attention.") for name in moved)
    assert "head.weight" in moved


@pytest.mark.parametrize(
    ("encoder", "last"),
    [
        ("compact", ("2.",)),
        ("paper", ("6.",)),
        ("timm:test_resnet", ("layer4.0.",)),
        ("timm:test_vit", ("blocks.5.", "norm.")),
        ("timm:test_convnext", ("stages.3.blocks.1.", "head.norm.")),
    ],
)
def test_the_last_block_moves_and_nothing_before_it(encoder: str, last: tuple[str, ...]) -> None:
    model = model_of(encoder, "last_block")
    blocks = tuple(f"encoder.trunk.{name}" for name in last)
    inside = {name for name, _ in model.named_parameters() if name.startswith(blocks)}
    moved = changed(model)

    assert {name for name in moved if name.startswith("encoder.")} >= inside
    assert all(name.startswith(blocks) for name in moved if name.startswith("encoder."))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_all_of_an_encoder_moves(encoder: str) -> None:
    model = model_of(encoder)
    every = {name for name, _ in model.named_parameters() if name.startswith("encoder.")}

    assert every - changed(model) <= {"encoder.trunk.cls_token"}


def test_statistics_move_in_the_last_block_alone() -> None:
    moved = changed(model_of("timm:test_resnet", "last_block"))

    statistics = {name for name in moved if "running" in name}
    assert statistics
    assert all(name.startswith("encoder.trunk.layer4.0.") for name in statistics)


@pytest.mark.parametrize("finetune", ["all", "last_block", "frozen"])
def test_dropout_is_off_where_nothing_learns(finetune: Finetune) -> None:
    model = model_of("timm:test_vit", finetune, proj_drop_rate=0.5, pos_drop_rate=0.5)
    shown: list[Tensor] = []
    last = model.encoder.trunk.blocks[-1]  # type: ignore[index, union-attr]
    last.register_forward_pre_hook(lambda _, given: shown.append(given[0]))  # type: ignore[operator, union-attr]
    first, again = model.encode(tiles()), model.encode(tiles())

    assert shown[0].equal(shown[1]) == (finetune != "all")
    assert first.equal(again) == (finetune == "frozen")


def test_what_is_frozen_stays_at_rest_through_validation() -> None:
    model = model_of("timm:test_resnet", "frozen")
    model.eval()
    assert not any(module.training for module in model.modules())
    model.train()

    assert not any(module.training for module in model.encoder.trunk.modules())
    assert model.head.training


@pytest.mark.parametrize("encoder", ENCODERS)
def test_nothing_is_kept_for_the_way_back_through_what_is_frozen(encoder: str) -> None:
    saved: list[Tensor] = []

    def kept(value: Tensor) -> Tensor:
        saved.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(kept, lambda value: value):
        features = model_of(encoder, "frozen").encode(tiles())
        assert not saved
        assert not features.requires_grad
        model_of(encoder, "last_block").encode(tiles())
        some = len(saved)
        assert some
        model_of(encoder, "all").encode(tiles())
    assert len(saved) - some > some


def rates(model: AttentionSampling, **options: float) -> dict[str, tuple[float, float]]:
    """Share of the learning rate, and weight decay, of each parameter by name."""
    groups = parameter_groups(model, **{"weight_decay": 0.1, **options})
    found = {
        id(p): (group["lr_scale"], group["weight_decay"])
        for group in groups
        for p in group["params"]
    }
    assert len(found) == sum(len(group["params"]) for group in groups)
    return {name: found[id(p)] for name, p in model.named_parameters() if id(p) in found}


@pytest.mark.parametrize(
    ("encoder", "block", "blocks", "before"),
    [
        ("compact", "{}.refine.weight", 3, {}),
        ("paper", "{}.weight", 4, {}),
        ("timm:test_vit", "blocks.{}.attn.qkv.weight", 6, {"patch_embed.proj.weight": 7}),
        ("timm:test_resnet", "layer{}.0.conv1.weight", 4, {"conv1.0.weight": 5}),
    ],
)
def test_each_layer_learns_slower_than_the_next_by_one_factor(
    encoder: str, block: str, blocks: int, before: dict[str, int]
) -> None:
    found = rates(model_of(encoder), layer_decay=0.5)
    first, step = {"timm:test_resnet": (1, 1), "paper": (0, 2)}.get(encoder, (0, 1))

    for i in range(blocks):
        name = f"encoder.trunk.{block.format(first + step * i)}"
        assert found[name][0] == 0.5 ** (blocks - i), name
    for name, power in before.items():
        assert found[f"encoder.trunk.{name}"][0] == 0.5**power
    for name, (scale, _) in found.items():
        assert name.startswith("encoder.") or scale == 1


def test_a_norm_after_the_blocks_is_the_heads() -> None:
    found = rates(model_of("timm:test_convnext"), layer_decay=0.5)

    assert found["encoder.trunk.head.norm.weight"][0] == 1
    assert found["encoder.trunk.stages.3.blocks.1.conv_dw.weight"][0] == 0.5


@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_learns_is_in_one_group_and_norms_and_biases_do_not_decay(encoder: str) -> None:
    model = model_of(encoder, "last_block")
    found = rates(model)

    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        if name in found:
            assert found[name] == (1, 0.1 if parameter.ndim > 1 else 0), name


def test_what_timm_wants_spared_does_not_decay() -> None:
    found = rates(model_of("timm:test_vit"))

    assert found["encoder.trunk.pos_embed"] == found["encoder.trunk.cls_token"] == (1, 0)


@pytest.mark.parametrize(
    "name", ["test_byobnet", "test_efficientnet", "test_mambaout", "test_nfnet"]
)
def test_every_parameter_of_a_timm_model_has_a_layer(name: str) -> None:
    model = model_of(f"timm:{name}")
    number, head = layers_of(model.encoder.trunk)

    assert set(number) == {name for name, _ in model.encoder.trunk.named_parameters()}
    assert set(range(head)) <= set(number.values()) <= set(range(head + 1))
