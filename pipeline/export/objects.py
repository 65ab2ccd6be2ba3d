"""Objects of a stage as QuPath annotations, in GeoJSON.

What was said of tiles holds here, too: closed rings, plain numbers, no null, and no class without
a colour. Annotations are made for hundreds of objects; hundreds of thousands are detections.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import shapely
from shapely.geometry import mapping

from saccade.pipeline.export.class_colours import Colour, classification, colours_of
from saccade.pipeline.export.columns import check_columns, plain_number
from saccade.pipeline.export.geojson import plain_coordinates, write_features
from saccade.pipeline.stages.objects import Objects

_NAMESPACE = uuid5(NAMESPACE_URL, "saccade:object")


def write_objects_geojson(
    path: Path,
    objects: Objects,
    *,
    slide_id: str,
    name_prefix: str,
    bounds_l0: tuple[int, int, int, int] | None = None,
    colours: Mapping[str, Colour] | None = None,
) -> None:
    """Write each object as a locked QuPath annotation: outline, name, class, measurements.

    The same objects on the same slide give the same bytes, ids included.

    Args:
        path: where to write; ends in `.geojson`, as QuPath goes by the name.
        objects: polygons, with holes or in several parts; in the order of their names.
        slide_id: content hash of the slide; with the outline, it makes the id of an object.
        name_prefix: they are called `{name_prefix} 1`, `{name_prefix} 2`, ...
        bounds_l0: (x, y, width, height) of the scanned area, only if the viewer shows this area
            instead of the whole level 0; its corner is taken off.
        colours: of the classes; by the order of their names if None. An object without a class
            has none in the file, either.

    Raises:
        ValueError: if a measurement has no name or not one number per object.
    """
    check_columns(objects.measurements, len(objects))
    known = sorted({each for each in objects.classes if each is not None})
    colours = colours_of(known) if colours is None else colours
    write_features(path, _features(objects, slide_id, name_prefix, bounds_l0, colours))


def _features(
    objects: Objects,
    slide_id: str,
    prefix: str,
    bounds_l0: tuple[int, int, int, int] | None,
    colours: Mapping[str, Colour],
) -> Iterator[dict[str, Any]]:
    left, top = (0, 0) if bounds_l0 is None else bounds_l0[:2]
    for i, shape in enumerate(objects.geometries):
        numbers = {name: plain_number(each[i]) for name, each in objects.measurements.items()}
        moved = shapely.transform(shape, lambda xy: xy - (left, top))
        yield {
            "type": "Feature",
            "id": str(uuid5(_NAMESPACE, f"{slide_id}/{shape.wkt}")),
            "geometry": {
                "type": moved.geom_type,
                "coordinates": plain_coordinates(mapping(moved)["coordinates"]),
            },
            "properties": {
                "objectType": "annotation",
                "name": f"{prefix} {i + 1}",
                "isLocked": True,
                **_class_of(objects.classes[i], colours),
                "measurements": {k: v for k, v in numbers.items() if math.isfinite(v)},
            },
        }


def _class_of(name: str | None, colours: Mapping[str, Colour]) -> dict[str, Any]:
    return {} if name is None else {"classification": classification(name, colours[name])}
