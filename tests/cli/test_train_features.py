"""`saccade train` with settings of `kind: features`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from saccade.cli.main import app
from tests.cohort import write_sheet
from tests.pipeline.bags.feature_files import known_cohort

SETTINGS = """
kind: features
features: {folder: FOLDER}
model: {head: abmil, width: 4}
splits: {folds: FOLDS}
training: {epochs: 1}
"""


@pytest.fixture
def desk(tmp_path: Path, one_thread: None) -> Path:
    write_sheet(tmp_path / "slides.csv", known_cohort(tmp_path / "features"))
    return tmp_path


def train(desk: Path, *more: str, folds: int = 0) -> Result:
    text = SETTINGS.replace("FOLDER", str(desk / "features")).replace("FOLDS", str(folds))
    (desk / "features.yaml").write_text(text)
    command = ["train", desk / "features.yaml", "--slides", desk / "slides.csv"]
    return CliRunner().invoke(
        app, [*map(str, command), "--out", str(desk / "out"), "--device", "cpu", *more]
    )


def test_a_run_ends_with_a_model(desk: Path) -> None:
    result = train(desk)

    assert result.exit_code == 0, result.output
    assert "epoch   1/1  train loss" in result.output
    assert (desk / "out" / "model.safetensors").is_file()


def test_a_slide_without_features_is_named(desk: Path) -> None:
    (desk / "features" / "s0.h5").unlink()

    result = train(desk)

    assert result.exit_code == 1
    assert "s0: has no features" in " ".join(result.output.split())


def test_one_fold_is_trained_if_asked(desk: Path) -> None:
    sheet = (desk / "slides.csv").read_text().replace(",test,", ",,")
    (desk / "slides.csv").write_text(sheet)

    result = train(desk, "--fold", "1", folds=3)

    assert result.exit_code == 0, result.output
    assert "fold 1, of folds 0 to 2" in result.output
    assert (desk / "out" / "fold_1" / "results" / "metrics.json").is_file()
    assert not (desk / "out" / "fold_0" / "model.safetensors").exists()
