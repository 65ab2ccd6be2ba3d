"""Segmenting a slide: what is painted on it is found, wherever tiles and regions lie."""

import contextlib
import csv
import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile

from saccade.pipeline.errors import ConfigError, RegionError
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.segment import files
from saccade.pipeline.segment.files import files_of
from saccade.pipeline.segment.options import SegmentOptions
from saccade.pipeline.segment.run import segment_slide
from saccade.pipeline.stages import runner
from saccade.pipeline.stages.field import read_field
from saccade.tiling.errors import NoTissueError
from tests.segment_model import SMALL, use_seer, write_small_model
from tests.slides import tissue_like, write_flat_tiff

ROWS, COLS = 400, 520
SEEN = {"min_tissue": 0.0, "tile_px": 96}
CORNERS = [(96, 96), (192, 96), (96, 288), (128, 128), (256, 384), (64, 448), (288, 192)]


@pytest.fixture(autouse=True)
def _calm_torch(one_thread: None) -> None:
    """Torch with one thread."""


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the picture empty, which takes longer to draw than all else."""
    monkeypatch.setattr(files, "draw_classes", lambda path, _: path.write_bytes(b""))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("model") / "segmentation.safetensors")


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> SlideRef:
    """Nuclei on the corners of tiles, and a gland over four of them, on a grey slide."""
    pixels = np.full((ROWS, COLS, 3), 230, np.uint8)
    rows, cols = np.ogrid[:ROWS, :COLS]
    pixels[(np.hypot(rows - 200, cols - 200) < 60) & (np.hypot(rows - 200, cols - 200) > 30)] = (
        200, 40, 40,
    )  # fmt: skip
    for row, col in CORNERS:
        pixels[np.hypot(rows - row, cols - col) < 8] = (40, 40, 200)
    path = tmp_path_factory.mktemp("slide") / "painted.tiff"
    return SlideRef(write_flat_tiff(path, pixels, tile=128, mpp=1.0, compression="deflate"))


def features(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["features"]
    return found


def rows_of(out: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (out / "segmentation.csv").open(newline="") as file:
        return {(row["region"], row["class"]): row for row in csv.DictReader(file)}


def bytes_of(out: Path) -> dict[str, bytes]:
    """Of all files but the record, which says how long it took."""
    kept = [
        path
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name[0] != "." and "record" not in path.name
    ]
    return {str(path.relative_to(out)): path.read_bytes() for path in kept}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("tile_px", [64, 96, 512])
def test_what_is_painted_is_found_once_at_any_tile(
    painted: SlideRef, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile_px: int
) -> None:
    use_seer(monkeypatch)
    options = SegmentOptions(min_tissue=0.0, tile_px=tile_px)
    assert segment_slide(painted, model, tmp_path, options)

    (gland,) = features(tmp_path / "segmentation.geojson")
    assert gland["properties"]["classification"]["name"] == "gland"
    shape = shapely.geometry.shape(gland["geometry"])
    assert shape.is_valid
    assert len(shape.interiors) == 1
    assert shape.area == pytest.approx(np.pi * (60**2 - 30**2), rel=0.03)
    nuclei = features(tmp_path / "objects.geojson")
    assert len(nuclei) == len(CORNERS)
    centres = [shapely.geometry.shape(each["geometry"]).centroid.coords[0] for each in nuclei]
    assert all(min(np.hypot(y - r - 0.5, x - c - 0.5) for x, y in centres) < 1 for r, c in CORNERS)
    row = rows_of(tmp_path)["all", "nucleus"]
    assert (row["objects"], row["judged_mm2"]) == ("7", f"{ROWS * COLS / 1e6:.6g}")
    assert float(row["objects_per_mm2"]) == pytest.approx(7 / (ROWS * COLS) * 1e6, rel=1e-5)


def test_everything_is_left_and_then_nothing_is_left_to_do(
    painted: SlideRef, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_seer(monkeypatch)
    options = SegmentOptions(**SEEN)  # type: ignore[arg-type]
    segment_slide(painted, model, tmp_path, options)
    names = {path.name for path in tmp_path.iterdir() if path.name[0] != "."}
    assert names == {*files_of(SMALL), "pyramid.zarr"}
    assert not segment_slide(painted, model, tmp_path, options)

    with tifffile.TiffFile(tmp_path / "segmentation.ome.tif") as tif:
        pixels, xml = tif.asarray(), tif.ome_metadata
    field = read_field(tmp_path / "segmentation.zarr")
    np.testing.assert_allclose(pixels, np.asarray(field.values[1:]), atol=1e-6)
    assert xml is not None
    assert all(name in xml for name in ("gland", "nucleus", 'PhysicalSizeX="1.0"'))


@pytest.mark.usefixtures("undrawn")
def test_regions_are_judged_as_the_whole_slide_would_be_and_counted_one_by_one(
    painted: SlideRef, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_seer(monkeypatch)
    boxes = {"upper": shapely.box(60, 60, 180, 140), "gland": shapely.box(140, 140, 260, 260)}
    roi = tmp_path / "roi.geojson"
    roi.write_text(json.dumps([
        {"type": "Feature", "geometry": shapely.geometry.mapping(box), "properties": {"name": name}}
        for name, box in boxes.items()
    ]))  # fmt: skip
    whole = SegmentOptions(**SEEN)  # type: ignore[arg-type]
    part = SegmentOptions(**SEEN, roi=roi)  # type: ignore[arg-type]
    for folder, options in (("whole", whole), ("part", part)):
        segment_slide(painted, model, tmp_path / folder, options)

    all_of_it, region = (read_field(tmp_path / f / "segmentation.zarr") for f in ("whole", "part"))
    valid = np.asarray(region.valid[:]).astype(bool)
    assert valid.sum() == 120 * 80 + 120 * 120
    seen = np.asarray(region.values[:])[:, valid]
    np.testing.assert_array_equal(seen, np.asarray(all_of_it.values[:])[:, valid])
    rows = rows_of(tmp_path / "part")
    assert {name for name, _ in rows} == {"all", "upper", "gland"}
    assert rows["upper", "nucleus"]["objects"] == "2"
    assert rows["gland", "nucleus"]["objects"] == "0"
    assert rows["all", "nucleus"]["objects"] == "2"
    assert float(rows["gland", "gland"]["area_mm2"]) == pytest.approx(0.00848, rel=0.03)
    assert rows["gland", "gland"]["polygons"] == "1"


def random_slide(folder: Path) -> SlideRef:
    path = folder / "tissue.tiff"
    pixels = tissue_like(COLS, ROWS, seed=1)
    return SlideRef(write_flat_tiff(path, pixels, tile=128, mpp=1.0, compression="deflate"))


def _killed_at(tile: int, slide: SlideRef, model: Path, out: Path, options: SegmentOptions) -> None:
    def die(done: int, _: int) -> None:
        if done == tile:
            os.kill(os.getpid(), signal.SIGKILL)

    segment_slide(slide, model, out, options, progress=die)


def _killed_drawing(slide: SlideRef, model: Path, out: Path, options: SegmentOptions) -> None:
    files.draw_classes = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    segment_slide(slide, model, out, options)


@pytest.mark.usefixtures("undrawn")
def test_a_killed_run_goes_on_to_the_same_bytes(model: Path, tmp_path: Path) -> None:
    slide, options = random_slide(tmp_path), SegmentOptions(tile_px=128, min_area_um2=9.0)
    segment_slide(slide, model, tmp_path / "whole", options)
    forked = multiprocessing.get_context("fork")
    out = tmp_path / "killed"
    for target, arguments in ((_killed_at, (3,)), (_killed_drawing, ())):
        child = forked.Process(target=target, args=(*arguments, slide, model, out, options))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert not (out / "segmentation.record.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        # The field is whole; nothing of it is made again.
        patch.setattr(runner, "TileWork", None)
        assert segment_slide(slide, model, out, options)

    assert bytes_of(out) == bytes_of(tmp_path / "whole")


@pytest.mark.usefixtures("undrawn")
def test_tissue_alone_is_judged(model: Path, tmp_path: Path) -> None:
    slide = random_slide(tmp_path)
    segment_slide(slide, model, tmp_path / "out", SegmentOptions(tile_px=128))

    valid = np.asarray(read_field(tmp_path / "out" / "segmentation.zarr").valid[:]).astype(bool)
    assert 0.25 < valid.mean() < 0.6  # an ellipse of a third of the slide, in blocks
    assert valid[ROWS // 2, COLS // 2]
    assert not valid[:32, :32].any()


@pytest.mark.usefixtures("undrawn")
def test_a_network_without_a_margin_says_that_it_is_not_exact(
    painted: SlideRef, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_seer(monkeypatch, exact=False)
    segment_slide(painted, model, tmp_path, SegmentOptions(min_tissue=0.0))

    record = json.loads((tmp_path / "segmentation.record.json").read_text())
    assert record["cost"]["exact"] is False
    assert (record["cost"]["margin_px"], record["cost"]["tile_px"]) == (64, 64)
    assert read_field(tmp_path / "segmentation.zarr").provenance["exact"] is False


@pytest.mark.usefixtures("undrawn")
def test_glass_and_places_beside_the_slide_are_said(
    painted: SlideRef, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_seer(monkeypatch)
    roi = tmp_path / "roi.geojson"
    roi.write_text(json.dumps(shapely.geometry.mapping(shapely.box(9000, 0, 9999, 99))))
    with pytest.raises(RegionError, match="lies in these areas"):
        segment_slide(painted, model, tmp_path, SegmentOptions(min_tissue=0.0, places=roi))
    white = write_flat_tiff(tmp_path / "w.tiff", np.full((300, 300, 3), 243, np.uint8), mpp=1.0)
    with contextlib.suppress(NoTissueError):
        segment_slide(SlideRef(white), model, tmp_path / "w", SegmentOptions(min_tissue=1.0))
        pytest.fail("there is no tissue on it")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_tissue": 2.0}, "a share from 0 to 1"),
        ({"batch": 0}, "must be positive"),
        ({"simplify_px": -1.0}, "must not be negative"),
        ({"roi": Path("a"), "places": Path("b")}, "leave --roi or --places out"),
    ],
)
def test_impossible_options_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SegmentOptions(**change)
