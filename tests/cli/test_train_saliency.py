"""`saccade train` with settings of `kind: saliency`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from saccade.cli.main import app
from tests.cohort import TinyCohort

SETTINGS = """
kind: saliency
view: {mpp: 16}
targets: {folder: FOLDER}
network: {width: 8, convolutions: 1}
training: {epochs: 1, learning_rate: 1e-3}
"""


@pytest.fixture
def settings(tmp_path: Path, cohort: TinyCohort, one_thread: None) -> Path:
    for row in cohort.rows:
        (tmp_path / f"{row.slide}.csv").write_text("x_l0,y_l0\n300,200\n500,300\n")
    (tmp_path / "saliency.yaml").write_text(SETTINGS.replace("FOLDER", str(tmp_path)))
    return tmp_path / "saliency.yaml"


def train(settings: Path, cohort: TinyCohort, pyramids: Path, *more: str) -> Result:
    out = settings.parent / "out"
    command = ["train", settings, "--slides", cohort.sheet, "--out", out, "--pyramids", pyramids]
    return CliRunner().invoke(app, [*map(str, command), "--device", "cpu", *more])


def test_a_run_ends_with_a_model(settings: Path, cohort: TinyCohort, pyramids: Path) -> None:
    result = train(settings, cohort, pyramids)

    assert result.exit_code == 0, result.output
    assert "epoch   1/1  train loss" in result.output
    assert "val loss" in result.output
    assert (settings.parent / "out" / "model.safetensors").is_file()


def test_a_slide_that_is_left_out_is_named(
    settings: Path, cohort: TinyCohort, pyramids: Path
) -> None:
    (settings.parent / "s0.csv").unlink()

    result = train(settings, cohort, pyramids)

    assert result.exit_code == 1
    assert "has no target" in " ".join(result.output.split())
    metrics = (settings.parent / "out" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(metrics[0])["epoch"] == 1


def test_a_saliency_run_has_no_folds(settings: Path, cohort: TinyCohort, pyramids: Path) -> None:
    assert train(settings, cohort, pyramids, "--fold", "0").exit_code == 2
