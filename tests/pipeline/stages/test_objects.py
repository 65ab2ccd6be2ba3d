"""Objects, regions of interest and regions that stand out: counted exactly, in level-0 pixels."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import shapely

from saccade.pipeline.errors import RegionError
from saccade.pipeline.stages.field import Field
from saccade.pipeline.stages.objects import Objects
from saccade.pipeline.stages.region_of_interest import cells_of, read_region
from saccade.pipeline.stages.regions import top_regions
from saccade.tiling.grid import CellGrid


def squares(centres: list[tuple[float, float]], side: float = 4) -> Objects:
    shapes = [
        shapely.box(x - side / 2, y - side / 2, x + side / 2, y + side / 2) for x, y in centres
    ]
    return Objects(tuple(shapes), (None,) * len(shapes), np.arange(len(shapes), dtype=float))


def test_tiles_side_by_side_have_each_object_once() -> None:
    """On edges and corners of tiles, too."""
    found = squares([(x, y) for x, y in product((0, 5, 10, 19.99, 20), repeat=2)])
    tiles = [(x, y, 10, 10) for x, y in product((0, 10, 20), repeat=2)]
    kept = np.concatenate([found.centred_in(tile).scores for tile in tiles])
    assert sorted(kept) == list(range(len(found)))


@pytest.mark.parametrize(
    ("geometry", "score", "message"),
    [
        (shapely.Polygon(), 0, "valid and not empty"),
        (shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), 0, "valid and not empty"),
        (shapely.Point(0, 0), (1, 2), "need 1 classes and numbers"),
    ],
)
def test_impossible_objects_are_refused(
    geometry: shapely.Geometry, score: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Objects((geometry,), (None,), np.atleast_1d(np.asarray(score, float)))


GRID = CellGrid((4, 6), (10.0, 20.0), (100.0, 50.0))


def geojson(path: Path, *shapes: shapely.Geometry) -> Path:
    features = [
        {"type": "Feature", "geometry": shapely.geometry.mapping(each), "properties": {}}
        for each in shapes
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_a_region_touches_the_cells_it_lies_in(tmp_path: Path) -> None:
    path = geojson(
        tmp_path / "r.geojson", shapely.box(111, 71, 129, 89), shapely.box(155, 125, 900, 900)
    )
    touched = cells_of(read_region(path), GRID)
    wanted = np.zeros((4, 6), bool)
    wanted[1, 1:3] = True  # x 110 to 130, y 70 to 90
    wanted[3, 5] = True
    np.testing.assert_array_equal(touched, wanted)
    assert not cells_of(shapely.box(-50, -50, 40, 40), GRID).any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as a GeoJSON"),
        ('{"type": "FeatureCollection", "features": []}', "holds no area; found 0"),
        ('{"type": "Point", "coordinates": [0, 0]}', "holds no area; found 1"),
    ],
)
def test_what_is_no_region_is_said(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "r.geojson").write_text(content)
    with pytest.raises(RegionError, match=message):
        read_region(tmp_path / "r.geojson")


def bumps(*places: tuple[slice, slice], height: float = 1.0) -> Field:
    """A field that is 0 but for rectangles."""
    values = np.zeros((1, 40, 60), np.float32)
    for number, place in enumerate(places):
        values[(0, *place)] = height + number
    return Field(
        values,
        np.ones((40, 60), bool),
        CellGrid((40, 60), (10.0, 20.0), (100.0, 50.0)),
        (0.5, 0.25),
        "density",
        ("saliency",),
    )


def test_regions_are_where_the_field_is_high() -> None:
    strong, weak = (slice(5, 15), slice(10, 20)), (slice(30, 34), slice(50, 54))
    regions = top_regions(bumps(weak, strong), "saliency", share=0.1)

    assert len(regions) == 2
    assert regions.scores.tolist() == [2, 1]
    assert regions.measurements["saliency max"].tolist() == [2, 1]
    for shape, box in zip(
        regions.geometries, [(200, 150, 300, 350), (600, 650, 640, 730)], strict=True
    ):
        assert shapely.box(*box).buffer(11).contains(shape)  # a contour runs between two cells
        assert shape.contains(shapely.box(*box).buffer(-11))
    area_mm2 = [shape.area * 0.5 * 0.25 / 1e6 for shape in regions.geometries]
    np.testing.assert_allclose(regions.measurements["area mm2"], area_mm2, rtol=1e-9)


def test_a_region_keeps_its_hole() -> None:
    field = bumps((slice(5, 25), slice(10, 30)))
    field.values[0, 12:18, 16:24] = 0
    (shape,) = top_regions(field, "saliency", share=0.2).geometries
    assert len(shape.interiors) == 1


def test_a_region_may_reach_the_edge_of_the_slide() -> None:
    (shape,) = top_regions(bumps((slice(0, 8), slice(0, 8))), "saliency", share=0.1).geometries
    assert shape.is_valid
    assert shape.bounds[:2] == pytest.approx((100, 50), abs=10)


def test_a_flat_field_has_none() -> None:
    assert len(top_regions(bumps(), "saliency")) == 0
