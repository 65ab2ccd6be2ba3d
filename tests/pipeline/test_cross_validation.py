"""Folds trained one by one or in turn, and what is said of them together."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saccade.pipeline.config import RunConfig, SplitsConfig
from saccade.pipeline.cross_validation import CrossValidation, cross_validate
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.evaluate import evaluate
from saccade.pipeline.sheet import of_split, read_sheet
from saccade.pipeline.train import train
from tests.cohort import TinyCohort, with_training

PAGE = Path(__file__).parents[2] / "docs" / "files.md"
THREE = replace(with_training(epochs=1), splits=SplitsConfig(folds=3))


class Run:
    """Trains folds of the tiny cohort, whose `test` slides are no part of them."""

    def __init__(self, cohort: TinyCohort, pyramids: Path) -> None:
        self.cohort, self.pyramids = cohort, pyramids

    def __call__(self, out: Path, config: RunConfig = THREE, **rest: Any) -> CrossValidation:
        return cross_validate(config, self.cohort.rows, out, pyramids=self.pyramids, **rest)


@pytest.fixture(scope="module")
def run(cohort: TinyCohort, pyramids: Path, one_thread: None) -> Run:
    return Run(cohort, pyramids)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """All three folds, trained in turn; tests must not change them."""
    out = tmp_path_factory.mktemp("folds")
    run(out)
    return out


def summary(out: Path) -> Any:
    return json.loads((out / "cross_validation.json").read_text())


def test_each_fold_predicts_what_it_held_out(whole: Path) -> None:
    predicted = []
    for fold in range(3):
        folder = whole / f"fold_{fold}"
        held_out = {row.slide for row in of_split(read_sheet(folder / "slides.csv"), "test")}
        record = json.loads((folder / "record.json").read_text())
        results = {path.parent.name for path in (folder / "results").glob("*/prediction.json")}
        assert results == held_out
        assert not held_out & {*record["inputs"]["train"], *record["inputs"]["val"]}
        predicted += sorted(results)
    assert sorted(predicted) == ["s0", "s1", "s2", "s3", "s4", "s5"]


def test_a_fold_is_an_ordinary_run_on_its_sheet(whole: Path, run: Run, tmp_path: Path) -> None:
    fold = whole / "fold_1"
    rows = read_sheet(fold / "slides.csv")
    train(THREE, rows, tmp_path / "run", pyramids=run.pyramids)
    evaluation = evaluate(fold / "results", of_split(rows, "test"), tmp_path / "evaluated")

    model = "model.safetensors"
    assert (tmp_path / "run" / model).read_bytes() == (fold / model).read_bytes()
    found = summary(whole)["folds"][1]
    found["auc_interval_95"] = tuple(found["auc_interval_95"])
    assert found == {"fold": 1, **evaluation.metrics, "missing": []}


def test_mean_and_spread_are_those_of_the_folds(whole: Path) -> None:
    found = summary(whole)
    losses = [fold["loss"] for fold in found["folds"]]

    assert [fold["slides"] for fold in found["folds"]] == [2, 2, 2]
    assert set(found["metrics"]) == {
        "loss", "accuracy", "balanced_accuracy", "auc", "brier", "calibration_error"
    }  # fmt: skip
    assert found["metrics"]["loss"] == {
        "mean": pytest.approx(np.mean(losses)),
        "sd": pytest.approx(np.std(losses, ddof=1)),
        "folds": 3,
    }


def test_folds_one_by_one_are_the_folds_in_turn(whole: Path, run: Run, tmp_path: Path) -> None:
    assert run(tmp_path, only=2).summary is None
    assert not (tmp_path / "cross_validation.json").exists()
    assert not (tmp_path / "fold_0" / "model.safetensors").exists()
    run(tmp_path, only=0)
    found = run(tmp_path, only=1).summary

    assert found == summary(tmp_path) == summary(whole)


def test_folds_of_other_settings_are_not_counted_together(run: Run, tmp_path: Path) -> None:
    for fold in range(2):
        run(tmp_path, only=fold)
    other = replace(THREE, training=replace(THREE.training, learning_rate=0.1))

    assert run(tmp_path, other, only=2).summary is None
    assert run(tmp_path, replace=True, only=2).summary is not None


def test_what_is_done_is_not_done_again(whole: Path, run: Run) -> None:
    written = {path: path.stat().st_mtime_ns for path in whole.glob("fold_*/*.safetensors")}
    reported: list[object] = []
    announced: list[int] = []
    before = summary(whole)
    run(whole, report=reported.append, announce=announced.append)

    assert announced == [0, 1, 2]
    assert reported == []
    assert len(written) == 6
    assert summary(whole) == before


@pytest.mark.parametrize(
    ("config", "only", "message"),
    [
        (THREE, 3, "there is no fold 3; there are folds 0 to 2"),
        (THREE, -1, "there is no fold -1"),
        (with_training(), 0, "there are no folds: set splits.folds"),
    ],
)
def test_a_fold_that_is_none_is_refused(
    run: Run, tmp_path: Path, config: RunConfig, only: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, config, only=only)


def test_the_page_of_files_explains_what_is_left(whole: Path) -> None:
    text = PAGE.read_text().partition("## Of a cross-validation")[2].partition("\n## ")[0]
    found, fold = summary(whole), whole / "fold_0"
    names = {re.sub(r"^fold_\d$", "fold_<i>/", path.name) for path in whole.iterdir()}
    names |= {"fold_<i>/slides.csv"} if (fold / "slides.csv").is_file() else set()
    names |= {"fold_<i>/results/"} if (fold / "results").is_dir() else set()
    names |= {*found, "fold", *found["metrics"]["loss"]}

    assert len(names) == 10
    assert {name for name in names if f"`{name}`" not in text} == set()
