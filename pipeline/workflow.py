"""What the Snakefile needs to know of a cohort: checked before the first job."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from saccade.pipeline.config import ModelConfig, RunConfig
from saccade.pipeline.errors import ConfigError, SheetError
from saccade.pipeline.sheet import SheetRow, of_split, read_sheet
from saccade.pipeline.tasks.truth import Target, Truth, truth_of
from saccade.pipeline.yaml_config import load_config
from saccade.tiling.remote import Url


@dataclass(frozen=True, slots=True)
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
    def load(cls, settings: Mapping[str, Any]) -> Cohort:
        """Read the sheet and the run's settings that the workflow's config names.

        Raises:
            InputError: if either says something that cannot be, or a slide's file is missing.
        """
        run = load_config(Path(settings["run"]))
        rows = read_sheet(Path(settings["slides"]), run.task.targets)
        cohort = cls(tuple(rows), run, settings)
        cohort._check()
        return cohort

    def _check(self) -> None:
        self._refuse_secrets()
        places = [row.path for row in self.rows]
        lost = [str(p) for p in places if isinstance(p, Path) and not p.exists()]
        if lost:
            raise SheetError(
                f"{self.settings['slides']}: {len(lost)} of {len(self.rows)} slides are not where "
                f"the sheet says, the first is {lost[0]}."
            )
        if not self.settings["model"] and self.run.splits.folds:
            raise ConfigError(
                f"{self.settings['run']}: the workflow trains one model, by the splits of the "
                f"sheet; splits.folds is {self.run.splits.folds}, wanted 0. For one fold, give it "
                "the fold_<i>/slides.csv that `saccade split` writes; for all, `saccade train`."
            )
        if self.settings["mask"] and not self._model_config.has_masks:
            raise ConfigError(
                f"mask is {self.settings['mask']}, but the encoder has no attention modules. Set "
                "model.encoder: residual_attention or model.attention_module: mixed in "
                f"{self.settings['run']}, or leave mask at null."
            )
        if self.settings["mask"] and self._model_config.looks_within:
            raise ConfigError(
                f"mask is {self.settings['mask']}, but the encoder looks at a part of each tile, "
                "where a spatial transformer says, and its masks are of that part. Leave mask at "
                "null, or take a model with model.spatial_transformer: none."
            )
        if not self.settings["model"]:
            of_split(self.rows, "train")
            train, val = (
                [target for row, target in self._known if row.split == split]
                for split in ("train", "val")
            )
            if lacking := self._truth.lacking(train, val):
                raise SheetError(f"{self.settings['slides']}: {lacking}")

    @property
    def _model_config(self) -> ModelConfig:
        """The networks: of the model that is there already, or of the one to be trained."""
        from saccade.pipeline.model_file import read_card  # imports torch; few workflows ask

        given = self.settings["model"]
        return read_card(Path(given)).model if given else self.run.model

    def _refuse_secrets(self) -> None:
        """Snakemake writes the commands it calls into logs, the whole URL included."""
        for row in self.rows:
            if isinstance(row.path, Url) and row.path.text != str(row.path):
                raise SheetError(
                    f"{self.settings['slides']}: the URL of slide {row.slide} has a password or a "
                    f"part from '?' on, which would stand in the logs: {row.path}. Give the plain "
                    "URL, and the credentials to the environment or the protocol's own files."
                )

    @property
    def paths(self) -> dict[str, str]:
        """Each slide's file or URL."""
        return {row.slide: str(row.path) for row in self.rows}

    def files(self, slide: str) -> list[str]:
        """The files of a slide that Snakemake can look at: none of a URL."""
        return [
            str(row.path) for row in self.rows if row.slide == slide and isinstance(row.path, Path)
        ]

    @property
    def pattern(self) -> list[str]:
        """What the wildcard `slide` may be."""
        return [re.escape(row.slide) for row in self.rows]

    @property
    def trained(self) -> list[str]:
        """Slides that training sees."""
        return [row.slide for row, _ in self._known if row.split in ("train", "val")]

    @property
    def _truth(self) -> Truth:
        return truth_of(self.run.task, self.rows)

    @property
    def _known(self) -> list[tuple[SheetRow, Target]]:
        """Slides of which something is known, with what that is."""
        truth = self._truth
        found = [(row, truth.target(row)) for row in self.rows]
        return [(row, target) for row, target in found if target is not None]

    @property
    def training_rows(self) -> list[str]:
        """What training takes from the sheet: if this stays, so does the model."""
        truth = self._truth
        return [
            f"{row.slide},{row.path},{truth.told(target)},{row.split},{row.mpp}"
            for row, target in self._known
            if row.split in ("train", "val")
        ] + list(truth.names)

    @property
    def predicted(self) -> list[str]:
        """Slides that are predicted."""
        return [row.slide for row in of_split(self.rows, self._split)]

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
    def mask_flag(self) -> str:
        """For `saccade mask`."""
        if self.settings["mask"] == "all tissue":
            return "--all-tissue"
        return f"--seed {self.settings['seed']}"

    @property
    def _split(self) -> str | None:
        split: str = self.settings["predict"]
        return None if split == "all" else split

    @property
    def split_flag(self) -> str:
        """For `saccade evaluate`."""
        return f"--split {self._split}" if self._split else ""

    @property
    def stages(self) -> list[str]:
        """What is done, stage by stage; each is a rule and a folder of logs."""
        chosen = [key for key in ("saliency", "embed", "mask") if self.settings[key]]
        trained = [] if self.settings["model"] else ["train"]
        return [*trained, "pyramid", "predict", "export", *chosen]

    @property
    def stage_flags(self) -> str:
        """For `saccade evaluate`, once everything has ended."""
        return " ".join(f"--stage {stage}" for stage in self.stages)

    @property
    def model(self) -> str:
        """The model that predicts."""
        return self.settings["model"] or f"{self.settings['results']}/model/model.safetensors"

    @property
    def gpu(self) -> int:
        """GPUs that a job of a network asks for."""
        return int(self.settings["gpu"])

    def mpp_flag(self, slide: str) -> str:
        """For commands that open the slide."""
        (mpp,) = (row.mpp for row in self.rows if row.slide == slide)
        return "" if mpp is None else f"--mpp {mpp}"

    @staticmethod
    def folder(path: str) -> str:
        """The folder a file lies in."""
        return str(Path(path).parent)


def sheet_table(path: Path) -> pd.DataFrame:
    """The sample sheet as it stands, for a check against its schema: text, empty cells absent.

    pandas would otherwise make numbers of names such as 001, and nothing of a class called NA.
    """
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    stripped = cells.map(str.strip, na_action="ignore")
    return stripped.replace("", None).dropna(how="all")
