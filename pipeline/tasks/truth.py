"""What the sheet says of a slide, as numbers; each task wants something else of it.

Nothing here needs torch, so that a workflow checks its sheet without waiting for it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from saccade.pipeline.errors import SheetError
from saccade.pipeline.sheet import SheetRow, classes_of
from saccade.pipeline.tasks.config import FOLLOW_UP, TaskConfig

Target = tuple[float, ...]
"""What is known of a slide: as many numbers for every slide of a task, NaN where unknown."""

_YES_OR_NO = {"0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0}
"""Spreadsheets make 1.0 of a 1 that has empty cells beside it."""

_BINS = 5  # of numbers, when slides are dealt into folds


class Truth(Protocol):
    """How the slides of a task are labelled.

    Attributes:
        strict: whether every stratum has to be in every fold.
    """

    strict: ClassVar[bool]

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the sheet, where it stands."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the model's outputs, in their order."""

    def target(self, row: SheetRow) -> Target | None:
        """What is known of a slide; None if nothing is.

        Raises:
            SheetError: if a cell does not say what the task wants.
        """

    def told(self, target: Target) -> Any:
        """A target for records, as JSON has it."""

    def strata(self, targets: Sequence[Target]) -> list[str]:
        """What is to be spread evenly over folds, for each slide."""

    def lacking(self, train: Sequence[Target], val: Sequence[Target]) -> str:
        """What usable slides do not hold and training needs, in words; empty if nothing."""


@dataclass(frozen=True, slots=True)
class OneClass:
    """`label` is the one class of the slide; (index of the class,)."""

    names: tuple[str, ...]
    strict: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Where the class stands."""
        return ("label",)

    def target(self, row: SheetRow) -> Target | None:
        """The index of the class; None for a class that is not among the names."""
        return (float(self.names.index(row.label)),) if row.label in self.names else None

    def told(self, target: Target) -> str:
        """The class."""
        return self.names[int(target[0])]

    def strata(self, targets: Sequence[Target]) -> list[str]:
        """The classes."""
        return [self.told(target) for target in targets]

    def lacking(self, train: Sequence[Target], val: Sequence[Target]) -> str:
        """Two classes, and a training slide of each."""
        missing = [name for i, name in enumerate(self.names) if (i,) not in set(train)]
        if len(self.names) >= 2 and not missing:
            return ""
        found = f"none of {', '.join(missing)}" if missing else f"only {len(self.names)} class"
        return (
            "training wants slides with split `train` of at least two classes; found "
            f"{len(train)} usable slides, {found}."
        )


@dataclass(frozen=True, slots=True)
class _Named:
    """What labels and numbers share: an output for each column, any of which may be unknown."""

    columns: tuple[str, ...]
    strict: ClassVar[bool] = False

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return self.columns

    def told(self, target: Target) -> dict[str, float]:
        """What is known, by name."""
        return _known(self.columns, target)


class YesOrNo(_Named):
    """Each column says of one label whether the slide has it; 1, 0, or NaN where unknown."""

    __slots__ = ()

    def target(self, row: SheetRow) -> Target | None:
        """1, 0 or NaN for each label."""
        return _target(row, self.columns, _yes_or_no)

    def strata(self, targets: Sequence[Target]) -> list[str]:
        """The rarest label that each slide has."""
        found = [[name for name, has in self.told(each).items() if has] for each in targets]
        counts = Counter(name for each in found for name in each)
        return [min(each, key=lambda name: (counts[name], name), default="") for each in found]

    def lacking(self, train: Sequence[Target], val: Sequence[Target]) -> str:
        """For each label a training slide with it, and one without."""
        for i, name in enumerate(self.columns):
            found = Counter(target[i] for target in train)
            if not (found[0.0] and found[1.0]):
                return (
                    "training wants, for each label, slides with split `train` that have it (1) "
                    f"and slides that do not (0); of {name} there are {found[1.0]} and "
                    f"{found[0.0]} usable ones. Label more slides, or leave {name} out of "
                    "task.columns."
                )
        return ""


class Measured(_Named):
    """Each column holds a number; NaN where unknown."""

    __slots__ = ()

    def target(self, row: SheetRow) -> Target | None:
        """The number of each column."""
        return _target(row, self.columns, _number)

    def strata(self, targets: Sequence[Target]) -> list[str]:
        """Five bins of as many slides, by the first column; one more for those without it.

        >>> Measured(("age",)).strata([(n / 2,) for n in range(10)])
        ['0', '0', '1', '1', '2', '2', '3', '3', '4', '4']
        """
        values = np.array([target[0] for target in targets])
        known = values[np.isfinite(values)]
        if not len(known):
            return [""] * len(values)
        edges = np.quantile(known, np.arange(1, _BINS) / _BINS)
        bins = np.searchsorted(edges, values, side="right")
        return [
            str(each) if finite else ""
            for each, finite in zip(bins, np.isfinite(values), strict=True)
        ]

    def lacking(self, train: Sequence[Target], val: Sequence[Target]) -> str:
        """Two different numbers of each column."""
        for i, name in enumerate(self.columns):
            found = {target[i] for target in train if math.isfinite(target[i])}
            if len(found) < 2:
                return (
                    "training wants slides with split `train` of at least two different numbers in "
                    f"column {name}; {len(train)} usable slides have {len(found)}."
                )
        return ""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """`time` and `event`: how long a patient was followed, and whether it ended with the event."""

    strict: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Time and event."""
        return FOLLOW_UP

    @property
    def names(self) -> tuple[str, ...]:
        """One output."""
        return ("log_risk",)

    def target(self, row: SheetRow) -> Target | None:
        """(time, 1 for an event and 0 for a censoring)."""
        time, event = (row.cell(column) for column in FOLLOW_UP)
        if not (time or event):
            return None
        target = (_time(row, "time"), _yes_or_no(row, "event"))
        if any(map(math.isnan, target)):
            has, lacks = FOLLOW_UP if time else FOLLOW_UP[::-1]
            raise SheetError(
                f"slide {row.slide}: has {has} {row.cell(has)!r} but no {lacks}; fill in both, or "
                "leave both empty where they are unknown."
            )
        return target

    def told(self, target: Target) -> dict[str, float]:
        """Time and event."""
        return _known(FOLLOW_UP, target)

    def strata(self, targets: Sequence[Target]) -> list[str]:
        """Whether there was an event."""
        return ["event" if event else "censored" for _, event in targets]

    def lacking(self, train: Sequence[Target], val: Sequence[Target]) -> str:
        """An event and somebody followed for longer; in `val` too where it has slides."""
        for split, targets in (("train", train), ("val", val)):
            events = [time for time, event in targets if event]
            says_something = events and min(events) < max(time for time, _ in targets)
            if not says_something and (split == "train" or targets):
                return (
                    f"survival wants among the slides with split `{split}` an event (event 1) and "
                    "a slide that was followed for longer, or they say nothing of the risk; found "
                    f"{len(targets)} usable slides, {len(events)} events."
                )
        return ""


def truth_of(task: TaskConfig, rows: Sequence[SheetRow]) -> Truth:
    """How the slides of a sheet are labelled, for a task."""
    if task.kind == "classes":
        return OneClass(classes_of(rows))
    return truth_for(task.kind, task.columns)


def truth_for(kind: str, names: tuple[str, ...]) -> Truth:
    """How slides are labelled, where the names of the model's outputs are known."""
    if kind == "classes":
        return OneClass(names)
    if kind == "labels":
        return YesOrNo(names)
    if kind == "regression":
        return Measured(names)
    return FollowUp()


def _target(
    row: SheetRow, columns: Sequence[str], read: Callable[[SheetRow, str], float]
) -> Target | None:
    target = tuple(read(row, column) for column in columns)
    return None if all(map(math.isnan, target)) else target


def _known(names: Sequence[str], target: Target) -> dict[str, float]:
    return {n: value for n, value in zip(names, target, strict=True) if not math.isnan(value)}


def _yes_or_no(row: SheetRow, column: str) -> float:
    text = row.cell(column)
    if text and text not in _YES_OR_NO:
        raise _refused(row, column, "1 for yes or 0 for no")
    return _YES_OR_NO.get(text, math.nan)


def _number(row: SheetRow, column: str) -> float:
    text = row.cell(column)
    try:
        value = float(text or "nan")
    except ValueError:
        value = math.inf
    if text and not math.isfinite(value):
        raise _refused(row, column, "a number, such as 12.5")
    return value


def _time(row: SheetRow, column: str) -> float:
    value = _number(row, column)
    if value <= 0:
        raise _refused(row, column, "a positive number in any unit, the same for all slides")
    return value


def _refused(row: SheetRow, column: str, wanted: str) -> SheetError:
    return SheetError(
        f"slide {row.slide}: {column} is {row.cell(column)!r}; wanted {wanted}, or an empty cell "
        "where it is unknown."
    )
