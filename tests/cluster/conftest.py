"""A Slurm for the tests of this folder; they are skipped where Slurm is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import PROGRAMS, Slurm, started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is of this folder: `make test-cluster` runs it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """One GPU node with a GPU that is none, two CPU nodes."""
    lost = [name for name in PROGRAMS if shutil.which(name) is None]
    if lost:
        pytest.skip(f"{lost[0]} is not on PATH: apt-get install slurm-wlm munge")
    with started(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster
