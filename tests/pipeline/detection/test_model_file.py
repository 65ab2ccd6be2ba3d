"""Detectors by name, and in a file; any other name, option or file is refused, saying what is."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from saccade.models.detector import Known
from saccade.pipeline.detection.model_file import (
    DetectionCard,
    load_detection_model,
    read_detection_card,
    save_detection_model,
)
from saccade.pipeline.detection.network import build_detector
from saccade.pipeline.errors import ModelFileError

OPTIONS = {"stride": 8, "sides_px": [12, 24]}
CARD = DetectionCard(
    mpp=0.25,
    classes=("nucleus", "mitosis"),
    network="faster_rcnn:test_resnet",
    options=OPTIONS | {"hidden": 16},
    tile_px=96,
    training={"epoch": 3},
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_detection_model(tmp_path / "model.safetensors", CARD.build().state_dict(), CARD)
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("faster_rcnn:test_resnet", OPTIONS),
        ("window:test_resnet", OPTIONS),
        ("torchvision:ssdlite320_mobilenet_v3_large", {"enlarge": 2.0}),
    ],
)
def test_every_kind_learns_and_finds_alike(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    detector = build_detector(name, classes=2, options=options)
    tiles = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    known = [
        Known(torch.tensor([[8.0, 8, 20, 30], [40, 40, 56, 50]]), torch.tensor([1, 0])),
        Known(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
    ]

    loss, again = (
        detector.train().loss(tiles, known, generator=torch.Generator().manual_seed(2))
        for _ in range(2)
    )
    loss.backward()

    assert loss.shape == ()
    torch.testing.assert_close(loss, again)
    assert any(p.grad is not None for p in detector.backbone.parameters())
    for found in detector.eval().find(tiles, min_score=0.0):
        assert found.boxes.shape == (len(found.scores), 4)
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes <= torch.tensor([96, 64, 96, 64])).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()
        assert ((found.classes >= 0) & (found.classes < 2)).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("yolo:v3", {}, "no detector 'yolo:v3'; there are: faster_rcnn:NAME, torchvision:NAME"),
        ("window", {}, "no detector 'window'"),
        ("window:no_net", {}, "timm has no model 'no_net'"),
        ("window:test_resnet", {"hidden": 3}, "no option 'hidden'; it has: stride, sides_px"),
    ],
)
def test_unknown_names_and_options_are_refused(
    name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_detector(name, classes=1, options=options)


def test_the_file_says_all_and_finds_the_same(model: Path) -> None:
    loaded, card = load_detection_model(model)
    torch.manual_seed(0)
    saved = CARD.build().eval()
    tiles = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)

    assert card == CARD
    assert not loaded.training
    for ours, theirs in zip(loaded.find(tiles)[0], saved.find(tiles)[0], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mpp": 0.0}, "mpp must be positive"),
        ({"classes": ()}, "one name or more"),
        ({"classes": ("a", "a")}, "each once"),
        ({"tile_px": 0}, "tile_px must be at least 1"),
    ],
)
def test_impossible_cards_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CARD, **change)


def test_what_is_no_detector_is_refused(model: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is not a detector"):
        read_detection_card(trained / "model.safetensors")
    with pytest.raises(ModelFileError, match="no such file; wanted a detector"):
        read_detection_card(tmp_path / "none.safetensors")


def test_weights_of_another_network_are_refused(model: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(CARD, classes=("nucleus",))
    save_detection_model(tmp_path / "other.safetensors", load_file(model), other)

    with pytest.raises(ModelFileError, match="do not fit its network"):
        load_detection_model(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("change", "message"), [({"version": 2}, "upgrade Saccade"), ({"mpp": "x"}, "damaged")]
)
def test_newer_and_damaged_descriptions_are_refused(
    model: Path, change: dict[str, Any], message: str
) -> None:
    header = {"format": "saccade-detection", "version": 1, **dataclasses.asdict(CARD)} | change
    save_file(load_file(model), model, metadata={"saccade": json.dumps(header)})

    with pytest.raises(ModelFileError, match=message):
        read_detection_card(model)
