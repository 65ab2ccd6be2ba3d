"""Predictions whose outcome is known beforehand: the model attends to darkness alone."""

import csv
import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from saccade.models.attention_networks import PaperAttention
from saccade.pipeline import encoding
from saccade.pipeline.config import ModelConfig, RunConfig, TilesConfig, ViewConfig
from saccade.pipeline.errors import ConfigError, DivergedError, ModelFileError
from saccade.pipeline.files import write_json
from saccade.pipeline.lock import exclusive
from saccade.pipeline.model_file import ModelCard, load_model, save_model
from saccade.pipeline.options import PredictOptions
from saccade.pipeline.predict import predict_slide
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.results import FILES, is_complete
from saccade.pipeline.run import run_slide
from saccade.pipeline.tasks.classes import Classes
from saccade.tiling import Slide
from saccade.tiling.errors import MissingMppError, NoTissueError, SlideNotFoundError
from saccade.tiling.lattice import Snap
from tests.holding import held_until_waited_for
from tests.slides import tissue_like, write_pyramid_tiff

ROOT = Path(__file__).parents[2]
MPP = 0.5
LOCKS = {".lock", ".pyramid.lock"}
SQUARE_L0 = (1296, 352, 1392, 448)  # left, top, right, bottom: 6 x 6 places of 16 px
CELL_L0 = 16
CARD = ModelCard.of(
    RunConfig(
        view=ViewConfig(mpp=CELL_L0 * MPP),
        tiles=TilesConfig(per_slide=8, size_px=32, mpp=1.0),
        model=ModelConfig(attention="paper", encoder="paper", smooth=0.0),
    ),
    Classes(("pale", "dark")),
)


def darkness_model(path: Path, seed: int = 0, card: ModelCard = CARD) -> Path:
    """A model file whose attention is darkness; it makes the outcome of a run known in advance."""
    torch.manual_seed(seed)
    model = card.build()
    assert isinstance(model.attention, PaperAttention)
    first, second, score = (
        model.attention.get_submodule(name) for name in ("first", "second", "score")
    )
    with torch.no_grad():
        for layer in (first, second, score):
            layer.weight.zero_()  # type: ignore[operator]
            layer.bias.zero_()  # type: ignore[operator]
        first.weight[0, :, 1, 1] = -1  # type: ignore[operator]
        second.weight[0, 0, 1, 1] = 1  # type: ignore[operator]
        score.weight[0, 0, 1, 1] = 100  # type: ignore[operator]
    save_model(path, model.state_dict(), card)
    return path


def wide_slide(path: Path, width: int = 2048, height: int = 1024, tile: int = 256) -> Path:
    pixels = tissue_like(width, height)
    left, top, right, bottom = SQUARE_L0
    pixels[top:bottom, left:right] = (60, 20, 90)
    return write_pyramid_tiff(path, pixels, mpp=MPP, tile=tile)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("darkness")
    wide_slide(folder / "wide.tiff")
    darkness_model(folder / "model.safetensors")
    return folder


def predict(folder: Path, out: Path, **options: Any) -> bool:
    chosen = PredictOptions(**{"workers": 1, **options})
    return predict_slide(SlideRef(folder / "wide.tiff"), folder / "model.safetensors", out, chosen)


@pytest.fixture(scope="module")
def result(folder: Path) -> Path:
    assert predict(folder, folder / "result")
    return folder / "result"


def tiles_of(out: Path) -> list[dict[str, str]]:
    with (out / "tiles.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def centres_l0(out: Path) -> NDArray[np.float64]:
    return np.array(
        [
            [
                float(t["x_l0"]) + float(t["side_l0_x"]) / 2,
                float(t["y_l0"]) + float(t["side_l0_y"]) / 2,
            ]
            for t in tiles_of(out)
        ]
    )


def assert_in_square(points_l0: NDArray[np.float64]) -> None:
    left, top, right, bottom = SQUARE_L0
    assert ((points_l0 >= (left, top)) & (points_l0 <= (right, bottom))).all(), points_l0


def as_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_leaves_the_files_it_promises_and_nothing_half_written(result: Path) -> None:
    found = {path.name for path in result.iterdir()} - LOCKS

    assert found == {*FILES, "pyramid.zarr"}


def test_looks_where_the_dark_square_is(result: Path) -> None:
    assert len(tiles_of(result)) == 8
    assert_in_square(centres_l0(result))
    assert len({tuple(centre) for centre in centres_l0(result)}) == 8


def test_geojson_shows_the_very_tiles_of_the_table(result: Path) -> None:
    features = as_json(result / "attention.geojson")["features"]
    rings = np.array([feature["geometry"]["coordinates"][0][:4] for feature in features])

    assert_in_square(rings.mean(axis=1))
    assert np.array_equal(rings.mean(axis=1), centres_l0(result))
    assert {tuple(np.ptp(ring, axis=0)) for ring in rings} == {(64, 64)}
    for feature, tile in zip(features, tiles_of(result), strict=True):
        shown = feature["properties"]["measurements"]
        assert shown["attention"] == pytest.approx(float(tile["probability"]))
        assert shown["weight"] == pytest.approx(float(tile["weight"]))


def test_heatmap_is_bright_where_the_dark_square_is(result: Path) -> None:
    with tifffile.TiffFile(result / "attention.ome.tif") as tif:
        values = tif.asarray()
        pixels = tifffile.xml2dict(str(tif.ome_metadata))["OME"]["Image"]["Pixels"]
    assert values.shape == (1024 // CELL_L0, 2048 // CELL_L0)
    assert values.sum() == pytest.approx(1, abs=1e-5)
    row, col = np.nonzero(values > 1e-5)
    x_l0 = (col + 0.5) * pixels["PhysicalSizeX"] / MPP
    y_l0 = (row + 0.5) * pixels["PhysicalSizeY"] / MPP
    assert len(row) >= 16
    assert_in_square(np.stack([x_l0, y_l0], axis=1))


def test_table_and_heatmap_agree_on_each_tile(result: Path) -> None:
    values = tifffile.imread(result / "attention.ome.tif")
    for tile in tiles_of(result):
        at = values[int(tile["cell_row"]), int(tile["cell_col"])]
        assert at == pytest.approx(float(tile["probability"]), rel=1e-5)
        assert float(tile["probability"]) > 0


def test_features_lie_where_the_tiles_do(result: Path) -> None:
    with h5py.File(result / "features.h5") as file:
        coords, features = file["coords"][:], file["features"][:]
    corners = [[float(t["x_l0"]), float(t["y_l0"])] for t in tiles_of(result)]

    assert np.array_equal(coords, corners)
    assert features.shape == (8, 32)


def test_prediction_says_what_was_read(result: Path) -> None:
    prediction = as_json(result / "prediction.json")

    assert prediction["slide"] == "wide.tiff"
    assert sum(prediction["probabilities"].values()) == pytest.approx(1)
    assert prediction["label"] == max(
        prediction["probabilities"], key=prediction["probabilities"].get
    )
    assert prediction["tiles_read"] == 8
    assert prediction["share_of_level_0_read"] == pytest.approx(8 * 64**2 / (2048 * 1024))
    weights = [float(tile["weight"]) for tile in tiles_of(result)]
    assert sum(weights) == pytest.approx(1, abs=1e-5)


def test_the_record_says_what_was_decoded(result: Path) -> None:
    cost = as_json(result / "record.json")["cost"]

    assert cost["tiles_read"] == 8
    # A tile of 64 px touches four source tiles at most; two pieces are compared with OpenSlide.
    assert 0 < cost["source_tiles_decoded"] <= 8 * 4 + 2
    assert cost["pixels_decoded"] >= 64 * 64
    assert 0 < cost["compressed_bytes_read"] < cost["pixels_decoded"] * 3
    assert 0 < cost["waited_seconds"] < cost["seconds"]


def test_verdict_is_that_of_the_tiles_and_weights_in_the_files(result: Path, folder: Path) -> None:
    model, card = load_model(folder / "model.safetensors")
    with h5py.File(result / "features.h5") as file:
        features = file["features"][:]
    weights = np.array([float(tile["weight"]) for tile in tiles_of(result)])
    logits = model.head(torch.tensor(weights @ features, dtype=torch.float32))

    found = as_json(result / "prediction.json")["probabilities"]
    for name, probability in zip(card.task.names, logits.softmax(dim=0).tolist(), strict=True):
        assert found[name] == pytest.approx(probability, abs=1e-5)


def content(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FILES if name != "record.json"}


@pytest.mark.parametrize("workers", [1, 3])
def test_same_seed_same_bytes(folder: Path, result: Path, tmp_path: Path, workers: int) -> None:
    assert predict(folder, tmp_path, workers=workers)

    again, first = content(tmp_path), content(result)
    for name in first.keys() - {"features.h5"}:
        assert again[name] == first[name], name
    with h5py.File(tmp_path / "features.h5") as a, h5py.File(result / "features.h5") as b:
        assert np.array_equal(a["features"][:], b["features"][:])


def test_a_second_call_does_nothing_unless_forced(folder: Path, tmp_path: Path) -> None:
    predict(folder, tmp_path)
    before = {
        path: path.stat().st_mtime_ns
        for path in tmp_path.iterdir()
        if not path.name.endswith(".lock")
    }

    assert not predict(folder, tmp_path)
    assert not predict(folder, tmp_path, workers=2)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert predict(folder, tmp_path, force=True)


@pytest.mark.parametrize("name", FILES)
def test_results_without_one_of_their_files_are_not_complete(tmp_path: Path, name: str) -> None:
    for each in FILES:
        (tmp_path / each).touch()
    assert is_complete(tmp_path)
    (tmp_path / name).unlink()
    assert not is_complete(tmp_path)


def test_a_lost_file_comes_back(folder: Path, tmp_path: Path) -> None:
    predict(folder, tmp_path)
    (tmp_path / "tiles.csv").unlink()

    assert predict(folder, tmp_path)
    assert_in_square(centres_l0(tmp_path))


def test_another_seed_looks_elsewhere(folder: Path, result: Path, tmp_path: Path) -> None:
    predict(folder, tmp_path)
    assert predict(folder, tmp_path, seed=1)

    assert not np.array_equal(centres_l0(tmp_path), centres_l0(result))
    assert_in_square(centres_l0(tmp_path))


def test_another_number_of_tiles_is_another_prediction(folder: Path, tmp_path: Path) -> None:
    predict(folder, tmp_path)
    assert predict(folder, tmp_path, tiles=3)
    assert len(tiles_of(tmp_path)) == 3


def test_another_model_or_slide_is_another_prediction(folder: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", PredictOptions(workers=1)
    slide, model = SlideRef(folder / "wide.tiff"), folder / "model.safetensors"
    predict_slide(slide, model, out, options)
    other_model = darkness_model(tmp_path / "other.safetensors", seed=1)
    other_slide = SlideRef(wide_slide(tmp_path / "larger.tiff", height=1152))

    assert predict_slide(slide, other_model, out, options)
    assert predict_slide(other_slide, other_model, out, options)
    assert tifffile.imread(out / "attention.ome.tif").shape == (1152 // CELL_L0, 2048 // CELL_L0)
    assert as_json(out / "prediction.json")["slide"] == "larger.tiff"
    assert predict_slide(SlideRef(other_slide.path, mpp=0.4), other_model, out, options)


KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from pathlib import Path
from saccade.pipeline import predict as predicting
from saccade.pipeline import results

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(results, sys.argv[4], kill)
slide, model, out = map(Path, sys.argv[1:4])
options = predicting.PredictOptions(seed=1, workers=1)
predicting.predict_slide(predicting.SlideRef(slide), model, out, options)
"""


def test_killed_in_the_middle_the_next_run_completes(folder: Path, tmp_path: Path) -> None:
    """Over older results, which must not pass for finished with half of them replaced."""
    predict(folder, tmp_path)
    older = content(tmp_path)
    command: list[str | Path] = [sys.executable, "-c", KILLED]
    command += [folder / "wide.tiff", folder / "model.safetensors", tmp_path, "write_heatmap"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert (tmp_path / "tiles.csv").read_bytes() != older["tiles.csv"]
    assert not (tmp_path / "record.json").exists()

    assert predict(folder, tmp_path)
    assert content(tmp_path)["tiles.csv"] == older["tiles.csv"]
    assert content(tmp_path)["attention.ome.tif"] == older["attention.ome.tif"]
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "pyramid.zarr"} | LOCKS


def test_a_second_prediction_waits_and_finds_it_done(folder: Path, tmp_path: Path) -> None:
    predict(folder, tmp_path)
    with held_until_waited_for(tmp_path):
        assert not predict(folder, tmp_path)


def test_other_steps_of_the_same_slide_are_not_waited_for(folder: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path, "saliency"), exclusive(tmp_path, "mask"):
        assert predict(folder, tmp_path)


def test_a_slide_with_few_places_gives_those_it_has(folder: Path, tmp_path: Path) -> None:
    pixels = np.full((1024, 1024, 3), 243, np.uint8)
    pixels[400:656, 400:656] = tissue_like(512, 512)[128:384, 128:384]
    slide = SlideRef(write_pyramid_tiff(tmp_path / "few.tiff", pixels, mpp=MPP))
    predict_slide(
        slide, folder / "model.safetensors", tmp_path / "out", PredictOptions(tiles=100_000)
    )

    values = tifffile.imread(tmp_path / "out" / "attention.ome.tif")
    assert 9 < len(tiles_of(tmp_path / "out")) < values.size
    assert as_json(tmp_path / "out" / "prediction.json")["tiles_read"] == len(
        tiles_of(tmp_path / "out")
    )


def test_tiles_read_do_not_grow_with_the_slide(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    read_tiles = Slide.read_tiles

    def counting(slide: Slide, corners: NDArray[np.int64], *rest: Any, workers: int) -> Any:
        counts.append(len(corners))
        return read_tiles(slide, corners, *rest, workers=workers)

    monkeypatch.setattr(Slide, "read_tiles", counting)
    totals = []
    for name, side in (("small", 1), ("large", 2)):
        slide = wide_slide(tmp_path / f"{name}.tiff", 2048 * side, 1024 * side)
        counts.clear()
        predict_slide(
            SlideRef(slide), folder / "model.safetensors", tmp_path / name, PredictOptions()
        )
        totals.append(sum(counts))
    assert totals == [8, 8]


@pytest.mark.parametrize("snap", ["none", "pixel", "tile"])
def test_the_places_in_the_files_are_those_that_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, snap: Snap
) -> None:
    """Tiles of 1 um/px are read from a level of 2 level-0 pixels each, in tiles of 128."""
    read_tiles, read = Slide.read_tiles, []

    def watched(slide: Slide, corners: NDArray[np.int64], *rest: Any, workers: int) -> Any:
        read.append(corners)
        return read_tiles(slide, corners, *rest, workers=workers)

    monkeypatch.setattr(Slide, "read_tiles", watched)
    card = replace(CARD, tiles=replace(CARD.tiles, size_px=31, snap=snap))
    model = darkness_model(tmp_path / "model.safetensors", card=card)
    slide = wide_slide(tmp_path / "wide.tiff", tile=64)
    predict_slide(SlideRef(slide), model, tmp_path / "out", PredictOptions())

    written = [[int(t["x_l0"]), int(t["y_l0"])] for t in tiles_of(tmp_path / "out")]
    assert np.array_equal(np.concatenate(read), written)
    with h5py.File(tmp_path / "out" / "features.h5") as file:
        assert np.array_equal(file["coords"][:], written)
    odd, across = np.array(written) % 2, np.array(written) % 128 + 62 > 128
    assert odd.any() == (snap == "none")
    assert across.any() == (snap != "tile")


def test_many_tiles_in_pieces_are_judged_as_in_one(
    folder: Path, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_PIECE", 3)
    predict(folder, tmp_path)

    for one, other in zip(tiles_of(tmp_path), tiles_of(result), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert float(value) == pytest.approx(float(other[name]), abs=1e-6), name
    shown, wanted = ((out / "attention.png").read_bytes() for out in (tmp_path, result))
    assert shown == wanted  # the strongest tiles are drawn beside the heatmap
    with h5py.File(tmp_path / "features.h5") as a, h5py.File(result / "features.h5") as b:
        np.testing.assert_allclose(a["features"][:], b["features"][:], atol=1e-5)
    found, whole = (as_json(out / "prediction.json") for out in (tmp_path, result))
    assert found["probabilities"] == pytest.approx(whole["probabilities"], abs=1e-6)


def test_a_pyramid_that_lies_there_is_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(folder, tmp_path)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr("saccade.pipeline.thumbnails.build_pyramid", never)
    assert predict(folder, tmp_path, seed=5)


def test_slides_that_cannot_be_predicted_say_so(folder: Path, tmp_path: Path) -> None:
    model, options = folder / "model.safetensors", PredictOptions(workers=1)
    bare = write_pyramid_tiff(tmp_path / "bare.tiff", tissue_like(400, 400), mpp=None)
    glass = write_pyramid_tiff(tmp_path / "glass.tiff", np.full((500, 500, 3), 243, np.uint8))
    with pytest.raises(MissingMppError, match=r"bare\.tiff"):
        predict_slide(SlideRef(bare), model, tmp_path / "out", options)
    with pytest.raises(NoTissueError, match=r"glass\.tiff"):
        predict_slide(SlideRef(glass), model, tmp_path / "out", options)
    with pytest.raises(SlideNotFoundError):
        predict_slide(SlideRef(tmp_path / "none.tiff"), model, tmp_path / "out", options)
    assert not (tmp_path / "out" / "record.json").exists()


def test_models_that_cannot_predict_say_so(folder: Path, tmp_path: Path) -> None:
    slide, options = SlideRef(folder / "wide.tiff"), PredictOptions(workers=1)
    with pytest.raises(ModelFileError, match="no such file"):
        predict_slide(slide, tmp_path / "none.safetensors", tmp_path / "out", options)
    with pytest.raises(ModelFileError, match=r"holds no model\.safetensors"):
        run_slide(slide, tmp_path, tmp_path / "out", options)
    with pytest.raises(ConfigError, match="tiles must be at least 1"):
        PredictOptions(tiles=0)

    model, card = load_model(folder / "model.safetensors")
    state = {name: torch.full_like(value, math.nan) for name, value in model.state_dict().items()}
    save_model(tmp_path / "nan.safetensors", state, card)
    with pytest.raises(DivergedError, match="not a number"):
        predict_slide(slide, tmp_path / "nan.safetensors", tmp_path / "out", options)


def test_smoothing_lets_every_place_be_drawn(folder: Path, tmp_path: Path) -> None:
    """So that the share of tiles outside the square is what the setting says."""
    card = replace(CARD, model=replace(CARD.model, smooth=0.9))
    model = darkness_model(tmp_path / "smooth.safetensors", card=card)
    predict_slide(SlideRef(folder / "wide.tiff"), model, tmp_path / "out", PredictOptions(tiles=40))
    centres = centres_l0(tmp_path / "out")

    left, top, right, bottom = SQUARE_L0
    inside = ((centres >= (left, top)) & (centres <= (right, bottom))).all(axis=1)
    assert 0 < inside.sum() < 20


def test_run_leaves_files_for_qupath_too(folder: Path, tmp_path: Path) -> None:
    run_slide(SlideRef(folder / "wide.tiff"), folder, tmp_path, PredictOptions(workers=1))

    shown = as_json(tmp_path / "qupath" / "attention.geojson")["features"]
    rings = np.array([feature["geometry"]["coordinates"][0][:4] for feature in shown])
    assert_in_square(rings.mean(axis=1))
    heatmap = tifffile.imread(tmp_path / "qupath" / "attention.ome.tif")
    assert np.array_equal(heatmap, tifffile.imread(tmp_path / "attention.ome.tif"))


def test_the_record_is_written_last(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def watched(path: Path, value: object) -> None:
        others = set(FILES) - {"record.json"}
        seen.append(all((tmp_path / name).is_file() for name in others))
        write_json(path, value)

    monkeypatch.setattr("saccade.pipeline.predict.write_json", watched)
    predict(folder, tmp_path)
    assert seen == [True]
