"""What torchrun is told, from what Slurm says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from saccade.pipeline import launch
from saccade.pipeline.errors import ConfigError, RanksError
from saccade.pipeline.launch import Machines, processes_here, train_together

STEP = {
    "SLURM_JOB_ID": "1234567",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NODELIST": "gpu[07,09]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
}


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `scontrol` that knows gpu07 by an address."""
    program = tmp_path / "scontrol"
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1 $2 $3" = "show hostnames gpu[07,09]" ]; then printf "gpu07\\ngpu09\\n"\n'
        'elif [ "$1 $2 $3 $4" = "--oneliner show node gpu07" ]; then\n'
        'echo "NodeName=gpu07 NodeAddr=10.0.0.7 NodeHostName=gpu07 Port=6818"\n'
        "else exit 1; fi\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.mark.usefixtures("scontrol")
def test_machines_meet_at_the_first_one() -> None:
    second = Machines.of_slurm(STEP)
    first = Machines.of_slurm({**STEP, "SLURM_NODEID": "0"})

    assert (first.number, second.number) == (0, 1)
    assert first.address == second.address == "10.0.0.7"
    assert first.port == second.port == 24567
    assert second.options(4) == [
        *("--nproc-per-node", "4", "--nnodes", "2", "--node-rank", "1"),
        *("--master-addr", "10.0.0.7", "--master-port", "24567"),
    ]


def test_what_is_set_wins_over_slurm() -> None:
    found = Machines.of_slurm({**STEP, "MASTER_ADDR": "ib7", "MASTER_PORT": "5"})
    assert (found.address, found.port) == ("ib7", 5)


@pytest.mark.parametrize("step", [{}, {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NUM_TASKS": "1"}])
def test_one_machine_is_alone(step: dict[str, str]) -> None:
    """Also within a job of several nodes, where nothing was started by srun on all of them."""
    alone = Machines.of_slurm({"SLURM_NNODES": "2", "SLURM_NTASKS": "2", **step})
    assert alone.options(3) == ["--nproc-per-node", "3", "--standalone"]


def test_several_processes_of_srun_on_a_machine_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"8 processes on 2 machines.*--ntasks-per-node 1"):
        Machines.of_slurm({**STEP, "SLURM_STEP_NUM_TASKS": "8"})


def test_a_slurm_that_says_nothing_asks_for_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RanksError, match="Set MASTER_ADDR"):
        Machines.of_slurm(STEP)


def test_as_many_processes_as_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes_here("auto", "cpu") == 1
    assert processes_here("3", "cpu") == 3
    monkeypatch.setattr(launch, "choose_device", lambda _: "cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert processes_here("auto", "auto") == 4
    for wanted in ("0", "-1", "all", "1.5"):
        with pytest.raises(ConfigError, match="a number from 1 on, or auto"):
            processes_here(wanted, "cpu")


def test_torchrun_within_torchrun_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave --processes out"):
        train_together(["train"], 2, {"WORLD_SIZE": "2"})


def test_a_machine_without_an_address_goes_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name alone, where Slurm's facts hold no address."""
    said = {"show": "gpu07\n", "--oneliner": "NodeName=gpu07\n"}
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda words, **_: subprocess.CompletedProcess(words, 0, said[words[1]]),
    )
    assert Machines.of_slurm(STEP).address == "gpu07"
