"""One training over two nodes, and one slide over two jobs: what one process makes, both times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.cluster.desk import TRAINED, make_desk, with_saccade
from tests.cluster.slurm import Slurm
from tests.cohort import TinyCohort, with_training
from tests.pipeline.test_dask_crew import files_in
from tests.pipeline.test_ranks import assert_same_weights, words_of
from tests.slides import tissue_like, write_pyramid_tiff

ROOT = Path(__file__).parents[2]
ON_TWO_NODES = (
    *("srun", "--partition", "cpu", "--nodes", "2", "--ntasks", "2", "--ntasks-per-node", "1"),
    *("--mem", "2000", "--kill-on-bad-exit=1"),
)


def saccade(
    words: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    before: Sequence[str] = (),
    code: int = 0,
) -> str:
    """Run `saccade WORDS`; what it says."""
    done = subprocess.run(
        [*before, sys.executable, "-m", "saccade.cli", *map(str, words)],
        cwd=ROOT,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    return done.stderr


def test_two_nodes_train_as_one_process_with_twice_the_batch(
    slurm: Slurm, cohort: TinyCohort, tmp_path: Path
) -> None:
    """In single precision, to 1e-5; a torn slide makes the exit code 1 and no other harm."""
    rows = [row for row in cohort.rows if row.split != "test"]
    torn = tmp_path / "torn.tiff"
    torn.write_bytes(b"II*\x00")
    rows.append(replace(rows[0], slide="torn", path=torn, patient="torn"))
    one, two = with_training(batch=2), with_training(batch=1)
    pyramids = tmp_path / "pyramids"
    saccade(words_of(one, rows, tmp_path / "one", pyramids), slurm.environment, code=1)
    words = [*words_of(two, rows, tmp_path / "two", pyramids), "--processes", "1"]
    said = saccade(words, slurm.environment, before=ON_TWO_NODES, code=1)

    assert said.count("epoch   1/2") == 1
    assert "  torn " in said
    assert json.loads((tmp_path / "two/record.json").read_text())["inputs"]["processes"] == 2
    for name in ("model", "last"):
        ours, theirs = (tmp_path / run / f"{name}.safetensors" for run in ("two", "one"))
        assert_same_weights(ours, theirs, 1e-5)


def test_a_workflow_trains_over_two_nodes_if_told(
    slurm: Slurm, cohort: TinyCohort, tmp_path: Path
) -> None:
    """Its pyramids are made here; one job then trains, which has both nodes."""
    environment = with_saccade(slurm.environment)
    desk = make_desk(tmp_path / "desk", cohort, "slurm-test", environment)
    trained = [f"results/.done/pyramid/{slide}" for slide in TRAINED]
    here = replace(desk, profile="default").run(*trained)
    assert here.returncode == 0, here.stdout
    settings = ["--config", "nodes_per_training=2", "--set-resources", "train:gpu=0"]
    done = desk.run("results/model/model.safetensors", *settings)

    assert done.returncode == 0, done.stdout
    record = json.loads((desk.results / "model/record.json").read_text())
    assert record["inputs"]["processes"] == 2
    jobs = [job for job in slurm.ended() if job["NodeList"] == "cpu[1-2]"]
    assert jobs[-1]["JobState"] == "COMPLETED"


def test_jobs_of_dask_make_the_bytes_of_one_process(slurm: Slurm, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue")
    slide = write_pyramid_tiff(tmp_path / "slide.tiff", tissue_like(4300, 2100))
    settings = tmp_path / "dask"
    settings.mkdir()
    job = {"cores": 1, "processes": 1, "memory": "1500MB", "queue": "cpu", "walltime": "00:05:00"}
    job |= {"log-directory": str(tmp_path / "logs"), "local-directory": str(tmp_path)}
    (settings / "jobqueue.yaml").write_text(yaml.safe_dump({"jobqueue": {"slurm": job}}))
    words = ["pyramid", slide, "--finest-mpp", "0.5", "--out"]
    saccade([*words, tmp_path / "one"], slurm.environment)
    environment = {**slurm.environment, "DASK_CONFIG": str(settings)}
    saccade([*words, tmp_path / "two", "--dask", "slurm:2"], environment)

    ours, theirs = files_in(tmp_path / "one"), files_in(tmp_path / "two")
    assert ours == theirs
    assert [job for job in slurm.ended() if job["Name"] == "dask-worker"]
