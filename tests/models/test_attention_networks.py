import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.models.attention_networks import (
    AttentionNetwork,
    PaperAttention,
    ResidualAttention,
    build_attention,
    pool_valid,
)

NETWORKS = {
    "paper": lambda: PaperAttention(),
    "residual": lambda: ResidualAttention(),
    "residual, stride 3": lambda: ResidualAttention(stride=3),
}


def awake(name: str) -> AttentionNetwork:
    """A network whose every weight and bias says something."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_papers_network_has_its_number_of_parameters() -> None:
    assert parameters(PaperAttention(in_channels=1)) == 737
    assert parameters(PaperAttention(in_channels=3)) == 881


def test_the_residual_network_is_small() -> None:
    assert parameters(ResidualAttention()) < 100_000


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_padding_changes_nothing(name: str) -> None:
    network = awake(name).double()  # so that rounding cannot hide what leaks
    view = torch.rand(1, 3, 22, 17, dtype=torch.float64)
    valid = torch.ones(1, 22, 17, dtype=torch.bool)
    padding = (0, 11, 0, 6)

    alone = network(view, valid)
    padded = network(F.pad(view, padding, value=0.9), F.pad(valid, padding))

    rows, cols = network.grid_shape(22, 17)
    assert alone.shape == (1, rows, cols)
    torch.testing.assert_close(padded[:, :rows, :cols], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_pixels_that_are_not_valid_change_nothing(name: str) -> None:
    network = awake(name)
    valid = torch.rand(2, 20, 21) > 0.4
    view, other = torch.rand(2, 3, 20, 21), torch.rand(2, 3, 20, 21)
    mixed = torch.where(valid[:, None], view, other)
    places = pool_valid(valid, network.stride)

    assert torch.equal(network(view, valid)[places], network(mixed, valid)[places])


@pytest.mark.parametrize(("name", "reach"), [("paper", 3), ("residual", 15)])
def test_a_place_sees_as_far_as_said(name: str, reach: int) -> None:
    network = awake(name)
    view = torch.rand(1, 3, 41, 41, requires_grad=True)
    logits: Tensor = network(view, torch.ones(1, 41, 41, dtype=torch.bool))
    logits[0, 20, 20].backward()

    assert view.grad is not None
    seen = view.grad[0].abs().sum(dim=0).nonzero()
    assert seen.min(dim=0).values.tolist() == [20 - reach, 20 - reach]
    assert seen.max(dim=0).values.tolist() == [20 + reach, 20 + reach]


def test_the_residual_network_starts_with_even_attention() -> None:
    logits = ResidualAttention()(torch.rand(1, 3, 9, 9), torch.ones(1, 9, 9, dtype=torch.bool))

    assert torch.equal(logits, logits[:, :1, :1].expand_as(logits))


@given(rows=st.integers(1, 40), cols=st.integers(1, 40), stride=st.integers(1, 7))
def test_masks_shrink_to_the_grid(rows: int, cols: int, stride: int) -> None:
    dice = torch.Generator().manual_seed(rows * 41 + cols)
    valid = torch.rand(1, rows, cols, generator=dice) > 0.8
    network = ResidualAttention(stride=stride, channels=1)
    pooled = pool_valid(valid, stride)

    assert pooled.shape[1:] == network.grid_shape(rows, cols)
    for row, col in torch.cartesian_prod(*(torch.arange(n) for n in pooled.shape[1:])).tolist():
        here = slice(row * stride, (row + 1) * stride), slice(col * stride, (col + 1) * stride)
        assert pooled[0, row, col] == valid[0, here[0], here[1]].any()


def test_networks_come_by_name() -> None:
    assert isinstance(build_attention("paper"), PaperAttention)
    assert build_attention("residual", stride=4, channels=8).stride == 4
    with pytest.raises(ValueError, match="no attention network 'unet'; there are: paper, residual"):
        build_attention("unet")


def test_a_stride_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="stride must be positive"):
        ResidualAttention(stride=0)
