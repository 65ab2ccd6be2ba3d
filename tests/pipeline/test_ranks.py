"""Processes that train together, with real messages over gloo on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from saccade.pipeline.config import RunConfig
from saccade.pipeline.errors import ConfigError
from saccade.pipeline.ranks import Ranks, ranks_of_torchrun
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.train import train
from saccade.pipeline.yaml_config import config_dict
from tests.cohort import TinyCohort, damage_level_0, with_training, write_sheet
from tests.slides import tissue_like, write_pyramid_tiff

ROOT = Path(__file__).parents[2]
LIMIT = 240


def torchrun(
    config: RunConfig, rows: Sequence[SheetRow], out: Path, *, pyramids: Path, script: str = ""
) -> subprocess.CompletedProcess[str]:
    """Train in two processes; `script` runs in each of them beforehand."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "run.yaml").write_text(yaml.safe_dump(config_dict(config)))
    sheet = write_sheet(out / "slides.csv", tuple(rows))
    (out / "go.py").write_text(
        f"import os, signal\n{script}\nfrom saccade.cli.main import app\napp()"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += ["2", str(out / "go.py"), "train", str(out / "run.yaml"), "--slides", str(sheet)]
    command += ["--out", str(out / "run"), "--pyramids", str(pyramids), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT
    )


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-7, atol=1e-7, msg=name)


DOUBLE = "import torch; torch.set_default_dtype(torch.float64)"


@pytest.mark.parametrize(("batch", "accumulate", "ahead"), [(1, 1, 0), (1, 2, 0), (3, 1, 1)])
def test_two_processes_are_one_with_twice_the_batch(
    cohort: TinyCohort, pyramids: Path, tmp_path: Path, batch: int, accumulate: int, ahead: int
) -> None:
    common = with_training(accumulate=accumulate, read_ahead=ahead, epochs=2)
    two = replace(common, training=replace(common.training, batch=batch))
    one = replace(common, training=replace(common.training, batch=2 * batch))
    rows = [row for row in cohort.rows if row.split != "test"]
    if batch == 3:  # steps of six and of one, in which a process has nothing
        rows = [replace(row, split="train") for row in cohort.rows[:7]]

    # Double, as AdamW makes whole steps of a gradient that is nothing but rounding: that of a bias
    # which the softmax does not see.
    done = torchrun(two, rows, tmp_path, pyramids=pyramids, script=DOUBLE)
    assert done.returncode == 0, done.stderr
    torch.set_default_dtype(torch.float64)
    try:
        train(one, rows, tmp_path / "one", pyramids=pyramids)
    finally:
        torch.set_default_dtype(torch.float32)

    assert_same_weights(tmp_path / "run/last.safetensors", tmp_path / "one/last.safetensors")
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("run", "one")
    )
    for our, their in zip(ours, theirs, strict=True):
        assert our["train"] == pytest.approx(their["train"], rel=1e-6)
        assert our["val"].get("loss", 0) == pytest.approx(their["val"].get("loss", 0), rel=1e-6)
    assert done.stderr.count("epoch   1/2") == 1  # one of them speaks


def test_an_unreadable_slide_of_one_process_holds_nobody_up(
    tmp_path: Path, cohort: TinyCohort, pyramids: Path
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

    done = torchrun(with_training(batch=1), rows, tmp_path / "two", pyramids=tmp_path / "fresh")

    assert done.returncode == 1
    last = json.loads((tmp_path / "two/run/metrics.jsonl").read_text().splitlines()[-1])
    assert last["train"]["tiles_read"] == 16
    for name in ("bad", "worse", "torn"):
        assert f"  {name} " in done.stderr
    assert not list((tmp_path / "fresh").glob("**/*partial*"))


KILLED = """
import torch
steps, step = [], torch.optim.AdamW.step
def killed(*arguments, **rest):
    steps.append(1)
    if len(steps) == 4 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*arguments, **rest)
torch.optim.AdamW.step = killed
"""


def test_a_process_that_dies_ends_all_and_the_same_command_goes_on(
    cohort: TinyCohort, pyramids: Path, tmp_path: Path
) -> None:
    """Two steps an epoch: it dies in the middle of the second."""
    config = with_training(batch=1, epochs=3)
    rows = [row for row in cohort.rows if row.split != "test"]
    whole = torchrun(config, rows, tmp_path / "whole", pyramids=pyramids)
    assert whole.returncode == 0, whole.stderr

    died = torchrun(config, rows, tmp_path / "cut", pyramids=pyramids, script=KILLED)
    assert died.returncode != 0
    assert "SIGKILL" in died.stderr or "process 0 of 2 lost another one" in died.stderr
    assert not (tmp_path / "cut/run/record.json").exists()
    again = torchrun(config, rows, tmp_path / "cut", pyramids=pyramids)

    assert again.returncode == 0, again.stderr
    assert "epoch   2/3" in again.stderr
    assert "epoch   1/3" not in again.stderr
    for name in ("model.safetensors", "last.safetensors", "metrics.jsonl"):
        paths = (tmp_path / folder / "run" / name for folder in ("whole", "cut"))
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
    Ranks().require_one("train folds")
    with pytest.raises(ConfigError, match="--fold of its own"):
        Ranks(0, 2).require_one("train folds")
