"""Processes that train together, with real messages over gloo on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from saccade.pipeline import cohort as cohorts
from saccade.pipeline.config import RunConfig
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.ranks import Ranks, ranks_of_torchrun
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.yaml_config import config_dict
from saccade.tiling.errors import SlideError
from tests.cohort import TinyCohort, damage_level_0, with_training, write_sheet
from tests.processes import LIMIT_S, Ended, in_double, kill_at, saccade
from tests.slides import tissue_like, write_pyramid_tiff

ROOT = Path(__file__).parents[2]


def words_of(
    config: RunConfig, rows: Sequence[SheetRow], out: Path, pyramids: Path
) -> list[str | Path]:
    """A command that trains into `out`."""
    settings = out.with_name(f"{out.name}.yaml")
    settings.write_text(yaml.safe_dump(config_dict(config)))
    sheet = write_sheet(out.with_name(f"{out.name}.csv"), tuple(rows))
    words = ["train", settings, "--slides", sheet, "--out", out]
    return [*words, "--pyramids", pyramids, "--device", "cpu"]


def fit(
    config: RunConfig,
    rows: Sequence[SheetRow],
    out: Path,
    *,
    pyramids: Path,
    count: int = 2,
    before: Callable[[], None] = int,
) -> list[Ended]:
    return saccade(
        words_of(config, rows, out, pyramids), out.parent / "log", count=count, before=before
    )


def assert_same_weights(one: Path, other: Path, tolerance: float = 1e-7) -> None:
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize(
    ("batch", "accumulate", "ahead", "precision", "tolerance"),
    [(1, 2, 0, in_double, 1e-7), (3, 1, 1, in_double, 1e-7), (1, 1, 0, int, 1e-5)],
)
def test_two_processes_are_one_with_twice_the_batch(
    cohort: TinyCohort,
    pyramids: Path,
    tmp_path: Path,
    batch: int,
    accumulate: int,
    ahead: int,
    precision: Callable[[], None],
    tolerance: float,
) -> None:
    common = with_training(accumulate=accumulate, read_ahead=ahead, epochs=2)
    two = replace(common, training=replace(common.training, batch=batch))
    one = replace(common, training=replace(common.training, batch=2 * batch))
    rows = [row for row in cohort.rows if row.split != "test"]
    if batch == 3:  # steps of six and of one, in which a process has nothing
        rows = [replace(row, split="train") for row in cohort.rows[:7]]

    first, second = fit(two, rows, tmp_path / "two", pyramids=pyramids, before=precision)
    (alone,) = fit(one, rows, tmp_path / "one", pyramids=pyramids, before=precision, count=1)
    assert [first.code, second.code, alone.code] == [0, 0, 0], first.said + second.said

    paths = tmp_path / "two/last.safetensors", tmp_path / "one/last.safetensors"
    assert_same_weights(*paths, tolerance)
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("two", "one")
    )
    for our, their in zip(ours, theirs, strict=True):
        near = 10 * tolerance
        assert our["train"] == pytest.approx(their["train"], rel=near)
        assert our["val"].get("loss", 0) == pytest.approx(their["val"].get("loss", 0), rel=near)
    assert "epoch   1/2" in first.said
    assert second.said == ""  # one of them speaks


@pytest.mark.slow
def test_one_command_starts_them_by_torchrun(
    cohort: TinyCohort, pyramids: Path, tmp_path: Path
) -> None:
    """And ends as one process does where a slide is torn: all is written, and the code is 1."""
    rows = [row for row in cohort.rows if row.split != "test"]
    torn = tmp_path / "torn.tiff"
    torn.write_bytes(b"II*\x00")
    rows.append(SheetRow("torn", torn, "b", "torn", "train"))
    config = with_training(batch=1)
    wanted = fit(config, rows, tmp_path / "wanted", pyramids=pyramids)
    words = words_of(config, rows, tmp_path / "run", pyramids)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "saccade.cli", *map(str, words), "--processes", "2"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )

    assert done.returncode == 1, done.stderr
    assert [each.code for each in wanted] == [1, 0]
    assert done.stderr.count("epoch   1/2") == 1
    assert "  torn " in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "run/record.json").read_text())["inputs"]["processes"] == 2
    assert_same_weights(tmp_path / "run/last.safetensors", tmp_path / "wanted/last.safetensors")


def test_an_unreadable_slide_of_one_process_holds_nobody_up(
    tmp_path: Path, cohort: TinyCohort
) -> None:
    """Of training and of validation; and pyramids that are not there are built once."""
    rows = [row for row in cohort.rows if row.split != "test"]
    for name, split in (("bad", "train"), ("worse", "val")):
        path = write_pyramid_tiff(tmp_path / f"{name}.tiff", tissue_like(1024, 1024))
        damage_level_0(path)
        rows.append(SheetRow(name, path, "a", name, split))
    torn = tmp_path / "torn.tiff"
    torn.write_bytes(b"II*\x00")
    rows.append(SheetRow("torn", torn, "b", "torn", "train"))

    ended = fit(with_training(batch=1), rows, tmp_path / "run", pyramids=tmp_path / "fresh")

    assert [each.code for each in ended] == [1, 0]  # the one that writes says it
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert last["train"]["slides"] == 4
    for name in ("bad", "worse", "torn"):
        assert f"  {name} " in ended[0].said
    assert not list((tmp_path / "fresh").glob("**/*partial*"))


def unseen_by_the_second(name: str) -> None:
    """Let a slide be out of reach for the second process alone."""
    load = cohorts._load

    def loaded(row: SheetRow, *rest: Any) -> Any:
        if row.slide == name and os.environ["RANK"] == "1":
            raise SlideError(f"{name}: the network is down")
        return load(row, *rest)

    cohorts._load = loaded


def test_a_slide_that_one_process_cannot_open_is_left_out_by_all(
    cohort: TinyCohort, pyramids: Path, tmp_path: Path
) -> None:
    """Otherwise the processes would deal out different cohorts and wait for each other forever."""
    rows = [row for row in cohort.rows if row.split != "test"]
    before = partial(unseen_by_the_second, "s0")  # which is the share of the first
    ended = fit(with_training(batch=1), rows, tmp_path / "run", pyramids=pyramids, before=before)

    assert [each.code for each in ended] == [1, 0], ended
    assert "the network is down" in ended[0].said
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert last["train"]["slides"] == 3


def test_a_process_that_dies_ends_all_and_the_same_command_goes_on(
    cohort: TinyCohort, pyramids: Path, tmp_path: Path
) -> None:
    """Two steps an epoch: it dies in the middle of the second."""
    config = with_training(batch=1, checkpoint_steps=1)
    rows = [row for row in cohort.rows if row.split != "test"]
    whole = fit(config, rows, tmp_path / "whole", pyramids=pyramids)
    assert [each.code for each in whole] == [0, 0], whole

    dies = partial(kill_at, 4, rank=1)
    left, dead = fit(config, rows, tmp_path / "cut", pyramids=pyramids, before=dies)
    assert (left.code, dead.code) == (1, -signal.SIGKILL)
    assert "process 0 of 2 lost another one" in left.said
    assert not (tmp_path / "cut/record.json").exists()
    state = torch.load(tmp_path / "cut/checkpoint.pt", weights_only=True)["state"]
    assert (state["epoch"], state["under_way"]["steps"]) == (1, 1)
    again = fit(config, rows, tmp_path / "cut", pyramids=pyramids)

    assert [each.code for each in again] == [0, 0], again
    assert "epoch   1/2" not in again[0].said
    for name in ("model.safetensors", "last.safetensors", "metrics.jsonl"):
        paths = (tmp_path / folder / name for folder in ("whole", "cut"))
        assert len({path.read_bytes() for path in paths}) == 1, name


def test_shares_are_even_and_leave_nothing_out() -> None:
    for count in (1, 2, 3, 5):
        shares = [list(Ranks(rank, count).share(range(7))) for rank in range(count)]
        assert sorted(item for share in shares for item in share) == list(range(7))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert Ranks(1, 2).share([0]) == []


def test_one_process_sends_nothing() -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    assert Ranks().joined_rows(rows, 2) is rows
    assert Ranks().merged({"a": "torn"}) == {"a": "torn"}
    parameter = nn.Parameter(torch.ones(1))
    Ranks().add_gradients([parameter])
    assert parameter.grad is None


def test_processes_that_were_to_share_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match="--device cuda"), ranks_of_torchrun("cuda:1"):
        pass
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("saccade.pipeline.ranks.choose_device", lambda _: "cuda")
    with pytest.raises(ConfigError, match="found 1"), ranks_of_torchrun("auto"):
        pass


def test_folds_are_not_trained_by_several_processes() -> None:
    Ranks().require_one("train folds", instead="take --fold")
    with pytest.raises(
        ConfigError, match=r"cannot train folds together\. Leave .* out, and take --fold"
    ):
        Ranks(0, 2).require_one("train folds", instead="take --fold")
