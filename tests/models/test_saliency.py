"""MSI-Net: the published numbers, and parts that make up the whole."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saccade.models.saliency import MSINet, kl_divergence

SMALL: dict[str, Any] = {
    "widths": (2, 3, 4, 4, 4),
    "context_width": 3,
    "decoder_widths": (3, 3, 2),
}


@pytest.fixture(scope="module")
def published(test_data: Path) -> dict[str, Any]:
    """Numbers produced by running the published graph."""
    file = test_data.parent / "golden" / "msinet_golden_64x96.npz"
    if not file.exists():
        pytest.skip("the reference's numbers do not lie beside SACCADE_TEST_DATA")
    return dict(np.load(file))


@pytest.fixture(scope="module")
def model(one_thread: None) -> MSINet:
    """A narrow network in which every path is open, so that each pixel it can see matters."""
    torch.manual_seed(0)
    model = MSINet(**SMALL).double().eval()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.uniform_(layer.weight, 0, 2 / layer.weight[0].numel())
    return model


def views(rows: int, cols: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return 128 + 127 * torch.rand(1, 3, rows, cols, dtype=torch.float64)


def test_the_published_graph_is_met(published: dict[str, Any], one_thread: None) -> None:
    model = MSINet()
    dice = np.random.default_rng(20200504)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            out, into, rows, cols = layer.weight.shape
            kernel = dice.standard_normal((rows, cols, into, out)) * np.sqrt(2 / rows / cols / into)
            layer.weight.data = torch.tensor(kernel.astype("f4").transpose(3, 2, 0, 1))
            layer.bias.data = torch.tensor((dice.standard_normal(out) * 0.05).astype("f4"))
    image = torch.tensor(dice.uniform(0, 255, (1, 64, 96, 3)).astype("f4")).permute(0, 3, 1, 2)
    truth = torch.tensor(dice.uniform(0, 255, (1, 64, 96, 1)).astype("f4")).permute(0, 3, 1, 2)

    with torch.no_grad():
        features = model.features(image)
        before = model.evidence(features, features.mean(dim=(2, 3)))
        after = model(image)

    span = float(np.ptp(published["pre"]))
    np.testing.assert_allclose(before[0, 0], published["pre"], rtol=0, atol=1e-5 * span)
    np.testing.assert_allclose(after[0, 0], published["out"], rtol=0, atol=1e-5)
    assert float(kl_divergence(after, truth)) == pytest.approx(float(published["loss"]), abs=1e-5)


def test_parameters_are_as_many_as_published() -> None:
    with torch.device("meta"):
        model = MSINet()

    def count(*parts: nn.Module) -> int:
        return sum(p.numel() for part in parts for p in part.parameters())

    assert count(model.encoder) == 14_714_688
    assert count(model.context, model.merge) == 9_831_936
    assert count(model.decoder, model.score) == 387_585
    assert count(model) == 24_934_209
    assert model.stride == 8


def test_maps_reach_from_zero_to_one_whatever_the_view(model: MSINet) -> None:
    maps = model(torch.cat([views(40, 48), views(40, 48, seed=1) / 2 + 128]))

    assert maps.shape == (2, 1, 40, 48)
    assert maps.amin(dim=(1, 2, 3)).tolist() == [0, 0]
    assert maps.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1], abs=1e-3)


@pytest.mark.parametrize(("rows", "cols"), [(41, 47), (8, 9), (1, 1)])
def test_sides_need_not_be_multiples_of_the_stride(model: MSINet, rows: int, cols: int) -> None:
    assert model(views(rows, cols)).shape == (1, 1, rows, cols)
    assert model.features(views(rows, cols)).shape[2:] == (-(-rows // 8), -(-cols // 8))


def test_a_view_without_contrast_gives_numbers() -> None:
    flat = torch.zeros(1, 1, 4, 4)

    assert MSINet.normalise(flat, torch.zeros(1), torch.zeros(1)).tolist() == flat.tolist()


def test_bytes_are_the_numbers_they_stand_for(model: MSINet) -> None:
    pixels = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)

    assert torch.equal(model(pixels), model(pixels.double()))


def crop_of(model: MSINet, view: Tensor, corner: int, side: int, margin: int) -> Tensor:
    """Evidence of a square of the view, from the square and `margin` pixels around it."""
    context = model.features(view).mean(dim=(2, 3))
    start, stop = max(0, corner - margin), corner + side + margin
    evidence = model.evidence(model.features(view[:, :, start:stop, start:stop]), context)
    inside = slice(corner - start, corner - start + side)
    return evidence[:, :, inside, inside]


@pytest.mark.parametrize("corner", [256, 8, 504])
def test_a_tile_with_its_margin_comes_out_as_in_the_whole(model: MSINet, corner: int) -> None:
    view = views(531, 573)  # corner 504: the tile ends beyond the edge, at an odd place
    with torch.no_grad():
        features = model.features(view)
        whole = model.evidence(features, features.mean(dim=(2, 3)))
        tile = crop_of(model, view, corner, 24, MSINet.margin)

    wanted = whole[:, :, corner : corner + 24, corner : corner + 24]
    torch.testing.assert_close(tile, wanted, rtol=0, atol=1e-12 * float(whole.abs().max()))


def reach(model: MSINet, pixel: int, slope: float) -> int:
    """Pixels between a pixel and the last one, to the brighter side, that its evidence sees."""
    ramp = 190 + slope * torch.linspace(-60, 60, 608, dtype=torch.float64)
    view = ramp.expand(1, 3, 16, 608).clone().requires_grad_()
    features = model.features(view)
    evidence = model.evidence(features, torch.zeros_like(features[:, :, 0, 0]))
    (seen,) = torch.autograd.grad(evidence[0, 0, 8, pixel], view)
    columns = seen.sum(dim=(0, 1, 2)).nonzero()
    return int(columns.max()) - pixel if slope > 0 else pixel - int(columns.min())


def test_the_margin_is_half_the_field_of_view(model: MSINet) -> None:
    """Bright pixels win each maximum, so a ramp shows how far the network can see at most."""
    ahead = [reach(model, pixel, 1) for pixel in range(304, 312)]
    behind = [reach(model, pixel, -1) for pixel in range(304, 312)]

    assert max(ahead + behind) == MSINet.margin
    # The last pixel of a tile that ends where a cell ends: one cell less would not do.
    assert MSINet.margin - MSINet.stride < ahead[7] <= MSINet.margin


def test_a_margin_off_the_stride_will_not_do(model: MSINet) -> None:
    view = views(536, 536)
    with torch.no_grad():
        features = model.features(view)
        whole = model.evidence(features, features.mean(dim=(2, 3)))
        tile = crop_of(model, view, 256, 24, 228)

    assert not torch.allclose(tile, whole[:, :, 256:280, 256:280], rtol=1e-4, atol=0)


@pytest.mark.parametrize(("margin", "exact"), [(112, True), (104, False)])
def test_features_need_a_margin_of_their_own(model: MSINet, margin: int, exact: bool) -> None:
    assert MSINet.feature_margin == 112
    view = views(320, 320)
    with torch.no_grad():
        whole = model.features(view)
        start, stop = 152 - margin, 168 + margin
        tile = model.features(view[:, :, start:stop, start:stop])

    inside = slice(margin // 8, margin // 8 + 2)
    assert torch.equal(tile[:, :, inside, inside], whole[:, :, 19:21, 19:21]) is exact


def test_every_pixel_depends_on_the_whole_view_by_its_context(model: MSINet) -> None:
    features = model.features(views(32, 32))
    context = features.mean(dim=(2, 3))

    assert not torch.allclose(
        model.evidence(features, context), model.evidence(features, 2 * context)
    )


def test_the_divergence_by_hand() -> None:
    """Of (1/2, 1/2) and (1/4, 3/4): 1/4 log 1/2 + 3/4 log 3/2; the mean of that and of zero."""
    prediction = torch.tensor([[1.0, 1.0], [1.0, 3.0]], dtype=torch.float64)[:, None, None]
    target = torch.tensor([[5.0, 15.0], [10.0, 30.0]], dtype=torch.float64)[:, None, None]

    wanted = (0.25 * np.log(0.5) + 0.75 * np.log(1.5)) / 2
    assert float(kl_divergence(prediction, target)) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": (4, 4, 4, 4)}, "five blocks"),
        ({"decoder_widths": (4, 4)}, "three steps"),
        ({"context_width": 0}, "at least one channel"),
        ({"depths": (2, 2, 3, 3, 4)}, "at most VGG16's (2, 2, 3, 3, 3)"),
    ],
)
def test_networks_of_another_kind_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        MSINet(**SMALL | change)
