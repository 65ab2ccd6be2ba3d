"""Dealing the slides of a sheet into folds: by patient, and each class evenly.

Fold i of k holds out the i-th part of the slides, chooses its best epoch by the next part, and is
fitted to the others. So each slide is held out once, and chooses an epoch once.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from saccade.pipeline.errors import ResultsError, SheetError
from saccade.pipeline.files import atomic_path
from saccade.pipeline.seeds import seed_for
from saccade.pipeline.sheet import COLUMNS, SheetRow
from saccade.pipeline.tasks.truth import Truth, truth_of

SHEET = "slides.csv"
OVERVIEW = "folds.csv"

_BINS = 5  # of labels that are numbers
_NAMES = 10  # so many different numbers may be names of classes; more are measurements


def deal(
    rows: Sequence[SheetRow], folds: int, *, seed: int = 0, kind: str = "multiclass"
) -> dict[str, int]:
    """Say which fold holds out each slide.

    All slides of a patient are in one part, and each class is spread over the parts as evenly as
    the patients allow (scikit-learn's StratifiedGroupKFold). The same slides, folds and seed give
    the same parts in whatever order the rows are.

    Args:
        rows: of the sheet. Slides without a label are in no part; neither are those of patients
            with a slide of split `test`, which stay held out of all folds. Other splits do not
            count.
        folds: number of parts.
        seed: of the deal.
        kind: of the task, as in the settings; labels and numbers are spread as evenly as can be,
            by the rarest label of each slide and by bins of the numbers.

    Returns:
        The number of the part, from 0, by slide.

    Raises:
        SheetError: if a class has fewer patients than there are folds.
    """
    truth = truth_of(kind, rows)
    dealt = _dealt(rows, truth)
    named = truth.strata(dealt)
    classes = strata(named)
    _check_patients(dealt, named, classes, folds if truth.strict else 1)
    kfold = StratifiedGroupKFold(folds, shuffle=True, random_state=seed_for("folds", seed) % 2**32)
    patients = [row.patient for row in dealt]
    part: dict[str, int] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, held_out) in enumerate(kfold.split(patients, classes, patients)):
            part |= {dealt[i].slide: number for i in held_out}
    return part


def strata(labels: Sequence[str]) -> NDArray[np.int64]:
    """What is to be spread evenly, as a number for each slide: its class.

    Labels of more than 10 different numbers are measurements: those are cut into five bins of as
    many slides.

    >>> strata(["b", "a", "b"])
    array([1, 0, 1])
    >>> strata([str(n / 2) for n in range(15)])
    array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4])
    """
    names, codes = np.unique(np.array(labels, dtype=str), return_inverse=True)
    if len(names) > _NAMES:
        try:
            numbers = np.array(labels, dtype=np.float64)
        except ValueError:
            return codes.astype(np.int64)
        edges = np.quantile(numbers, np.arange(1, _BINS) / _BINS)
        return np.searchsorted(edges, numbers, side="right").astype(np.int64)
    return codes.astype(np.int64)


def rows_of_fold(
    rows: Sequence[SheetRow], part: Mapping[str, int], fold: int, folds: int
) -> list[SheetRow]:
    """The sheet as a fold sees it: `test` is what it holds out; slides in no part have no split."""
    roles = {fold: "test", (fold + 1) % folds: "val"}
    return [
        dataclasses.replace(
            row, split=roles.get(part[row.slide], "train") if row.slide in part else ""
        )
        for row in rows
    ]


def write_folds(
    rows: Sequence[SheetRow],
    out: Path,
    folds: int,
    *,
    seed: int = 0,
    replace: bool = False,
    kind: str = "multiclass",
) -> list[list[SheetRow]]:
    """Deal, and write `folds.csv` and `fold_<i>/slides.csv`.

    Paths are written absolute, and URLs without what is secret of them.

    Returns:
        The rows of each fold.

    Raises:
        SheetError: if a class has fewer patients than there are folds.
        ResultsError: if other folds lie in `out`, which are not to be replaced.
    """
    part = deal(rows, folds, seed=seed, kind=kind)
    overview = _overview(rows, part, truth_of(kind, rows).columns)
    if not replace:
        _refuse_other(out / OVERVIEW, overview)
    _write(out / OVERVIEW, overview)
    sheets = [rows_of_fold(rows, part, fold, folds) for fold in range(folds)]
    for fold, sheet in enumerate(sheets):
        _write(folder_of(out, fold) / SHEET, _sheet(sheet))
    return sheets


def folder_of(out: Path, fold: int) -> Path:
    """The folder of a fold."""
    return out / f"fold_{fold}"


def _overview(rows: Sequence[SheetRow], part: Mapping[str, int], columns: Sequence[str]) -> str:
    """Which fold holds out each slide; none for those that no fold has."""
    cells = [
        [
            row.slide,
            row.patient,
            *(getattr(row, column) for column in columns),
            part.get(row.slide, ""),
        ]
        for row in sorted(rows, key=lambda row: row.slide)
    ]
    return _csv(["slide", "patient", *columns, "fold"], cells)


def _sheet(rows: Sequence[SheetRow]) -> str:
    """What `read_sheet` reads."""
    cells = [[getattr(row, column) for column in COLUMNS] for row in rows]
    return _csv(COLUMNS, [["" if cell is None else cell for cell in line] for line in cells])


def _csv(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows([header, *lines])
    return file.getvalue()


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _refuse_other(path: Path, text: str) -> None:
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ResultsError(
            f"{path.parent}: holds folds of other slides or labels, of another number or seed. "
            "Choose another --out, or pass --replace to deal anew here."
        )


def _dealt(rows: Sequence[SheetRow], truth: Truth) -> list[SheetRow]:
    tested = {row.patient for row in rows if row.split == "test"}
    return [row for row in rows if truth.target(row) and row.patient not in tested]


def _check_patients(
    rows: Sequence[SheetRow], named: Sequence[str], classes: NDArray[np.int64], folds: int
) -> None:
    patients: dict[int, set[str]] = defaultdict(set)
    example: dict[int, str] = {}
    for row, name, code in zip(rows, named, classes.tolist(), strict=True):
        patients[code].add(row.patient)
        example[code] = name
    for code in sorted(patients):
        if len(patients[code]) < folds:
            raise SheetError(
                f"{folds} folds want slides of at least {folds} patients of each class; label "
                f"{example[code]!r} has {len(patients[code])} outside split `test`. Choose fewer "
                "folds, or leave slides of this label out."
            )
    if not patients:
        raise SheetError(
            f"{folds} folds want slides with a label that are not of split `test`; there are none."
        )
