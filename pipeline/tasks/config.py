"""The setting that says what slides are judged by, and which columns of the sheet say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from saccade.pipeline.config_checks import require
from saccade.pipeline.sheet import COLUMNS

FOLLOW_UP = ("time", "event")
"""Columns of the sheet that survival is learned from."""

_TAKEN = (
    *(column for column in COLUMNS if column != "label"),
    *("predicted", "tiles_read", "share_of_level_0_read", "status"),
)


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """What slides are judged by.

    Attributes:
        kind: `classes`, one of several; `labels`, each there or not; `regression`, numbers; or
            `survival`, the risk of an event.
        columns: of the sheet, where labels or numbers stand; those of the other kinds are fixed.
        units: of the numbers, for people; as many as there are columns, or none.
    """

    kind: Literal["classes", "labels", "regression", "survival"] = "classes"
    columns: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named = self.kind in ("labels", "regression")
        fixed = "label" if self.kind == "classes" else " and ".join(FOLLOW_UP)
        require(
            bool(self.columns) == named,
            f"task.kind {self.kind} wants task.columns, the columns of the sheet to learn from, "
            f"such as {'[tumour, necrosis]' if self.kind == 'labels' else '[age]'}; found none."
            if named
            else f"task.kind {self.kind} learns from {fixed} of the sheet, found task.columns "
            f"{', '.join(self.columns)}; leave them out, or choose labels or regression.",
        )
        taken = [name for name in self.columns if name in _TAKEN]
        require(
            not taken and all(self.columns) and len(set(self.columns)) == len(self.columns),
            "task.columns wants different columns, none of them with another meaning in the sheet "
            f"or in summary.csv ({', '.join(_TAKEN)}); found {', '.join(self.columns) or 'none'}.",
        )
        require(
            not self.units or self.kind == "regression",
            f"task.units are of numbers, and task.kind is {self.kind}; leave them out.",
        )
        require(
            len(self.units) in (0, len(self.columns)),
            f"task.units wants a unit for each of {len(self.columns)} columns, or none at all; "
            f"found {len(self.units)}.",
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """Columns of the sheet beside those that every sheet may have."""
        return FOLLOW_UP if self.kind == "survival" else self.columns
