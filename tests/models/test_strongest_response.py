import pytest
import torch
from torch import Tensor, nn

from saccade.models.strongest_response import StrongestResponse


def stack(*, channels: int = 2, dtype: torch.dtype = torch.float64) -> StrongestResponse:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(channels, 5, 4), nn.Conv2d(5, 6, 3), nn.Conv2d(6, 8, 2)]
    return StrongestResponse(convolutions).to(dtype)


def dense(network: StrongestResponse, x: Tensor) -> Tensor:
    """The same in torch's own operations, with their dense backward pass."""
    for layer in network:
        x = layer(x).clone()
    strongest: Tensor = x.flatten(2).amax(dim=2)
    return strongest


def gradients(network: StrongestResponse, values: Tensor) -> list[Tensor]:
    towards = torch.linspace(-1, 2, values.numel(), dtype=values.dtype).view_as(values)
    return list(torch.autograd.grad((values * towards).sum(), list(network.parameters())))


@pytest.mark.parametrize("size", [(7, 7), (13, 9)], ids=["one place", "many places"])
def test_values_and_gradients_are_those_of_the_dense_pass(size: tuple[int, int]) -> None:
    network, x = stack(), torch.rand(39, 2, *size, dtype=torch.float64)

    torch.testing.assert_close(network(x), dense(network, x))
    torch.testing.assert_close(
        gradients(network, network(x)), gradients(network, dense(network, x))
    )


def test_which_of_even_places_wins_makes_no_difference() -> None:
    """Even ground ties everywhere; the dense pass shares the gradient out among all places."""
    network = stack()
    x = torch.full((3, 2, 12, 12), 0.3, dtype=torch.float64)
    x[1, :, 4:6, 5:9] = 0.9

    torch.testing.assert_close(
        gradients(network, network(x)), gradients(network, dense(network, x))
    )


def test_channels_that_respond_nowhere_have_no_gradient() -> None:
    network = stack()
    with torch.no_grad():
        network[-2].bias.fill_(-100.0)
    x = torch.rand(2, 2, 8, 8, dtype=torch.float64)

    assert network(x).count_nonzero() == 0
    assert all(each.count_nonzero() == 0 for each in gradients(network, network(x)))


def test_frozen_layers_below_have_no_gradient_and_those_above_the_same() -> None:
    network, x = stack(), torch.rand(4, 2, 13, 9, dtype=torch.float64)
    wanted = gradients(network, network(x))
    network[0].requires_grad_(False)
    found = torch.autograd.grad(
        (network(x) * torch.linspace(-1, 2, 32, dtype=x.dtype).view(4, 8)).sum(),
        list(network.parameters())[2:],
    )

    torch.testing.assert_close(list(found), wanted[2:])


def test_without_gradients_the_values_are_the_same() -> None:
    network, x = stack(dtype=torch.float32), torch.rand(3, 2, 11, 11)
    with_gradients = network(x)

    with torch.no_grad():
        torch.testing.assert_close(network(x), with_gradients)


def test_with_fewer_bits_the_dense_pass_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast is for torch's own operations. No arithmetic is done: not all processors have it."""
    network, x = stack(dtype=torch.float32), torch.rand(2, 2, 9, 9)
    monkeypatch.setattr(nn.Sequential, "forward", lambda *_: torch.full((2, 8, 1, 1), 7.0))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(x).eq(7).all()


@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2}, {"bias": False}])
def test_other_convolutions_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="plain valid convolutions"):
        StrongestResponse([nn.Conv2d(2, 3, 3, **options)])  # type: ignore[arg-type]
