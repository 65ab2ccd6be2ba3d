"""Networks of segmentation_models_pytorch: any size of view, tiles that make up the whole."""

import re

import pytest
import torch
from torch import Tensor, nn

from saccade.models.field_of_view import margin_of, require_same_in_tiles
from saccade.models.smp_networks import SmpNetwork, smp_network
from tests.models.tiled import in_tiles

NARROW = {"encoder_depth": 3, "decoder_channels": [8, 8, 4]}


def unet() -> SmpNetwork:
    torch.manual_seed(0)
    return smp_network("unet", "resnet18", classes=3, **NARROW).double().eval()


def test_tiles_with_their_margin_come_out_as_the_whole(one_thread: None) -> None:
    """Also where the view ends at no multiple of the stride."""
    model = unet()
    stride, cols = model.stride, 2 * model.margin + 5 * model.stride + 5
    view = torch.rand(1, 3, stride + 3, cols, dtype=torch.float64)
    with torch.no_grad():
        whole = model(view)
    tiles, narrow = (
        in_tiles(model, view, tile_px=2 * stride, margin=margin, stride=stride)
        for margin in (model.margin, model.margin - stride)
    )

    torch.testing.assert_close(tiles, whole, rtol=1e-10, atol=1e-10 * float(whole.abs().max()))
    assert not torch.allclose(narrow, whole, rtol=1e-6, atol=0)


def test_a_view_is_continued_with_the_mean_colour() -> None:
    model, view = unet(), torch.rand(1, 3, 13, 23, dtype=torch.float64)
    whole = model.standardise.mean[:, None, None].expand(1, 3, 16, 24).clone()
    whole[:, :, :13, :23] = view

    with torch.no_grad():
        assert torch.allclose(model(view), model(whole)[:, :, :13, :23], rtol=1e-12, atol=1e-12)


def test_bytes_and_light_are_the_same() -> None:
    model, pixels = unet(), torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)

    with torch.no_grad():
        assert torch.equal(model(pixels), model(pixels.double() / 255))


def test_attention_over_the_view_has_no_margin(one_thread: None) -> None:
    class Attended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Conv2d(3, 2, 1)
            self.encoder.output_stride = 8  # type: ignore[assignment]

        def forward(self, x: Tensor) -> Tensor:
            x = self.encoder(x)
            return x * x.flatten(2).softmax(dim=2).view_as(x)

    with pytest.raises(ValueError, match="looks at the whole view"):
        _ = SmpNetwork(Attended()).margin


@pytest.mark.parametrize("corners", [False, True])
def test_interpolation_that_depends_on_the_views_size_is_seen(corners: bool) -> None:
    """Nothing far away is seen, and yet tiles come out otherwise."""
    up = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=corners)
    network = nn.Sequential(nn.AvgPool2d(4), up)
    margin = margin_of(network, 4)

    assert margin == 4
    if corners:
        with pytest.raises(ValueError, match="depends on the size of the view"):
            require_same_in_tiles(network, 4, margin)
    else:
        require_same_in_tiles(network, 4, margin)


@pytest.mark.parametrize(
    ("arch", "encoder", "options", "message"),
    [
        ("unett", "resnet18", {}, "has no network 'unett'; some that it has: unet"),
        ("unet", "resnett18", {}, "has no encoder 'resnett18'; some that it has: resnet18"),
        ("unet", "resnet18", {"encoder_dept": 3}, "no option of unet 'encoder_dept'; some that"),
        ("unet", "tu-resnett18", {}, "makes no unet on tu-resnett18"),
        ("unet", "resnet18", {"encoder_depth": 3}, "makes no unet on resnet18 with"),
    ],
)
def test_what_the_library_does_not_have_is_refused(
    arch: str, encoder: str, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        smp_network(arch, encoder, classes=2, **options)
