"""Trunks: which layer of a timm model they are, and what it gives."""

import re

import pytest
import torch

from saccade.models.trunk import Trunk, timm_trunk


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
