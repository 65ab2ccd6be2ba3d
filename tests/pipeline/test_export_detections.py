"""Very many objects in GeoJSON: all of them, as QuPath reads them, in bounded memory."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import shapely
from shapely.geometry import shape

from saccade.pipeline.export.class_colours import colours_of
from saccade.pipeline.export.detections import GeoJsonForm, write_detections_geojson
from saccade.pipeline.export.objects import write_objects_geojson
from saccade.pipeline.objects.batch import ObjectBatch
from saccade.pipeline.objects.store import joined
from saccade.pipeline.stages.objects import Objects
from tests.pipeline.objects.columns import CLASSES, some_boxes
from tests.pipeline.test_export_geojson import holds_null, refuse


def write(folder: Path, *batches: ObjectBatch, form: GeoJsonForm | None = None) -> list[Path]:
    return write_detections_geojson(
        folder, "found", batches, classes=CLASSES, slide_id="sha256:1", form=form
    )


def read(path: Path) -> list[dict[str, Any]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    collection = json.loads(data, parse_constant=refuse)
    assert collection["type"] == "FeatureCollection"
    features: list[dict[str, Any]] = collection["features"]
    return features


def assert_qupath_reads(features: list[dict[str, Any]]) -> None:
    """Each of these, broken once, makes QuPath lose the object, its number or the whole file."""
    assert len({feature["id"] for feature in features}) == len(features)
    for feature in features:
        assert not holds_null(feature)
        assert feature["type"] == "Feature"
        assert str(UUID(feature["id"])) == feature["id"]
        assert feature["geometry"]["type"] in ("Polygon", "MultiPolygon")
        outline = shape(feature["geometry"])
        assert outline.is_valid
        assert not outline.is_empty
        for part in shapely.get_parts(outline):
            assert part.exterior.coords[0] == part.exterior.coords[-1]
        kind = feature["properties"]["classification"]
        assert ":" not in kind["name"]  # QuPath would make a class within a class of it
        assert [type(each) for each in kind["color"]] == [int, int, int]
        assert all(0 <= each <= 255 for each in kind["color"])
        for name, number in feature["properties"]["measurements"].items():
            assert name
            assert type(number) in (int, float)


def test_each_object_is_a_detection_with_class_score_and_measurements(tmp_path: Path) -> None:
    found = some_boxes(300)
    (path,) = write(tmp_path, found.take(np.arange(100)), found.take(np.arange(100, 300)))
    features = read(path)

    assert path.name == "found.geojson"
    assert_qupath_reads(features)
    assert len(features) == 300
    colours = colours_of(CLASSES)
    for i, feature in enumerate(features):
        properties = feature["properties"]
        assert properties["objectType"] == "detection"
        name = CLASSES[found.classes[i]]
        wanted = {"name": name.replace(":", " "), "color": list(colours[name])}
        assert properties["classification"] == wanted
        assert np.float32(properties["measurements"]["score"]) == found.scores[i]
        assert np.float32(properties["measurements"]["area"]) == found.measurements["area"][i]
        np.testing.assert_allclose(shape(feature["geometry"]).bounds, found.boxes_l0[i], atol=6e-4)


def test_a_number_that_is_none_is_left_out(tmp_path: Path) -> None:
    box = np.array([[0, 0, 1, 1]])
    found = ObjectBatch.of_boxes(box, np.array([0]), np.array([0.5]), {"area": np.array([np.nan])})
    (feature,) = read(write(tmp_path, found)[0])
    assert feature["properties"]["measurements"] == {"score": 0.5}
    assert feature["geometry"]["coordinates"] == [[[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]]]


def test_outlines_that_rounding_breaks_are_mended(tmp_path: Path) -> None:
    """Each is valid as it is, and none once it is rounded to a thousandth of a pixel."""
    neck = shapely.Polygon([(0, 0), (5, 4.9998), (9, 0), (9, 9), (5, 5.0001), (0, 9)])
    sliver = shapely.box(3, 3, 8, 3.0004)
    found = ObjectBatch.of_polygons([neck, sliver], np.array([0, 1]), np.array([1, 1]))
    features = read(write(tmp_path, found)[0])

    assert_qupath_reads(features)
    assert shape(features[0]["geometry"]).area == pytest.approx(neck.area, abs=0.01)
    assert shape(features[1]["geometry"]).intersects(sliver)


def test_parts_and_compression_hold_the_same_objects(tmp_path: Path) -> None:
    found = some_boxes(25)
    (whole,) = write(tmp_path, found)
    features = read(whole)
    parts = write(tmp_path, found, form=GeoJsonForm(gzip=True, most=10))

    assert [path.name for path in parts] == [f"found{n}.geojson.gz" for n in ("", ".2", ".3")]
    assert [len(read(path)) for path in parts] == [10, 10, 5]
    assert [feature for path in parts for feature in read(path)] == features
    assert not whole.exists()  # what would say the same twice is gone
    before = parts[0].read_bytes()
    assert before[3:8] == bytes(5)  # neither name nor time within, which differ from run to run
    assert write(tmp_path, found, form=GeoJsonForm(gzip=True, most=10))[0].read_bytes() == before
    (tmp_path / "found.old.geojson").touch()
    (again,) = write(tmp_path, found, form=GeoJsonForm(most=25))
    assert sorted(tmp_path.iterdir()) == [again, tmp_path / "found.old.geojson"]


def test_no_object_is_a_file_without_any(tmp_path: Path) -> None:
    (path,) = write(tmp_path, form=GeoJsonForm(most=3))
    assert read(path) == []


def test_bounds_move_outlines_and_nothing_else(tmp_path: Path) -> None:
    found = some_boxes(5)
    (path,) = write(tmp_path, found)
    plain, form = read(path), GeoJsonForm(bounds_l0=(100, 7, 500, 500))
    for before, after in zip(plain, read(write(tmp_path, found, form=form)[0]), strict=True):
        moved = shapely.transform(shape(before["geometry"]), lambda xy: xy - (100, 7))
        np.testing.assert_allclose(
            shapely.get_coordinates(shape(after["geometry"])), shapely.get_coordinates(moved)
        )
        assert after["id"] == before["id"]
        assert after["properties"] == before["properties"]


def test_memory_does_not_grow_with_the_number(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        batches: Iterator[ObjectBatch] = (some_boxes(200, seed) for seed in range(count // 200))
        tracemalloc.start()
        write_detections_geojson(tmp_path, "m", batches, classes=CLASSES, slide_id="sha256:1")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(200)
    assert peak(4000) < 1.2 * peak(1000) + 100_000


def test_the_same_object_of_another_class_or_slide_has_another_id(tmp_path: Path) -> None:
    box = np.array([[0, 0, 1, 1], [0, 0, 1, 1]])
    found = joined([ObjectBatch.of_boxes(box, np.array([0, 1]), np.array([1, 1]))])
    here = {feature["id"] for feature in read(write(tmp_path, found)[0])}
    (path,) = write_detections_geojson(
        tmp_path, "there", [found], classes=CLASSES, slide_id="sha256:2"
    )
    assert len(here | {feature["id"] for feature in read(path)}) == 4


def test_annotations_have_a_class_where_there_is_one(tmp_path: Path) -> None:
    shapes = shapely.box(0, 0, 9, 9), shapely.box(20, 0, 29, 9)
    write_objects_geojson(
        tmp_path / "r.geojson",
        Objects(shapes, ("tumour: high", None), np.ones(2)),
        slide_id="sha256:1",
        name_prefix="region",
        colours={"tumour: high": (1, 2, 3)},
    )
    first, second = read(tmp_path / "r.geojson")

    assert first["properties"]["classification"] == {"name": "tumour  high", "color": [1, 2, 3]}
    assert "classification" not in second["properties"]
    assert first["properties"]["objectType"] == "annotation"
