import json
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from saccade.pipeline import train as training
from saccade.pipeline.config import ModelConfig, RunConfig
from saccade.pipeline.errors import (
    ConfigError,
    DivergedError,
    ModelFileError,
    ResultsError,
    SheetError,
)
from saccade.pipeline.fit import learning_rate
from saccade.pipeline.model_file import load_model, read_card
from saccade.pipeline.tasks.probabilities import class_weights
from saccade.pipeline.train import TrainingResult, train
from saccade.pipeline.yaml_config import config_dict
from tests.cohort import TINY, TinyCohort, damage_level_0, with_training
from tests.holding import held_until_waited_for
from tests.processes import SAVE, kill_at, saccade
from tests.slides import tissue_like, write_pyramid_tiff

FOUR = with_training(epochs=4)
AHEAD = with_training(epochs=4, read_ahead=1)


class Run:
    """Trains on the tiny cohort, sharing its pyramids."""

    def __init__(self, cohort: TinyCohort, pyramids: Path) -> None:
        self.cohort, self.pyramids = cohort, pyramids

    def __call__(self, out: Path, config: RunConfig = TINY, **rest: Any) -> TrainingResult:
        rows = rest.pop("rows", self.cohort.rows)
        return train(config, rows, out, pyramids=self.pyramids, **rest)


@pytest.fixture
def run(cohort: TinyCohort, pyramids: Path) -> Run:
    return Run(cohort, pyramids)


def weights(folder: Path, name: str = "model.safetensors") -> bytes:
    """The whole file: weights and what it says of itself."""
    return (folder / name).read_bytes()


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_same_seed_same_model(run: Run, trained: Path, tmp_path: Path) -> None:
    run(tmp_path)

    assert weights(tmp_path) == weights(trained)
    assert lines(tmp_path) == lines(trained)


def test_another_seed_is_another_model(run: Run, trained: Path, tmp_path: Path) -> None:
    run(tmp_path, with_training(seed=1))

    assert weights(tmp_path) != weights(trained)


def test_workers_change_nothing(run: Run, trained: Path, tmp_path: Path) -> None:
    run(tmp_path, with_training(workers=3))

    assert weights(tmp_path) == weights(trained)
    run(tmp_path)  # with another number of them it is the same run still, and not refused


def test_workers_change_nothing_when_reading_ahead_either(
    run: Run, ahead: Path, tmp_path: Path
) -> None:
    run(tmp_path, with_training(epochs=4, read_ahead=1, workers=3))

    for name in ("model.safetensors", "last.safetensors", "metrics.jsonl"):
        assert weights(tmp_path, name) == weights(ahead, name), name


def test_training_moves_every_part_of_the_model(trained: Path) -> None:
    model, card = load_model(trained / "last.safetensors")
    before = dict(training._fresh_model(TINY, len(card.task.names)).named_parameters())
    moved = {name for name, value in model.named_parameters() if not value.equal(before[name])}
    for part in ("attention.", "encoder.", "head."):
        assert any(name.startswith(part) for name in moved), part


def test_a_frozen_encoder_comes_out_as_it_went_in(run: Run, tmp_path: Path) -> None:
    config = with_training(finetune="frozen")
    model, _ = load_model(run(tmp_path, config).model)
    before = training._fresh_model(config, 2).state_dict()
    same = {name for name, value in model.state_dict().items() if value.equal(before[name])}

    assert {name for name in before if name.startswith("encoder.")} <= same
    assert not {"head.weight", "attention.score.weight"} & same


def test_a_line_an_epoch(run: Run, tmp_path: Path) -> None:
    reported: list[dict[str, Any]] = []
    result = run(tmp_path, report=reported.append)

    assert lines(tmp_path) == reported == result.history
    assert [line["epoch"] for line in reported] == [1, 2]
    assert reported[0]["train"]["tiles_read"] == 4 * TINY.tiles.per_slide
    assert set(reported[0]["val"]) == {
        *("loss", "brier", "calibration_error", "accuracy", "balanced_accuracy", "auc"),
        *("temperature", "calibration"),
    }


def test_the_model_carries_the_temperature_of_its_own_epoch(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = iter([(0.1, 2.5), (0.9, 0.5)])

    def validated(*_: object) -> dict[str, Any]:
        loss, temperature = next(epochs)
        return {"loss": loss, "temperature": temperature, "calibration": f"at {temperature}"}

    monkeypatch.setattr(training, "validate", validated)
    run(tmp_path)
    best, last = (read_card(tmp_path / f"{name}.safetensors") for name in ("model", "last"))

    assert (best.temperature, best.calibration) == (2.5, "at 2.5")
    assert (last.temperature, last.calibration) == (0.5, "at 0.5")


def test_two_validation_slides_calibrate_nothing_and_the_model_says_so(trained: Path) -> None:
    card = read_card(trained / "model.safetensors")

    assert card.temperature == 1
    assert card.calibration.startswith("not calibrated: 2 validation slides")


def test_record_names_every_slide_by_its_content(trained: Path, cohort: TinyCohort) -> None:
    record = json.loads((trained / "record.json").read_text())

    assert record["inputs"]["train"] == {"s0": "a", "s1": "b", "s2": "a", "s3": "b"}
    assert record["inputs"]["val"] == {"s4": "a", "s5": "b"}
    assert set(record["inputs"]["slides"]) == {f"s{i}" for i in range(6)}
    assert all(each.startswith("sha256:") for each in record["inputs"]["slides"].values())
    assert record["cost"]["tiles_read"] == 2 * 4 * TINY.tiles.per_slide


def test_record_says_how_long_steps_took_and_waited(trained: Path) -> None:
    cost = json.loads((trained / "record.json").read_text())["cost"]

    assert 0 < cost["waited_seconds"] < cost["step_seconds"] < cost["seconds"]


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort, pyramids: Path
) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(FOUR, cohort.rows, folder, pyramids=pyramids)
    return folder


@pytest.fixture(scope="module")
def ahead(tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort, pyramids: Path) -> Path:
    """A run that read ahead."""
    folder = tmp_path_factory.mktemp("ahead")
    train(AHEAD, cohort.rows, folder, pyramids=pyramids)
    return folder


def test_reading_ahead_is_another_run(ahead: Path, uninterrupted: Path) -> None:
    """Its places are drawn from other weights."""
    assert weights(ahead, "last.safetensors") != weights(uninterrupted, "last.safetensors")


@pytest.mark.parametrize(
    ("moment", "depth"),
    [("after an epoch", 0), ("before the checkpoint", 0), ("before the checkpoint", 1)],
)
def test_a_killed_run_resumes_to_the_very_same_weights(
    run: Run, uninterrupted: Path, ahead: Path, tmp_path: Path, moment: str, depth: int
) -> None:
    settings = tmp_path / "run.yaml"
    settings.write_text(yaml.safe_dump(config_dict(AHEAD if depth else FOUR)))
    words = ["train", settings, "--slides", run.cohort.sheet, "--out", tmp_path]
    words += ["--pyramids", run.pyramids, "--device", "cpu"]
    dies = partial(kill_at, 2, SAVE, after=moment == "after an epoch")
    (ended,) = saccade(words, tmp_path / "log", before=dies)
    assert ended.code == -signal.SIGKILL, ended.said
    assert not (tmp_path / "record.json").exists()

    reported: list[dict[str, Any]] = []
    run(tmp_path, AHEAD if depth else FOUR, report=reported.append)

    resumed_at = 3 if moment == "after an epoch" else 2
    assert [line["epoch"] for line in reported] == list(range(resumed_at, 5))
    for name in ("model.safetensors", "last.safetensors", "metrics.jsonl"):
        assert weights(tmp_path, name) == weights(ahead if depth else uninterrupted, name), name


def test_a_finished_run_is_not_run_again(run: Run, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    reported: list[dict[str, Any]] = []
    run(tmp_path / "copy", report=reported.append)

    assert reported == []
    assert weights(tmp_path / "copy") == weights(trained)


def test_a_lost_model_comes_back_from_the_checkpoint(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workflow deletes the outputs of a job that was cut off, the best model among them."""
    losses = iter([0.1, 0.9])
    monkeypatch.setattr(training, "validate", lambda *_: {"loss": next(losses)})
    run(tmp_path)
    kept = {name: weights(tmp_path, name) for name in ("model.safetensors", "last.safetensors")}
    assert kept["model.safetensors"] != kept["last.safetensors"]
    for name in (*kept, "metrics.jsonl"):
        (tmp_path / name).unlink()

    run(tmp_path)

    assert {name: weights(tmp_path, name) for name in kept} == kept
    assert read_card(tmp_path / "model.safetensors").training["epoch"] == 1
    assert len(lines(tmp_path)) == 2


def test_the_best_epoch_is_the_model(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.9, 0.1, 0.5])
    after: list[bytes] = []
    monkeypatch.setattr(training, "validate", lambda *_: {"loss": next(losses)})
    settings = with_training(epochs=3, schedule="constant")
    run(tmp_path, settings, report=lambda _: after.append(weights(tmp_path)))

    assert after[0] != after[1]
    assert after[1] == after[2] == weights(tmp_path)
    best, last = (load_file(tmp_path / f"{name}.safetensors") for name in ("model", "last"))
    assert not best["head.weight"].equal(last["head.weight"])
    assert read_card(tmp_path / "model.safetensors").training["epoch"] == 2
    assert read_card(tmp_path / "last.safetensors").training["epoch"] == 3


def test_without_validation_the_last_epoch_is_the_model(run: Run, tmp_path: Path) -> None:
    rows = [row for row in run.cohort.rows if row.split != "val"]
    result = run(tmp_path, rows=rows)

    assert weights(tmp_path) == weights(tmp_path, "last.safetensors")
    assert read_card(result.model).training == {**lines(tmp_path)[1], "val": {}}


def test_stops_when_nothing_gets_better(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.5, 0.4, 0.4, 0.6, 0.1])
    monkeypatch.setattr(training, "validate", lambda *_: {"loss": next(losses)})
    result = run(tmp_path, with_training(epochs=5, early_stopping=2))

    assert [line["val"]["loss"] for line in result.history] == [0.5, 0.4, 0.4, 0.6]


def test_a_folder_of_another_run_is_refused(run: Run, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    with pytest.raises(ResultsError, match="other settings"):
        run(tmp_path / "copy", with_training(epochs=3))
    assert weights(tmp_path / "copy") == weights(trained)


def test_another_run_is_replaced_if_asked(run: Run, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    result = run(tmp_path / "copy", with_training(epochs=3), replace=True)
    run(tmp_path / "fresh", with_training(epochs=3))

    assert len(result.history) == 3
    assert weights(tmp_path / "copy") == weights(tmp_path / "fresh")


def test_no_record_says_that_an_unfinished_run_is_finished(
    run: Run, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "copy")
    there: list[bool] = []
    run(
        tmp_path / "copy",
        with_training(epochs=3),
        replace=True,
        report=lambda _: there.append((tmp_path / "copy" / "record.json").exists()),
    )
    assert there == [False] * 3
    assert (tmp_path / "copy" / "record.json").exists()


def test_a_second_process_waits(run: Run, tmp_path: Path) -> None:
    with held_until_waited_for(tmp_path):
        assert run(tmp_path).history


def test_a_slide_that_does_not_open_costs_itself(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tiff"
    broken.write_bytes(run.cohort.path("s0").read_bytes()[:900])
    rows = [*run.cohort.rows, replace(run.cohort.rows[0], slide="broken", path=broken)]
    result = run(tmp_path / "run", rows=rows)

    assert list(result.failures) == ["broken"]
    assert "broken.tiff" in result.failures["broken"]
    assert len(result.history) == 2


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_slide_whose_tiles_cannot_be_read_costs_itself(
    run: Run, tmp_path: Path, split: str
) -> None:
    """Its coarse levels are whole, so that only reading tiles finds out."""
    broken = write_pyramid_tiff(tmp_path / "broken.tiff", tissue_like(1024, 1024))
    damage_level_0(broken)
    rows = [*run.cohort.rows, replace(run.cohort.rows[0], slide="bad", path=broken, split=split)]
    result = train(TINY, rows, tmp_path / "run")

    assert list(result.failures) == ["bad"]
    assert [line["train"]["tiles_read"] for line in result.history] == [16, 16]
    assert json.loads((tmp_path / "run" / "record.json").read_text())["inputs"]["slides"]["bad"]


def test_no_readable_slide_is_an_error_that_says_why(run: Run, tmp_path: Path) -> None:
    rows = []
    for i, row in enumerate(run.cohort.rows[:2]):
        path = write_pyramid_tiff(tmp_path / f"broken{i}.tiff", tissue_like(1024, 1024, i))
        damage_level_0(path)
        rows.append(replace(row, path=path))
    with pytest.raises(SheetError, match=r"no training slide could be read(?s:.*)broken1\.tiff"):
        train(TINY, rows, tmp_path / "run")


def test_a_class_without_a_usable_slide_is_an_error(run: Run, tmp_path: Path) -> None:
    rows = [row if row.label == "a" else replace(row, split="test") for row in run.cohort.rows]
    with pytest.raises(SheetError, match="none of b"):
        run(tmp_path, rows=rows)


def test_a_loss_that_is_no_number_ends_with_advice(run: Run, tmp_path: Path) -> None:
    config = with_training(learning_rate=1e30, schedule="constant", clip_norm=0, epochs=3)
    with pytest.raises(DivergedError, match=r"training\.learning_rate"):
        run(tmp_path, config)


def test_settings_that_no_network_has_are_the_configs_fault(run: Run, tmp_path: Path) -> None:
    for model in (ModelConfig(attention="nearsighted"), ModelConfig(encoder="timm:resnet1800")):
        with pytest.raises(ConfigError, match=r"nearsighted|resnet1800"):
            run(tmp_path, replace(TINY, model=model))


class Trap:
    """Unpickling it would leave a file."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.sprung, "sprung")


def test_weights_with_code_in_them_are_refused_unexecuted(run: Run, tmp_path: Path) -> None:
    torch.save({"conv1.weight": Trap(tmp_path / "sprung")}, tmp_path / "weights.pt")
    model = ModelConfig(encoder="timm:resnet10t", weights=str(tmp_path / "weights.pt"))

    with pytest.raises(ModelFileError, match=r"weights\.pt"):
        run(tmp_path / "run", replace(TINY, model=model))
    assert not (tmp_path / "sprung").exists()


def test_a_checkpoint_with_code_in_it_is_refused_unexecuted(run: Run, tmp_path: Path) -> None:
    for content in ({"state": Trap(tmp_path / "sprung")}, {"state": {}}, [1]):
        torch.save(content, tmp_path / "checkpoint.pt")
        with pytest.raises(ResultsError, match=r"checkpoint\.pt: is no checkpoint"):
            run(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_classes_count_equally_if_balanced() -> None:
    labels = [0, 0, 0, 1]
    balanced = class_weights(labels, 2, "balanced")

    torch.testing.assert_close(balanced[0] * 3, balanced[1] * 1)
    assert float(balanced[labels].mean()) == pytest.approx(1)
    assert class_weights(labels, 2, "none").tolist() == [1, 1]


def test_learning_rate_rises_and_falls() -> None:
    settings = with_training(epochs=10, warmup_epochs=2, learning_rate=1.0).training
    rates = np.array([learning_rate(settings, epoch) for epoch in np.linspace(0.1, 10, 100)])

    assert rates[0] < 0.06
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert 15 <= rates.argmax() <= 21
    constant = replace(settings, schedule="constant")
    assert learning_rate(constant, 9.9) == 1
