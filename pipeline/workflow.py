"""What the Snakefile needs to know of a cohort: checked before the first job."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from saccade.pipeline.config import RunConfig
from saccade.pipeline.errors import SheetError
from saccade.pipeline.job_costs import COSTS, gpus_here
from saccade.pipeline.sheet import RESERVED, SheetRow, of_split, read_sheet
from saccade.pipeline.splits import OVERVIEW
from saccade.pipeline.training_job import TrainingJob
from saccade.pipeline.training_plan import TrainingPlan
from saccade.pipeline.workflow_checks import refuse_what_cannot_be
from saccade.pipeline.yaml_config import load_config

SLIDE = rf"(?!(?:{'|'.join(RESERVED)})/)[A-Za-z0-9][A-Za-z0-9._-]*"
"""The wildcard `slide`: what the sheet takes for a name; a list of all names would be slow."""


@dataclass(frozen=True)
class Cohort:
    """The slides of a workflow, and what is done with each.

    Attributes:
        rows: of the sample sheet.
        run: settings of pyramid, view, tiles, model and training.
        settings: the workflow's own config, checked and with its defaults.
    """

    rows: tuple[SheetRow, ...]
    run: RunConfig
    settings: Mapping[str, Any]

    @classmethod
    def load(cls, settings: Mapping[str, Any], *, check: bool = True) -> Cohort:
        """Read the sheet and the run's settings that the workflow's config names.

        Args:
            settings: the workflow's config.
            check: whether what they say can be done, and all slides are there.

        Raises:
            InputError: if either says something that cannot be, or a slide's file is missing.
        """
        run = load_config(Path(settings["run"]))
        rows = read_sheet(Path(settings["slides"]), run.task.targets)
        cohort = cls(tuple(rows), run, settings)
        if check:
            refuse_what_cannot_be(rows, run, settings, cohort.training)
            cohort.training_job  # noqa: B018 - refuses what cannot be
        return cohort

    @cached_property
    def _by_name(self) -> dict[str, SheetRow]:
        return {row.slide: row for row in self.rows}

    def _row(self, slide: str) -> SheetRow:
        if slide not in self._by_name:
            raise SheetError(
                f"{self.settings['slides']}: there is no slide {slide}; wanted one of its "
                f"{len(self.rows)} slides."
            )
        return self._by_name[slide]

    def path(self, slide: str) -> str:
        """The slide's file or URL."""
        return str(self._row(slide).path)

    def files(self, slide: str) -> list[str]:
        """The files of a slide that Snakemake can look at: none of a URL."""
        path = self._row(slide).path
        return [str(path)] if isinstance(path, Path) else []

    @cached_property
    def training(self) -> TrainingPlan | None:
        """What is trained on; None if the model is there already."""
        return None if self.settings["model"] else TrainingPlan(self.rows, self.run)

    @property
    def folds(self) -> list[str]:
        """Names of the folds that are trained; none if one model is, or is there already."""
        return self.training.folds if self.training else []

    @property
    def overview(self) -> str:
        """Where it stands which fold holds out which slide."""
        return f"{self.settings['results']}/model/{OVERVIEW}"

    @cached_property
    def predicted(self) -> list[str]:
        """Slides that are predicted: with folds, those that one of them holds out."""
        rows = of_split(self.rows, self._split)
        return [row.slide for row in rows if not self.folds or self._fold(row.slide)]

    def _fold(self, slide: str) -> str | None:
        """The fold that holds it out."""
        return self.training.holding_out(slide) if self.training else None

    @property
    def with_saliency(self) -> list[str]:
        """Slides whose saliency is found: those that are predicted, if there is a model for it."""
        return self.predicted if self.settings["saliency"] else []

    @property
    def embedded(self) -> list[str]:
        """Slides whose tiles become features: all, since whoever learns from features needs all."""
        return [row.slide for row in self.rows] if self.settings["embed"] else []

    @property
    def embed_files(self) -> list[str]:
        """Files that embedding reads beside the slide."""
        return [
            self.settings["embed"][key]
            for key in ("model", "weights", "sampler")
            if key in self.settings["embed"]
        ]

    @property
    def embed_flags(self) -> str:
        """Options of `saccade embed`, for the shell."""
        words = []
        for key, value in self.settings["embed"].items():
            for each in value if isinstance(value, list) else [value]:
                words += [f"--{key.replace('_', '-')}", str(each)]
        return shlex.join(words)

    @property
    def with_masks(self) -> list[str]:
        """Slides whose masks are made: those that are predicted, if they are asked for."""
        return self.predicted if self.settings["mask"] else []

    @property
    def segmented(self) -> list[str]:
        """Slides that are segmented: those that are predicted, if there is a model for it."""
        return self.predicted if self.settings["segment"] else []

    @property
    def with_evidence(self) -> list[str]:
        """Slides that the model over features judges: all that have features."""
        return self.embedded if self.settings.get("evidence") else []

    @property
    def mask_flag(self) -> str:
        """For `saccade mask`."""
        if self.settings["mask"] == "all tissue":
            return "--all-tissue"
        return f"--seed {self.settings['seed']}"

    @property
    def with_objects(self) -> list[str]:
        """Slides whose objects are found: those that are predicted, if there is a detector."""
        return self.predicted if self.settings["detect"] else []

    @property
    def _split(self) -> str | None:
        split: str = self.settings["predict"]
        return None if split == "all" else split

    @property
    def which_flag(self) -> str:
        """For `saccade evaluate`: which slides count."""
        if self.folds:
            return f"--folds {shlex.quote(self.overview)}"
        return f"--split {self._split}" if self._split else ""

    @property
    def stages(self) -> list[str]:
        """What is done, stage by stage; each is a rule and a folder of logs."""
        kinds = "saliency", "embed", "mask", "segment", "evidence", "detect"
        chosen = [key for key in kinds if self.settings[key]]
        trained = [] if self.settings["model"] else ["train"]
        if self.folds:
            trained = [f"train/{fold}" for fold in self.folds]
        return [*trained, "pyramid", "predict", "export", *chosen]

    @property
    def stage_flags(self) -> str:
        """For `saccade evaluate`, once everything has ended."""
        return " ".join(f"--stage {stage}" for stage in self.stages)

    def model(self, slide: str) -> str:
        """The model that predicts a slide."""
        if self.settings["model"]:
            return str(self.settings["model"])
        folder = Path(self.settings["results"]) / "model" / (self._fold(slide) or "")
        return str(folder / "model.safetensors")

    @property
    def gpu(self) -> int:
        """GPUs that a job of a network asks for."""
        wanted = self.settings["gpu"]
        if wanted == "auto":
            return 0 if self.settings["device"] == "cpu" else min(1, gpus_here())
        return int(wanted)

    @cached_property
    def training_job(self) -> TrainingJob:
        """On how many nodes and GPUs a model is trained."""
        return TrainingJob.of(self.settings, self.gpu)

    def mem_mb(self, rule: str) -> Callable[..., int]:
        """Memory of a job on each of its nodes, for `resources`."""
        processes = self.training_job.processes if rule == "train" else 1

        def mem_mb(wildcards: Any, attempt: int) -> int:
            return processes * COSTS[rule].mem_mb(self._megabytes(wildcards), attempt)

        return mem_mb

    def runtime(self, rule: str) -> Callable[..., int]:
        """Minutes after which a job may be ended, for `resources`."""

        def runtime(wildcards: Any, attempt: int) -> int:
            return COSTS[rule].runtime(self._megabytes(wildcards), attempt)

        return runtime

    def _megabytes(self, wildcards: Any) -> float:
        """Size of what a job works on: a slide, or all that training sees; nothing of URLs."""
        if hasattr(wildcards, "slide"):
            files = self.files(wildcards.slide)
        else:
            files = self.training.files(getattr(wildcards, "fold", None)) if self.training else []
        return sum(Path(file).stat().st_size for file in files) / 1e6

    def mpp_flag(self, slide: str) -> str:
        """For commands that open the slide."""
        mpp = self._row(slide).mpp
        return "" if mpp is None else f"--mpp {mpp}"

    @staticmethod
    def folder(path: str, up: int = 1) -> str:
        """The folder a file lies in, or one so many further up."""
        return str(Path(path).parents[up - 1])


def sheet_table(path: Path) -> pd.DataFrame:
    """The sample sheet as it stands, for a check against its schema: text, empty cells absent.

    pandas would otherwise make numbers of names such as 001, and nothing of a class called NA.
    """
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    stripped = cells.map(str.strip, na_action="ignore")
    return stripped.replace("", None).dropna(how="all")
