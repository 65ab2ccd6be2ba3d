"""Which network makes features: what belongs together, and what is refused in words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from saccade.models.encoders import build_encoder
from saccade.pipeline.embed.encoder import EncoderChoice, parsed_options
from saccade.pipeline.errors import ConfigError, DivergedError, ModelFileError

TILES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def by_name(name: str = "test_resnet", **changes: object) -> EncoderChoice:
    return EncoderChoice(**{"name": name, "tile_px": 64, "tile_mpp": 0.5} | changes)  # type: ignore[arg-type]


@torch.inference_mode()
def test_weights_come_from_the_file_and_pixels_are_as_timm_wants_them(tmp_path: Path) -> None:
    torch.manual_seed(7)
    wanted = build_encoder("timm:test_resnet").eval()
    save_file(wanted.trunk.state_dict(), tmp_path / "weights.safetensors")
    encoder = by_name(weights=tmp_path / "weights.safetensors").load("cpu")

    config = wanted.trunk.pretrained_cfg
    mean, std = (np.array(config[key], np.float32) for key in ("mean", "std"))
    pixels = (TILES.astype(np.float32) / 255 - mean) / std
    by_hand = wanted.trunk(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    np.testing.assert_allclose(encoder.encode(TILES), by_hand, atol=1e-5)
    assert encoder.dims == by_hand.shape[1]
    assert encoder.about["encoder"] == "timm:test_resnet"
    assert encoder.about["weights"].startswith("sha256:")
    assert (encoder.about["pixel_mean"], encoder.about["pixel_std"]) == (
        list(config["mean"]),
        list(config["std"]),
    )


def test_an_untrained_encoder_is_always_the_same_one() -> None:
    first = by_name("compact").load("cpu").encode(TILES)
    torch.rand(1)
    state = torch.get_rng_state()

    np.testing.assert_array_equal(by_name("compact").load("cpu").encode(TILES), first)
    assert torch.equal(torch.get_rng_state(), state)  # and nobody else's dice were thrown
    assert by_name("compact").untrained
    assert by_name("compact").inputs["weights"] == "untrained"
    for name in ("hf-hub:owner/name", "timm:hf-hub:owner/name"):
        assert not by_name(name).untrained
        assert by_name(name).inputs["encoder"] == "timm:hf-hub:owner/name"


def test_options_reach_the_encoder() -> None:
    with pytest.raises(ConfigError, match="does not take tiles of 64 px"):
        by_name("vit_tiny_patch16_224").load("cpu")
    options = parsed_options(["img_size=64"])
    smaller = by_name("vit_tiny_patch16_224", options=options).load("cpu")
    assert smaller.encode(TILES).shape == (3, smaller.dims)


def test_features_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    weights = build_encoder("compact").trunk.state_dict()
    broken = {name: value * torch.nan for name, value in weights.items()}
    save_file(broken, tmp_path / "weights.safetensors")
    with pytest.raises(DivergedError, match="features that are not numbers"):
        by_name("compact", weights=tmp_path / "weights.safetensors").load("cpu")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, "either --model or --encoder"),
        ({"name": "resnet18", "model": Path("m")}, "either --model or --encoder"),
        ({"name": "resnet18", "tile_px": 224}, "--tile-px 224 --tile-mpp 0.5"),
        ({"model": Path("m"), "tile_px": 224}, "knows its weights and its tiles"),
    ],
)
def test_what_does_not_belong_together_is_refused(choice: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderChoice(**choice)  # type: ignore[arg-type]


def test_unknown_encoders_lost_weights_and_odd_options_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"timm has no model 'resnet81'; close to it: .*resnet18"):
        by_name("resnet81").load("cpu")
    with pytest.raises(ModelFileError, match="there is no such file; wanted weights of test_resn"):
        _ = by_name(weights=tmp_path / "none.safetensors").inputs
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="not of the encoder 'timm:test_resnet'"):
        by_name(weights=tmp_path / "other.safetensors").load("cpu")
    with pytest.raises(ConfigError, match="KEY=VALUE, got 'init_values'"):
        parsed_options(["init_values"])
