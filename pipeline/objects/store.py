"""The objects of one slide in one file, from which every export is made.

HDF5, as columns: a program that knows h5py reads it in four lines, and no object costs more than
its numbers. Outlines are corners, object after object, and where each object's begin.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from saccade.pipeline.errors import ResultsError
from saccade.pipeline.files import atomic_path
from saccade.pipeline.objects.batch import ObjectBatch

_KIND, _VERSION = "objects", 1
_CHUNK = 1 << 14  # rows that are compressed together
_GATHERED = 1 << 14  # objects that are written together
_PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def write_object_store(
    path: Path,
    batches: Iterable[ObjectBatch],
    *,
    classes: Sequence[str],
    measurements: Sequence[str] = (),
    about: Mapping[str, Any],
) -> int:
    """Write objects as they come; the same objects give the same bytes.

    Args:
        path: where to write, `.h5`.
        batches: some objects each, in the order that they are to have.
        classes: names, by the objects' classes.
        measurements: names of the numbers that each object comes with.
        about: what made them; plain values for JSON.

    Returns:
        How many there are.
    """
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["saccade"] = json.dumps(
            {"kind": _KIND, "version": _VERSION, "classes": list(classes), "provenance": about},
            sort_keys=True,
        )
        tables = _tables(file, measurements)
        corners = 0
        for batch in _gathered(batches):
            rows: dict[str, NDArray[Any]] = {"class": batch.classes, "score": batch.scores}
            rows |= {"points": batch.points_l0, "start": corners + batch.starts}
            rows |= {f"measurements/{name}": batch.measurements[name] for name in measurements}
            corners += len(batch.points_l0)
            for name, values in rows.items():
                _append(tables[name], values)
        return len(tables["class"])


def _tables(file: h5py.File, measurements: Sequence[str]) -> dict[str, h5py.Dataset]:
    kinds: dict[str, Any] = {"start": np.int64, "class": np.uint16, "score": np.float32}
    kinds |= {f"measurements/{name}": np.float32 for name in measurements}
    tables = {
        name: file.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(_CHUNK,), **_PACKED)
        for name, kind in kinds.items()
    }
    shape: Any = {"shape": (0, 2), "maxshape": (None, 2), "chunks": (_CHUNK, 2)}
    tables["points"] = file.create_dataset("points", dtype=np.float64, **shape, **_PACKED)
    return tables


def _append(table: h5py.Dataset, values: NDArray[Any]) -> None:
    before = len(table)
    table.resize(before + len(values), axis=0)
    table[before:] = values


def _gathered(batches: Iterable[ObjectBatch]) -> Iterator[ObjectBatch]:
    """The same objects in larger batches: HDF5 is slow with few rows at a time."""
    waiting: list[ObjectBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= _GATHERED:
            yield joined(waiting)
            waiting = []
    if waiting:
        yield joined(waiting)


def joined(batches: Sequence[ObjectBatch]) -> ObjectBatch:
    """The objects of several batches, one after the other."""
    return ObjectBatch(
        np.concatenate([each.points_l0 for each in batches]),
        np.concatenate([each.lengths for each in batches]),
        np.concatenate([each.classes for each in batches]),
        np.concatenate([each.scores for each in batches]),
        {
            name: np.concatenate([each.measurements[name] for each in batches])
            for name in batches[0].measurements
        },
    )


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """The objects that `write_object_store` wrote; holds facts only.

    Attributes:
        path: of the file.
        classes: names, by the objects' classes.
        measurements: names of the numbers that each object comes with.
        provenance: what made them.
        count: how many there are.
    """

    path: Path
    classes: tuple[str, ...]
    measurements: tuple[str, ...]
    provenance: Mapping[str, Any]
    count: int

    @classmethod
    def open(cls, path: Path) -> ObjectStore:
        """Open a store.

        Raises:
            ResultsError: if there is none, or it is of another version.
        """
        try:
            with h5py.File(path) as file:
                facts = json.loads(file.attrs["saccade"])
                if (facts["kind"], facts["version"]) != (_KIND, _VERSION):
                    raise ValueError(f"it is {facts['kind']!r} of version {facts['version']}")
                named = tuple(file["measurements"]) if "measurements" in file else ()
                return cls(
                    path, tuple(facts["classes"]), named, facts["provenance"], len(file["class"])
                )
        except (OSError, KeyError, ValueError) as error:
            raise ResultsError(
                f"{path}: cannot be read as objects of Saccade ({error}). Wanted what `saccade "
                "detect` or `saccade segment` leaves; make it again with --force."
            ) from error

    def batches(self, size: int = 1 << 14) -> Iterator[ObjectBatch]:
        """The objects in their order, at most `size` in memory at a time."""
        with h5py.File(self.path) as file:
            points = file["points"]
            for first in range(0, self.count, size):
                last = min(first + size, self.count)
                starts = file["start"][first:last]
                end = int(file["start"][last]) if last < self.count else len(points)
                yield ObjectBatch(
                    points[int(starts[0]) : end],
                    np.diff(np.append(starts, end)),
                    file["class"][first:last].astype(np.int64),
                    file["score"][first:last],
                    {name: file[f"measurements/{name}"][first:last] for name in self.measurements},
                )
