import json
import tracemalloc
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely.geometry import shape

from saccade.pipeline.export.geojson import write_tiles_geojson
from saccade.tiling import open_slide
from saccade.tiling.places import Places, corners_l0

DOWNSAMPLE = 2.0005  # real scanners write such levels


def places(corners_l0: list[tuple[int, int]], side_l0: tuple[float, float]) -> Places:
    n = len(corners_l0)
    return Places(
        corners_l0=np.array(corners_l0, np.int64).reshape(n, 2),
        side_px=256,
        mpp=0.5,
        side_l0=side_l0,
        cells=np.arange(n),
        probability=np.full(n, 0.25),
    )


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def read(path: Path) -> list[dict[str, Any]]:
    collection = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert collection.keys() == {"type", "features"}
    assert collection["type"] == "FeatureCollection"
    features: list[dict[str, Any]] = collection["features"]
    return features


def holds_null(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(holds_null, value.values()))
    return any(map(holds_null, value)) if isinstance(value, list) else value is None


def assert_qupath_reads(features: list[dict[str, Any]]) -> None:
    """Each of these, broken once, makes QuPath lose the feature, its number or the whole file."""
    assert len({feature["id"] for feature in features}) == len(features)
    for feature in features:
        assert not holds_null(feature)
        assert feature["type"] == "Feature"
        assert str(UUID(feature["id"])) == feature["id"]  # anything else is replaced
        assert feature["geometry"]["type"] == "Polygon"
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        left, top, right, bottom = polygon.bounds
        assert polygon.area == pytest.approx((right - left) * (bottom - top))  # a rectangle
        assert min(right - left, bottom - top) > 0.01  # thinner ones become empty
        properties = feature["properties"]
        assert properties["objectType"] == "tile"
        assert isinstance(properties["name"], str)
        assert "classification" not in properties  # needs a colour, or the file is lost
        for name, number in properties["measurements"].items():
            assert name
            assert type(number) in (int, float)
            assert np.isfinite(np.float32(number))  # QuPath keeps float32


def bounds(feature: dict[str, Any]) -> tuple[float, float, float, float]:
    left, top, right, bottom = shape(feature["geometry"]).bounds
    return left, top, right, bottom


coordinates = st.integers(-500, 200_000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    corners=st.lists(st.tuples(coordinates, coordinates), max_size=5, unique=True),
    side=st.tuples(st.floats(1, 5000), st.floats(1, 5000)),
)
def test_any_places_come_back_where_they_were_read(
    tmp_path: Path, corners: list[tuple[int, int]], side: tuple[float, float]
) -> None:
    path = tmp_path / "a.geojson"
    write_tiles_geojson(path, places(corners, side), {}, slide_id="sha256:00")

    features = read(path)
    assert_qupath_reads(features)
    assert len(features) == len(corners)
    for feature, (x, y) in zip(features, corners, strict=True):
        expected = (x, y, x + side[0], y + side[1])
        assert bounds(feature) == pytest.approx(expected, abs=1e-3, rel=0)


def test_fraction_of_a_pixel_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    side_l0 = 256 * DOWNSAMPLE
    write_tiles_geojson(path, places([(7, 11)], (side_l0, side_l0)), {}, slide_id="s")

    (feature,) = read(path)
    assert bounds(feature) == (7, 11, 519.128, 523.128)
    assert feature["geometry"]["coordinates"][0][0] == [7, 11]
    assert feature["properties"]["name"] == "tile 1"


def test_outline_on_a_real_slide_is_what_was_read(tmp_path: Path, test_data: Path) -> None:
    """A level of this slide is 2.0005 times coarser, so tiles at its scale have odd sides."""
    (found,) = (test_data / "slides" / "aperio").glob("TCGA-CR-7395*.svs")
    path = tmp_path / "a.geojson"
    with open_slide(found, mpp=0.25) as slide:
        mpp = 0.25 * slide.levels[1].downsample
        centres = np.array(slide.size_l0) * [[0.4, 0.5], [0.61, 0.47]]
        side = (256 * mpp / 0.25,) * 2
        drawn = places([tuple(c) for c in corners_l0(centres, side).tolist()], side)
        write_tiles_geojson(path, drawn, {}, slide_id=slide.name)
        tiles = slide.read_tiles(drawn.corners_l0, 256, mpp)
        for feature, tile, centre in zip(read(path), tiles, centres, strict=True):
            left, top, right, bottom = bounds(feature)
            np.testing.assert_array_equal(slide.read(left, top, 256, mpp), tile)
            np.testing.assert_allclose((right - left, bottom - top), side, atol=2e-3)
            middle = np.array([left + right, top + bottom]) / 2
            assert np.abs(middle - centre).max() <= 0.5 + 1e-3


def test_bounds_are_taken_off_only_when_asked(tmp_path: Path) -> None:
    path, some = tmp_path / "a.geojson", places([(100, 200)], (50, 60))
    write_tiles_geojson(path, some, {}, slide_id="s", bounds_l0=(30, 20, 1000, 1000))
    assert bounds(read(path)[0]) == (70, 180, 120, 240)
    write_tiles_geojson(path, some, {}, slide_id="s")
    assert bounds(read(path)[0]) == (100, 200, 150, 260)


def test_measurements_are_numbers_and_the_rest_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    columns = {
        "weight": np.array([0.1, np.nan, -np.inf], np.float32),
        "rank": np.array([1, 2, 3]),
    }
    three = places([(0, 0), (9, 0), (0, 9)], (9, 9))
    write_tiles_geojson(path, three, columns, slide_id="s", name_prefix="patch")

    features = read(path)
    assert_qupath_reads(features)
    assert [feature["properties"]["measurements"] for feature in features] == [
        {"attention": 0.25, "weight": 0.1, "rank": 1},
        {"attention": 0.25, "rank": 2},
        {"attention": 0.25, "rank": 3},
    ]
    assert [f["properties"]["name"] for f in features] == ["patch 1", "patch 2", "patch 3"]
    assert "0.10000000149" not in path.read_text()


def test_ids_are_of_the_place_not_of_the_draw(tmp_path: Path) -> None:
    def ids(corners: list[tuple[int, int]], slide_id: str) -> list[str]:
        write_tiles_geojson(tmp_path / "a.geojson", places(corners, (9, 9)), {}, slide_id=slide_id)
        return [feature["id"] for feature in read(tmp_path / "a.geojson")]

    first, second = ids([(1, 2), (3, 4)], "one")
    assert ids([(3, 4), (1, 2)], "one") == [second, first]
    assert not {first, second} & set(ids([(1, 2), (3, 4)], "other slide"))


def test_same_places_give_the_same_bytes(tmp_path: Path) -> None:
    some = places([(1, 2), (3, 4)], (9, 9))
    for name in ("1.geojson", "2.geojson"):
        write_tiles_geojson(tmp_path / name, some, {"w": np.ones(2)}, slide_id="s")
    assert (tmp_path / "1.geojson").read_bytes() == (tmp_path / "2.geojson").read_bytes()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"w": np.ones(3)}, r"'w' needs one number per tile, shape \(2,\)"),
        ({" ": np.ones(2)}, "needs a name"),
        ({"attention": np.ones(2)}, "written from the places already"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.geojson"
    with pytest.raises(ValueError, match=message):
        write_tiles_geojson(path, places([(1, 2), (3, 4)], (9, 9)), columns, slide_id="s")
    assert not path.exists()


def test_memory_does_not_grow_with_the_tiles(tmp_path: Path) -> None:
    n, path = 5_000, tmp_path / "a.geojson"
    many = places([(i, i) for i in range(n)], (9, 9))
    tracemalloc.start()
    write_tiles_geojson(path, many, {"weight": np.ones(n)}, slide_id="s")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > 1e6
    assert peak < 3e5
