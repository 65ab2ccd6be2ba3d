"""A spatial transformer from training to what is seen of it: files, tables, pictures."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from saccade.pipeline import results
from saccade.pipeline.config import ModelConfig
from saccade.pipeline.embed.encoder import EncoderChoice
from saccade.pipeline.errors import DivergedError
from saccade.pipeline.export.picture import Overview
from saccade.pipeline.model_file import ModelCard, load_model, read_card, save_model
from saccade.pipeline.options import PredictOptions
from saccade.pipeline.predict import predict_slide
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.tasks.classes import Classes
from saccade.pipeline.train import train
from saccade.tiling import open_slide
from tests.cohort import TINY, TinyCohort

WITHIN = replace(TINY, model=ModelConfig(spatial_transformer="attention", transformer_px=16))
SLIDE, SIDE = "s3", 32


def write_model(path: Path, theta: tuple[float, ...], spread: float = 0.0) -> Path:
    """An untrained model that looks at this part of each tile, or thereabouts."""
    torch.manual_seed(0)
    card = ModelCard.of(WITHIN, Classes(("a", "b")))
    weights = card.build().state_dict()
    weights["encoder.transformer.regress.bias"] = torch.tensor(theta)
    weights["encoder.transformer.regress.weight"].normal_(std=spread)
    save_model(path, weights, card)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Looks at half of each side, at the tile's own resolution: from 16 to 32 px, 4 to 20 down."""
    return write_model(tmp_path_factory.mktemp("model") / "m.safetensors", (0.5, 0.5, -0.25))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort, model: Path) -> Path:
    out = tmp_path_factory.mktemp("result")
    assert predict_slide(SlideRef(cohort.path(SLIDE)), model, out, PredictOptions(workers=1))
    return out


def rows_of(out: Path) -> list[dict[str, float]]:
    with (out / "tiles.csv").open(newline="") as file:
        return [{key: float(n) for key, n in row.items()} for row in csv.DictReader(file)]


def test_the_table_says_where_each_tile_was_looked_at(result: Path) -> None:
    rows = rows_of(result)

    assert len(rows) == TINY.tiles.per_slide
    for row in rows:
        assert row["cut_x_l0"] == row["x_l0"] + 0.75 * row["side_l0_x"]
        assert row["cut_y_l0"] == row["y_l0"] + 0.375 * row["side_l0_y"]
        assert row["cut_width_l0"] == 0.5 * row["side_l0_x"]
        assert row["cut_height_l0"] == 0.5 * row["side_l0_y"]
        assert row["cut_turn_deg"] == 0


def test_qupath_gets_the_same_numbers(result: Path) -> None:
    features = json.loads((result / "attention.geojson").read_text())["features"]

    names = ("cut_x_l0", "cut_y_l0", "cut_width_l0", "cut_height_l0", "cut_turn_deg")
    for row, feature in zip(rows_of(result), features, strict=True):
        measured = feature["properties"]["measurements"]
        assert [measured[name] for name in names] == [row[name] for name in names]


def test_the_picture_outlines_in_each_tile_what_was_looked_at_there(
    cohort: TinyCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a model that looks elsewhere in each tile; strongest tiles come first, not drawn ones."""
    model = write_model(tmp_path / "m.safetensors", (0.5, 0.0, 0.0), spread=0.3)
    shown: list[Overview] = []
    monkeypatch.setattr(results, "draw_overview", lambda _, overview: shown.append(overview))
    predict_slide(SlideRef(cohort.path(SLIDE)), model, tmp_path / "out", PredictOptions(workers=1))
    (overview,) = shown
    assert overview.tiles is not None
    assert overview.cuts is not None
    where = load_model(model)[0].encoder.where(torch.from_numpy(overview.tiles).permute(0, 3, 1, 2))

    assert where is not None
    upper_left = (where.detach() @ torch.tensor([-1.0, -1, 1]) + 1) / 2
    assert len(upper_left.unique(dim=0)) == len(overview.tiles)
    np.testing.assert_allclose(overview.cuts[:, 0], upper_left, atol=1e-5)


def test_features_are_those_of_the_pixels_at_that_place(
    result: Path, model: Path, cohort: TinyCohort
) -> None:
    """Read from the slide by the centre that the table names, and encoded without a transformer."""
    network, _ = load_model(model)
    network.encoder.transformer = None
    with h5py.File(result / "features.h5") as file:
        features = file["features"][:]
    with open_slide(cohort.path(SLIDE)) as slide:
        for row, wanted in zip(rows_of(result), features, strict=True):
            corner = (int(row["cut_x_l0"]) - 8, int(row["cut_y_l0"]) - 8)
            pixels = torch.from_numpy(slide.read(*corner, 16, 0.5)).permute(2, 0, 1)
            with torch.inference_mode():
                found = network.encode(pixels[None, None])[0, 0].numpy()
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_an_embedding_is_of_the_same_parts(result: Path, model: Path, cohort: TinyCohort) -> None:
    encoder = EncoderChoice(model=model).load("cpu")
    with h5py.File(result / "features.h5") as file:
        features, corners = file["features"][:], file["coords"][:]
    with open_slide(cohort.path(SLIDE)) as slide:
        tiles = np.stack([slide.read(*corner, SIDE, 0.5) for corner in corners.tolist()])

    np.testing.assert_allclose(encoder.encode(tiles), features, rtol=1e-4, atol=1e-4)
    assert encoder.about["spatial_transformer"] == "attention"


def test_a_model_that_looks_at_whole_tiles_says_nothing_of_parts(
    cohort: TinyCohort, trained: Path, tmp_path: Path
) -> None:
    """And its file may be of before there were transformers."""
    path = trained / "model.safetensors"
    with safe_open(path, framework="pt") as file:
        header: dict[str, Any] = json.loads(file.metadata()["saccade"])
    for key in ("spatial_transformer", "transformer_px"):
        del header["model"][key]
    old = tmp_path / "old.safetensors"
    save_file(load_file(path), old, metadata={"saccade": json.dumps(header)})
    predict_slide(SlideRef(cohort.path(SLIDE)), old, tmp_path / "out", PredictOptions(workers=1))

    assert read_card(old) == read_card(path)
    assert not [name for name in rows_of(tmp_path / "out")[0] if name.startswith("cut_")]


def test_training_teaches_it_and_the_model_file_keeps_it(
    cohort: TinyCohort, pyramids: Path, tmp_path: Path
) -> None:
    """And the same seed teaches it the same."""
    for name in ("one", "other"):
        train(WITHIN, cohort.rows, tmp_path / name, pyramids=pyramids)
    files = [tmp_path / name / "model.safetensors" for name in ("one", "other")]
    network, card = load_model(files[0])

    assert card.model == WITHIN.model
    assert files[0].read_bytes() == files[1].read_bytes()
    where = network.encoder.where(torch.rand(2, 3, SIDE, SIDE))
    assert where is not None
    untrained = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(2, 2, 3)
    assert not torch.isclose(where, untrained).flatten(1).all(dim=1).any()


def test_a_transformer_that_is_no_number_is_named(cohort: TinyCohort, tmp_path: Path) -> None:
    lost = write_model(tmp_path / "lost.safetensors", (float("nan"), 0.0, 0.0))
    with pytest.raises(DivergedError, match=r"where the spatial transformer looks is not a number"):
        predict_slide(
            SlideRef(cohort.path(SLIDE)), lost, tmp_path / "out", PredictOptions(workers=1)
        )
