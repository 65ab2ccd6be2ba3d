"""What of a sheet the workflow trains on: once by its splits, or a model for each fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from saccade.pipeline.config import RunConfig
from saccade.pipeline.sheet import SheetRow, of_split
from saccade.pipeline.splits import deal, rows_of_fold
from saccade.pipeline.tasks.truth import Target, Truth, truth_of


@dataclass(frozen=True)
class TrainingPlan:
    """What is trained on.

    Attributes:
        rows: of the sample sheet.
        run: settings; with `splits.folds` a model is trained for each fold.
    """

    rows: Sequence[SheetRow]
    run: RunConfig

    @cached_property
    def _parts(self) -> dict[str, int]:
        splits = self.run.splits
        if not splits.folds:
            return {}
        return deal(self.rows, splits.folds, seed=splits.seed, task=self.run.task)

    @property
    def folds(self) -> list[str]:
        """Names of the folds, and of their folders; none if one model is trained."""
        return [f"fold_{fold}" for fold in range(self.run.splits.folds)]

    def holding_out(self, slide: str) -> str | None:
        """The fold that holds out a slide; None if none does."""
        return f"fold_{self._parts[slide]}" if slide in self._parts else None

    @property
    def dealt(self) -> list[str]:
        """What the sheets of the folds say: if this stays, so do they."""
        return [f"{slide},{fold}" for slide, fold in sorted(self._parts.items())]

    def lacking(self) -> str:
        """What the splits of the sheet lack for one training, in words; empty if nothing.

        Raises:
            SheetError: if a class has fewer patients than there are folds, or no slide is of split
                `train`.
        """
        if self.run.splits.folds:
            _ = self._parts  # the deal sees to it that each fold has what it needs
            return ""
        of_split(self.rows, "train")
        known = self._known(None)
        train, val = ([t for row, t in known if row.split == name] for name in ("train", "val"))
        return self._truth.lacking(train, val)

    def slides(self, fold: str | None = None) -> list[str]:
        """Slides that training sees, of one fold or by the splits of the sheet."""
        return [row.slide for row, _ in self._known(fold)]

    def files(self, fold: str | None = None) -> list[str]:
        """Their files; none of a slide that lies behind a URL."""
        return [str(row.path) for row, _ in self._known(fold) if isinstance(row.path, Path)]

    def told(self, fold: str | None = None) -> list[str]:
        """What training takes from the sheet: if this stays, so does the model."""
        return [
            f"{row.slide},{row.path},{self._truth.told(target)},{row.split},{row.mpp}"
            for row, target in self._known(fold)
        ] + list(self._truth.names)

    @cached_property
    def _truth(self) -> Truth:
        return truth_of(self.run.task, self.rows)

    def _known(self, fold: str | None) -> list[tuple[SheetRow, Target]]:
        """Rows of the splits train and val, with what is known of them."""
        rows = list(self.rows)
        if fold is not None:
            rows = rows_of_fold(rows, self._parts, self.folds.index(fold), len(self.folds))
        found = [(row, self._truth.target(row)) for row in rows if row.split in ("train", "val")]
        return [(row, target) for row, target in found if target is not None]
