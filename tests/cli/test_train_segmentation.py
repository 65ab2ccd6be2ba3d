"""`saccade train` with settings of `kind: segmentation`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from saccade.cli.main import app
from tests.cohort import write_sheet
from tests.drawn_discs import write_discs

SETTINGS = """
kind: segmentation
annotations: {folder: FOLDER, classes: [background, disc]}
tiles: {size_px: 48, per_epoch: 40}
network: {name: fcn:test_resnet, options: {finest: 2}}
objects: {rim_um: 1}
training: {epochs: 2, batch: 4, learning_rate: 1e-2, warmup_epochs: 0}
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
    assert "epoch   2/2  train loss" in result.output
    assert "mIoU" in result.output
    lines = (settings.parent / "out" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["val"]["mean_iu"] > 0.9
    assert (settings.parent / "out" / "model.safetensors").is_file()


def test_a_slide_that_is_left_out_is_named(settings: Path) -> None:
    (settings.parent / "d0_instances.png").unlink()
    text = settings.read_text().replace("per_epoch: 40", "per_epoch: 4")
    settings.write_text(text.replace("epochs: 2", "epochs: 1"))

    result = train(settings)

    assert result.exit_code == 1
    assert "has no annotations" in " ".join(result.output.split())
    assert (settings.parent / "out" / "model.safetensors").is_file()


def test_a_segmentation_run_has_no_folds(settings: Path) -> None:
    assert train(settings, "--fold", "0").exit_code == 2
