"""A class for each pixel from any trunk: the sum by hand, and tiles that make up the whole."""

import re
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from saccade.models.backbone_fcn import BackboneFCN, timm_fcn
from tests.models.tiled import in_tiles

PLAIN: dict[str, Any] = {"mean": (0.0,), "std": (1.0,)}


class Means(nn.Module):
    """Maps of means over 1, 2, 4 and 4 pixels a side; the last doubled, to tell it apart."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, F.avg_pool2d(x, 2), F.avg_pool2d(x, 4), 2 * F.avg_pool2d(x, 4)]


class Convolutions(nn.Module):
    """Maps of strides 2, 4 and 8, each padded with as many zeros as its kernels need."""

    def __init__(self, padding: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=padding) for a, b in pairwise((3, 4, 5, 6))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers:
            x = layer(x).relu()
            maps.append(x)
        return maps


def means(finest: int) -> BackboneFCN:
    model = BackboneFCN(
        Means(), widths=(1, 1, 1, 1), strides=(1, 2, 4, 4), classes=1, finest=finest, **PLAIN
    )
    for score in model.scores:
        nn.init.ones_(score.weight)
    return model


def convolutions(**options: Any) -> BackboneFCN:
    return BackboneFCN(
        Convolutions(),
        **{"widths": (4, 5, 6), "strides": (2, 4, 8), "classes": 3, "finest": 2}
        | {"mean": (0.5,) * 3, "std": (0.25,) * 3}
        | options,
    )


def opened(model: BackboneFCN) -> BackboneFCN:
    """With scores that have learnt something, and no branch that is still multiplied by zero."""
    for score in model.scores:
        nn.init.normal_(score.weight)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    return model.double().eval()


def test_maps_are_enlarged_and_added_by_hand() -> None:
    """Columns 0, 0, 4, 4. Twice the mean is 4; means of two columns are 0 and 4, then between."""
    view = torch.tensor([0.0, 0.0, 4.0, 4.0]).expand(1, 1, 4, 4)

    assert means(finest=2)(view)[0, 0].tolist() == [[4.0, 5.0, 7.0, 8.0]] * 4
    assert means(finest=4)(view)[0, 0].tolist() == [[4.0] * 4] * 4
    assert means(finest=1)(view)[0, 0].tolist() == [[4.0, 5.0, 11.0, 12.0]] * 4


def test_maps_that_are_too_fine_are_left_out() -> None:
    assert [means(finest).strides for finest in (1, 2, 3)] == [(1, 2, 4), (2, 4), (4,)]
    assert means(finest=2).stride == 4


@pytest.mark.parametrize(("rows", "cols"), [(8, 16), (1, 1), (13, 23)])
def test_a_fresh_network_scores_all_classes_alike_on_views_of_any_size(
    rows: int, cols: int
) -> None:
    scores = convolutions()(torch.rand(2, 3, rows, cols))

    assert scores.shape == (2, 3, rows, cols)
    assert not scores.any()


def test_a_view_is_continued_with_the_mean_colour() -> None:
    model, view = opened(convolutions()), torch.rand(1, 3, 13, 23, dtype=torch.float64)
    whole = torch.full((1, 3, 16, 24), 0.5, dtype=torch.float64)
    whole[:, :, :13, :23] = view

    assert torch.equal(model(view), model(whole)[:, :, :13, :23])


def test_the_way_back_reaches_every_layer() -> None:
    model = convolutions()
    for _ in range(2):  # while scores are zero, nothing below them has a gradient
        F.cross_entropy(model(torch.rand(2, 3, 16, 16)), torch.ones(2, 16, 16).long()).backward()
        with torch.no_grad():
            for score in model.scores:
                score.weight -= score.weight.grad

    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("trunk", ["convolutions", "timm"])
def test_tiles_with_their_margin_come_out_as_the_whole(trunk: str, one_thread: None) -> None:
    """Also where the view ends at no multiple of the stride."""
    torch.manual_seed(0)
    model = opened(
        convolutions() if trunk == "convolutions" else timm_fcn("test_resnet", classes=3)
    )
    stride, cols = model.stride, 2 * model.margin + 7 * model.stride + 5
    view = torch.rand(1, 3, stride + 3, cols, dtype=torch.float64)
    with torch.no_grad():
        whole = model(view)
    tiles, narrow = (
        in_tiles(model, view, tile_px=2 * stride, margin=margin, stride=stride)
        for margin in (model.margin, model.margin - stride)
    )

    torch.testing.assert_close(tiles, whole, rtol=1e-10, atol=1e-10 * float(whole.abs().max()))
    assert not torch.allclose(narrow, whole, rtol=1e-6, atol=0)


def test_margins_by_hand() -> None:
    """A cell of stride 8 sees 7 pixels before it, and so does the next half of one before it."""
    assert convolutions().margin == 16
    assert means(finest=4).margin == 4


def test_a_trunk_that_looks_at_the_whole_view_has_no_margin() -> None:
    class Excited(Convolutions):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [each * each.mean(dim=(2, 3), keepdim=True) for each in super().forward(x)]

    model = convolutions()
    model.trunk = Excited()

    with pytest.raises(ValueError, match="looks at the whole view"):
        _ = model.margin


def test_a_timm_model_brings_its_maps_and_its_scale_of_pixels(one_thread: None) -> None:
    model = timm_fcn("test_resnet", classes=2, finest=4)

    assert model.strides == (4, 8, 16, 32)
    assert (model.standardise.mean.tolist(), model.standardise.std.tolist()) == (
        [0.5] * 3,
        [0.5] * 3,
    )
    assert model(torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)).shape == (1, 2, 40, 50)


def test_maps_with_channels_last_are_the_same_maps() -> None:
    class Turned(Convolutions):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [each.movedim(1, -1) for each in super().forward(x)]

    one = opened(convolutions())
    other = convolutions(channels_last=True).double().eval()
    other.trunk = Turned()
    other.double().load_state_dict(one.state_dict())
    view = torch.rand(1, 3, 16, 24, dtype=torch.float64)

    assert torch.equal(other(view), one(view))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finest": 16}, "wanted a map of stride 16 or more"),
        ({"strides": (2, 4, 6)}, "the trunk has the strides (2, 4, 6)"),
    ],
)
def test_strides_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        convolutions(**change)


def test_a_trunk_that_does_not_pad_is_refused() -> None:
    model = convolutions()
    model.trunk = Convolutions(padding=0)

    with pytest.raises(ValueError, match=re.escape("wanted a map of (8, 8) cells of 2 px")):
        model(torch.rand(1, 3, 16, 16))


def test_unknown_models_are_refused_with_one_like_them() -> None:
    with pytest.raises(ValueError, match="timm has no model 'resnet81'"):
        timm_fcn("resnet81", classes=2)
