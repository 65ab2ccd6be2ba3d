"""Where the lesions of a synthetic slide are: GeoJSON that QuPath reads, and the check against it.

Kept beside the slides for checking what a model attended to; never for training.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.files import write_json

Polygon = NDArray[np.float64]

_COLOUR = [200, 0, 0]


def write_lesions(path: Path, polygons_l0: Sequence[Polygon]) -> None:
    """Write polygons, each of corners (x, y) in level-0 pixels, as annotations for QuPath."""
    features = [_feature(polygon, number) for number, polygon in enumerate(polygons_l0, start=1)]
    write_json(path, {"type": "FeatureCollection", "features": features})


def _feature(polygon: Polygon, number: int) -> dict[str, object]:
    corners = np.round(polygon, 2).tolist()
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
        "properties": {
            "objectType": "annotation",
            "name": f"Lesion {number}",
            "classification": {"name": "Lesion", "color": _COLOUR},
        },
    }


def lesion_polygons(path: Path) -> tuple[Polygon, ...]:
    """Read what `write_lesions` wrote: for each lesion its corners (x, y), shape (corners, 2).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a file.
    """
    try:
        features = json.loads(path.read_text(encoding="utf-8"))["features"]
        rings = [np.array(f["geometry"]["coordinates"][0], np.float64) for f in features]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path.name}: wanted a FeatureCollection of polygons, as the demo writes it, "
            f"found something else ({error!r})."
        ) from error
    return tuple(ring[:-1] for ring in rings)


def inside(polygons_l0: Sequence[Polygon], points_l0: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return for each point (x, y), shape (n, 2), whether it lies in any of the polygons.

    >>> square = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
    >>> inside([square], np.array([[1.0, 2.0], [5.0, 2.0]])).tolist()
    [True, False]
    """
    hit = np.zeros(len(points_l0), bool)
    for polygon in polygons_l0:
        hit |= _inside_one(polygon, points_l0)
    return hit


def _inside_one(polygon: Polygon, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A point is inside if a ray from it towards larger x crosses the outline an odd number."""
    x, y = points[:, :1], points[:, 1:]
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    spans = (y0 > y) != (y1 > y)
    with np.errstate(divide="ignore", invalid="ignore"):  # level edges are never spanned
        crossing = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    odd = (spans & (x < crossing)).sum(axis=1) % 2 == 1
    return np.asarray(odd, np.bool_)
