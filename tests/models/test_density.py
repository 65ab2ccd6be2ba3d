import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.models.attention_networks import build_attention
from saccade.models.density import DensityFirst, relative_density


def dark_square() -> tuple[torch.Tensor, torch.Tensor]:
    views = torch.full((1, 3, 16, 16), 0.8)
    views[:, :, 4:8, 8:12] = 0.2
    return views, torch.ones(1, 16, 16, dtype=torch.bool)


def test_the_dark_square_stands_out() -> None:
    views, valid = dark_square()

    density = relative_density(views, valid, stride=4)

    assert density.shape == (1, 4, 4)
    assert density.flatten().argmax() == 1 * 4 + 2
    assert density.sum().abs() < 1e-4


@given(st.floats(0.5, 1.5), st.integers(1, 4))
def test_stain_strength_and_what_is_not_valid_do_not_matter(gain: float, stride: int) -> None:
    views, valid = dark_square()
    valid[:, :, 13:] = False
    changed = views**gain  # optical density times `gain`
    changed[:, :, :, 13:] = 0.0

    torch.testing.assert_close(
        relative_density(changed, valid, stride), relative_density(views, valid, stride)
    )


def test_padding_changes_nothing() -> None:
    views, valid = dark_square()
    padded = torch.nn.functional.pad(views, (0, 5, 0, 3))
    inside = torch.nn.functional.pad(valid, (0, 5, 0, 3))

    density = relative_density(padded, inside, stride=4)

    torch.testing.assert_close(density[:, :4, :4], relative_density(views, valid, stride=4))
    assert (density[:, 4:] == 0).all()


def test_an_even_image_has_no_dense_place() -> None:
    views, valid = torch.full((1, 3, 8, 8), 0.6), torch.ones(1, 8, 8, dtype=torch.bool)

    assert (relative_density(views, valid) == 0).all()


def test_attention_starts_at_dense_places_and_the_gain_learns() -> None:
    torch.manual_seed(0)
    views, valid = dark_square()
    network = DensityFirst(build_attention("residual"), gain=2.0)

    logits = network(views, valid)
    logits[0, 5, 9].backward()

    assert logits[0, 4:8, 8:12].mean() > logits[0, 10:, :4].mean() + 4
    assert network.gain.grad is not None
    assert network.gain.grad > 0
