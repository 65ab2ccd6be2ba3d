"""Trunks: which layer of a timm model they are, and what it gives."""

import re

import pytest
import torch

from saccade.models.trunk import TopDown, Trunk, timm_trunk


@pytest.mark.parametrize(("stride", "channels"), [(8, 48), (16, 192)])
def test_a_timm_model_ends_at_the_stride_that_is_wanted(stride: int, channels: int) -> None:
    trunk = timm_trunk("test_resnet", stride=stride).eval()

    assert (trunk.channels, trunk.stride) == (channels, stride)
    assert trunk(torch.rand(1, 3, 64, 96)).shape == (1, channels, 64 // stride, 96 // stride)
    assert not any("layer4" in name for name, _ in trunk.named_parameters())
    assert trunk.standardise.mean.tolist() == [0.5] * 3


def test_of_several_layers_of_a_stride_the_last_is_taken() -> None:
    with torch.device("meta"):
        trunk = timm_trunk("vit_tiny_patch16_224")

    assert sum(name.endswith("attn.qkv.weight") for name, _ in trunk.named_parameters()) == 12


def test_features_whose_channels_come_last_are_turned() -> None:
    with torch.device("meta"):
        trunk = timm_trunk("swin_tiny_patch4_window7_224", stride=8)

    assert trunk(torch.rand(1, 3, 224, 224, device="meta")).shape == (1, 192, 28, 28)


def test_what_timm_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("timm has no model 'resnet_18'; close to it")):
        timm_trunk("resnet_18")
    wanted = "timm's 'test_resnet' has features of the strides [2, 4, 8, 16, 32], not of 12."
    with pytest.raises(ValueError, match=re.escape(wanted)):
        timm_trunk("test_resnet", stride=12)


def test_bytes_are_the_numbers_they_stand_for() -> None:
    trunk = Trunk(
        torch.nn.Conv2d(3, 2, 4, 4), channels=2, stride=4, mean=(0.5,) * 3, std=(1.0,) * 3
    )
    pixels = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)

    assert torch.equal(trunk(pixels), trunk(pixels / 255))


def test_merged_features_have_the_finest_cells_and_know_what_lies_further() -> None:
    torch.manual_seed(0)
    alone, merged = (
        timm_trunk("test_resnet", stride=4, coarsest=each, merged=10).eval() for each in (None, 16)
    )
    tiles = torch.rand(1, 3, 50, 70)

    assert merged(tiles).shape == (1, 10, 13, 18)
    assert merged.channels == 10
    for trunk, reach in ((alone, False), (merged, True)):
        other = tiles.clone()
        other[..., 30] += 1.0  # further from the first cells than fine features see
        assert bool((trunk(other) - trunk(tiles))[..., :4].any()) == reach


def test_merging_adds_each_cell_to_those_it_covers() -> None:
    merge = TopDown([1, 1], 1)
    for layer in merge.lateral:
        torch.nn.init.ones_(layer.weight)  # type: ignore[arg-type]
        torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    merge.smooth = torch.nn.Identity()
    fine, coarse = torch.arange(8.0).view(1, 1, 2, 4), torch.tensor([[[[10.0, 20.0]]]])

    assert merge([fine, coarse]).tolist() == [[[[10, 11, 22, 23], [14, 15, 26, 27]]]]


def test_strides_that_cannot_be_merged_are_refused() -> None:
    with pytest.raises(ValueError, match="stride 4 are finer than those of stride 8"):
        timm_trunk("test_resnet", stride=8, coarsest=4)
    with pytest.raises(ValueError, match="not of 64"):
        timm_trunk("test_resnet", stride=8, coarsest=64)
