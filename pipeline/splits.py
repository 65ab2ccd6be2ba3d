"""Dealing the slides of a sheet into folds: by patient, and each class evenly.

Fold i of k holds out the i-th part of the slides, chooses its best epoch by the next part, and is
fitted to the others. So each slide is held out once, and chooses an epoch once.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from saccade.pipeline.errors import ResultsError, SheetError
from saccade.pipeline.files import atomic_path
from saccade.pipeline.seeds import seed_for
from saccade.pipeline.sheet import COLUMNS, SheetRow
from saccade.pipeline.tasks.config import TaskConfig
from saccade.pipeline.tasks.truth import Truth, truth_of

SHEET = "slides.csv"
OVERVIEW = "folds.csv"

_CLASSES = TaskConfig()


def deal(
    rows: Sequence[SheetRow], folds: int, *, seed: int = 0, task: TaskConfig = _CLASSES
) -> dict[str, int]:
    """Say which fold holds out each slide.

    All slides of a patient are in one part, and each class is spread over the parts as evenly as
    the patients allow (scikit-learn's StratifiedGroupKFold): of labels the rarest of each slide, of
    numbers the fifths of the first, of survival whether there was an event. The same slides, folds
    and seed give the same parts in whatever order the rows are.

    Args:
        rows: of the sheet. Slides without a label are in no part; neither are those of patients
            with a slide of split `test`, which stay held out of all folds. Other splits do not
            count.
        folds: number of parts.
        seed: of the deal.
        task: what slides are labelled for.

    Returns:
        The number of the part, from 0, by slide.

    Raises:
        SheetError: if a class, or events or censored slides, have fewer patients than there are
            folds; or if a label is not what the task wants.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # 60 MB, and the workflow reads this

    truth = truth_of(task, rows)
    dealt, strata = _dealt(rows, truth)
    _check_patients(dealt, strata, folds, strict=truth.strict)
    kfold = StratifiedGroupKFold(folds, shuffle=True, random_state=seed_for("folds", seed) % 2**32)
    patients = [row.patient for row in dealt]
    if max(Counter(strata).values()) < folds:
        strata = [""] * len(dealt)  # so few slides that nothing can be spread but they themselves
    part: dict[str, int] = {}
    with warnings.catch_warnings():  # a stratum smaller than the folds is no mistake here
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, held_out) in enumerate(kfold.split(patients, strata, patients)):
            part |= {dealt[i].slide: number for i in held_out}
    return part


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
    task: TaskConfig = _CLASSES,
) -> list[list[SheetRow]]:
    """Deal, and write `folds.csv` and `fold_<i>/slides.csv`.

    Paths are written absolute, and URLs without what is secret of them.

    Returns:
        The rows of each fold.

    Raises:
        SheetError: as `deal`.
        ResultsError: if other folds lie in `out`, which are not to be replaced.
    """
    part = deal(rows, folds, seed=seed, task=task)
    overview = _overview(rows, part, truth_of(task, rows).columns)
    if not replace:
        _refuse_other(out / OVERVIEW, overview)
    _write(out / OVERVIEW, overview)
    sheets = [rows_of_fold(rows, part, fold, folds) for fold in range(folds)]
    for fold, sheet in enumerate(sheets):
        _write(folder_of(out, fold) / SHEET, _sheet(sheet, task.targets))
    return sheets


def read_parts(path: Path) -> dict[str, int]:
    """Which fold holds out each slide, from the `folds.csv` that `write_folds` wrote.

    Raises:
        SheetError: if the file is missing or is none.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        return {line["slide"]: int(line["fold"]) for line in lines if line["fold"]}
    except (OSError, KeyError, ValueError, UnicodeDecodeError, csv.Error) as error:
        raise SheetError(
            f"{path}: cannot be read as {OVERVIEW} of `saccade split` ({error!r})."
        ) from error


def folder_of(out: Path, fold: int) -> Path:
    """The folder of a fold."""
    return out / f"fold_{fold}"


def _overview(rows: Sequence[SheetRow], part: Mapping[str, int], columns: Sequence[str]) -> str:
    """Which fold holds out each slide; none for those that no fold has."""
    cells = [
        [row.slide, row.patient, *map(row.cell, columns), part.get(row.slide, "")]
        for row in sorted(rows, key=lambda row: row.slide)
    ]
    return _csv(["slide", "patient", *columns, "fold"], cells)


def _sheet(rows: Sequence[SheetRow], targets: Sequence[str]) -> str:
    """What `read_sheet` reads."""
    further = [column for column in targets if column not in COLUMNS]
    cells = [
        [*(getattr(row, column) for column in COLUMNS), *map(row.cell, further)] for row in rows
    ]
    lines = [["" if cell is None else cell for cell in line] for line in cells]
    return _csv([*COLUMNS, *further], lines)


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


def _dealt(rows: Sequence[SheetRow], truth: Truth) -> tuple[list[SheetRow], list[str]]:
    """The slides that are dealt, with what is to be spread evenly of them."""
    tested = {row.patient for row in rows if row.split == "test"}
    known = [(row, truth.target(row)) for row in rows if row.patient not in tested]
    dealt = [(row, target) for row, target in known if target is not None]
    return [row for row, _ in dealt], truth.strata([target for _, target in dealt])


def _check_patients(
    rows: Sequence[SheetRow], strata: Sequence[str], folds: int, *, strict: bool
) -> None:
    if not rows:
        raise SheetError(
            f"{folds} folds want slides with a label that are not of split `test`; there are none."
        )
    patients: dict[str, set[str]] = defaultdict(set)
    for row, stratum in zip(rows, strata, strict=True):
        patients[stratum if strict else ""].add(row.patient)
    for stratum in sorted(patients):
        if len(patients[stratum]) < folds:
            of = f" of each class; label {stratum!r} has" if strict else "; there are"
            raise SheetError(
                f"{folds} folds want slides of at least {folds} patients{of} "
                f"{len(patients[stratum])} outside split `test`. Choose fewer folds"
                + (", or leave slides of this label out." if strict else ".")
            )
