"""Masks of a slide: what the encoder makes of its tiles, and where on the slide that is."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from saccade.models.attention_sampling import AttentionSampling
from saccade.models.residual_attention import watched_masks
from saccade.pipeline.config import ModelConfig
from saccade.pipeline.errors import ConfigError, ModelFileError
from saccade.pipeline.mask import files
from saccade.pipeline.mask.files import FILES
from saccade.pipeline.mask.options import MaskOptions
from saccade.pipeline.mask.run import find_masks
from saccade.pipeline.model_file import load_model
from saccade.pipeline.options import PredictOptions
from saccade.pipeline.predict import predict_slide
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.stages.field import Field, read_field
from saccade.tiling import open_slide
from saccade.tiling.places import Places
from tests.cohort import TinyCohort
from tests.mask_model import BEHIND, write_mask_model
from tests.processes import kill_at, saccade

SLIDE, SIDE = "s3", 32
LOCKS = {".mask.lock", ".pyramid.lock"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mask_model(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def drawn(
    tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort, model: Path, one_thread: None
) -> Path:
    out = tmp_path_factory.mktemp("drawn")
    assert find_masks(SlideRef(cohort.path(SLIDE)), model, out, MaskOptions())
    return out


@pytest.fixture(scope="module")
def tissue(
    tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort, model: Path, one_thread: None
) -> Path:
    out = tmp_path_factory.mktemp("tissue")
    find_masks(SlideRef(cohort.path(SLIDE)), model, out, MaskOptions(all_tissue=True, batch=256))
    return out


@pytest.fixture(scope="module")
def network(model: Path) -> AttentionSampling:
    return load_model(model)[0]


@torch.inference_mode()
def masks_at(
    network: AttentionSampling, slide: Path, corner_l0: tuple[int, int]
) -> list[NDArray[np.float32]]:
    """The masks of one tile, means over their channels."""
    with open_slide(slide) as opened:
        tile = opened.read(*corner_l0, SIDE, 0.5)
    with watched_masks(network) as masks:
        network.encoder(torch.from_numpy(tile).permute(2, 0, 1)[None])
    return [mask[0].mean(dim=0).numpy() for mask in masks]


def tiles_of(out: Path) -> list[dict[str, Any]]:
    features: list[dict[str, Any]] = json.loads((out / "mask.geojson").read_text())["features"]
    return features


def corner_of(tile: dict[str, Any]) -> tuple[int, int]:
    x, y = tile["geometry"]["coordinates"][0][0]
    return x, y


def values_of(field: Field) -> NDArray[np.float32]:
    return np.asarray(field.values[:])


def test_masks_lie_where_their_tiles_lie(
    tissue: Path, network: AttentionSampling, cohort: TinyCohort
) -> None:
    """Tiles side by side: each cell of the field is a cell of the finest mask of one of them."""
    field = read_field(tissue / "mask.zarr")
    values, tiles = values_of(field), tiles_of(tissue)

    assert field.kind == "feature mask"
    assert field.channels == ("mask_4px", "mask_8px", "mask_16px")
    assert (field.grid.cell_l0, field.grid.origin_l0) == ((4, 4), (0, 0))
    assert len(tiles) > 100
    assert np.isfinite(values[0]).sum() == len(tiles) * (SIDE // 4) ** 2
    for tile in tiles[:: len(tiles) // 5]:
        x, y = corner_of(tile)
        here = values[:, y // 4 : y // 4 + 8, x // 4 : x // 4 + 8]
        for channel, mask in zip(here, masks_at(network, cohort.path(SLIDE), (x, y)), strict=True):
            times = 8 // len(mask)
            laid = mask.repeat(times, axis=0).repeat(times, axis=1)
            np.testing.assert_allclose(channel, laid, atol=1e-5)


def test_drawn_tiles_are_those_of_a_prediction(
    drawn: Path, model: Path, cohort: TinyCohort, tmp_path: Path
) -> None:
    predict_slide(SlideRef(cohort.path(SLIDE)), model, tmp_path, PredictOptions())
    with (tmp_path / "tiles.csv").open(newline="") as file:
        predicted = list(csv.DictReader(file))

    tiles = tiles_of(drawn)
    assert [corner_of(tile) for tile in tiles] == [
        (int(each["x_l0"]), int(each["y_l0"])) for each in predicted
    ]
    for number, (tile, other) in enumerate(zip(tiles, predicted, strict=True), start=1):
        measured = tile["properties"]["measurements"]
        assert measured["order"] == number
        assert measured["attention"] == float(other["probability"])


def test_each_tile_is_measured_by_the_means_of_its_masks(
    drawn: Path, network: AttentionSampling, cohort: TinyCohort
) -> None:
    for tile in tiles_of(drawn):
        masks = masks_at(network, cohort.path(SLIDE), corner_of(tile))
        measured = tile["properties"]["measurements"]
        for cell, mask in zip((4, 8, 16), masks, strict=True):
            assert measured[f"mask_{cell}px"] == pytest.approx(mask.mean(), abs=1e-5)
        assert tile["properties"]["objectType"] == "tile"


def test_a_tile_with_tissue_has_the_attention_of_the_cell_at_its_centre(
    tissue: Path, model: Path, cohort: TinyCohort
) -> None:
    predict_slide(SlideRef(cohort.path(SLIDE)), model, tissue, PredictOptions())
    attention = tifffile.imread(tissue / "attention.ome.tif", level=0)
    cell = json.loads((tissue / "prediction.json").read_text())["cell_l0"]

    for tile in tiles_of(tissue)[::7]:
        x, y = (start + SIDE / 2 for start in corner_of(tile))
        there = attention[int(y // cell[1]), int(x // cell[0])]
        assert tile["properties"]["measurements"]["attention"] == pytest.approx(there, rel=1e-5)


def test_everything_is_left_and_then_nothing_is_left_to_do(
    drawn: Path, model: Path, cohort: TinyCohort
) -> None:
    slide = SlideRef(cohort.path(SLIDE))
    assert {path.name for path in drawn.iterdir()} == {*FILES, "pyramid.zarr", *LOCKS}
    before = (drawn / "mask.png").stat().st_mtime_ns
    assert not find_masks(slide, model, drawn, MaskOptions(workers=1, batch=3))
    assert (drawn / "mask.png").stat().st_mtime_ns == before
    assert find_masks(slide, model, drawn, MaskOptions(force=True))
    assert (drawn / "mask.png").stat().st_mtime_ns > before


def test_batches_change_nothing(
    drawn: Path, model: Path, cohort: TinyCohort, tmp_path: Path
) -> None:
    find_masks(SlideRef(cohort.path(SLIDE)), model, tmp_path, MaskOptions(batch=3, workers=3))

    one, other = (values_of(read_field(out / "mask.zarr")) for out in (drawn, tmp_path))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_heatmap_shows_the_field_in_micrometres(drawn: Path) -> None:
    with tifffile.TiffFile(drawn / "mask.ome.tif") as tif:
        pixels, xml = tif.asarray(), tif.ome_metadata
    np.testing.assert_array_equal(pixels, np.nan_to_num(values_of(read_field(drawn / "mask.zarr"))))
    assert xml is not None
    assert 'PhysicalSizeX="2.0"' in xml
    assert "no probability" in xml


def test_a_heatmap_is_made_coarser_until_it_fits(
    monkeypatch: pytest.MonkeyPatch, model: Path, cohort: TinyCohort, tmp_path: Path
) -> None:
    monkeypatch.setattr(files, "_MOST_CELLS", 100)
    find_masks(SlideRef(cohort.path(SLIDE)), model, tmp_path, MaskOptions(tiles=1))
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as tif:
        assert max(tif.series[0].shape) <= 100
        assert 'PhysicalSizeX="6.0"' in (tif.ome_metadata or "")


def test_the_picture_shows_the_tiles_with_most_attention(drawn: Path) -> None:
    """Four tiles with three masks each: two in a row."""
    with Image.open(drawn / "mask.png") as picture:
        width, height = picture.size
    assert width == 1800
    assert 500 < height < 900


def test_a_module_behind_the_encoder_has_masks_too(cohort: TinyCohort, tmp_path: Path) -> None:
    model = write_mask_model(tmp_path / "m.safetensors", BEHIND)
    find_masks(SlideRef(cohort.path(SLIDE)), model, tmp_path / "out", MaskOptions(tiles=2))

    field = read_field(tmp_path / "out" / "mask.zarr")
    assert field.channels == ("mask_8px",)
    assert field.mpp == (4, 4)
    assert 0.45 < np.nanmean(values_of(field)) < 0.55  # spatial: means of sigmoids around 1/2


def test_a_killed_run_leaves_nothing_half_written(
    model: Path, cohort: TinyCohort, tmp_path: Path
) -> None:
    words: list[str | Path] = ["mask", cohort.path(SLIDE), "--model", model, "--out", tmp_path]
    owner = "saccade.pipeline.stages.mosaic:Mosaic", "add"
    (killed,) = saccade(words, tmp_path / "log", before=partial(kill_at, 3, owner))
    left = {path.name for path in tmp_path.iterdir()}
    assert killed.code == -9
    assert not left & set(FILES)

    (ended,) = saccade(words, tmp_path / "log")
    assert ended.code == 0, ended.said
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "pyramid.zarr", *LOCKS, "log.0"}


def test_a_model_that_looks_at_parts_of_tiles_has_no_masks_of_them(
    cohort: TinyCohort, tmp_path: Path
) -> None:
    within = ModelConfig(encoder="residual_attention", spatial_transformer="attention")
    model = write_mask_model(tmp_path / "m.safetensors", within)
    with pytest.raises(ModelFileError, match=r"looks at a part of each tile.*run\.yaml"):
        find_masks(SlideRef(cohort.path(SLIDE)), model, tmp_path, MaskOptions())


def test_a_model_without_masks_is_told_how_to_get_some(cohort: TinyCohort, tmp_path: Path) -> None:
    model = write_mask_model(tmp_path / "m.safetensors", ModelConfig(encoder="compact"))
    with pytest.raises(
        ModelFileError, match=r"compact, has no attention modules.*run\.yaml.*train"
    ):
        find_masks(SlideRef(cohort.path(SLIDE)), model, tmp_path / "out", MaskOptions())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tiles": 0}, "at least 1, got 0"),
        ({"tiles": 4, "all_tissue": True}, "leave --tiles or --all-tissue out"),
        ({"min_tissue": -0.1}, "a share from 0 to 1"),
        ({"batch": 0}, "at least 1 tile"),
    ],
)
def test_impossible_options_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MaskOptions(**change)


def test_the_tiles_with_most_attention_are_shown_ties_in_their_order() -> None:
    attention = np.array([0.1, 0.3, 0.2, 0.3, *np.zeros(20)])
    zeros = np.zeros((24, 2), np.int64)
    places = Places(zeros, SIDE, 0.5, (32.0, 32.0), zeros[:, 0], attention)

    assert files.most_attended(places).tolist() == [1, 3, 2, 0, *range(4, 12)]
