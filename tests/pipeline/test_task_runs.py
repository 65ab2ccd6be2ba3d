"""Each task from a sheet to metrics through the command line, on slides that carry a signal.

How pink a slide is, from 0 to 1, is what there is to learn: a number, two labels with opposite
signs, or how early the event comes. Whoever learns it orders the slides of the test by it.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from saccade.cli.main import app
from saccade.pipeline.model_file import load_model
from saccade.pipeline.options import PredictOptions
from saccade.pipeline.predict import predict_slide
from saccade.pipeline.reading import SlideRef
from tests.slides import tissue_like, write_pyramid_tiff

SPLITS = ["train"] * 8 + ["val"] * 4 + ["test"] * 4
PINKNESS = [(5 * i % 8) / 7 for i in range(8)] + [0.1, 0.9, 0.4, 0.7] + [0.0, 1.0, 0.3, 0.6]

COLUMNS: dict[str, Callable[[int, float], dict[str, str]]] = {
    "labels": lambda i, p: {
        "pink": f"{p > 0.5:d}",
        "pale": "" if i % 4 == 3 else f"{p < 0.5:d}",
    },
    "regression": lambda i, p: {
        "age": f"{60 + 20 * p:.2f}",
        "size": "" if i % 4 == 3 else f"{0.5 - 0.1 * p:.3f}",
    },
    "survival": lambda i, p: {"time": f"{100 - 60 * p:.1f}", "event": f"{i % 4 != 3:d}"},
}
TASKS: dict[str, dict[str, Any]] = {
    "labels": {"kind": "labels", "columns": ["pink", "pale"]},
    "regression": {"kind": "regression", "columns": ["age", "size"], "units": ["years", "mm"]},
    "survival": {"kind": "survival"},
}

EPOCHS = {"labels": 8, "regression": 16, "survival": 8}


@dataclass(frozen=True)
class Done:
    """A trained and evaluated run.

    Attributes:
        folder: with `slides/`, `run.yaml`, `slides.csv`, `model/` and `results/`.
        said: by each command.
    """

    folder: Path
    said: dict[str, str]

    def prediction(self, slide: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (self.folder / "results" / slide / "prediction.json").read_text()
        )
        return found

    @property
    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "results" / "metrics.json").read_text())
        return found

    def table(self, name: str = "summary.csv") -> list[dict[str, str]]:
        with (self.folder / "results" / name).open(newline="") as file:
            return list(csv.DictReader(file))


def saccade_(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stderr


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pink")
    for i, pinkness in enumerate(PINKNESS):
        pixels = tissue_like(512, 512, seed=i).astype(np.float64)
        inside = pixels[..., 1] < 200
        calm = 150 + 0.2 * (pixels[inside] - 150)  # or chance would drown so few tiles
        pixels[inside] = calm * [1.0, 0.75 - 0.45 * pinkness, 0.9 - 0.2 * pinkness]
        write_pyramid_tiff(folder / f"s{i}.tiff", pixels.astype(np.uint8))
    return folder


def make(folder: Path, kind: str, slides: Path) -> Done:
    run = {
        "task": TASKS[kind],
        "tiles": {"per_slide": 4, "size_px": 32},
        "augment": {"stain": 0.0, "colour": 0.0, "tile_stain": 0.0},
        "training": {"epochs": EPOCHS[kind], "batch": 4, "workers": 1, "learning_rate": 4e-3},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(run))
    with (folder / "slides.csv").open("w", newline="") as file:
        rows = [
            {"slide": f"s{i}", "path": slides / f"s{i}.tiff", "split": split}
            | COLUMNS[kind](i, PINKNESS[i])
            for i, split in enumerate(SPLITS)
        ]
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    sheet, results = ["--slides", folder / "slides.csv"], folder / "results"
    cpu = ["--device", "cpu"]
    said = {
        "train": saccade_(
            *("train", folder / "run.yaml", *sheet, "--out", folder / "model"),
            *("--pyramids", slides / "pyramids", *cpu),
        )
    }
    model = ["--model", folder / "model" / "model.safetensors"]
    for i in (12, 14, 15, 13):  # of split test
        path, out = slides / f"s{i}.tiff", results / f"s{i}"
        with pytest.MonkeyPatch.context() as patch:
            if i != 13:  # pictures take most of the time, and one of them shows what there is
                patch.setattr(
                    "saccade.pipeline.results.draw_overview", lambda path, _: path.touch()
                )
            said["predict"] = saccade_("predict", path, *model, "--out", out, *cpu)
    said["evaluate"] = saccade_("evaluate", results, *sheet, "--out", results, "--split", "test")
    return Done(folder, said)


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, slides: Path, one_thread: None
) -> Callable[[str], Done]:
    done: dict[str, Done] = {}

    def run(kind: str) -> Done:
        if kind not in done:
            done[kind] = make(tmp_path_factory.mktemp(kind), kind, slides)
        return done[kind]

    return run


def test_numbers_are_learned_and_said_in_their_own_units(runs: Callable[[str], Done]) -> None:
    run = runs("regression")
    assert run.metrics["spearman"] > 0.8
    assert run.metrics["r2"] > 0.5
    prediction = run.prediction("s13")
    assert 70 < prediction["values"]["age"] < 90
    assert prediction["task"]["units"] == ["years", "mm"]
    assert "age " in run.said["predict"]
    assert " years (" in run.said["predict"]
    for name, (low, high) in prediction["intervals_95"].items():
        assert low < prediction["values"][name] < high
    assert "val R2" in run.said["train"]
    assert "R2" in run.said["evaluate"]


def test_labels_are_learned_where_some_are_unknown(runs: Callable[[str], Done]) -> None:
    run = runs("labels")
    assert (run.metrics["auc"], run.metrics["average_precision"]) == (1, 1)
    assert run.prediction("s13")["labels"] == ["pink"]
    assert run.prediction("s12")["labels"] == ["pale"]
    for name, (low, high) in run.prediction("s13")["intervals_95"].items():
        assert low < run.prediction("s13")["probabilities"][name] < high
    (line,) = (each for each in run.table() if each["slide"] == "s15")
    assert (line["pink"], line["pale"], line["status"]) == ("1", "", "ok")  # one is unknown
    assert 0 < float(line["prob_pale"]) < 1
    assert not (run.folder / "results" / "calibration.png").exists()


def test_risks_are_learned_from_times_and_events(runs: Callable[[str], Done]) -> None:
    run = runs("survival")
    assert (run.metrics["c_index"], run.metrics["events"]) == (1, 3)
    assert run.prediction("s13")["log_risk"] > run.prediction("s12")["log_risk"]
    assert "log risk " in run.said["predict"]
    assert "C-index 1.000" in run.said["evaluate"]
    assert "val C-index" in run.said["train"]


@pytest.mark.parametrize("kind", TASKS)
def test_evaluation_is_that_of_the_table_by_hand(kind: str, runs: Callable[[str], Done]) -> None:
    run = runs(kind)
    table = run.table()
    assert [line["slide"] for line in table] == ["s12", "s13", "s14", "s15"]
    if kind == "regression":
        errors = [float(line["age"]) - float(line["predicted_age"]) for line in table]
        found = run.metrics["by_name"]["age"]["mae"]
        assert found == pytest.approx(np.abs(errors).mean(), rel=1e-4)
    elif kind == "labels":
        truth = [line["pink"] == "1" for line in table]
        chances = [float(line["prob_pink"]) for line in table]
        right = [p if has else 1 - p for p, has in zip(chances, truth, strict=True)]
        found = run.metrics["by_name"]["pink"]["loss"]
        assert found == pytest.approx(-np.log(right).mean(), rel=1e-4)
    else:
        by_time = sorted(table, key=lambda line: float(line["time"]))
        risks = [float(line["log_risk"]) for line in by_time]
        choices = [
            np.logaddexp.reduce(risks[i:]) - risks[i]
            for i, line in enumerate(by_time)
            if line["event"] == "1"
        ]
        assert run.metrics["loss"] == pytest.approx(np.mean(choices), rel=1e-4)


@pytest.mark.parametrize("kind", TASKS)
def test_the_model_file_says_what_its_outputs_mean(kind: str, runs: Callable[[str], Done]) -> None:
    model, card = load_model(runs(kind).folder / "model" / "model.safetensors")
    names = TASKS[kind].get("columns", ["log_risk"])
    assert list(card.task.names) == names
    assert model.head.out_features == len(names)
    assert card.temperature == 1
    assert "defined for classes" in card.calibration
    if kind == "regression":
        ages = [60 + 20 * p for p in PINKNESS[:8]]
        assert card.task.means[0] == pytest.approx(np.mean(ages), abs=0.01)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", TASKS)
def test_a_loaded_model_validates_as_it_did_in_training(
    kind: str, runs: Callable[[str], Done], slides: Path, tmp_path: Path
) -> None:
    """All places of the slides are read, so that no draw can differ."""
    from saccade.pipeline import train as training
    from saccade.pipeline.cohort import load_cohort
    from saccade.pipeline.fit import validate
    from saccade.pipeline.reading import TileReader
    from saccade.pipeline.sheet import read_sheet
    from saccade.pipeline.tasks.truth import truth_of
    from saccade.pipeline.yaml_config import load_config

    run = runs(kind)
    path = run.folder / "model" / "model.safetensors"
    model, card = load_model(path)
    config = load_config(run.folder / "run.yaml")
    rows = read_sheet(run.folder / "slides.csv", config.task.targets)
    cohort = load_cohort(rows, truth_of(config.task, rows), slides / "pyramids", config, stride=1)
    with TileReader(size_px=32, mpp=0.5, workers=1) as reader:
        bench = training._bench(config, model, cohort, reader)
        found = validate(bench, cohort.val)
    kept = card.training["val"]
    assert {name for name in found if name != "by_name"} <= set(kept)
    for name in ("loss", "accuracy", "r2", "c_index"):
        if name in kept:
            assert found[name] == pytest.approx(kept[name], rel=1e-5)


@pytest.mark.parametrize("kind", ["regression", "survival"])
def test_until_sure_is_refused_where_nothing_is_named(
    kind: str, runs: Callable[[str], Done], slides: Path, tmp_path: Path
) -> None:
    model = runs(kind).folder / "model" / "model.safetensors"
    said = saccade_(
        *("predict", slides / "s12.tiff", "--model", model, "--out", tmp_path / "s12"),
        *("--until-sure", "0", "--device", "cpu"),
        code=1,
    )
    assert f"until-sure reads until it is sure of a class, and the model's task is {kind}" in said
    assert "--repeats" in said


def test_until_sure_is_sure_of_each_label(
    runs: Callable[[str], Done], slides: Path, tmp_path: Path
) -> None:
    model = runs("labels").folder / "model" / "model.safetensors"
    options = PredictOptions(until_sure=0.0, workers=1)
    predict_slide(SlideRef(slides / "s13.tiff"), model, tmp_path, options)
    found = json.loads((tmp_path / "prediction.json").read_text())
    assert found["ended"] in ("sure", "all read")
    for low, high in found["intervals_95"].values():
        assert low > 0.5 or high < 0.5


@pytest.mark.parametrize("kind", TASKS)
def test_tiles_carry_evidence_for_each_output_into_every_export(
    kind: str, runs: Callable[[str], Done]
) -> None:
    """With weight and bias it adds up to the outcome, in the units that people read."""
    run = runs(kind)
    folder = run.folder / "results" / "s13"
    tiles = run.table("s13/tiles.csv")
    model, card = load_model(run.folder / "model" / "model.safetensors")
    prediction = run.prediction("s13")
    weight = np.array([float(tile["weight"]) for tile in tiles])
    names = card.task.names
    evidence = np.array([[float(tile[f"evidence_{name}"]) for name in names] for tile in tiles])
    bias = model.head.bias.detach().double()
    lifted = card.task.activate(bias).numpy()  # for numbers the bias in their unit, and the mean
    found = weight @ evidence + (bias.numpy() if kind == "labels" else lifted)
    if kind == "labels":
        found = torch.tensor(found).sigmoid().numpy()
    assert found == pytest.approx(card.task.read(prediction), rel=1e-4, abs=1e-4)

    objects = json.loads((folder / "attention.geojson").read_text())["features"]
    assert {f"evidence_{name}" for name in names} <= set(objects[0]["properties"]["measurements"])
    assert (folder / "attention.png").stat().st_size > 10_000
    saccade_("export", folder, "--to", "qupath")


def test_a_wrong_cell_of_the_sheet_stops_training_with_its_name(
    runs: Callable[[str], Done], tmp_path: Path
) -> None:
    run = runs("regression")
    sheet = tmp_path / "slides.csv"
    text = (run.folder / "slides.csv").read_text()
    sheet.write_text(text.replace("60.00", "sixty", 1))
    said = saccade_(
        *("train", run.folder / "run.yaml", "--slides", sheet, "--out", tmp_path / "model"),
        code=1,
    )
    assert "slide s0: age is 'sixty'; wanted a number, such as 12.5, or an empty cell" in said
