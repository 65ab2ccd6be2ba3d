"""Very many objects as QuPath detections, in GeoJSON, one by one.

QuPath takes hundreds of annotations and hundreds of thousands of detections, so what is counted in
thousands is written as these. The forms are those that its readers of 0.5, 0.6 and 0.7 all take.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import mapping

from saccade.pipeline.export.class_colours import classification, colours_of
from saccade.pipeline.export.columns import plain_number
from saccade.pipeline.export.geojson import DECIMALS, write_lines
from saccade.pipeline.objects.batch import ObjectBatch
from saccade.pipeline.stages.objects import areas_of

_NAMESPACE = uuid5(NAMESPACE_URL, "saccade:detection")
_CLOSE = (",", ":")  # without spaces


@dataclass(frozen=True, slots=True)
class GeoJsonForm:
    """How objects are laid out in files.

    Attributes:
        gzip: compress; QuPath reads `.geojson.gz` as it is.
        most: objects of a file; further ones go to further files. All in one if None.
        bounds_l0: (x, y, width, height) of the scanned area, only if the viewer shows this area
            instead of the whole level 0; its corner is taken off.

    Raises:
        ValueError: if a file may hold no object.
    """

    gzip: bool = False
    most: int | None = None
    bounds_l0: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.most is not None and self.most < 1:
            raise ValueError(f"a file must have room for an object, got {self.most}.")

    def name(self, stem: str, number: int) -> str:
        """Of file `number`, from 1: `detection.geojson`, `detection.2.geojson` ..."""
        part = "" if number == 1 else f".{number}"
        return f"{stem}{part}.geojson{'.gz' if self.gzip else ''}"


def write_detections_geojson(
    folder: Path,
    stem: str,
    batches: Iterable[ObjectBatch],
    *,
    classes: Sequence[str],
    slide_id: str,
    form: GeoJsonForm | None = None,
) -> list[Path]:
    """Write objects as QuPath detections: outline, class with its colour, `score`, measurements.

    Memory: a batch. The same objects on the same slide give the same bytes, ids included. Files of
    the same stem that an earlier call left, and that would now say the same twice, are removed.

    Args:
        folder: where to write.
        stem: of the files' names.
        batches: the objects, in their order.
        classes: names, by the objects' classes.
        slide_id: content hash of the slide; with class and outline, it makes the id of an object.
        form: one file or several, compressed or not.

    Returns:
        The files; one at least, though it may hold no object.
    """
    form = GeoJsonForm() if form is None else form
    lines = chain.from_iterable(
        _lines(batch, classes, slide_id, form.bounds_l0) for batch in batches
    )
    written: list[Path] = []
    for number in count(1):
        first = next(lines, None)
        if first is None and written:
            break
        rest = lines if form.most is None else islice(lines, form.most - 1)
        written.append(folder / form.name(stem, number))
        write_lines(written[-1], () if first is None else chain([first], rest))
    for found in [*folder.glob(f"{stem}*.geojson"), *folder.glob(f"{stem}*.geojson.gz")]:
        if found not in written and _is_part(found.name, stem):
            found.unlink()
    return written


def _is_part(name: str, stem: str) -> bool:
    middle = name.removeprefix(stem).removesuffix(".gz").removesuffix(".geojson")
    return middle == "" or middle[1:].isdigit()


def _lines(
    batch: ObjectBatch,
    classes: Sequence[str],
    slide_id: str,
    bounds_l0: tuple[int, int, int, int] | None,
) -> Iterator[str]:
    """Each object as JSON. By hand: a dictionary for each would take longer."""
    shapes = _geometries(batch, (0, 0))
    moved = shapes if bounds_l0 is None else _geometries(batch, bounds_l0[:2])
    colours = colours_of(classes)
    kinds = [json.dumps(classification(name, colours[name]), separators=_CLOSE) for name in classes]
    names = [json.dumps(name) for name in ("score", *batch.measurements)]
    columns = [_numbers(each) for each in (batch.scores, *batch.measurements.values())]
    for i, (shape, number) in enumerate(zip(moved, batch.classes.tolist(), strict=True)):
        measured = ",".join(
            f"{name}:{column[i]}"
            for name, column in zip(names, columns, strict=True)
            if column[i] is not None
        )
        identity = uuid5(_NAMESPACE, f"{slide_id}/{classes[number]}/{shapes[i]}")
        yield (
            f'{{"type":"Feature","id":"{identity}","geometry":{shape},"properties":'
            f'{{"objectType":"detection","classification":{kinds[number]},'
            f'"measurements":{{{measured}}}}}}}'
        )


def _numbers(column: NDArray[np.float32]) -> list[str | None]:
    """Numbers as they are printed; None for those that JSON does not have."""
    return [str(plain_number(each)) if math.isfinite(each) else None for each in column]


def _geometries(batch: ObjectBatch, corner_l0: tuple[int, int]) -> list[str]:
    """Outlines as GeoJSON, to a thousandth of a level-0 pixel.

    One that crosses itself once it is rounded, which makes QuPath 0.7 give up the file, is mended.
    """
    points = np.round(batch.points_l0 - corner_l0, DECIMALS)
    starts, ends = batch.starts.tolist(), np.cumsum(batch.lengths).tolist()
    pairs = points.tolist()
    sound = _is_sound(points, batch.lengths)
    return [
        _polygon([*pairs[start:end], pairs[start]]) if sound[i] else _mended(points[start:end])
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _is_sound(points: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    if not len(lengths):
        return np.empty(0, bool)
    which = np.repeat(np.arange(len(lengths)), lengths)
    whole = shapely.polygons(shapely.linearrings(points, indices=which))
    sound: NDArray[np.bool_] = shapely.is_valid(whole)
    return sound


def _polygon(ring: list[list[float]]) -> str:
    return f'{{"type":"Polygon","coordinates":[{_plain_json(ring)}]}}'


def _mended(points: NDArray[np.float64]) -> str:
    found = shapely.Polygon(points)
    mended = areas_of(found)
    # Thinner than a thousandth of a pixel: nothing is left but where it was.
    shape = mapping(shapely.box(*found.bounds).buffer(0.01) if mended.is_empty else mended)
    return _plain_json({"type": shape["type"], "coordinates": shape["coordinates"]})


def _plain_json(value: object) -> str:
    """JSON without spaces and without idle digits: 7 for 7.0."""
    text = json.dumps(value, allow_nan=False, separators=_CLOSE)
    return text.replace(".0,", ",").replace(".0]", "]")
