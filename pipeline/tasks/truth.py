"""What the sheet says of a slide, as numbers; each task wants something else of it.

Nothing here needs torch, so that a workflow checks its sheet without waiting for it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from saccade.pipeline.errors import SheetError
from saccade.pipeline.sheet import SheetRow, classes_of

Target = tuple[float, ...]
"""What is known of a slide: as many numbers for every slide of a task."""

BETWEEN, NONE = ";", "-"
"""Between the labels of a slide; in the stead of labels where it has none of them."""

_BINS = 5  # of numbers, when slides are dealt into folds


class Truth(Protocol):
    """How the slides of a task are labelled.

    Attributes:
        columns: of the sheet, where it stands.
        strict: whether each stratum has to be in every fold.
        names: of the model's outputs.
    """

    columns: ClassVar[tuple[str, ...]]
    strict: ClassVar[bool]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the model's outputs, in their order."""

    def target(self, row: SheetRow) -> Target | None:
        """What is known of a slide; None if nothing is.

        Raises:
            SheetError: if the cell does not say what the task wants.
        """

    def told(self, target: Target) -> Any:
        """A target as the sheet has it, for records."""

    def strata(self, rows: Sequence[SheetRow]) -> list[str]:
        """What is to be spread evenly over folds, for each of the slides whose target is known."""

    def lacking(self, train: Sequence[Target], val: Sequence[Target]) -> str:
        """What usable slides do not hold and training needs, in words; empty if nothing."""


@dataclass(frozen=True, slots=True)
class OneClass:
    """`label` is the one class of the slide; (index of the class,)."""

    names: tuple[str, ...]
    columns: ClassVar[tuple[str, ...]] = ("label",)
    strict: ClassVar[bool] = True

    def target(self, row: SheetRow) -> Target | None:
        """The index of the class; None for a class that is not among the names."""
        return (float(self.names.index(row.label)),) if row.label in self.names else None

    def told(self, target: Target) -> str:
        """The class."""
        return self.names[int(target[0])]

    def strata(self, rows: Sequence[SheetRow]) -> list[str]:
        """The classes."""
        return [row.label for row in rows]

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
class SomeLabels:
    """`label` names any number of labels, as in `tumour;necrosis`; 1 or 0 for each label."""

    names: tuple[str, ...]
    columns: ClassVar[tuple[str, ...]] = ("label",)
    strict: ClassVar[bool] = False

    def target(self, row: SheetRow) -> Target | None:
        """1 for the labels of the slide, 0 for the others; labels not among the names are none."""
        found = labels_of(row)
        return None if found is None else tuple(float(name in found) for name in self.names)

    def told(self, target: Target) -> str:
        """The labels in their order."""
        return written([name for name, has in zip(self.names, target, strict=True) if has])

    def strata(self, rows: Sequence[SheetRow]) -> list[str]:
        """The rarest label of each slide."""
        found = [labels_of(row) or frozenset() for row in rows]
        counts = Counter(name for each in found for name in each)
        return [min(each, key=lambda name: (counts[name], name), default=NONE) for each in found]

    def lacking(self, train: Sequence[Target], val: Sequence[Target]) -> str:
        """For each label a training slide with it, and one without."""
        counts = [sum(each[i] for each in train) for i in range(len(self.names))]
        lone = [
            f"{name} is on {count:.0f} of them"
            for name, count in zip(self.names, counts, strict=True)
            if count in (0, len(train))
        ]
        if self.names and not lone:
            return ""
        return (
            "training wants, for each label, slides with split `train` that have it and slides "
            f"that do not; found {len(train)} usable slides, "
            f"{', '.join(lone) or 'without any label'}."
        )


@dataclass(frozen=True, slots=True)
class Number:
    """`label` is a number; (the number,)."""

    columns: ClassVar[tuple[str, ...]] = ("label",)
    strict: ClassVar[bool] = False

    @property
    def names(self) -> tuple[str, ...]:
        """One output."""
        return ("value",)

    def target(self, row: SheetRow) -> Target | None:
        """The number in `label`."""
        if not row.label:
            return None
        try:
            value = float(row.label)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise SheetError(
                f"{row.origin}: label is {row.label!r}; the task is regression, which wants a "
                "number, such as 12.5, or an empty cell where it is unknown."
            )
        return (value,)

    def told(self, target: Target) -> float:
        """The number."""
        return target[0]

    def strata(self, rows: Sequence[SheetRow]) -> list[str]:
        """Five bins of as many slides."""
        values = [float(row.label) for row in rows]
        if not values:
            return []
        edges = np.quantile(values, np.arange(1, _BINS) / _BINS)
        return [str(each) for each in np.searchsorted(edges, values, side="right")]

    def lacking(self, train: Sequence[Target], val: Sequence[Target]) -> str:
        """Two different numbers."""
        if len(set(train)) >= 2:
            return ""
        return (
            "training wants slides with split `train` of at least two different labels; found "
            f"{len(train)} usable slides, {len(set(train))} different labels."
        )


@dataclass(frozen=True, slots=True)
class FollowUp:
    """`time` and `event`: how long a patient was followed, and whether it ended with the event."""

    columns: ClassVar[tuple[str, ...]] = ("time", "event")
    strict: ClassVar[bool] = True

    @property
    def names(self) -> tuple[str, ...]:
        """One output."""
        return ("log_risk",)

    def target(self, row: SheetRow) -> Target | None:
        """(time, 1 for an event and 0 for a censoring)."""
        if row.time is None or row.event is None:
            return None
        return (row.time, float(row.event))

    def told(self, target: Target) -> list[float]:
        """Time and event."""
        return list(target)

    def strata(self, rows: Sequence[SheetRow]) -> list[str]:
        """Whether there was an event."""
        return ["event" if row.event else "censored" for row in rows]

    def lacking(self, train: Sequence[Target], val: Sequence[Target]) -> str:
        """An event, and somebody who was followed for longer; in `val` too where it has slides."""
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


def truth_of(kind: str, rows: Sequence[SheetRow]) -> Truth:
    """How the slides of a sheet are labelled, for a task.

    Raises:
        SheetError: if a cell names labels in a way that is none.
    """
    if kind == "multilabel":
        found = {name for row in rows for name in labels_of(row) or ()}
        return truth_for(kind, tuple(sorted(found)))
    return truth_for(kind, classes_of(rows))


def truth_for(kind: str, names: tuple[str, ...]) -> Truth:
    """How slides are labelled, where the classes or labels are known."""
    if kind == "multiclass":
        return OneClass(names)
    if kind == "multilabel":
        return SomeLabels(names)
    return {"regression": Number, "survival": FollowUp}[kind]()


def labels_of(row: SheetRow) -> frozenset[str] | None:
    """The labels of a slide; none for `-`, None where the cell is empty.

    Raises:
        SheetError: for an empty name, one that is there twice, or `-` beside others.
    """
    if not row.label:
        return None
    names = [name.strip() for name in row.label.split(BETWEEN)]
    if names == [NONE]:
        return frozenset()
    if "" in names or NONE in names or len(set(names)) < len(names):
        raise SheetError(
            f"{row.origin}: label is {row.label!r}; the task is multilabel, which wants each label "
            f"once with '{BETWEEN}' between them, such as tumour{BETWEEN}necrosis, '{NONE}' alone "
            "for none of them, or an empty cell where they are unknown."
        )
    return frozenset(names)


def written(names: Sequence[str]) -> str:
    """Labels as the sheet has them.

    >>> written(["necrosis", "tumour"]), written([])
    ('necrosis;tumour', '-')
    """
    return BETWEEN.join(names) or NONE
