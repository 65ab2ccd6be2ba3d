"""Detection runs: what they leave, what of a detector learns, and what tiles show."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.pipeline.annotations.balanced import Aim
from saccade.pipeline.annotations.config import AnnotationsConfig
from saccade.pipeline.annotations.slides import load_annotated
from saccade.pipeline.config import AugmentConfig
from saccade.pipeline.detection.batches import ObjectTiles
from saccade.pipeline.detection.config import (
    DetectionConfig,
    DetectionNetworkConfig,
    DetectionTilesConfig,
    DetectionTrainingConfig,
)
from saccade.pipeline.detection.first_weights import card_of, fresh_detector
from saccade.pipeline.detection.model_file import load_detection_model, save_detection_model
from saccade.pipeline.detection.train import train_detection
from saccade.pipeline.errors import ConfigError, ResultsError, SheetError
from saccade.pipeline.reading import TileReader
from saccade.pipeline.sheet import SheetRow
from tests.drawn_discs import MPP, write_discs


def config_of(folder: Path, **training: Any) -> DetectionConfig:
    settings: dict[str, Any] = {"epochs": 2, "learning_rate": 2e-3, "batch": 1, "warmup_epochs": 0}
    options = {"stride": 4, "coarsest": None, "sides_px": [10, 14], "ratios": [1.0], "hidden": 32}
    return DetectionConfig(
        annotations=AnnotationsConfig(folder=str(folder), classes=("background", "disc")),
        tiles=DetectionTilesConfig(size_px=64, mpp=MPP, per_epoch=12, validation=2),
        network=DetectionNetworkConfig(name="faster_rcnn:test_resnet", options=options),
        augment=AugmentConfig(tile_stain=0.0),
        training=DetectionTrainingConfig(**(settings | training)),
    )


@pytest.fixture
def rows(tmp_path: Path, one_thread: None) -> list[SheetRow]:
    """Three slides to fit, and one to choose the epoch by."""
    return write_discs(tmp_path)


def test_a_run_leaves_a_model_and_a_record(rows: list[SheetRow], tmp_path: Path) -> None:
    result = train_detection(config_of(tmp_path), rows, tmp_path / "run")

    best = min(result.history, key=lambda line: line["val"]["loss"])
    assert best["val"]["loss"] == 1 - best["val"]["ap50"]
    assert 0 <= best["val"]["f1"] <= 1
    _, card = load_detection_model(result.model)
    assert (card.mpp, card.classes, card.tile_px) == (MPP, ("disc",), 64)
    assert (card.training["epoch"], card.training["val"]) == (best["epoch"], best["val"])
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["step"] == "train detection"
    assert len(record["inputs"]["slides_and_annotations"]) == len(rows)
    assert "folder" not in record["inputs"]["config"]["annotations"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    optimizer: str, rows: list[SheetRow], tmp_path: Path
) -> None:
    config = config_of(tmp_path, optimizer=optimizer, batch=4)

    class KilledError(Exception):
        pass

    def kill(line: dict[str, Any]) -> None:
        raise KilledError

    train_detection(config, rows, tmp_path / "whole")
    with pytest.raises(KilledError):
        train_detection(config, rows, tmp_path / "cut", report=kill)
    train_detection(config, rows, tmp_path / "cut")

    for name in ("model.safetensors", "last.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with pytest.raises(ResultsError, match="other settings"):
        train_detection(config_of(tmp_path, seed=1), rows, tmp_path / "cut")


@pytest.mark.parametrize("policy", ["frozen", "last_block"])
def test_what_is_frozen_stays_and_the_rest_learns(
    policy: Any, rows: list[SheetRow], tmp_path: Path
) -> None:
    config = config_of(tmp_path, epochs=1, finetune=policy)
    before = fresh_detector(config).state_dict()

    train_detection(config, rows, tmp_path / "run")

    after = load_detection_model(tmp_path / "run" / "last.safetensors")[0].state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    of_trunk = {name for name in changed if name.startswith("trunk.network.")}
    last = {name for name in before if name.startswith("trunk.network.layer1.")}
    assert of_trunk == (set() if policy == "frozen" else last & changed)
    assert (policy == "last_block") == bool(of_trunk)
    assert any(name.startswith("head.") for name in changed)


def test_tiles_and_their_objects_are_turned_alike(rows: list[SheetRow], tmp_path: Path) -> None:
    """Discs are dark and nothing else is, so what is dark has to be what is known."""
    config = config_of(tmp_path)
    slides = load_annotated(rows, config).train
    seen = 0
    with TileReader(size_px=64, mpp=MPP, workers=1) as reader:
        source = ObjectTiles(slides, config, reader)
        aims = [Aim(0, None, (10, 5)), Aim(1, None, (32, 30)), Aim(2, None, (40, 20))]
        for epoch in range(3):
            for batch in source.batches(aims, epoch=epoch):
                assert batch is not None
                for tile, known in zip(batch.pixels, batch.known, strict=True):
                    dark = tile.float().mean(dim=0) < 150
                    for x1, y1, x2, y2 in known.boxes.int().tolist():
                        box = dark[y1:y2, x1:x2]
                        assert box[0].any()
                        assert box[-1].any()
                        assert box[:, 0].any()
                        assert box[:, -1].any()
                        seen += 1
    assert seen > 10


def test_what_is_not_known_is_shown_white(rows: list[SheetRow], tmp_path: Path) -> None:
    square = [[[16, 16], [48, 16], [48, 48], [16, 48], [16, 16]]]
    shape = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": square},
        "properties": {"classification": {"name": "disc"}},
    }
    for row in rows:
        (tmp_path / f"{row.slide}.geojson").write_text(json.dumps(shape))
    annotations = AnnotationsConfig(
        kind="outlines",
        folder=str(tmp_path),
        classes=("background", "disc"),
        unannotated="ignored",
    )
    config = dataclasses.replace(config_of(tmp_path), annotations=annotations)
    slides = load_annotated(rows, config).train
    with TileReader(size_px=64, mpp=MPP, workers=1) as reader:
        (batch,) = ObjectTiles(slides, config, reader).batches([Aim(0, None, (0, 0))])

    assert batch is not None
    assert batch.known[0].boxes.tolist() == [[16, 16, 48, 48]]
    white = (batch.pixels[0] == 255).all(dim=0)
    assert not white[16:48, 16:48].any()
    assert white.sum() == 64 * 64 - 32 * 32


def test_training_begins_from_a_detector_or_from_its_trunk(
    rows: list[SheetRow], tmp_path: Path
) -> None:
    import timm

    config = config_of(tmp_path)
    torch.manual_seed(5)
    saved, whole = card_of(config).build(), timm.create_model("test_resnet")
    save_detection_model(tmp_path / "first.safetensors", saved.state_dict(), card_of(config))
    torch.save(whole.state_dict(), tmp_path / "trunk.pt")

    def begun(name: str) -> Any:
        network = dataclasses.replace(config.network, weights=str(tmp_path / name))
        return fresh_detector(dataclasses.replace(config, network=network))

    for name, value in begun("first.safetensors").state_dict().items():
        assert torch.equal(value, saved.state_dict()[name])
    from_trunk = begun("trunk.pt").backbone.state_dict()
    assert from_trunk
    for name, value in from_trunk.items():
        assert torch.equal(value, whole.state_dict()[name])
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ConfigError, match="holds neither this detector nor its trunk"):
        begun("other.pt")


def test_unknown_detectors_and_missing_annotations_are_named(
    rows: list[SheetRow], tmp_path: Path
) -> None:
    config = config_of(tmp_path)
    for network, message in (
        (DetectionNetworkConfig(name="yolo"), "no detector 'yolo'"),
        (dataclasses.replace(config.network, options={"depth": 3}), "no option 'depth'"),
        (dataclasses.replace(config.network, options={"norm": []}), "network.name faster_rcnn"),
    ):
        with pytest.raises(ConfigError, match=message):
            fresh_detector(dataclasses.replace(config, network=network))
    (tmp_path / "d1_instances.png").unlink()
    result = train_detection(config_of(tmp_path, epochs=1), rows, tmp_path / "run")
    assert "has no annotations" in result.failures["d1"]
    with pytest.raises(SheetError, match="found none"):
        train_detection(config, rows[1:2], tmp_path / "none")
