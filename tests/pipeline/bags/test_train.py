"""Runs over features: they find what is known, resume to the same weights, name what is broken."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saccade.models.slide_heads import BagHead, GridHead
from saccade.pipeline.bags.cohort import load_bags, tensors_of
from saccade.pipeline.bags.config import (
    BagsConfig,
    BagTrainingConfig,
    FeaturesConfig,
    HeadConfig,
)
from saccade.pipeline.bags.folds import cross_validate_features
from saccade.pipeline.bags.model_file import load_bag_model
from saccade.pipeline.bags.train import judge, train_on_features
from saccade.pipeline.config import SplitsConfig
from saccade.pipeline.errors import ConfigError, ModelFileError, ResultsError, SheetError
from saccade.pipeline.sheet import SheetRow
from tests.pipeline.bags.feature_files import known_cohort, known_features, tissue, write_features

HEADS = ("spatial_output", "abmil")


@pytest.fixture
def rows(tmp_path: Path, one_thread: None) -> list[SheetRow]:
    return known_cohort(tmp_path / "features")


def config(folder: Path, head: Any = "spatial_output", **training: Any) -> BagsConfig:
    settings = BagTrainingConfig(
        **{"epochs": 10, "batch": 2, "learning_rate": 1e-2, "schedule": "constant"} | training
    )
    model = HeadConfig(head=head, width=8)
    return BagsConfig(FeaturesConfig(str(folder / "features")), model, training=settings)


@pytest.mark.parametrize("head", HEADS)
def test_it_finds_the_tile_that_makes_the_difference(
    head: str, rows: list[SheetRow], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    result = train_on_features(config(tmp_path, head), rows, out)

    assert result.failures == {}
    assert json.loads((out / "results" / "metrics.json").read_text())["auc"] == 1.0
    with (out / "results" / "predictions.csv").open() as file:
        assert [line["slide"] for line in csv.DictReader(file)] == ["s12", "s13", "s14", "s15"]
    model, card = load_bag_model(out / "model.safetensors")
    bags = load_bags(rows, card.classes, tmp_path / "features", card.model)
    for bag in (bag for bag in bags.test if bag.label == 1):
        tiles, cells = tensors_of(bag, card)
        with torch.no_grad():
            found = model(tiles, cells)
        likely = found.attention_logits
        if found.log_classes is not None:
            likely = likely + found.log_classes[1]
        # Its neighbours see it, too.
        away = (cells[int(likely.argmax())] - cells[len(tiles) // 2]).abs().max()
        assert away <= (1 if head == "spatial_output" else 0)


@pytest.mark.parametrize("head", HEADS)
def test_a_run_that_was_cut_off_ends_the_same(
    head: str, rows: list[SheetRow], tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_on_features(config(tmp_path, head, epochs=2), rows, whole)

    def kill(line: dict[str, Any]) -> None:
        if line["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_on_features(config(tmp_path, head, epochs=2), rows, cut, report=kill)
    assert not (cut / "record.json").exists()
    train_on_features(config(tmp_path, head, epochs=2), rows, cut)

    for name in ("model.safetensors", "last.safetensors", "metrics.jsonl", "results/metrics.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name


def test_the_scale_of_features_is_that_of_the_training_tiles(
    rows: list[SheetRow], tmp_path: Path
) -> None:
    bags = load_bags(rows, ("a", "b"), tmp_path / "features", HeadConfig())

    every = np.concatenate(
        [
            known_features(seed, positive=bool(seed % 2), count=len(tissue(seed)))
            for seed in range(8)
        ]
    )
    np.testing.assert_allclose(bags.mean, every.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(bags.std, every.std(axis=0), atol=1e-6)
    assert [len(part) for part in (bags.train, bags.val, bags.test)] == [8, 4, 4]


def test_features_in_another_scale_train_the_same_model(
    rows: list[SheetRow], tmp_path: Path
) -> None:
    first = train_on_features(config(tmp_path, epochs=2), rows, tmp_path / "a").history
    for seed in range(16):
        corners = tissue(seed)
        features = known_features(seed, positive=bool(seed % 2), count=len(corners))
        write_features(tmp_path / "features" / f"s{seed}.h5", features * 64 + 1, corners)

    again = train_on_features(config(tmp_path, epochs=2), rows, tmp_path / "b").history
    for one, other in zip(first, again, strict=True):
        assert other["train"]["loss"] == pytest.approx(one["train"]["loss"], rel=1e-4)


def test_a_feature_that_never_changes_does_no_harm(rows: list[SheetRow], tmp_path: Path) -> None:
    for seed in range(16):
        corners = tissue(seed)
        features = known_features(seed, positive=bool(seed % 2), count=len(corners))
        features[:, 3] = 7
        write_features(tmp_path / "features" / f"s{seed}.h5", features, corners)

    history = train_on_features(config(tmp_path, epochs=1), rows, tmp_path / "run").history
    assert np.isfinite(history[0]["train"]["loss"])


def test_each_class_counts_equally_or_each_slide(rows: list[SheetRow], tmp_path: Path) -> None:
    """Of five training slides one is of class b: it counts four times as much as each other."""
    some = [row for row in rows if row.split != "train" or row.label == "a" or row.slide == "s1"]
    losses = {}
    for mode in ("balanced", "none"):
        out = tmp_path / mode
        still = config(tmp_path, epochs=1, learning_rate=1e-12, class_weights=mode)
        losses[mode] = train_on_features(still, some, out).history[0]["train"]["loss"]
    model, card = load_bag_model(tmp_path / "none" / "last.safetensors")
    bags = load_bags(some, ("a", "b"), tmp_path / "features", card.model)
    costs = np.array([-np.log(probs[bag.label]) for bag, probs in judge(model, bags.train, card)])
    weights = np.array([5 / 8 if bag.label == 0 else 5 / 2 for bag in bags.train])

    assert losses["none"] == pytest.approx(costs.mean(), rel=1e-5)
    assert losses["balanced"] == pytest.approx((weights * costs).mean(), rel=1e-5)


def test_slides_that_cannot_be_used_are_named_and_left_out(
    rows: list[SheetRow], tmp_path: Path
) -> None:
    folder = tmp_path / "features"
    (folder / "s1.h5").unlink()
    write_features(folder / "s2.h5", np.zeros((3, 5), np.float32), tissue(2)[:3])
    write_features(folder / "s3.h5", np.zeros((2, 4), np.float32), tissue(3)[:2], encoder="other")
    write_features(folder / "s4.h5", np.zeros((2, 4), np.float32), np.array([[0, 0], [100, 0]]))

    failures = load_bags(rows, ("a", "b"), folder, HeadConfig()).failures

    assert list(failures) == ["s1", "s2", "s3", "s4"]
    assert "has no features" in failures["s1"]
    assert "has 5 features a tile, and the other slides 4" in failures["s2"]
    assert "made by other, those of the other slides by known" in failures["s3"]
    assert "do not lie on one grid" in failures["s4"]
    anywhere = load_bags(rows, ("a", "b"), folder, HeadConfig(head="abmil")).failures
    assert list(anywhere) == ["s1", "s2", "s3"]
    with pytest.raises(SheetError, match="none of b"):
        load_bags([row for row in rows if row.label == "a"], ("a", "b"), folder, HeadConfig())


def test_other_features_are_another_run_and_another_folder_is_not(
    rows: list[SheetRow], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train_on_features(config(tmp_path, epochs=1), rows, out)
    (tmp_path / "features").rename(tmp_path / "moved")
    moved = dataclasses.replace(
        config(tmp_path, epochs=1), features=FeaturesConfig(str(tmp_path / "moved"))
    )

    train_on_features(moved, rows, out)  # is done, and says nothing
    write_features(tmp_path / "moved" / "s0.h5", np.ones((2, 4), np.float32), tissue(0)[:2])
    with pytest.raises(ResultsError, match="other settings"):
        train_on_features(moved, rows, out)


def test_folds_keep_patients_together_and_are_summed_up(
    rows: list[SheetRow], tmp_path: Path
) -> None:
    shared = [
        dataclasses.replace(row, patient=f"p{number // 2 % 2 + 2 * (number // 4)}", split="")
        for number, row in enumerate(rows)
    ]
    settings = dataclasses.replace(config(tmp_path, epochs=1), splits=SplitsConfig(folds=3))

    judged = cross_validate_features(settings, shared, tmp_path / "cv")

    assert judged.summary is not None
    assert judged.summary["metrics"]["auc"]["folds"] == 3
    held_out: list[str] = []
    for fold in range(3):
        with (tmp_path / "cv" / f"fold_{fold}" / "results" / "predictions.csv").open() as file:
            held_out += [line["slide"] for line in csv.DictReader(file)]
        record = json.loads((tmp_path / "cv" / f"fold_{fold}" / "record.json").read_text())
        patients = [
            {row.patient for row in shared if row.slide in record["inputs"][part]}
            for part in ("train", "val", "test")
        ]
        assert sum(map(len, patients)) == len(set.union(*patients))
    assert sorted(held_out) == sorted(row.slide for row in shared)
    with pytest.raises(ConfigError, match="there is no fold 3"):
        cross_validate_features(settings, shared, tmp_path / "cv", only=3)


def test_a_file_of_another_kind_is_no_model_over_features(trained: Path) -> None:
    with pytest.raises(ModelFileError, match="kind: features"):
        load_bag_model(trained / "model.safetensors")


def test_each_head_is_built_as_its_card_says(rows: list[SheetRow], tmp_path: Path) -> None:
    for head, kind in (("abmil", BagHead), ("spatial_output", GridHead)):
        bags = load_bags(
            rows, ("a", "b"), tmp_path / "features", HeadConfig(head=head, width=3, side=5)
        )
        assert isinstance(bags.card.build(), kind)
    assert bags.card.build().margin == 4
