"""Objects of a slide: each counted once, wherever tiles have their seams, whatever happened."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
import torch
from shapely.geometry import shape

from saccade.pipeline.detect import run
from saccade.pipeline.detect.options import DetectOptions
from saccade.pipeline.detect.run import RECORD, STORE, TABLE, run_detection, tile_size
from saccade.pipeline.errors import ConfigError, DivergedError, RegionError
from saccade.pipeline.objects.store import ObjectStore
from saccade.pipeline.reading import SlideRef
from saccade.tiling.errors import NoTissueError, SlideError
from tests.pipeline.detect.planted import (
    CLASSES,
    MPP,
    Box,
    ColourFinder,
    PlantedCard,
    Seen,
    planted_model,
    write_planted,
)

SIZE = (512, 384)
SIDE, OVERLAP = 64, 24  # pixels of a tile; cores of 40
OPTIONS = DetectOptions(tile_px=SIDE, overlap_px=OVERLAP, batch=8, workers=1)
OUTPUTS = (STORE, TABLE, "detection.geojson", "detection.png")


def planted() -> list[tuple[Box, int]]:
    """Boxes with their centres on corners, on edges, beside these, and within cores of 40."""
    boxes = []
    for i, (col, row) in enumerate(product(range(10), range(9))):
        x, y = 40 * col, 40 * row
        dx, dy = ((0, 0), (0, 19), (20, 1), (-1, -1), (13, 13))[i % 5]
        width, height = ((12, 8), (6, 12), (8, 8))[i % 3]
        left, top = max(x + dx - width // 2, 0), max(y + dy - height // 2, 0)
        boxes.append(((left, top, left + width, top + height), i % 2))
    return boxes


PLANTED = planted()


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_planted(tmp_path_factory.mktemp("slide") / "planted.tiff", PLANTED, SIZE)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, slide: Path) -> Path:
    out = tmp_path_factory.mktemp("found")
    assert run_detection(SlideRef(slide), planted_model(), out, OPTIONS)
    return out


def with_pyramid(found: Path, out: Path) -> Path:
    shutil.copytree(found / "pyramid.zarr", out / "pyramid.zarr")
    return out


def objects_of(out: Path) -> Counter[tuple[tuple[float, ...], int]]:
    store = ObjectStore.open(out / STORE)
    return Counter(
        (tuple(box), number)
        for batch in store.batches()
        for box, number in zip(
            batch.boxes_l0.round(6).tolist(), batch.classes.tolist(), strict=True
        )
    )


WANTED = Counter((tuple(map(float, box)), number) for box, number in PLANTED)


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture, which takes longer than all else."""
    monkeypatch.setattr(run, "draw_detections", lambda path, picture: path.touch())


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("side", "overlap"), [(64, 24), (50, 26), (96, 24), (512, 128)])
def test_every_object_is_counted_once_whatever_the_tiles(
    slide: Path, found: Path, tmp_path: Path, side: int, overlap: int
) -> None:
    """On corners and edges of tiles, and though tiles see parts of what they cut."""
    options = replace(OPTIONS, tile_px=side, overlap_px=overlap)
    run_detection(SlideRef(slide), planted_model(), with_pyramid(found, tmp_path), options)
    assert objects_of(tmp_path) == WANTED


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_boxes_that_come_out_elsewhere_in_each_tile_are_still_one_object(
    slide: Path, found: Path, tmp_path: Path, shift: float
) -> None:
    """Tiles left and right of an object disagree by two pixels: both own it, or neither does."""
    model = planted_model(ColourFinder(shift_px=shift))
    run_detection(SlideRef(slide), model, with_pyramid(found, tmp_path), OPTIONS)

    boxes = np.array([box for (box, _), n in objects_of(tmp_path).items() for _ in range(n)])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    wanted = np.array([box for box, _ in PLANTED], float)
    distance = np.abs(centres[:, None] - (wanted[:, :2] + wanted[:, 2:]) / 2).max(axis=2)
    near = distance < 3
    assert (near.sum(axis=0) == 1).all()
    assert len(centres) == len(wanted)


@pytest.mark.usefixtures("quick")
def test_tiles_overhang_the_slide_and_glass_is_left_out(
    slide: Path, found: Path, tmp_path: Path
) -> None:
    record = json.loads((found / RECORD).read_text())
    cost = record["cost"]
    assert cost["objects"] == len(PLANTED)
    assert cost["tiles_read"] == 12 * 10  # of 13 x 10: the last column is glass
    finder = ColourFinder()
    out = with_pyramid(found, tmp_path)
    run_detection(SlideRef(slide), planted_model(finder), out, replace(OPTIONS, min_tissue=0))
    assert finder.shapes == {(3, SIDE, SIDE)}
    assert finder.tiles == 13 * 10
    assert objects_of(out) == WANTED


def test_geojson_and_table_say_what_was_found(found: Path) -> None:
    features = json.loads((found / "detection.geojson").read_text())["features"]
    names = [each["properties"]["classification"]["name"] for each in features]
    rows = rows_of(found)

    assert Counter(names) == {name: len(PLANTED) // 2 for name in CLASSES}
    assert {shape(each["geometry"]).bounds for each in features} == {box for box, _ in WANTED}
    assert [(row["region"], row["class"]) for row in rows] == [("all", name) for name in CLASSES]
    tissue = 448 * 384 * MPP**2 / 1e6
    for row in rows:
        assert int(row["objects"]) == len(PLANTED) // 2
        assert float(row["tissue_mm2"]) == pytest.approx(tissue, rel=0.05)
        per_mm2 = int(row["objects"]) / float(row["tissue_mm2"])
        assert float(row["per_mm2"]) == pytest.approx(per_mm2, rel=1e-4)
        assert float(row["per_hpf"]) == pytest.approx(per_mm2 * 0.237, rel=1e-4)


def region_file(path: Path, **shapes: shapely.Geometry) -> Path:
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(each),
            "properties": {"name": name},
        }
        for name, each in shapes.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def inside(*shapes: shapely.Geometry) -> Counter[tuple[tuple[float, ...], int]]:
    union = shapely.union_all(shapes)
    return Counter({key: 1 for key in WANTED if union.contains(shapely.box(*key[0]).centroid)})


LEFT, ROUND = shapely.box(31, 35, 150.5, 203), shapely.Point(160.5, 160.5).buffer(70)


@pytest.mark.usefixtures("quick")
def test_regions_are_counted_one_by_one_and_together(
    slide: Path, found: Path, tmp_path: Path
) -> None:
    roi = region_file(tmp_path / "roi.geojson", left=LEFT, round=ROUND)
    out, finder = with_pyramid(found, tmp_path / "out"), ColourFinder()
    run_detection(SlideRef(slide), planted_model(finder), out, replace(OPTIONS, roi=roi))

    assert objects_of(out) == inside(LEFT, ROUND)
    assert finder.tiles < 40
    counts = {(row["region"], row["class"]): row for row in rows_of(out)}
    for name, where in (("all", (LEFT, ROUND)), ("left", (LEFT,)), ("round", (ROUND,))):
        area = shapely.union_all(where).area * MPP**2 / 1e6
        for number, kind in enumerate(CLASSES):
            row = counts[name, kind]
            assert int(row["objects"]) == sum(of == number for _, of in inside(*where))
            assert float(row["judged_mm2"]) == pytest.approx(area, rel=0.1)


def test_places_are_read_one_by_one_though_they_overlap(
    slide: Path, found: Path, tmp_path: Path
) -> None:
    """A tile around each; one that is larger than what a tile answers for, in parts."""
    places = {
        "a": shapely.box(3, 3, 40, 40),
        "b": shapely.box(20, 11, 60, 51),
        "c": shapely.box(201, 101, 311, 141),
    }
    path = region_file(tmp_path / "places.geojson", **places)
    out, finder = with_pyramid(found, tmp_path / "out"), ColourFinder()
    run_detection(SlideRef(slide), planted_model(finder), out, replace(OPTIONS, places=path))

    assert finder.tiles == 1 + 1 + 3
    assert objects_of(out) == inside(*places.values())


@pytest.mark.usefixtures("quick")
def test_what_is_found_beyond_the_slide_does_not_count(
    slide: Path, found: Path, tmp_path: Path
) -> None:
    class Everywhere:
        """An object in the middle of each quarter of a core's tile."""

        def find(self, tiles: torch.Tensor, *, min_score: float) -> list[Seen]:
            middles = torch.tensor([(x, y) for x in (22.0, 42.0) for y in (22.0, 42.0)])
            boxes = torch.cat([middles - 3, middles + 3], dim=1)
            return [Seen(boxes, torch.ones(4), torch.zeros(4, dtype=torch.int64))] * len(tiles)

    options = replace(OPTIONS, min_tissue=0)
    out = with_pyramid(found, tmp_path)
    run_detection(SlideRef(slide), planted_model(Everywhere()), out, options)
    # Every 20 px from 10 on: 26 of 512 and 19 of 384; cores reach to 520 and 400.
    assert ObjectStore.open(out / STORE).count == 26 * 19


@pytest.mark.usefixtures("quick")
def test_what_is_seen_just_beyond_all_that_is_judged_does_not_count(tmp_path: Path) -> None:
    """Glass begins at 448, and no tile answers for what lies from 480 on."""
    boxes: list[tuple[Box, int]] = [((474, 50, 484, 60), 0), ((476, 90, 486, 100), 0)]
    slide = write_planted(tmp_path / "rim.tiff", boxes, SIZE)
    options = replace(OPTIONS, min_tissue=0.15)
    run_detection(SlideRef(slide), planted_model(), tmp_path / "out", options)
    assert objects_of(tmp_path / "out") == {((474.0, 50.0, 484.0, 60.0), 0): 1}


class Killed(BaseException):
    """What no code catches on its way."""


def test_a_killed_run_goes_on_to_the_same_bytes(slide: Path, found: Path, tmp_path: Path) -> None:
    out, finder = with_pyramid(found, tmp_path), ColourFinder()

    def kill(done: int, total: int) -> None:
        if done >= 40:
            raise Killed

    with pytest.raises(Killed):
        run_detection(SlideRef(slide), planted_model(finder), out, OPTIONS, progress=kill)
    assert not (out / STORE).exists()
    log = out / f".{STORE}.work" / "objects.log"
    log.write_bytes(log.read_bytes()[:-5])  # as a kill in the middle of a write leaves it
    assert run_detection(SlideRef(slide), planted_model(finder), out, OPTIONS)

    assert finder.tiles == 120 + 8  # one batch again
    for name in OUTPUTS:
        assert (out / name).read_bytes() == (found / name).read_bytes(), name
    assert json.loads((out / RECORD).read_text())["cost"]["tiles_of_killed_runs"] == 39
    assert not log.parent.exists()


@pytest.mark.usefixtures("quick")
def test_nothing_is_done_again_unless_something_changed(
    slide: Path, found: Path, tmp_path: Path
) -> None:
    finder = ColourFinder()
    model = planted_model(finder)
    assert not run_detection(SlideRef(slide), model, found, replace(OPTIONS, workers=2))
    assert not finder.tiles
    out = shutil.copytree(found, tmp_path / "out")
    assert run_detection(SlideRef(slide), model, out, replace(OPTIONS, min_score=0.75))
    assert 0 < ObjectStore.open(out / STORE).count < len(PLANTED)
    (out / TABLE).unlink()
    assert run_detection(SlideRef(slide), model, out, replace(OPTIONS, min_score=0.75))
    other = replace(OPTIONS, min_score=0.75, gzip=True, most=10)
    assert run_detection(SlideRef(slide), model, out, other)
    assert (out / "detection.2.geojson.gz").exists()
    assert not (out / "detection.geojson").exists()


def test_nothing_found_is_a_result(slide: Path, found: Path, tmp_path: Path) -> None:
    class Blind:
        def find(self, tiles: torch.Tensor, *, min_score: float) -> list[Any]:
            nothing = ColourFinder().find(torch.zeros(1, 3, 8, 8), min_score=0)[0]
            return [nothing] * len(tiles)

    run_detection(SlideRef(slide), planted_model(Blind()), with_pyramid(found, tmp_path), OPTIONS)
    assert [row["objects"] for row in rows_of(tmp_path)] == ["0", "0"]
    assert json.loads((tmp_path / "detection.geojson").read_text())["features"] == []


def test_numbers_that_are_none_are_refused(slide: Path, found: Path, tmp_path: Path) -> None:
    model = planted_model(ColourFinder(shift_px=np.nan))
    with pytest.raises(DivergedError, match="not numbers"):
        run_detection(SlideRef(slide), model, with_pyramid(found, tmp_path), OPTIONS)


def test_a_tile_that_cannot_be_decoded_is_said_and_nothing_looks_finished(
    slide: Path, tmp_path: Path
) -> None:
    torn = tmp_path / "torn.tiff"
    with tifffile.TiffFile(slide) as tif:
        start, length = tif.pages[0].dataoffsets[1], tif.pages[0].databytecounts[1]
    data = slide.read_bytes()
    torn.write_bytes(data[:start] + b"\xff" * length + data[start + length :])
    with pytest.raises(SlideError, match=r"torn.tiff"):
        run_detection(SlideRef(torn), planted_model(), tmp_path / "out", OPTIONS)
    left = {path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."}
    assert left == {"pyramid.zarr"}


def test_no_tissue_and_regions_elsewhere_are_said(slide: Path, found: Path, tmp_path: Path) -> None:
    roi = region_file(tmp_path / "roi.geojson", far=shapely.box(4000, 4000, 4100, 4100))
    out = with_pyramid(found, tmp_path / "out")
    large = replace(OPTIONS, min_tissue=1.0, tile_px=5000)  # no tile is as full as that
    for options, kind, words in (
        (replace(OPTIONS, roi=roi), RegionError, "no tissue of planted.* lies in these regions"),
        (replace(OPTIONS, places=roi), RegionError, "none of the 1 places lies on planted"),
        (large, NoTissueError, "--min-tissue 0 judges all"),
    ):
        with pytest.raises(kind, match=words):
            run_detection(SlideRef(slide), planted_model(), out, options)


@pytest.mark.parametrize(
    ("card", "options", "side", "overlap"),
    [
        (PlantedCard(), DetectOptions(), 512, 128),
        (PlantedCard(tile_px=1024), DetectOptions(), 1024, 128),
        (PlantedCard(options={"sides_px": [20, 100]}), DetectOptions(), 1200, 300),
        (PlantedCard(), DetectOptions(tile_px=300, overlap_px=10), 300, 10),
    ],
)
def test_tiles_suit_the_model(
    card: PlantedCard, options: DetectOptions, side: int, overlap: int
) -> None:
    size = tile_size(card, options)
    assert (size.side_px, size.overlap_px, size.mpp) == (side, overlap, card.mpp)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roi": Path("a"), "places": Path("b")}, "leave --roi or --places out"),
        ({"min_score": 1.5}, "min-score lies between 0 and 1"),
        ({"batch": 0}, "batch: at least 1, got 0"),
        ({"tile_px": 0}, "tile: at least 1"),
        ({"hpf_mm2": 0.0}, "hpf-mm2 must be a positive area"),
    ],
)
def test_impossible_options_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DetectOptions(**change)
    with pytest.raises(ConfigError, match="cannot overlap by 64 px"):
        tile_size(PlantedCard(), DetectOptions(tile_px=64, overlap_px=64))
