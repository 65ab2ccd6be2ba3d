"""What training works with; apart from the cohort, which is made before any model is imported."""

from __future__ import annotations

from saccade.pipeline import train as training
from saccade.pipeline.bench import Bench
from saccade.pipeline.cohort import Cohort
from saccade.pipeline.config import RunConfig
from saccade.pipeline.reading import TileReader


def bench_of(config: RunConfig, loaded: Cohort, reader: TileReader) -> Bench:
    """What training works with, at the start of a run."""
    return training._bench(config, training._fresh_model(config, 2), loaded, reader)
