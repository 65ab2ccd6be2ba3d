from dataclasses import replace
from pathlib import Path

import pytest

from saccade.pipeline.demo.run import DemoOutcome, DemoSize, outcome_lines, run_demo

SMALL = DemoSize(slides=6, size_px=1024, epochs=1)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoOutcome]:
    out = tmp_path_factory.mktemp("demo")
    return out, run_demo(out, size=SMALL, cores=2)


@pytest.mark.slow
def test_runs_to_its_end_and_holds_itself_to_the_truth(demo: tuple[Path, DemoOutcome]) -> None:
    _, outcome = demo

    assert (outcome.slides, outcome.positives) == (2, 1)
    assert 0 <= outcome.auc <= 1
    assert outcome.hits in (0, 1)
    assert outcome.share_read > 0
    assert outcome.peak_memory_mb > 50
    assert set(outcome.seconds) == {"slides", "workflow"}


@pytest.mark.slow
def test_every_path_that_it_names_is_there(demo: tuple[Path, DemoOutcome]) -> None:
    out, outcome = demo
    lines = outcome_lines(out, outcome)

    named = [word for line in lines for word in line.split() if word.startswith(str(out))]
    assert len(named) >= 4
    for path in named:
        assert Path(path).exists(), path


@pytest.mark.slow
def test_a_second_call_finds_everything_done(demo: tuple[Path, DemoOutcome]) -> None:
    out, first = demo
    model = out / "results" / "model" / "model.safetensors"
    before = model.stat().st_mtime_ns
    second = run_demo(out, size=SMALL, cores=2)

    assert model.stat().st_mtime_ns == before
    assert replace(second, seconds={}, peak_memory_mb=0) == replace(
        first, seconds={}, peak_memory_mb=0
    )
