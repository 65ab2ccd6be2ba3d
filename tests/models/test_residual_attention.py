from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from saccade.models.residual_attention import (
    AttentionKind,
    AttentionModule,
    Learning,
    MaskBranch,
    ResidualUnit,
    attention56,
    attention92,
    channel_attention,
    group_norm,
    mask_branches,
    mixed_attention,
    small_attention,
    spatial_attention,
    start_at_identity,
    watched_masks,
)

STAGES = {
    "conv1": (64, 112, 112),
    "pool1": (64, 56, 56),
    "pre_res_1": (256, 56, 56),
    "attention_1": (256, 56, 56),
    "pre_res_2": (512, 28, 28),
    "attention_2": (512, 28, 28),
    "pre_res_3": (1024, 14, 14),
    "attention_3": (1024, 14, 14),
    "post_res_4_1": (2048, 7, 7),
    "post_res_4_2": (2048, 7, 7),
    "post_res_4_3": (2048, 7, 7),
    "norm": (2048, 7, 7),
    "pool": (2048,),
    "fc": (1000,),
}
PUBLISHED = [
    (attention56, (1, 1, 1), 31_810_728, 6.2708),
    (attention92, (1, 2, 3), 52_466_344, 10.5338),
]


def on_meta(build: Callable[[int], nn.Sequential]) -> tuple[nn.Sequential, Tensor]:
    """A network without numbers, and an image without pixels: shapes and counts cost nothing."""
    with torch.device("meta"):
        return build(1000).eval(), torch.zeros(1, 3, 224, 224)


def table(modules: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """The layers of a published network, and the shape of what each gives for 224 px."""
    rows: dict[str, tuple[int, ...]] = {}
    for name, shape in STAGES.items():
        if name.startswith("attention"):
            count = modules[int(name[-1]) - 1]
            rows |= {f"{name}_{j}": shape for j in range(1, count + 1)}
        else:
            rows[name] = shape
    return rows


@pytest.mark.parametrize(("build", "modules", "parameters", "giga_macs"), PUBLISHED)
def test_layers_and_costs_are_those_of_the_published_networks(
    build: Callable[[int], nn.Sequential],
    modules: tuple[int, int, int],
    parameters: int,
    giga_macs: float,
) -> None:
    """Multiplications of convolutions and of the classifier; others do not count."""
    network, x = on_meta(build)
    shapes = {}
    with FlopCounterMode(display=False) as counter:
        for name, layer in network.named_children():
            x = layer(x)
            shapes[name] = tuple(x.shape[1:])

    assert list(shapes.items()) == list(table(modules).items())
    assert sum(each.numel() for each in network.parameters()) == parameters
    assert round(counter.get_total_flops() / 2 / 1e9, 4) == giga_macs


def test_attention_56_has_so_many_layers_of_each_kind() -> None:
    network, _ = on_meta(attention56)
    counts = Counter(type(layer) for layer in network.modules())

    assert (counts[nn.Conv2d], counts[nn.BatchNorm2d], counts[MaskBranch]) == (110, 107, 3)
    sizes = {nn.Conv2d: 29_689_024, nn.BatchNorm2d: 72_704, nn.Linear: 2_049_000}
    for kind, size in sizes.items():
        layers = [each for each in network.modules() if isinstance(each, kind)]
        assert sum(p.numel() for layer in layers for p in layer.parameters()) == size


def test_mixed_attention_by_hand() -> None:
    x = torch.tensor([0.0, 3.0]).log1p()[None, :, None, None]  # sigmoid(log(4)) = 4 / 5
    torch.testing.assert_close(mixed_attention(x).flatten(), torch.tensor([0.5, 0.8]))


def test_channel_attention_by_hand() -> None:
    x = torch.tensor([[[[3.0, 0.0]], [[-4.0, 2.0]]]])  # two channels at two positions
    expected = torch.tensor([[[[0.6, 0.0]], [[-0.8, 1.0]]]])
    torch.testing.assert_close(channel_attention(x), expected)
    assert channel_attention(torch.zeros(1, 2, 1, 1)).eq(0).all()


def test_spatial_attention_by_hand() -> None:
    """Channel by channel: (1, 3) has mean 2 and deviation 1, and so has (11, 13) around 12."""
    x = torch.tensor([[[[1.0, 3.0]], [[11.0, 13.0]], [[5.0, 5.0]]]])
    low, high = 1 / (1 + torch.tensor(1.0).exp()), 1 / (1 + torch.tensor(-1.0).exp())
    expected = torch.stack([low, high]).expand(1, 2, 1, 2)

    torch.testing.assert_close(spatial_attention(x)[:, :2], expected)
    assert spatial_attention(x)[:, 2].tolist() == [[[0.5, 0.5]]]


@pytest.mark.parametrize(
    ("learning", "rule"),
    [
        ("residual", lambda mask, trunk: (1 + mask) * trunk),
        ("naive", lambda mask, trunk: mask * trunk),
        ("none", lambda _, trunk: trunk),
    ],
)
@torch.inference_mode()
def test_a_module_puts_mask_and_trunk_together(
    learning: Learning, rule: Callable[[Tensor, Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    module = AttentionModule(8, learning=learning).eval()
    x = torch.randn(2, 8, 8, 8)
    before = module.before(x)
    mask = torch.zeros(()) if module.mask is None else module.mask(before)
    expected = module.after(rule(mask, module.trunk(before)))

    torch.testing.assert_close(module(x), expected)
    assert (module.mask is None) == (learning == "none")


def test_units_of_a_module_are_as_many_as_said() -> None:
    def units(part: nn.Module | None) -> int:
        assert part is not None
        return sum(isinstance(each, ResidualUnit) for each in part.modules())

    module = AttentionModule(8, depth=3, p=2, t=4, r=3)
    assert (units(module.before), units(module.trunk), units(module.after)) == (2, 4, 2)
    # 3 + 3 + 6 on the way down, one beside each of two sizes, 3 + 3 on the way back
    assert units(module.mask) == 12 + 2 + 6


def plain(channels: int) -> nn.Module:
    """No norm at all."""
    return nn.Identity()


@torch.inference_mode()
def test_the_hourglass_by_hand() -> None:
    """Units pass on what they get, and the head, too; rows hold 1, 2, 3, 4.

    Down: the highest of rows 1-3 and of 3-4 is 3, 4; of these 4. Back: 4, 4 and what was there is
    7, 8; and four rows whose first and last are those: 7, 7 1/3, 7 2/3, 8.
    """
    branch = MaskBranch(4, depth=2, norm=plain)
    for unit in branch.modules():
        if isinstance(unit, ResidualUnit):
            nn.init.zeros_(unit.residual[-1].weight)  # type: ignore[arg-type]
    for layer in branch.head:
        if isinstance(layer, nn.Conv2d):
            layer.weight.copy_(torch.eye(4)[:, :, None, None])
    rows = torch.arange(1.0, 5).view(1, 1, 4, 1).expand(1, 4, 4, 5)

    expected = torch.tensor([7, 7 + 1 / 3, 7 + 2 / 3, 8]).sigmoid().view(1, 1, 4, 1)
    torch.testing.assert_close(branch(rows).logit(eps=1e-6), expected.expand(1, 4, 4, 5).logit())


@torch.inference_mode()
def test_a_shortcut_begins_after_the_first_norm() -> None:
    torch.manual_seed(0)
    unit = ResidualUnit(4, 8, stride=2).eval()
    nn.init.zeros_(unit.residual[-1].weight)  # type: ignore[arg-type]
    assert unit.shortcut is not None
    x = torch.randn(1, 4, 6, 6)
    positive = x.clamp_min(0) / (1 + 1e-5) ** 0.5  # statistics of a fresh batch norm: 0 and 1

    weight = unit.shortcut.weight[:, :, 0, 0]
    expected = torch.einsum("oc,ncij->noij", weight, positive[:, :, ::2, ::2])
    torch.testing.assert_close(unit(x), expected)
    assert ResidualUnit(4, 4).shortcut is None


@torch.inference_mode()
def test_a_module_may_begin_with_what_it_gets() -> None:
    torch.manual_seed(0)
    module = start_at_identity(AttentionModule(8)).eval()
    x = torch.randn(2, 8, 6, 6)
    assert module.mask is not None

    torch.testing.assert_close(module(x), (1 + module.mask(x)) * x)


@pytest.mark.parametrize("side", [32, 48, 64])
@pytest.mark.parametrize("attention", ["mixed", "channel", "spatial"])
@torch.inference_mode()
def test_the_small_network_takes_small_tiles(side: int, attention: AttentionKind) -> None:
    torch.manual_seed(0)
    network = small_attention(attention=attention).eval()
    tiles = torch.randn(3, 3, side, side)
    with watched_masks(network) as masks:
        features = network(tiles)

    assert features.shape == (3, network.features)
    assert features.isfinite().all()
    assert [side // mask.shape[2] for mask in masks] == [4, 8, 16]
    torch.testing.assert_close(network(tiles[1:2]), features[1:2], rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in network.parameters()) == 237_840 < 2_000_000


@torch.inference_mode()
def test_nobody_watches_masks_after_the_block() -> None:
    network = small_attention()
    with watched_masks(network) as masks:
        network(torch.zeros(2, 3, 32, 32))
    network(torch.zeros(2, 3, 32, 32))
    assert len(masks) == len(mask_branches(network)) == 3


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = small_attention(classes=2)
    network(torch.randn(4, 3, 64, 64)).square().sum().backward()

    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_group_norm_has_groups_of_eight_channels_where_that_is_possible() -> None:
    assert [group_norm(channels).num_groups for channels in (4, 8, 12, 32)] == [1, 1, 1, 4]


def test_a_map_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="4 x 4 cells is too small to be halved 3 times"):
        MaskBranch(8, depth=3).eval()(torch.zeros(1, 8, 4, 4))


def test_impossible_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least once"):
        MaskBranch(8, depth=0)
    with pytest.raises(ValueError, match="multiple of 4"):
        ResidualUnit(6, 6)
