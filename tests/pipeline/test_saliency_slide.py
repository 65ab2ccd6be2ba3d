"""Saliency of a slide: what MSI-Net makes of its view, and where on the slide that is."""

import dataclasses
import json
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import shapely
import tifffile
import torch

from saccade.pipeline.errors import ConfigError, RegionError
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.saliency_files import FILES
from saccade.pipeline.saliency_model import load_saliency_model
from saccade.pipeline.saliency_slide import SaliencyOptions, find_saliency
from saccade.pipeline.stages.field import Field, read_field
from saccade.tiling import open_slide
from saccade.tiling.pyramid import Pyramid
from tests.cohort import TinyCohort
from tests.saliency_model import NARROW, write_narrow_model

SLIDE = "s3"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_model(tmp_path_factory.mktemp("model") / "saliency.safetensors")


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort, model: Path, one_thread: None
) -> Path:
    out = tmp_path_factory.mktemp("saliency")
    assert find_saliency(SlideRef(cohort.path(SLIDE)), model, out, SaliencyOptions())
    return out


def values_of(field: Field) -> np.ndarray:
    return np.asarray(field.values[:])


@torch.inference_mode()
def whole(model: Path, out: Path) -> np.ndarray:
    """MSI-Net over the slide's view, at once."""
    network, card = load_saliency_model(model)
    view = Pyramid.open(out / "pyramid.zarr").view(card.mpp or 1)
    return network(torch.from_numpy(view.pixels).permute(2, 0, 1)[None].float())[0].numpy()


def test_the_field_is_what_the_network_makes_of_the_view(
    found: Path, model: Path, cohort: TinyCohort
) -> None:
    field = read_field(found / "saliency.zarr")
    with open_slide(cohort.path(SLIDE)) as slide:
        downsample = slide.downsample_for(8.0)
        content = slide.content_hash

    np.testing.assert_allclose(values_of(field), whole(model, found), atol=1e-5)
    assert (field.grid.cell_l0, field.grid.origin_l0) == (downsample, (0, 0))
    assert field.mpp == pytest.approx((8, 8))
    assert 0.1 < np.asarray(field.valid[:]).mean() < 0.9  # tissue on glass
    assert field.provenance["slide"] == content
    low, high = field.provenance["closing"]
    assert low < high


def test_tiles_give_the_same(found: Path, model: Path, cohort: TinyCohort, tmp_path: Path) -> None:
    options = SaliencyOptions(tile_px=40)
    find_saliency(SlideRef(cohort.path(SLIDE)), model, tmp_path, options)

    whole_field, tiled = (read_field(out / "saliency.zarr") for out in (found, tmp_path))
    np.testing.assert_allclose(values_of(tiled), values_of(whole_field), atol=1e-5)


def test_everything_is_left_and_then_nothing_is_left_to_do(
    found: Path, model: Path, cohort: TinyCohort
) -> None:
    assert {path.name for path in found.iterdir()} == {
        *FILES,
        "pyramid.zarr",
        ".saliency.lock",
        ".pyramid.lock",
    }
    before = (found / "saliency.png").stat().st_mtime_ns
    assert not find_saliency(SlideRef(cohort.path(SLIDE)), model, found, SaliencyOptions())
    assert (found / "saliency.png").stat().st_mtime_ns == before


def test_the_heatmap_shows_the_tissue_in_micrometres(found: Path) -> None:
    field = read_field(found / "saliency.zarr")
    with tifffile.TiffFile(found / "saliency.ome.tif") as tif:
        pixels, xml = tif.asarray(), tif.ome_metadata
    np.testing.assert_array_equal(pixels, np.nan_to_num(field.channel("saliency")))
    assert xml is not None
    assert 'PhysicalSizeX="8.0"' in xml
    assert "Research use only" in xml


def test_regions_are_annotations_over_the_highest_tissue(found: Path) -> None:
    field = read_field(found / "saliency.zarr")
    features = json.loads((found / "saliency.geojson").read_text())["features"]
    seen = field.channel("saliency")
    threshold = np.nanquantile(seen, 0.95)

    assert features
    for number, feature in enumerate(features, start=1):
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        assert feature["properties"]["objectType"] == "annotation"
        assert feature["properties"]["name"] == f"salient {number}"
        assert str(UUID(feature["id"])) == feature["id"]
        numbers = feature["properties"]["measurements"]
        assert threshold < numbers["saliency mean"] <= numbers["saliency max"] <= 1
        assert numbers["area mm2"] == pytest.approx(shape.area * 0.5**2 / 1e6, rel=1e-3)


def test_a_region_of_interest_is_judged_by_itself(
    model: Path, cohort: TinyCohort, tmp_path: Path
) -> None:
    roi = tmp_path / "roi.geojson"
    box = shapely.box(200, 300, 600, 700)  # level-0 pixels; a block has 128
    roi.write_text(json.dumps(shapely.geometry.mapping(box)))
    find_saliency(SlideRef(cohort.path(SLIDE)), model, tmp_path, SaliencyOptions(roi=roi))

    field = read_field(tmp_path / "saliency.zarr")
    judged = np.isfinite(values_of(field)[0])
    rows, cols = np.nonzero(judged)
    assert (rows.min(), rows.max() + 1, cols.min(), cols.max() + 1) == (16, 48, 8, 40)
    assert judged.sum() == 32 * 32
    assert not np.asarray(field.valid[:])[~judged].any()
    assert (np.nanmin(values_of(field)), np.nanmax(values_of(field))) == (0, pytest.approx(1))


def test_tissue_only_leaves_the_glass_out(
    found: Path, model: Path, cohort: TinyCohort, tmp_path: Path
) -> None:
    options = SaliencyOptions(tissue_only=True)
    find_saliency(SlideRef(cohort.path(SLIDE)), model, tmp_path, options)
    field = read_field(tmp_path / "saliency.zarr")
    valid = np.asarray(field.valid[:]).astype(bool)
    np.testing.assert_array_equal(valid, np.asarray(read_field(found / "saliency.zarr").valid[:]))
    judged = np.isfinite(values_of(field)[0])
    assert judged[valid].all()
    assert not judged.all()


def test_a_region_beside_the_slide_is_said(model: Path, cohort: TinyCohort, tmp_path: Path) -> None:
    roi = tmp_path / "roi.geojson"
    roi.write_text(json.dumps(shapely.geometry.mapping(shapely.box(9000, 0, 9999, 99))))
    with pytest.raises(RegionError, match="nothing of the view lies in the region"):
        find_saliency(SlideRef(cohort.path(SLIDE)), model, tmp_path, SaliencyOptions(roi=roi))


def test_a_model_without_a_scale_asks_for_one(cohort: TinyCohort, tmp_path: Path) -> None:
    model = write_narrow_model(tmp_path / "m.safetensors", dataclasses.replace(NARROW, mpp=None))
    slide = SlideRef(cohort.path(SLIDE))
    with pytest.raises(ConfigError, match="--view-mpp 16"):
        find_saliency(slide, model, tmp_path, SaliencyOptions())
    find_saliency(slide, model, tmp_path, SaliencyOptions(view_mpp=16.0))
    assert read_field(tmp_path / "saliency.zarr").mpp == pytest.approx((16, 16))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"view_mpp": 0.0}, "view-mpp must be positive"),
        ({"min_tissue": 2.0}, "a share from 0 to 1"),
        ({"tile_px": 20}, "a multiple of 8 pixels"),
    ],
)
def test_impossible_options_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SaliencyOptions(**change)  # type: ignore[arg-type]
