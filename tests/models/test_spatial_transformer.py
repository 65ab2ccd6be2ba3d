import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.models.spatial_transformer import (
    SpatialTransformer,
    look,
    small_localisation,
    tile_transformer,
)

FORMS = ("affine", "attention")


def images(rows: int, cols: int, channels: int = 3) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(2, channels, rows, cols, dtype=torch.float64)


def maps(a: float, b: float, x: float, c: float, d: float, y: float) -> Tensor:
    return torch.tensor([[[a, b, x], [c, d, y]]] * 2, dtype=torch.float64)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (5, 7), (8, 16), (64, 33), (224, 224)])
def test_the_identity_is_an_exact_copy_beside_images_that_move(
    rows: int, cols: int, kind: torch.dtype
) -> None:
    whole, still = images(rows, cols).to(kind), maps(1, 0, 0, 0, 1, 0).to(kind)
    moving = still.clone()
    moving[1, 0, 2] = 1

    assert torch.equal(look(whole, still), whole)
    seen = look(whole, moving)
    assert torch.equal(seen[0], whole[0])
    assert cols == 1 or not torch.allclose(seen[1], whole[1])


def test_the_identity_has_the_gradient_of_interpolation() -> None:
    """Towards the map, and towards the image, whose every pixel counts once."""
    ramp = torch.arange(8.0).expand(1, 1, 8, 8).clone().requires_grad_()
    still = maps(1, 0, 0, 0, 1, 0)[:1].float().requires_grad_()
    (look(ramp, still)[..., 2:6, 2:6]).sum().backward()

    assert still.grad is not None
    assert ramp.grad is not None
    assert still.grad[0, 0, 2].item() == pytest.approx(16 * 4)  # a shift of 1 is half the width
    assert still.grad[0, 1, 2].item() == pytest.approx(0, abs=1e-4)
    assert ramp.grad.sum().item() == pytest.approx(16)
    assert ramp.grad[0, 0, 3, 3].item() == pytest.approx(1, abs=1e-5)


@given(st.integers(-8, 8), st.integers(-16, 16))
def test_a_shift_by_whole_pixels_is_a_slice_with_zeros_beyond(down: int, right: int) -> None:
    """A pixel is 2 / 16 of the width and 2 / 8 of the height."""
    whole = images(8, 16)
    around = torch.zeros(2, 3, 24, 48, dtype=torch.float64)
    around[:, :, 8:16, 16:32] = whole
    shifted = look(whole, maps(1, 0, right / 8, 0, 1, down / 4))

    assert torch.equal(shifted, around[:, :, 8 + down : 16 + down, 16 + right : 32 + right])


def test_half_the_scale_and_half_the_size_is_a_crop() -> None:
    whole = images(8, 16)

    centre = look(whole, maps(0.5, 0, 0, 0, 0.5, 0), size_px=(8, 4))
    corner = look(whole, maps(0.5, 0, -0.5, 0, 0.5, 0.5), size_px=(8, 4))
    assert torch.equal(centre, whole[:, :, 2:6, 4:12])
    assert torch.equal(corner, whole[:, :, 4:8, 0:8])


def test_half_the_size_alone_is_the_mean_of_four_pixels() -> None:
    whole = images(8, 16)

    small = look(whole, maps(1, 0, 0, 0, 1, 0), size_px=(8, 4))
    torch.testing.assert_close(small, nn.functional.avg_pool2d(whole, 2))


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    """Right of the output is down in the image, and down of the output is left."""
    whole = images(8, 8)

    assert torch.equal(look(whole, maps(0, -1, 0, 1, 0, 0)), whole.rot90(1, (2, 3)))


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_finite_differences(form: Any) -> None:
    torch.manual_seed(0)
    model = SpatialTransformer(
        form=form, localisation=nn.Flatten(), features=30, size_px=(3, 2)
    ).double()
    nn.init.normal_(model.regress.weight, std=0.05)
    whole = images(5, 6, channels=1).requires_grad_()

    def seen(whole: Tensor, weight: Tensor, bias: Tensor) -> Any:
        values = {"regress.weight": weight, "regress.bias": bias}
        return torch.func.functional_call(model, values, (whole,))

    assert torch.autograd.gradcheck(seen, (whole, model.regress.weight, model.regress.bias))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (16, 64), (37, 51)])
def test_a_fresh_module_gives_any_image_as_it_is(form: Any, rows: int, cols: int) -> None:
    model, whole = SpatialTransformer(form=form).double(), images(rows, cols)

    assert torch.equal(model.where(whole), maps(1, 0, 0, 0, 1, 0))
    assert torch.equal(model(100 * whole), 100 * whole)


def test_attention_has_a_scale_and_a_shift_alone() -> None:
    model = SpatialTransformer(form="attention", size_px=(4, 2)).double()
    with torch.no_grad():
        model.regress.bias.copy_(torch.tensor([0.5, 0.25, -0.5]))
    whole = images(8, 16)

    assert torch.equal(model.where(whole), maps(0.5, 0, 0.25, 0, 0.5, -0.5))
    assert model(whole).shape == (2, 3, 2, 4)


def test_it_learns_where_to_look() -> None:
    """A bright square off the centre: to have its brightness is to look at it."""
    torch.manual_seed(0)
    whole = torch.zeros(1, 1, 32, 32)
    whole[:, :, 18:26, 20:28] = 1
    blurred = nn.functional.avg_pool2d(whole, 9, stride=1, padding=4)
    model = SpatialTransformer(form="attention", channels=1, size_px=(8, 8))
    with torch.no_grad():
        model.regress.bias[0] = 0.5
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        (-model(blurred).mean()).backward()
        optimiser.step()

    assert model.where(blurred)[0, :, 2].tolist() == pytest.approx([0.5, 0.375], abs=0.1)


@torch.inference_mode()
def test_autocast_does_not_round_places() -> None:
    """In bf16 a shift of 0.3 would be one of 0.3008, and sides would have steps of 1 / 256."""
    torch.manual_seed(0)
    model, whole = tile_transformer("attention", size_px=32), torch.rand(2, 3, 64, 64)
    nn.init.normal_(model.regress.weight, std=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        seen = model(whole)

    assert torch.equal(seen, model(whole))


@pytest.mark.parametrize(
    ("side", "seen"), [(20, 20), (32, 32), (33, 17), (60, 30), (100, 25), (224, 32)]
)
def test_the_small_network_sees_a_tile_from_afar(side: int, seen: int) -> None:
    """As means of squares of pixels, in no more than 32 places a side."""
    whole = torch.rand(1, 1, side, side)
    glance = tile_transformer("affine", channels=1).localisation.get_submodule("0")

    assert glance(whole).shape[2:] == (seen, seen)
    factor = side // seen
    if side % seen == 0:
        first = whole[0, 0, :factor, :factor].mean()
        torch.testing.assert_close(glance(whole)[0, 0, 0, 0], first)


def test_the_small_network_knows_where_something_is() -> None:
    """Moved by whole cells of its grid, a square has the same features elsewhere, and the mean."""
    torch.manual_seed(0)
    model = small_localisation()
    left = torch.zeros(1, 3, 64, 64)
    left[:, :, 8:24, 8:24] = 1

    assert model(left).shape == (1, 32)
    assert not torch.allclose(model(left), model(left.roll(32, 3)), rtol=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "projective"}, "no form 'projective'; there are: affine, attention"),
        ({"localisation": nn.Flatten()}, "have to be given together"),
        ({"features": 3}, "have to be given together"),
    ],
)
def test_impossible_transformers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SpatialTransformer(**options)
