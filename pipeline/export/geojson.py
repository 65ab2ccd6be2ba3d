"""Sampled tiles as QuPath tile objects, in GeoJSON.

QuPath gives up a whole file for one feature it does not like, so this writes only the forms that
its readers of 0.5, 0.6 and 0.7 all take: closed rings, measurements as a map of plain numbers, no
null anywhere, and no class (a class without a colour is such a feature).

Coordinates are level-0 pixels with the origin at the top left of the image as QuPath shows it.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.export.columns import check_columns, plain_number
from saccade.pipeline.files import atomic_path
from saccade.tiling.places import Places

_NAMESPACE = uuid5(NAMESPACE_URL, "saccade:sampled-tile")
DECIMALS = 3  # of a level-0 pixel; QuPath itself keeps two
_GZIP_LEVEL = 6


def write_tiles_geojson(
    path: Path,
    places: Places,
    measurements: Mapping[str, NDArray[Any]],
    *,
    slide_id: str,
    bounds_l0: tuple[int, int, int, int] | None = None,
    name_prefix: str = "tile",
) -> None:
    """Write each place as a locked QuPath tile: its outline, its name and its measurements.

    The first measurement is `attention`, that of the cell the tile was drawn from.

    An outline is exactly what was read: from the corner as far as `side_l0`, a fraction of a pixel
    included, and beyond the edge of the slide where the tile was. Features are written one by one,
    so that memory does not grow with their number. The same places on the same slide give the same
    bytes, ids included.

    Args:
        path: where to write; ends in `.geojson`, as QuPath goes by the name.
        places: the tiles, in the order of the draw; tile 1 is the first that was drawn.
        measurements: (n,) further numbers by name. One that is not finite is left out for its
            tile.
        slide_id: content hash of the slide; with the place, it makes the id of a tile.
        bounds_l0: (x, y, width, height) of the scanned area, only if the viewer shows this area
            instead of the whole level 0; its corner is taken off.
        name_prefix: tiles are called `{name_prefix} 1`, `{name_prefix} 2`, ...

    Raises:
        ValueError: if a measurement has no name, the name `attention`, or not one number per place.
    """
    if "attention" in measurements:
        raise ValueError("the measurement attention is written from the places already.")
    columns = {"attention": places.probability, **measurements}
    check_columns(columns, len(places))
    write_features(path, _features(places, columns, slide_id, bounds_l0, name_prefix))


def write_features(path: Path, features: Iterable[Mapping[str, Any]]) -> None:
    """Write a collection of features, one by one, a line each."""
    write_lines(
        path, (json.dumps(each, allow_nan=False, separators=(",", ":")) for each in features)
    )


def write_lines(path: Path, features: Iterable[str]) -> None:
    """Write a collection of features that are JSON already, a line each.

    Args:
        path: where to write; compressed if it ends in `.gz`, to the same bytes each time.
        features: one by one; they are not kept.
    """
    with atomic_path(path) as temporary, _opened(temporary) as file:
        file.write('{"type":"FeatureCollection","features":[')
        for i, feature in enumerate(features):
            file.write(",\n" if i else "\n")
            file.write(feature)
        file.write("\n]}\n")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if path.suffix != ".gz":
        with path.open("w", encoding="utf-8") as file:
            yield file
        return
    # Neither name nor time of the file within: they would differ from run to run.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8") as text,
    ):
        yield text


def _features(
    places: Places,
    columns: Mapping[str, NDArray[Any]],
    slide_id: str,
    bounds_l0: tuple[int, int, int, int] | None,
    name_prefix: str,
) -> Iterator[dict[str, Any]]:
    shift_l0 = np.zeros(2) if bounds_l0 is None else np.array(bounds_l0[:2])
    for i, corner_l0 in enumerate(places.corners_l0):
        numbers = {name: plain_number(column[i]) for name, column in columns.items()}
        yield {
            "type": "Feature",
            "id": str(_tile_id(slide_id, corner_l0, places)),
            "geometry": {
                "type": "Polygon",
                "coordinates": [_ring(corner_l0 - shift_l0, places.side_l0)],
            },
            "properties": {
                "objectType": "tile",
                "name": f"{name_prefix} {i + 1}",
                "isLocked": True,
                "measurements": {k: v for k, v in numbers.items() if math.isfinite(v)},
            },
        }


def _ring(corner: NDArray[np.floating[Any]], side: tuple[float, float]) -> list[list[float]]:
    """Corners of a rectangle, counter-clockwise as the axes of an image run, the first repeated."""
    left, top = (coordinate(corner[i]) for i in (0, 1))
    right, bottom = (coordinate(corner[i] + side[i]) for i in (0, 1))
    return [[left, top], [left, bottom], [right, bottom], [right, top], [left, top]]


def coordinate(value: float) -> float:
    """A number as it is written: to a thousandth of a level-0 pixel, without idle digits."""
    rounded = round(float(value), DECIMALS)
    return int(rounded) if rounded.is_integer() else rounded


def plain_coordinates(coordinates: Any) -> Any:
    """Nested tuples as lists, numbers as they are written."""
    if isinstance(coordinates, tuple | list):
        return [plain_coordinates(each) for each in coordinates]
    return coordinate(coordinates)


def _tile_id(slide_id: str, corner_l0: NDArray[np.int64], places: Places) -> UUID:
    """The same place, read at the same scale on the same slide, has the same id in every run."""
    x, y = corner_l0
    return uuid5(_NAMESPACE, f"{slide_id}/{x}/{y}/{places.side_px}/{places.mpp}")
