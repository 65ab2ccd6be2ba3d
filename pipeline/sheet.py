"""The sample sheet: one row a slide."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saccade.pipeline.errors import SheetError
from saccade.tiling.errors import SlideError
from saccade.tiling.remote import Place, Url, place_of

COLUMNS = ("slide", "path", "label", "time", "event", "patient", "split", "mpp")
EVENTS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}  # spreadsheets make 1.0 of a 1 beside empty cells
REQUIRED = ("slide", "path")
SPLITS = ("train", "val", "test", "")
RESERVED = ("model", "logs", "benchmarks")  # folders of the workflow, beside those of the slides
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One slide of the cohort.

    Attributes:
        slide: name; becomes a folder's name.
        path: of the file, or its URL; relative paths count from the sheet's folder.
        label: class, labels or number of the slide, as the task wants it; empty where unknown.
        patient: slides of one patient stay in one split; the slide's own name where unknown.
        split: train, val, test, or empty.
        mpp: micrometres per pixel of level 0, where the file does not record them.
        time: to the event, or to the end of the follow-up, in any unit; None where unknown.
        event: 1 if it happened, 0 if the slide is censored at `time`.
        origin: where the row stands, for messages.
    """

    slide: str
    path: Place
    label: str = ""
    patient: str = ""
    split: str = ""
    mpp: float | None = None
    time: float | None = None
    event: int | None = None
    origin: str = field(default="the sheet", compare=False)


def read_sheet(path: Path) -> list[SheetRow]:
    """Read slides.csv.

    Raises:
        SheetError: for a sheet that is missing, empty, has an unknown or no needed column, a
            name that is twice there or no file name, an unknown split, a bad mpp, time or
            event, one of time and event alone, or a patient in two splits (whose slides would leak from training into the test).
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _check_columns(path.name, reader.fieldnames or [])
            rows = [
                _row(path, number, values)
                for number, values in enumerate(reader, start=2)
                if any(values.values())
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SheetError(f"{path}: cannot be read as a CSV table ({error}).") from error
    if not rows:
        raise SheetError(
            f"{path.name}: lists no slide; wanted one row a slide: {','.join(COLUMNS)}."
        )
    _check_unique(path.name, rows)
    _check_patients(path.name, rows)
    return rows


def classes_of(rows: Sequence[SheetRow]) -> tuple[str, ...]:
    """Names of the classes, sorted."""
    return tuple(sorted({row.label for row in rows if row.label}))


def of_split(rows: Sequence[SheetRow], split: str | None) -> list[SheetRow]:
    """The rows of one split; all rows if `split` is None.

    Raises:
        SheetError: if no row is of that split.
    """
    chosen = [row for row in rows if split is None or row.split == split]
    if not chosen:
        found = ", ".join(sorted({row.split or "(none)" for row in rows}))
        raise SheetError(f"no slide has split {split!r}; found: {found}.")
    return chosen


def _check_columns(name: str, found: Sequence[str]) -> None:
    missing = [column for column in REQUIRED if column not in found]
    unknown = [column for column in found if column not in COLUMNS]
    if missing or unknown:
        complaint = f"no column {missing[0]}" if missing else f"unknown column {unknown[0]}"
        raise SheetError(f"{name}: {complaint}; known columns: {', '.join(COLUMNS)}.")


def _row(sheet: Path, number: int, values: dict[str, str]) -> SheetRow:
    where = f"{sheet.name}, line {number}"
    text = {key: (values.get(key) or "").strip() for key in COLUMNS}
    if None in values:
        raise SheetError(f"{where}: has more cells than the header has columns.")
    if not _NAME.fullmatch(text["slide"]):
        raise SheetError(
            f"{where}: slide {text['slide']!r} cannot name a folder; "
            "use letters, digits, '.', '_' and '-'."
        )
    if text["slide"] in RESERVED:
        raise SheetError(
            f"{where}: slide {text['slide']!r} would share its folder of results with the "
            f"workflow's own; choose a name other than {', '.join(RESERVED)}."
        )
    if not text["path"]:
        raise SheetError(f"{where}: slide {text['slide']} has no path.")
    if text["split"] not in SPLITS:
        raise SheetError(f"{where}: split is {text['split']!r}; wanted train, val, test or empty.")
    return SheetRow(
        slide=text["slide"],
        path=_place(sheet, where, text["path"]),
        label=text["label"],
        patient=text["patient"] or text["slide"],
        split=text["split"],
        mpp=_positive(where, "mpp", text["mpp"], "micrometres per pixel, such as 0.25"),
        **_follow_up(where, text["time"], text["event"]),
        origin=where,
    )


def _place(sheet: Path, where: str, text: str) -> Place:
    try:
        place = place_of(text)
    except SlideError as error:
        raise SheetError(f"{where}: {error}") from error
    return place if isinstance(place, Url) else (sheet.parent / place).absolute()


def _follow_up(where: str, time: str, event: str) -> dict[str, Any]:
    if bool(time) != bool(event):
        alone, other = ("time", "event") if time else ("event", "time")
        raise SheetError(f"{where}: has {alone} but no {other}; wanted both, or neither.")
    if event and event not in EVENTS:
        raise SheetError(
            f"{where}: event is {event!r}; wanted 1 (it happened at `time`) or 0 (censored)."
        )
    wanted = "a positive number in any unit, such as 12.5"
    return {"time": _positive(where, "time", time, wanted), "event": EVENTS.get(event)}


def _positive(where: str, column: str, text: str, wanted: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise SheetError(f"{where}: {column} is {text!r}; wanted {wanted}.")
    return value


def _check_unique(name: str, rows: Sequence[SheetRow]) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.slide in seen:
            raise SheetError(f"{name}: slide {row.slide} is listed twice.")
        seen.add(row.slide)


def _check_patients(name: str, rows: Sequence[SheetRow]) -> None:
    splits: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.split:
            splits[row.patient].add(row.split)
    for patient, found in splits.items():
        if len(found) > 1:
            raise SheetError(
                f"{name}: patient {patient} is in {' and '.join(sorted(found))}; "
                "put all slides of a patient into one split, or the test is not a test."
            )
