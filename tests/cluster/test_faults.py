"""The workflow on a cluster where everything goes wrong once gives what it gives elsewhere.

One run of a few minutes, told in order by `disturbed`; each test then holds it to one promise.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.desk import BROKEN, GOOD, Desk, make_desk, with_saccade
from tests.cluster.slurm import Job, Slurm, wait_for
from tests.cohort import TinyCohort

LIMIT_S = 600
HUNGER_MB = 1200  # more than the first attempt gets, less than the second
FAULTS = {
    "saliency.hungry": f"hungry {HUNGER_MB}",
    "export.cancelled": "slow",
    "export.slow": "slow",
    "saliency.stranded": "slow",
    "predict.held": "held",
}
NOT_COMPARED = ("record.json", ".record.json")  # they say how long it took


@dataclass(frozen=True)
class Disturbed:
    """A run that everything befell.

    Attributes:
        desk: with its results.
        slurm: the cluster it ran on.
        code: exit code of the Snakemake that was started last.
        said: all that it said.
        twins: jobs that predicted the slide `held` at the same time.
        cancelled: the job that was cancelled.
        slow: the job whose time ended.
        stranded: the job whose node went down.
    """

    desk: Desk
    slurm: Slurm
    code: int
    said: str
    twins: list[Job]
    cancelled: Job
    slow: Job
    stranded: Job


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort) -> Desk:
    """The same slides on one machine."""
    folder = tmp_path_factory.mktemp("undisturbed") / "desk"
    desk = make_desk(folder, cohort, "default", with_saccade(os.environ))
    ended = desk.run()
    assert ended.returncode == 1, ended.stdout
    return desk


@pytest.fixture(scope="module")
def disturbed(
    tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort, slurm: Slurm
) -> Disturbed:
    folder = tmp_path_factory.mktemp("disturbed")
    faults = folder / "faults"
    desk = make_desk(folder / "desk", cohort, "slurm-test", with_faults(slurm, faults))

    # The main process is killed while a job of it stands still in the middle of its work.
    with desk.started(folder / "first.log", "--until", "predict"):  # killed at the end of the block
        wait_for("the job that stands still", (faults / "stands").exists, limit_s=LIMIT_S)
    unlocked = desk.run("--unlock")
    assert unlocked.returncode == 0, unlocked.stdout

    # Started again: a twin of that job begins, and waits for it.
    with desk.started(folder / "second.log") as second:
        log = desk.results / "logs" / "predict" / "held.log"
        wait_for("its twin", lambda: "another process is" in said(log), limit_s=LIMIT_S)
        twins = slurm.running("rule_predict_wildcards_held")
        (faults / "go").touch()
        cancelled = met(slurm, faults, "export.cancelled")
        slurm.ask("scancel", cancelled.number)
        slow = met(slurm, faults, "export.slow")
        slurm.ask("scontrol", "update", f"jobid={slow.number}", "TimeLimit=1")  # Slurm's shortest
        wait_for("the end of its time", lambda: ends(slurm)[slow.number], limit_s=LIMIT_S)
        stranded = met(slurm, faults, "saliency.stranded")
        slurm.ask("scontrol", "update", f"nodename={stranded.node}", "state=down", "reason=test")
        code = second.wait(LIMIT_S)
    return Disturbed(
        desk, slurm, code, said(folder / "second.log"), twins, cancelled, slow, stranded
    )


def with_faults(slurm: Slurm, faults: Path) -> dict[str, str]:
    """An environment in which `saccade` is one that things befall."""
    faults.mkdir()
    for name, fault in FAULTS.items():
        (faults / name).write_text(fault + "\n")
    script = faults / "bin" / "saccade"
    script.parent.mkdir()
    shutil.copy(Path(__file__).with_name("saccade-with-faults.sh"), script)
    path = os.pathsep.join([str(script.parent), slurm.environment["PATH"]])
    real = {"FAULTS": str(faults), "SACCADE": str(Path(sys.executable).with_name("saccade"))}
    return with_saccade({**slurm.environment, **real, "PATH": path})


def met(slurm: Slurm, faults: Path, fault: str) -> Job:
    """The job that a fault has befallen, once it has."""
    wait_for(fault, (faults / f"{fault}.met").exists, limit_s=LIMIT_S)
    (job,) = slurm.running("rule_{}_wildcards_{}".format(*fault.split(".")))
    return job


def said(log: Path) -> str:
    """What a log holds: nothing before it is there. Snakemake deletes it when a job begins."""
    try:
        return log.read_text()
    except FileNotFoundError:
        return ""


def ends(slurm: Slurm) -> Mapping[str, list[str]]:
    """How each job has ended so far, by its number; one that was requeued more than once."""
    found: dict[str, list[str]] = defaultdict(list)
    for job in slurm.ended():
        found[job["JobId"]].append(job["JobState"])
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a slide, by its place in the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith((*NOT_COMPARED, ".lock"))
    }


@pytest.mark.parametrize("slide", GOOD)
def test_every_good_slide_is_complete_and_the_same(
    disturbed: Disturbed, undisturbed: Desk, slide: str
) -> None:
    here, there = (files(desk.results / slide) for desk in (disturbed.desk, undisturbed))

    assert {"prediction.json", "saliency.geojson", "qupath/attention.geojson"} <= set(here)
    assert set(here) == set(there)
    assert [name for name in here if here[name] != there[name]] == []


def test_the_model_is_the_same(disturbed: Disturbed, undisturbed: Desk) -> None:
    here, there = (files(desk.results / "model") for desk in (disturbed.desk, undisturbed))
    assert here["model.safetensors"] == there["model.safetensors"]


def test_the_broken_slide_is_named_and_the_exit_code_says_so(
    disturbed: Disturbed, undisturbed: Desk
) -> None:
    assert disturbed.code == 1
    for desk in (disturbed.desk, undisturbed):
        with (desk.results / "failures.csv").open(newline="") as table:
            failures = [(row["slide"], row["stage"]) for row in csv.DictReader(table)]
        assert failures == [(BROKEN, "pyramid")]


def test_nothing_is_left_in_the_queue_or_half_written(disturbed: Disturbed) -> None:
    assert disturbed.slurm.queue() == []
    assert list(disturbed.desk.folder.rglob("*.partial.*")) == []
    assert list(disturbed.desk.results.rglob("*.work")) == []


def test_everything_befell_it(disturbed: Disturbed) -> None:
    ended = ends(disturbed.slurm)

    assert ended[disturbed.cancelled.number] == ["CANCELLED"]
    assert ended[disturbed.slow.number] == ["TIMEOUT"]
    assert ended[disturbed.stranded.number] == ["NODE_FAIL", "COMPLETED"]
    logs = disturbed.desk.folder / ".snakemake" / "slurm_logs" / "rule_saliency" / "hungry"
    (hungry,) = (path for path in logs.iterdir() if "exceeded memory limit" in path.read_text())
    assert ended[hungry.stem] == ["FAILED"]


@pytest.mark.parametrize(("job", "asked"), [("saliency", "mem_mb=2000"), ("export", "runtime=20")])
def test_the_second_attempt_asks_for_more(disturbed: Disturbed, job: str, asked: str) -> None:
    described = re.findall(rf"^rule {job}:.*?resources: (.*?)$", disturbed.said, re.M | re.S)
    assert any(asked in resources for resources in described), described


def test_the_second_of_two_writers_waited_and_found_it_done(disturbed: Disturbed) -> None:
    first, second = disturbed.twins
    ended = ends(disturbed.slurm)
    log = disturbed.desk.results / "logs" / "predict" / "held.log"

    assert ended[first.number] == ended[second.number] == ["COMPLETED"]
    assert re.search(r"waiting until it has ended.*results/held is up to date", said(log), re.S)
