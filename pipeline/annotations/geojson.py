"""Outlines of GeoJSON with the names of their classes. Nothing in a file is ever executed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.errors import TargetError

Ring = NDArray[np.float64]
"""Corners (x, y) of an outline or a hole, (n, 2), in level-0 pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """An area: the pixels inside an odd number of its rings.

    Attributes:
        name: of its class, as QuPath's classification has it; None if it has none.
        polygons: of which it consists: each an outline with its holes.
    """

    name: str | None
    polygons: tuple[tuple[Ring, ...], ...]

    @property
    def rings(self) -> list[Ring]:
        """Outlines and holes of all polygons."""
        return [ring for polygon in self.polygons for ring in polygon]

    @property
    def area(self) -> float:
        """Of the outlines less their holes."""
        return sum(2 * _area(polygon[0]) - sum(map(_area, polygon)) for polygon in self.polygons)


def read_classified(path: Path) -> list[Outline]:
    """The areas of a GeoJSON file; points and lines are passed over.

    Raises:
        TargetError: if it is no GeoJSON.
    """
    try:
        return list(_outlines(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise TargetError(
            f"{path.name}: cannot be read as GeoJSON ({type(error).__name__}: {error})."
        ) from error


def polygons_of(node: Any) -> Iterator[list[Ring]]:
    """The polygons of anything in a GeoJSON: each outline with those of its holes.

    Raises:
        KeyError, TypeError, ValueError: where it is none.
    """
    if isinstance(node, list):
        for each in node:
            yield from polygons_of(each)
        return
    match node["type"]:
        case "FeatureCollection":
            yield from polygons_of(node["features"])
        case "Feature":
            if node["geometry"] is not None:
                yield from polygons_of(node["geometry"])
        case "GeometryCollection":
            yield from polygons_of(node["geometries"])
        case "MultiPolygon":
            for rings in node["coordinates"]:
                yield [_ring(ring) for ring in rings]
        case "Polygon":
            yield [_ring(ring) for ring in node["coordinates"]]


def _outlines(node: Any) -> Iterator[Outline]:
    if isinstance(node, list):
        for each in node:
            yield from _outlines(each)
    elif node["type"] == "FeatureCollection":
        yield from _outlines(node["features"])
    elif polygons := tuple(tuple(polygon) for polygon in polygons_of(node)):
        said = (node.get("properties") or {}).get("classification") or {}
        name = said.get("name")
        yield Outline(None if name is None else str(name), polygons)


def _ring(corners: list[list[float]]) -> Ring:
    outline = np.array([corner[:2] for corner in corners], np.float64)
    if outline.shape[1:] != (2,) or len(outline) < 3 or not np.isfinite(outline).all():
        raise ValueError("an outline needs three finite corners or more")
    return outline


def _area(ring: Ring) -> float:
    x, y = ring.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
