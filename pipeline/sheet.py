"""The sample sheet: one row a slide."""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from saccade.pipeline.errors import SheetError
from saccade.tiling.errors import SlideError
from saccade.tiling.remote import Place, Url, place_of

COLUMNS = ("slide", "path", "label", "patient", "split", "mpp")
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
        label: class of the slide; empty where unknown.
        patient: slides of one patient stay in one split; the slide's own name where unknown.
        split: train, val, test, or empty.
        mpp: micrometres per pixel of level 0, where the file does not record them.
        targets: what further columns say, as text; see `saccade.pipeline.tasks.truth`.
    """

    slide: str
    path: Place
    label: str = ""
    patient: str = ""
    split: str = ""
    mpp: float | None = None
    targets: Mapping[str, str] = field(default_factory=dict)

    def cell(self, column: str) -> str:
        """What a column says of the slide, as text; empty where it says nothing."""
        return self.label if column == "label" else self.targets.get(column, "")


def read_sheet(path: Path, targets: Sequence[str] | None = ()) -> list[SheetRow]:
    """Read slides.csv.

    Args:
        path: of the sheet.
        targets: further columns, which have to be there. None for whatever columns there are: who
            looks for a column that is not known yet cannot tell it from a mistake.

    Raises:
        SheetError: for a sheet that is missing, empty, has an unknown or no needed column, a
            name that is twice there or no file name, an unknown split, a bad mpp, or a patient
            in two splits (whose slides would leak from training into the test).
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = reader.fieldnames or []
            further = [c for c in found if c not in COLUMNS] if targets is None else targets
            _check_columns(path.name, found, further)
            rows = [
                _row(path, number, values, further)
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


def _check_columns(name: str, found: Sequence[str], targets: Sequence[str]) -> None:
    known = [*COLUMNS, *(column for column in targets if column not in COLUMNS)]
    missing = [column for column in (*REQUIRED, *targets) if column not in found]
    unknown = [column for column in found if column not in known]
    if missing or unknown:
        complaint = f"no column {missing[0]}" if missing else f"unknown column {unknown[0]}"
        raise SheetError(
            f"{name}: {complaint}; known columns: {', '.join(known)}. What slides are judged by, "
            "`task` of the settings says."
        )


def _row(sheet: Path, number: int, values: dict[str, str], targets: Sequence[str]) -> SheetRow:
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
        mpp=_mpp(where, text["mpp"]),
        targets={column: (values.get(column) or "").strip() for column in targets},
    )


def _place(sheet: Path, where: str, text: str) -> Place:
    try:
        place = place_of(text)
    except SlideError as error:
        raise SheetError(f"{where}: {error}") from error
    return place if isinstance(place, Url) else (sheet.parent / place).absolute()


def _mpp(where: str, text: str) -> float | None:
    if not text:
        return None
    try:
        mpp = float(text)
    except ValueError:
        mpp = 0.0
    if not 0 < mpp < float("inf"):
        raise SheetError(f"{where}: mpp is {text!r}; wanted micrometres per pixel, such as 0.25.")
    return mpp


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
