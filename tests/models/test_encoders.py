import pytest
import timm
import torch
from torch import nn

from saccade.models.build import build_model
from saccade.models.encoders import Encoder, build_encoder

NAMES = ["paper", "compact", "residual_attention", "timm:test_resnet"]


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_papers_encoder_has_its_number_of_parameters() -> None:
    assert parameters(build_encoder("paper", in_channels=1)) == 29_344
    assert parameters(build_encoder("paper", in_channels=3)) == 32_480


def test_the_compact_encoder_is_small() -> None:
    assert 50_000 < parameters(build_encoder("compact")) < 250_000


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_features_are_as_long_as_said(name: str, channels: int) -> None:
    encoder = build_encoder(name, in_channels=channels).eval()

    assert encoder(torch.rand(2, channels, 64, 64)).shape == (2, encoder.features)
    assert encoder.mean.shape == encoder.std.shape == (channels,)


def test_a_model_with_a_layer_before_its_classifier_says_the_length_after_it() -> None:
    encoder = build_encoder("timm:mobilenetv3_small_050").eval()

    assert encoder(torch.rand(1, 3, 64, 64)).shape == (1, encoder.features)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_bytes_and_fractions_are_the_same_tile(name: str) -> None:
    encoder = build_encoder(name).eval()
    tiles = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)

    torch.testing.assert_close(encoder(tiles), encoder(tiles / 255))


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_features_do_not_depend_on_the_batch(name: str) -> None:
    encoder = build_encoder(name).eval()
    tiles = torch.rand(3, 3, 64, 64)

    torch.testing.assert_close(encoder(tiles)[1:2], encoder(tiles[1:2]), rtol=1e-4, atol=1e-5)


def test_pixels_are_standardised_by_the_models_own_numbers_and_these_are_saved() -> None:
    encoder = build_encoder("timm:resnet18")

    assert encoder.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert encoder.std.tolist() == pytest.approx([0.229, 0.224, 0.225])
    assert {"standardise.mean", "standardise.std"} <= encoder.state_dict().keys()

    seen = Encoder(nn.Flatten(), features=2, mean=(0.5, 0.2), std=(0.25, 0.1))
    tile = torch.tensor([0.75, 0.5]).view(1, 2, 1, 1)
    assert seen(tile).flatten().tolist() == pytest.approx([1.0, 3.0])


def test_an_even_tile_has_no_noise_blown_up() -> None:
    """Blank glass must not be told apart by the last bit of its white."""
    torch.manual_seed(0)
    encoder = build_encoder("compact").eval()
    white = torch.full((1, 3, 64, 64), 0.95)
    tissue = torch.rand(1, 3, 64, 64)
    nearly = white + torch.randn_like(white) / 255

    gap = (encoder(white) - encoder(nearly)).norm()
    assert gap < 0.1 * (encoder(white) - encoder(tissue)).norm()


def test_weights_of_a_timm_model_are_taken_without_its_classifier() -> None:
    torch.manual_seed(1)
    source = timm.create_model("test_resnet", num_classes=10).eval()
    encoder = build_encoder("timm:test_resnet", state_dict=source.state_dict()).eval()
    tiles = torch.rand(2, 3, 64, 64)

    standard = (tiles - encoder.mean[:, None, None]) / encoder.std[:, None, None]
    expected = source.forward_head(source.forward_features(standard), pre_logits=True)
    torch.testing.assert_close(encoder(tiles), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_trained_model_hands_its_encoder_on(name: str) -> None:
    model = build_model(attention="paper", encoder=name, classes=2).eval()
    heir = build_encoder(name, state_dict=model.state_dict()).eval()
    tiles = torch.rand(2, 3, 64, 64)

    assert torch.equal(heir(tiles), model.encoder(tiles))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.popitem(last=False), "1 are missing, 0 are unknown"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "1 are unknown .* such as 'extra'"),
        (
            lambda weights: weights.update(bn1_bias=weights["bn1.bias"]),
            "0 are missing, 1 are unknown",
        ),
        (
            lambda weights: weights.update({"bn1.bias": torch.zeros(1)}),
            "1 have another shape, such as 'bn1.bias'",
        ),
    ],
)
def test_weights_of_another_model_are_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    weights = timm.create_model("test_resnet", num_classes=10).state_dict()
    change(weights)

    with pytest.raises(ValueError, match=f"not of the encoder 'timm:test_resnet': .*{message}"):
        build_encoder("timm:test_resnet", state_dict=weights)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg", {}, "no encoder 'vgg'; there are: paper, compact, residual_attention, timm:NAME"),
        ("timm:resnet81", {}, "timm has no model 'resnet81'; close to it: .*resnet"),
        ("compact", {"pretrained": True}, "no published weights of the encoder 'compact'"),
        ("paper", {"state_dict": {}}, "not of the encoder 'paper': 8 are missing"),
        ("timm:test_resnet", {"pretrained": True, "state_dict": {}}, "choose one"),
        ("compact", {"width": 12}, "multiple of 8"),
    ],
)
def test_impossible_encoders_are_refused(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_encoder(name, **options)  # type: ignore[arg-type]


def test_a_tile_of_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="need 3 channels, got 1"):
        build_encoder("compact")(torch.rand(1, 1, 64, 64))


def test_impossible_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="a mean and a positive std"):
        Encoder(nn.Identity(), features=1, mean=(0.5,), std=(0.0,))
