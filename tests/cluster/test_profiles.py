"""The profiles say what Snakemake and its plugin understand."""

from pathlib import Path

import pytest

from tests.cluster.desk import GOOD, make_desk, with_saccade
from tests.cluster.slurm import Slurm
from tests.cohort import TinyCohort


@pytest.mark.parametrize("profile", ["slurm", "slurm-test"])
def test_a_profile_plans_the_whole_workflow(
    slurm: Slurm, cohort: TinyCohort, tmp_path: Path, profile: str
) -> None:
    desk = make_desk(tmp_path / "desk", cohort, profile, with_saccade(slurm.environment))
    planned = desk.run("--dry-run")

    assert planned.returncode == 0, planned.stdout
    assert planned.stdout.count("rule pyramid:") == len(GOOD) + 1


def test_a_misspelt_key_is_refused(slurm: Slurm, cohort: TinyCohort, tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text("executor: slurm\njobs: 1\nslurm-requeu: true\n")
    environment = with_saccade(slurm.environment)
    refused = make_desk(tmp_path / "desk", cohort, str(profile), environment).run("--dry-run")

    assert refused.returncode == 2
    assert "slurm-requeu" in refused.stdout
