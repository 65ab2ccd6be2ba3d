"""Every test of the pipeline runs torch on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from saccade.pipeline.cohort import Cohort, load_cohort
from saccade.pipeline.reading import TileReader
from saccade.pipeline.tasks.truth import OneClass
from tests.cohort import TINY, TinyCohort


@pytest.fixture(scope="session", autouse=True)
def _calm_torch(one_thread: None) -> None:
    pass


@pytest.fixture
def loaded(cohort: TinyCohort, pyramids: Path) -> Cohort:
    return load_cohort(cohort.rows, OneClass(("a", "b")), pyramids, TINY, stride=1)


@pytest.fixture
def reader() -> Iterator[TileReader]:
    with TileReader(size_px=TINY.tiles.size_px, mpp=TINY.tiles.mpp, workers=2) as reader:
        yield reader
