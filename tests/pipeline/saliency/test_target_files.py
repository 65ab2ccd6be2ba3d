"""Files of targets: read as they are meant, refused with a word of what was wanted."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.pipeline.errors import TargetError
from saccade.pipeline.saliency.target_files import (
    find_target,
    read_density,
    read_outlines,
    read_points,
)

SQUARE = [[[0, 0], [8, 0], [8, 8], [0, 8], [0, 0]]]


def test_the_file_goes_by_the_slides_name(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()

    assert find_target(tmp_path, "a", "density") == tmp_path / "a.tif"
    with pytest.raises(TargetError, match=r"b: has no target in .*; wanted b.png or b.tif or"):
        find_target(tmp_path, "b", "density")
    with pytest.raises(TargetError, match=r"wanted a\.geojson"):
        find_target(tmp_path, "a", "annotations")


def test_points_by_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("subject,y_l0,x_l0\n1,2.5,1\n2,4,3\n")

    assert read_points(path).tolist() == [[1, 2.5], [3, 4]]


@pytest.mark.parametrize("text", ["x,y\n1,2\n", "x_l0,y_l0\n1\n", "x_l0,y_l0\n1,left\n"])
def test_tables_without_points_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)

    with pytest.raises(TargetError, match="the columns x_l0 and y_l0"):
        read_points(path)


@pytest.mark.parametrize("name", ["map.png", "map.tif"])
def test_grey_images_are_maps(tmp_path: Path, name: str) -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(values).save(tmp_path / name)

    np.testing.assert_array_equal(read_density(tmp_path / name), values)


def test_other_images_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "colours.png")
    (tmp_path / "text.png").write_text("no image")

    with pytest.raises(TargetError, match="wanted a grey image"):
        read_density(tmp_path / "colours.png")
    with pytest.raises(TargetError, match="cannot be read as an image"):
        read_density(tmp_path / "text.png")


@pytest.mark.parametrize("wrap", ["collection", "list", "feature"])
def test_outlines_of_every_form_of_geojson(tmp_path: Path, wrap: str) -> None:
    hole = [[2, 2], [4, 2], [4, 4], [2, 2]]
    geometry = {
        "type": "GeometryCollection",
        "geometries": [
            {"type": "Polygon", "coordinates": [*SQUARE, hole]},
            {"type": "MultiPolygon", "coordinates": [SQUARE, SQUARE]},
            {"type": "Point", "coordinates": [1, 1]},
        ],
    }
    feature = {"type": "Feature", "geometry": geometry, "properties": {}}
    forms = {
        "collection": {"type": "FeatureCollection", "features": [feature]},
        "list": [feature],
        "feature": feature,
    }
    (tmp_path / "a.geojson").write_text(json.dumps(forms[wrap]))

    polygons = read_outlines(tmp_path / "a.geojson")

    assert [len(polygon) for polygon in polygons] == [2, 1, 1]
    assert polygons[0][1].tolist() == hole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "cannot be read as GeoJSON"),
        ('{"features": []}', "cannot be read as GeoJSON"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}', "three finite corners"),
        ('{"type": "FeatureCollection", "features": []}', "holds no polygon"),
    ],
)
def test_files_without_outlines_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.geojson").write_text(content)

    with pytest.raises(TargetError, match=message):
        read_outlines(tmp_path / "a.geojson")


def test_outlines_of_qupath(test_data: Path) -> None:
    """A file that QuPath 0.5 wrote: areas with holes, and every corner inside its slide."""
    for file in (test_data / "annotations" / "qupath").glob("*.geojson"):
        polygons = read_outlines(file)
        assert all(ring.min() > -1 for polygon in polygons for ring in polygon)
