"""`saccade train`, killed in the middle of an epoch, goes on as if nothing had been."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from saccade.pipeline.config import RunConfig
from saccade.pipeline.yaml_config import config_dict
from tests.cohort import TinyCohort, with_training

ROOT = Path(__file__).parents[2]

COMMAND = """
import os, signal, sys
import torch
torch.set_num_threads(1)
last = int(sys.argv.pop(1))
steps, step = [], torch.optim.AdamW.step
def killed(*arguments, **rest):
    steps.append(1)
    if len(steps) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments, **rest)
torch.optim.AdamW.step = killed
from saccade.cli.main import app
app()
"""


def command(
    config: RunConfig, cohort: TinyCohort, pyramids: Path, out: Path, killed_at: int = 0
) -> subprocess.CompletedProcess[str]:
    """Train by the command line; kill -9 before that step, of which an epoch has two."""
    settings = out.parent / "run.yaml"
    settings.write_text(yaml.safe_dump(config_dict(config)))
    words = ["train", str(settings), "--slides", str(cohort.sheet), "--out", str(out)]
    words += ["--pyramids", str(pyramids), "--device", "cpu"]
    return subprocess.run(
        [sys.executable, "-c", COMMAND, str(killed_at), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(("ahead", "accumulate"), [(0, 1), (1, 1), (0, 2), (1, 2)])
def test_killed_in_the_middle_of_an_epoch(
    cohort: TinyCohort, pyramids: Path, tmp_path: Path, ahead: int, accumulate: int
) -> None:
    config = with_training(epochs=3, batch=2 // accumulate, read_ahead=ahead, accumulate=accumulate)
    whole = command(config, cohort, pyramids, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    killed = command(config, cohort, pyramids, tmp_path / "cut", killed_at=4)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "cut/record.json").exists()

    again = command(config, cohort, pyramids, tmp_path / "cut")

    assert again.returncode == 0, again.stderr
    assert "epoch   1/3" not in again.stderr
    for name in ("model.safetensors", "last.safetensors", "metrics.jsonl"):
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "cut"))
        assert one == other, name


def test_more_batches_a_step_are_another_run(
    cohort: TinyCohort, pyramids: Path, tmp_path: Path
) -> None:
    config = with_training(epochs=1)
    assert command(config, cohort, pyramids, tmp_path / "run").returncode == 0
    other = replace(config, training=replace(config.training, accumulate=2))
    refused = command(other, cohort, pyramids, tmp_path / "run")
    assert refused.returncode == 1
    assert "other settings" in refused.stderr
