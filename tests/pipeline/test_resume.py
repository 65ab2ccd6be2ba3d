"""`saccade train`, killed in the middle of an epoch, goes on as if nothing had been."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from saccade.pipeline.config import RunConfig
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.yaml_config import config_dict
from tests.cohort import TinyCohort, damage_level_0, with_training, write_sheet
from tests.processes import Ended, drop_features, kill_at, saccade
from tests.slides import tissue_like, write_pyramid_tiff

OUTPUTS = ("model.safetensors", "last.safetensors", "metrics.jsonl")


def killed_and_dropping(step: int) -> None:
    drop_features()
    kill_at(step)


class Command:
    """`saccade train` on six training slides, one of which cannot be read, and two to validate."""

    def __init__(self, folder: Path, cohort: TinyCohort, pyramids: Path) -> None:
        bad = write_pyramid_tiff(folder / "bad.tiff", tissue_like(1024, 1024))
        damage_level_0(bad)
        rows = [*cohort.rows[:6], SheetRow("bad", bad, "a", "bad", "train")]
        rows[4] = replace(rows[4], split="train")
        self.folder, self.sheet = folder, write_sheet(folder / "slides.csv", rows)
        self.pyramids = pyramids

    def __call__(
        self, config: RunConfig, out: str, before: Callable[[], None] = drop_features
    ) -> Ended:
        settings = self.folder / "run.yaml"
        settings.write_text(yaml.safe_dump(config_dict(config)))
        words = ["train", settings, "--slides", self.sheet, "--out", self.folder / out]
        words += ["--pyramids", self.pyramids, "--device", "cpu"]
        (ended,) = saccade(words, self.folder / "log", before=before)
        return ended


@pytest.fixture
def command(tmp_path: Path, cohort: TinyCohort, pyramids: Path) -> Command:
    return Command(tmp_path, cohort, pyramids)


def checkpointed(folder: Path) -> tuple[int, int]:
    """Epochs, and steps of the next one, after which a run goes on."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)["state"]
    return state["epoch"], state["under_way"]["steps"]


# Epochs of six steps, of which the unreadable slide makes none, or of three.
@pytest.mark.parametrize(
    ("ahead", "accumulate", "every", "killed_before", "goes_on_at"),
    [(0, 1, 1, 3, (0, 2)), (1, 1, 2, 8, (1, 2)), (1, 2, 2, 6, (1, 2))],
)
def test_killed_in_the_middle_of_an_epoch(
    command: Command,
    tmp_path: Path,
    ahead: int,
    accumulate: int,
    every: int,
    killed_before: int,
    goes_on_at: tuple[int, int],
) -> None:
    config = with_training(batch=1, accumulate=accumulate, read_ahead=ahead, checkpoint_steps=every)
    assert "bad" in command(config, "whole").said

    killed = command(config, "cut", partial(killed_and_dropping, killed_before))
    assert killed.code == -signal.SIGKILL, killed.said
    assert checkpointed(tmp_path / "cut") == goes_on_at
    assert not (tmp_path / "cut/record.json").exists()
    again = command(config, "cut")

    assert "bad" in again.said
    assert ("epoch   1/2" in again.said) == (goes_on_at[0] == 0)
    for name in OUTPUTS:
        one, other = ((tmp_path / out / name).read_bytes() for out in ("whole", "cut"))
        assert one == other, name
