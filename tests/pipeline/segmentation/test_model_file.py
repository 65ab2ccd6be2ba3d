"""A segmentation model is one file; networks come by name; any other file is refused."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from saccade.pipeline.errors import ModelFileError
from saccade.pipeline.segmentation.model_file import (
    SegmentationCard,
    load_segmentation_model,
    read_segmentation_card,
    save_segmentation_model,
)
from saccade.pipeline.segmentation.network import as_segmenter, segmentation_network
from saccade.pipeline.segmentation.probabilities import shown_probabilities

CARD = SegmentationCard(
    mpp=0.5,
    classes=("background", "nucleus", "rim"),
    network="fcn:test_resnet",
    options={"finest": 4},
    tile_px=96,
    instances="nucleus",
    rim="rim",
    training={"epoch": 3},
)
NETWORKS: dict[str, dict[str, Any]] = {
    "fcn8s": {"widths": [2, 2, 2, 2, 2], "hidden": 2},
    "fcn16s": {"widths": [2, 2, 2, 2, 2], "hidden": 2},
    "fcn32s": {"widths": [2, 2, 2, 2, 2], "hidden": 2},
    "fcn:test_resnet": {"finest": 8},
    "smp:unet/resnet18": {"encoder_depth": 3, "decoder_channels": [8, 8, 4]},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_segmentation_model(tmp_path / "model.safetensors", CARD.build().state_dict(), CARD)
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_scores_every_pixel_of_bytes_and_of_light_alike(name: str) -> None:
    torch.manual_seed(0)
    network = segmentation_network(name, classes=3, options=NETWORKS[name]).eval()
    for value in network.parameters():  # fresh scores are zero
        if not value.any():
            torch.nn.init.normal_(value)
    pixels = torch.randint(0, 256, (2, 3, 40, 50), dtype=torch.uint8)
    with torch.no_grad():
        scores, of_light = network(pixels), network(pixels.float() / 255)

    assert scores.shape == (2, 3, 40, 50)
    assert scores.std() > 0
    torch.testing.assert_close(of_light, scores, rtol=1e-4, atol=1e-4 * float(scores.abs().max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_says_its_stride_and_what_its_trunk_is(name: str) -> None:
    network = as_segmenter(segmentation_network(name, classes=2, options=NETWORKS[name]))

    assert network.stride == {"fcn:test_resnet": 32, "smp:unet/resnet18": 8}.get(name, 32)
    assert sum(p.numel() for p in network.trunk.parameters()) > 0


def test_the_published_networks_have_their_margin() -> None:
    network = segmentation_network("fcn8s", classes=2, options=NETWORKS["fcn8s"])

    assert as_segmenter(network).margin == 224


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {}, "there is no network 'unet'; wanted fcn8s, fcn16s"),
        ("smp:unet", {}, "there is no network 'smp:unet'"),
        ("fcn:", {}, "there is no network 'fcn:'"),
        ("fcn8s", {"finest": 4}, "network fcn8s does not take its options"),
        ("fcn:resnet81", {}, "timm has no model 'resnet81'"),
    ],
)
def test_what_there_is_not_is_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        segmentation_network(name, classes=2, options=options)


def test_the_file_says_all_and_computes_the_same(model: Path) -> None:
    loaded, card = load_segmentation_model(model)
    torch.manual_seed(0)
    saved = CARD.build().eval()
    view = torch.randint(0, 256, (1, 3, 40, 44), dtype=torch.uint8)

    assert card == CARD
    assert card.shown == ("background", "nucleus")
    assert not loaded.training
    assert torch.equal(loaded(view), saved(view))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mpp": 0.0}, "mpp must be positive"),
        ({"classes": ("background",)}, "two different names or more"),
        ({"classes": ("a", "nucleus", "rim", "a")}, "two different names or more"),
        ({"tile_px": 0}, "tile_px must be positive"),
        ({"instances": "cell"}, "instances must be a class after the background"),
        ({"rim": "background"}, "rim must be a class after the background"),
        ({"instances": None}, "a rim is part of another class"),
    ],
)
def test_impossible_cards_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CARD, **change)


def test_a_rim_counts_as_the_class_it_is_part_of() -> None:
    scores = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    shown, all_three = shown_probabilities(scores, CARD), scores.softmax(dim=1)

    torch.testing.assert_close(shown[:, 0], all_three[:, 0])
    torch.testing.assert_close(shown[:, 1], all_three[:, 1] + all_three[:, 2])
    plain = dataclasses.replace(CARD, rim=None)
    torch.testing.assert_close(shown_probabilities(scores, plain), all_three)


def test_what_is_no_segmentation_model_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file; wanted a segmentation model"):
        read_segmentation_card(tmp_path / "none.safetensors")
    other = tmp_path / "other.safetensors"
    header = {"format": "saccade-saliency", "version": 1}
    save_file(load_file(model), other, metadata={"saccade": json.dumps(header)})
    with pytest.raises(ModelFileError, match="is not a segmentation model"):
        read_segmentation_card(other)


def test_weights_of_another_network_are_refused(model: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(CARD, options={"finest": 8})
    save_segmentation_model(tmp_path / "other.safetensors", load_file(model), other)

    with pytest.raises(ModelFileError, match="its weights do not fit its network"):
        load_segmentation_model(tmp_path / "other.safetensors")
    damaged = dataclasses.replace(CARD, network="fcn:no_such")
    save_segmentation_model(tmp_path / "other.safetensors", load_file(model), damaged)
    with pytest.raises(ModelFileError, match="timm has no model"):
        load_segmentation_model(tmp_path / "other.safetensors")
