"""FCN: the published numbers, maps that lie over each other, and tiles that make up the whole."""

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from saccade.models.fcn import FCN, BilinearDeconvolution, FCN8s, FCN16s, FCN32s
from saccade.models.field_of_view import margin_of
from saccade.models.saliency_weights import encoder_from_vgg16
from tests.models.tiled import in_tiles

ALL = (FCN32s, FCN16s, FCN8s)
SMALL: dict[str, Any] = {"classes": 2, "widths": (2, 3, 4, 5, 6), "hidden": 3}


def opened(kind: type[FCN]) -> FCN:
    """A narrow network in which every path is open, so that each pixel it can see matters."""
    torch.manual_seed(0)
    model = kind(**SMALL).double().eval()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.uniform_(layer.weight, 0, 2 / layer.weight[0].numel())
    return model


def views(rows: int, cols: int) -> Tensor:
    torch.manual_seed(0)
    return 128 + 127 * torch.rand(1, 3, rows, cols, dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "parameters", "with_deconvolutions"),
    [
        (FCN32s, 134_346_581, 136_152_917),
        (FCN16s, 134_357_354, 134_815_994),
        (FCN8s, 134_362_751, 134_489_759),
    ],
)
def test_parameters_are_as_many_as_published(
    kind: type[FCN], parameters: int, with_deconvolutions: int
) -> None:
    with torch.device("meta"):
        model = kind()
    kernels = [
        part.kernel.numel() for part in model.modules() if isinstance(part, BilinearDeconvolution)
    ]

    assert sum(p.numel() for p in model.parameters()) == parameters
    # There, a fixed deconvolution has a kernel from each of 21 classes to each.
    assert parameters + 21 * 21 * sum(kernels) == with_deconvolutions


@pytest.mark.parametrize("kind", ALL)
def test_scores_are_as_large_as_the_view_whatever_its_size(kind: type[FCN]) -> None:
    with torch.device("meta"):
        model = kind(**SMALL)
    for side in range(1, 34):
        view = torch.empty(1, 3, side, 66 - side, device="meta")
        assert model(view).shape == (1, 2, side, 66 - side)
    assert model(torch.empty(2, 3, 200, 260, device="meta")).shape == (2, 2, 200, 260)


def test_the_kernel_of_a_doubling_by_hand() -> None:
    assert BilinearDeconvolution(2).kernel.tolist() == [
        [0.0625, 0.1875, 0.1875, 0.0625],
        [0.1875, 0.5625, 0.5625, 0.1875],
        [0.1875, 0.5625, 0.5625, 0.1875],
        [0.0625, 0.1875, 0.1875, 0.0625],
    ]


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_deconvolution_is_interpolation_between_the_centres_of_cells(factor: int) -> None:
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    enlarged = BilinearDeconvolution(factor).double()(maps)

    assert enlarged.shape == (2, 3, 5 * factor, 6 * factor)
    wanted = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
    edge = slice(factor, -factor)  # closer to it, zeros beyond the edge count
    half = slice(factor // 2, -(factor // 2))
    torch.testing.assert_close(enlarged[:, :, edge, edge], wanted[:, :, half, half])


@pytest.mark.parametrize("kind", ALL)
def test_maps_are_cut_so_that_what_is_symmetric_stays_so(kind: type[FCN], one_thread: None) -> None:
    """With 198 pixels more, sides of 26 and any number of 32 are whole cells on every grid.

    Kernels that are symmetric then make a turned view's scores the scores turned, if and only if
    each map is cut as much at one edge as at the other: by 5, 9, and 19, 27 or 31.
    """
    model = opened(kind)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data += layer.weight.data.flip(2, 3)
    view = views(58, 90)
    with torch.no_grad():
        scores, turned = model(view), model(view.flip(2, 3))

    assert float(scores.std()) > 0.01 * float(scores.mean())
    torch.testing.assert_close(turned, scores.flip(2, 3), rtol=1e-10, atol=0)


@pytest.mark.parametrize(("kind", "place"), [(FCN16s, 0), (FCN8s, 0), (FCN8s, 1)])
def test_what_a_finer_map_adds_is_added_everywhere(
    kind: type[FCN], place: int, one_thread: None
) -> None:
    """Interpolation of a constant is that constant; edges, where zeros count, are cut off."""
    model, view = opened(kind), views(13, 40)
    with torch.no_grad():
        before = model(view)
        model.get_parameter(f"finer.{place}.score.bias").copy_(torch.tensor([1.0, -2.0]))
        added = model(view) - before

    wanted = torch.tensor([1.0, -2.0], dtype=torch.float64)[:, None, None].expand(2, 13, 40)
    torch.testing.assert_close(added[0], wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ALL)
def test_tiles_with_their_margin_come_out_as_the_whole(kind: type[FCN], one_thread: None) -> None:
    model, view = opened(kind), views(35, 797)
    with torch.no_grad():
        whole = model(view)
    tiles = in_tiles(model, view, tile_px=256, margin=kind.margin, stride=kind.stride)

    torch.testing.assert_close(tiles, whole, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kind", ALL)
def test_the_margin_is_the_least_one(kind: type[FCN], one_thread: None) -> None:
    assert margin_of(opened(kind), kind.stride) == kind.margin == 224


@pytest.mark.parametrize("kind", ALL)
def test_all_classes_score_alike_at_first(kind: type[FCN], one_thread: None) -> None:
    assert not kind(**SMALL)(views(40, 33)).any()


def test_each_network_takes_the_weights_of_the_coarser_one() -> None:
    for coarse, fine, new in ((FCN32s, FCN16s, "finer.0"), (FCN16s, FCN8s, "finer.1")):
        model = fine(**SMALL)
        weights = opened(coarse).state_dict()
        missing, unknown = model.load_state_dict(weights, strict=False)

        assert set(missing) == {f"{new}.score.weight", f"{new}.score.bias"}
        assert not unknown
        assert torch.equal(model.fc6.weight.double(), weights["fc6.weight"].float().double())
        assert not any(model.get_parameter(name).any() for name in missing)


def test_a_vgg16_is_its_trunk() -> None:
    import torchvision

    with torch.device("meta"):
        vgg16, model = torchvision.models.vgg16(), FCN8s()
    trunk = encoder_from_vgg16(vgg16.state_dict())
    missing, unknown = model.load_state_dict(trunk, strict=False, assign=True)

    assert {name.split(".")[0] for name in missing} == {"fc6", "fc7", "score", "finer"}
    assert not unknown


def test_bytes_are_the_numbers_they_stand_for(one_thread: None) -> None:
    model = opened(FCN8s)
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)

    assert torch.equal(model(pixels), model(pixels.double()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 0}, "must be positive, got 0 and 3"),
        ({"widths": (2, 2, 2, 2)}, "five blocks"),
        ({"widths": (2, 2, 0, 2, 2)}, "at least one channel"),
    ],
)
def test_networks_of_another_kind_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        FCN8s(**SMALL | change)
