import csv
import json
from pathlib import Path
from typing import Any

import pytest

from saccade.pipeline.errors import ResultsError
from saccade.pipeline.evaluate import evaluate
from saccade.pipeline.files import write_json
from saccade.pipeline.sheet import SheetRow


def rows(*labels: str) -> list[SheetRow]:
    return [
        SheetRow(f"s{i}", Path(f"s{i}.svs"), label, f"p{i}", "test")
        for i, label in enumerate(labels)
    ]


def write(
    results: Path, slide: str, *probabilities: float, model: str = "sha256:m", **changes: Any
) -> None:
    by_class = dict(zip("abc", probabilities, strict=False))
    prediction = {
        "slide": slide,
        "label": max(by_class, key=lambda name: by_class[name]),
        "probabilities": by_class,
        "tiles_read": 16,
        "share_of_level_0_read": 0.0123,
    }
    write_json(results / slide / "prediction.json", {**prediction, **changes})
    write_json(results / slide / "record.json", {"inputs": {"model": model}})


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_a_slide_in_the_order_of_the_sheet(tmp_path: Path) -> None:
    write(tmp_path, "s1", 0.2, 0.8)
    write(tmp_path, "s0", 0.75, 0.25)
    evaluate(tmp_path, rows("a", "b"), tmp_path)

    assert table(tmp_path) == [
        {
            "slide": "s0",
            "patient": "p0",
            "split": "test",
            "label": "a",
            "predicted": "a",
            "prob_a": "0.750000",
            "prob_b": "0.250000",
            "tiles_read": "16",
            "share_of_level_0_read": "0.0123",
            "status": "ok",
        },
        table(tmp_path)[1] | {"slide": "s1", "label": "b", "predicted": "b"},
    ]


def test_metrics_are_those_of_a_hand(tmp_path: Path) -> None:
    """Of four pairs of an `a` and a `b`, three are in order."""
    for slide, probability in zip(("s0", "s1", "s2", "s3"), (0.1, 0.6, 0.4, 0.9), strict=True):
        write(tmp_path, slide, 1 - probability, probability)
    evaluation = evaluate(tmp_path, rows("a", "a", "b", "b"), tmp_path)

    assert evaluation.metrics["auc"] == 0.75
    assert evaluation.metrics["accuracy"] == 0.5
    lower, upper = evaluation.metrics["auc_interval_95"]
    assert 0 <= lower <= 0.75 <= upper <= 1
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert (kept["auc"], kept["missing"]) == (0.75, [])


def test_probabilities_are_held_against_what_came_true(tmp_path: Path) -> None:
    for slide, probability in zip(("s0", "s1", "s2", "s3"), (0.1, 0.62, 0.4, 0.9), strict=True):
        write(tmp_path, slide, 1 - probability, probability)
    evaluate(tmp_path, rows("a", "a", "b", "b"), tmp_path)

    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert kept["brier"] == pytest.approx(2 * (0.1**2 + 0.62**2 + 0.6**2 + 0.1**2) / 4)
    assert [(each["slides"], each["accuracy"]) for each in kept["reliability"]] == [
        (1, 0.0),
        (1, 0.0),
        (2, 1.0),
    ]
    assert kept["calibration_error"] == pytest.approx((0.6 + 0.62 + 2 * 0.1) / 4)
    assert (tmp_path / "calibration.png").read_bytes().startswith(b"\x89PNG")


def test_without_labels_there_is_no_picture_of_them(tmp_path: Path) -> None:
    write(tmp_path, "s0", 0.9, 0.1)
    (tmp_path / "calibration.png").write_bytes(b"of another table")
    evaluate(tmp_path, rows(""), tmp_path)

    assert not (tmp_path / "calibration.png").exists()
    assert json.loads((tmp_path / "metrics.json").read_text())["reliability"] == []


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path, "s0", 0.9, 0.1)
    write(tmp_path, "s2", 0.9, 0.1)
    (tmp_path / "s2" / "record.json").unlink()  # killed before it was finished
    evaluation = evaluate(tmp_path, rows("a", "b", "a"), tmp_path)

    assert evaluation.missing == ["s1", "s2"]
    assert [row["status"] for row in table(tmp_path)] == ["ok", "missing", "missing"]
    assert json.loads((tmp_path / "metrics.json").read_text())["missing"] == ["s1", "s2"]
    assert evaluation.metrics["slides"] == 1


def test_slides_without_a_label_are_listed_but_not_counted(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path, f"s{i}", 0.9, 0.1)
    evaluation = evaluate(tmp_path, rows("a", "", "something else"), tmp_path)

    assert evaluation.metrics["slides"] == 1
    assert [row["predicted"] for row in table(tmp_path)] == ["a", "a", "a"]
    assert evaluate(tmp_path, rows("", "", ""), tmp_path).metrics == {"slides": 0}


def test_three_classes(tmp_path: Path) -> None:
    write(tmp_path, "s0", 0.6, 0.3, 0.1)
    write(tmp_path, "s1", 0.1, 0.5, 0.4)
    write(tmp_path, "s2", 0.2, 0.2, 0.6)
    metrics = evaluate(tmp_path, rows("a", "b", "c"), tmp_path).metrics

    assert (metrics["accuracy"], metrics["auc"]) == (1, 1)
    assert "prob_c" in table(tmp_path)[0]


@pytest.mark.parametrize("labels", [("a", "b"), ("", "")])
def test_different_models_are_refused(tmp_path: Path, labels: tuple[str, str]) -> None:
    write(tmp_path, "s0", 0.9, 0.1)
    write(tmp_path, "s1", 0.9, 0.1, model="sha256:another")
    with pytest.raises(ResultsError, match="s0 and s1 are of different models"):
        evaluate(tmp_path, rows(*labels), tmp_path)
    assert not (tmp_path / "summary.csv").exists()


def test_no_prediction_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="holds no prediction of the 2 slides"):
        evaluate(tmp_path, rows("a", "b"), tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"label": "a"}'])
def test_a_damaged_prediction_is_named(tmp_path: Path, content: str) -> None:
    write(tmp_path, "s0", 0.9, 0.1)
    (tmp_path / "s0" / "prediction.json").write_text(content)
    with pytest.raises(ResultsError, match="s0: holds no prediction"):
        evaluate(tmp_path, rows("a"), tmp_path)


def test_folds_are_judged_one_by_one_and_their_mean_is_said(tmp_path: Path) -> None:
    """Scores of fold 1 are all higher: put together they would spoil the AUC of 1 that each has."""
    for slide, probability in zip(("s0", "s1", "s2", "s3"), (0.1, 0.3, 0.7, 0.9), strict=True):
        model = "sha256:0" if slide in ("s0", "s1") else "sha256:1"
        write(tmp_path, slide, 1 - probability, probability, model=model)
    (tmp_path / "calibration.png").write_bytes(b"of one model")
    folds = {"s0": 0, "s1": 0, "s2": 1, "s3": 1}
    found = evaluate(tmp_path, rows("a", "b", "a", "b"), tmp_path, folds=folds)

    assert [(fold["fold"], fold["auc"]) for fold in found.metrics["folds"]] == [(0, 1.0), (1, 1.0)]
    assert found.metrics["metrics"]["auc"] == {"mean": 1.0, "sd": 0.0, "folds": 2}
    assert [row["fold"] for row in table(tmp_path)] == ["0", "0", "1", "1"]
    assert not (tmp_path / "calibration.png").exists()


def test_a_slide_that_another_fold_predicted_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "s0", 0.9, 0.1, model="sha256:0")
    write(tmp_path, "s1", 0.9, 0.1, model="sha256:1")
    with pytest.raises(ResultsError, match="different models"):
        evaluate(tmp_path, rows("a", "b"), tmp_path, folds={"s0": 0, "s1": 0})


def test_folds_of_which_one_has_no_prediction_yet(tmp_path: Path) -> None:
    write(tmp_path, "s0", 0.9, 0.1)
    found = evaluate(tmp_path, rows("a", "b"), tmp_path, folds={"s0": 0, "s1": 1})
    assert [fold["fold"] for fold in found.metrics["folds"]] == [0]
    assert [(f.slide, f.stage) for f in found.failures] == [("s1", "predict")]
