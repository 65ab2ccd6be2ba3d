"""`saccade train` with settings of `kind: detection`."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from saccade.cli.main import app
from saccade.pipeline.detection.model_file import load_detection_model
from tests.cohort import write_sheet
from tests.drawn_discs import draw_discs, write_discs

SETTINGS = """
kind: detection
annotations: {folder: FOLDER, classes: [background, disc]}
tiles: {size_px: 64, per_epoch: 24, least_share: 0.5}
network:
  name: faster_rcnn:test_resnet
  options: {coarsest: null, sides_px: [10, 14], ratios: [1], hidden: 32}
training: {epochs: 8, batch: 1, learning_rate: 2e-3, warmup_epochs: 0}
"""


@pytest.fixture
def settings(tmp_path: Path, one_thread: None) -> Path:
    write_sheet(tmp_path / "slides.csv", write_discs(tmp_path))
    (tmp_path / "run.yaml").write_text(SETTINGS.replace("FOLDER", str(tmp_path)))
    return tmp_path / "run.yaml"


def train(settings: Path, *more: str) -> Result:
    folder = settings.parent
    command = ["train", settings, "--slides", folder / "slides.csv", "--out", folder / "out"]
    return CliRunner().invoke(app, [*map(str, command), "--device", "cpu", *more])


def test_a_run_learns_to_find_discs(settings: Path) -> None:
    result = train(settings)

    assert result.exit_code == 0, result.output
    assert "epoch   8/8  train loss" in result.output
    assert "AP50" in result.output
    lines = (settings.parent / "out" / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(line)["val"]["ap50"] for line in lines) > 0.8
    detector, card = load_detection_model(settings.parent / "out" / "model.safetensors")
    assert card.options["sides_px"] == [10, 14]
    pixels, numbers = draw_discs(99)
    tile = torch.from_numpy(pixels).movedim(-1, 0)[None]
    (found,) = detector.find(tile, min_score=card.training["val"]["score"])
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    on_discs = [int(numbers[int(y), int(x)]) for x, y in centres.tolist()]
    assert len(set(on_discs) - {0}) >= 7  # of nine, of which some touch
    assert on_discs.count(0) <= 1


def test_a_slide_that_is_left_out_is_named(settings: Path) -> None:
    (settings.parent / "d0_instances.png").unlink()
    text = settings.read_text().replace("per_epoch: 24", "per_epoch: 2")
    settings.write_text(text.replace("epochs: 8", "epochs: 1"))

    result = train(settings)

    assert result.exit_code == 1
    assert "has no annotations" in " ".join(result.output.split())
    assert (settings.parent / "out" / "model.safetensors").is_file()


def test_a_detection_run_has_no_folds(settings: Path) -> None:
    assert train(settings, "--fold", "0").exit_code == 2
