import pytest
import torch
from torch import Tensor, nn

from saccade.models.field_of_view import margin_of
from saccade.models.saliency import MSINet


def chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


CHAINS = {
    "nothing": (chain(nn.Conv2d(3, 2, 1)), 1, 0),
    "1 + 2 * 2": (
        chain(nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(2, 1, 5, padding=4, dilation=2)),
        1,
        5,
    ),
    "three pixels before, none after": (
        chain(nn.ZeroPad2d((3, 0, 3, 0)), nn.Conv2d(3, 1, 4)),
        1,
        3,
    ),
    "as far down as a kernel is high": (chain(nn.Conv2d(3, 1, (7, 3), padding=(3, 1))), 1, 3),
    "its own cell and no other": (
        chain(nn.Conv2d(3, 2, 4, stride=4), nn.ReLU(), nn.Upsample(scale_factor=4)),
        4,
        0,
    ),
    "the next cell, half of the way": (
        chain(nn.MaxPool2d(4), nn.Upsample(scale_factor=4, mode="bilinear")),
        4,
        4,
    ),
    "further than the first view reaches": (
        chain(nn.Conv2d(3, 1, 3, padding=40, dilation=40)),
        1,
        40,
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_margins_by_hand(name: str) -> None:
    network, stride, margin = CHAINS[name]

    assert margin_of(network, stride) == margin


class Evidence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = MSINet(widths=(2, 2, 2, 2, 2), context_width=2, decoder_widths=(2, 2, 2))

    def forward(self, views: Tensor) -> Tensor:
        features = self.model.features(views)
        return self.model.evidence(features, torch.zeros_like(features[:, :, 0, 0]))


def test_the_margin_of_a_network_that_was_counted_by_hand(one_thread: None) -> None:
    assert margin_of(Evidence(), MSINet.stride) == MSINet.margin


def test_weights_of_zero_could_be_others_tomorrow() -> None:
    network = nn.Conv2d(3, 1, 5, padding=2)
    nn.init.zeros_(network.weight)

    assert margin_of(network, 1) == 2


def test_the_network_stays_as_it_is() -> None:
    network = chain(nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Dropout(0.5))

    assert margin_of(network, 1) == 1
    assert network.training
    assert network[0].weight.dtype == torch.float32
    assert network.get_buffer("1.running_mean").tolist() == [0, 0]


@pytest.mark.parametrize(
    "layer",
    [nn.InstanceNorm2d(3), nn.GroupNorm(1, 3), chain(nn.AdaptiveAvgPool2d(1), nn.Softmax(1))],
)
def test_what_looks_at_the_whole_view_has_none(layer: nn.Module) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, views: Tensor) -> Tensor:
            return views * self.layer(views)

    with pytest.raises(ValueError, match="looks at the whole view"):
        margin_of(Scaled(), 1)
