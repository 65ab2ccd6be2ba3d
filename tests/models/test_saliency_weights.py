"""Weights of others do in MSI-Net what they did at home."""

import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saccade.models.saliency import MSINet
from saccade.models.saliency_weights import encoder_from_vgg16, from_tensorflow


@pytest.fixture(scope="module", params=["torchvision", "timm"])
def vgg16(request: pytest.FixtureRequest, one_thread: None) -> nn.Module:
    torch.manual_seed(0)
    if request.param == "timm":
        import timm

        model: nn.Module = timm.create_model("vgg16", pretrained=False, num_classes=0)
        return model.eval()
    import torchvision

    with torch.device("meta"):  # the classifier is four times as large as all the rest
        whole = torchvision.models.vgg16()
    whole.classifier = nn.Identity()
    whole = whole.to_empty(device="cpu")
    for layer in whole.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.uniform_(layer.bias)
    return whole.eval()


def test_a_vgg16_sees_what_it_saw(vgg16: nn.Module) -> None:
    """Its third block ends where MSI-Net's first depth begins; the later ones are the same."""
    model = MSINet()
    missing, unknown = model.load_state_dict(encoder_from_vgg16(vgg16.state_dict()), strict=False)
    pixels = torch.randint(0, 256, (1, 3, 32, 40), dtype=torch.uint8)

    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    at_home = (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        wanted = vgg16.features[:17](at_home)
        seen = model.features(pixels)[:, :256]

    torch.testing.assert_close(seen, wanted, rtol=1e-4, atol=1e-5 * float(wanted.max()))
    assert not unknown
    assert {name.split(".")[0] for name in missing} == {"context", "merge", "decoder", "score"}
    last = vgg16.state_dict()["features.28.weight"]
    assert torch.equal(model.state_dict()["encoder.4.2.weight"], last)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"features.0.weight": None}, "it has no features.0.weight"),
        (
            {"features.0.weight": torch.zeros(8, 3, 3, 3)},
            "(8, 3, 3, 3), MSI-Net's has (64, 3, 3, 3)",
        ),
    ],
)
def test_other_networks_are_refused(
    vgg16: nn.Module, broken: dict[str, Tensor | None], message: str
) -> None:
    weights = vgg16.state_dict() | broken
    weights = {name: value for name, value in weights.items() if value is not None}

    with pytest.raises(ValueError, match=re.escape(message)):
        encoder_from_vgg16(weights)


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, np.ndarray]:
    """What a published checkpoint holds, by name, with random numbers; in the graph's order."""
    names = [f"conv{b}/conv{b}_{i}" for b in range(1, 6) for i in range(1, 3 if b < 3 else 4)]
    names += [*(f"aspp/conv1_{i}" for i in range(1, 6)), "aspp/conv2"]
    names += [f"decoder/conv{i}" for i in range(1, 5)]
    with torch.device("meta"):
        layers = [layer for layer in MSINet().modules() if isinstance(layer, nn.Conv2d)]
    dice, found = np.random.default_rng(0), OrderedDict()
    for name, layer in zip(names, layers, strict=True):
        out, into, rows, cols = layer.weight.shape
        found[f"{name}/kernel"] = dice.random((rows, cols, into, out), dtype="f4")
        found[f"{name}/bias"] = dice.random(out, dtype="f4")
    return found


def test_a_published_checkpoint_fills_the_whole_network(checkpoint: dict[str, np.ndarray]) -> None:
    assert len(checkpoint) == 46
    weights = from_tensorflow(
        {f"{name}:0": value for name, value in checkpoint.items()} | {"beta1_power": np.ones(())}
    )
    model = MSINet()
    model.load_state_dict(weights)

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    kernels = [value for name, value in checkpoint.items() if name.endswith("kernel")]
    for layer, kernel in zip(layers, kernels, strict=True):
        # One output channel of one input channel is the same small picture in both.
        np.testing.assert_array_equal(layer.weight[-1, 0].detach(), kernel[:, :, 0, -1])
        np.testing.assert_array_equal(layer.weight[0, -1].detach(), kernel[:, :, -1, 0])
    np.testing.assert_array_equal(model.score.bias.detach(), checkpoint["decoder/conv4/bias"])
    assert model.standardise.std.tolist() == [1, 1, 1]


def test_a_checkpoint_that_lacks_a_variable_is_refused(checkpoint: dict[str, np.ndarray]) -> None:
    del (broken := dict(checkpoint))["aspp/conv2/bias"]

    with pytest.raises(ValueError, match="there is no aspp/conv2/bias"):
        from_tensorflow(broken)
