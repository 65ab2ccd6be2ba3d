"""What reading ahead changes in training, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from saccade.models.attention_sampling import AttentionSampling
from saccade.pipeline import fit
from saccade.pipeline.cohort import Cohort, load_cohort
from saccade.pipeline.fit import Bench, learning_rate, train_epoch, validate
from saccade.pipeline.look import Proposal
from saccade.pipeline.reading import TileReader
from saccade.pipeline.sheet import SheetRow
from saccade.pipeline.step import Step
from saccade.pipeline.tasks.truth import OneClass
from saccade.tiling.lattice import Snap
from tests.bench import bench_of
from tests.cohort import TINY, TinyCohort, damage_level_0, with_training
from tests.slides import tissue_like, write_pyramid_tiff


def steps_and_draws(
    bench: Bench, loaded: Cohort, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, list[bool]]:
    """An epoch as letters, d for a batch drawn and s for a step; whether draws had a gradient."""
    story: list[str] = []
    with_gradient: list[bool] = []
    propose, step = fit.propose, bench.optimizer.step

    def proposed(*args: Any, **options: Any) -> Proposal:
        story.append("d")
        proposal = propose(*args, **options)
        with_gradient.append(proposal.log_attention[0].requires_grad)
        return proposal

    def stepped(*args: Any) -> Any:
        story.append("s")
        return step(*args)

    monkeypatch.setattr(fit, "propose", proposed)
    monkeypatch.setattr(bench.optimizer, "step", stepped)
    train_epoch(bench, [*loaded.train, *loaded.val], 0)
    return "".join(story), with_gradient


@pytest.mark.parametrize(
    ("ahead", "story"), [(0, "dsdsds"), (1, "ddsdss"), (2, "dddsss"), (9, "dddsss")]
)
def test_places_are_drawn_so_many_steps_before(
    loaded: Cohort,
    reader: TileReader,
    monkeypatch: pytest.MonkeyPatch,
    ahead: int,
    story: str,
) -> None:
    """Three batches of two; the order is that of the program, whatever the threads do."""
    bench = bench_of(with_training(read_ahead=ahead), loaded, reader)
    found, with_gradient = steps_and_draws(bench, loaded, monkeypatch)

    assert found == story
    assert with_gradient == [ahead == 0] * 3


def test_the_first_step_of_an_epoch_is_the_same(loaded: Cohort, reader: TileReader) -> None:
    """Its places come from the weights as they are, so nothing has to be made up for."""

    def after_one_step(ahead: int) -> list[torch.Tensor]:
        bench = bench_of(with_training(read_ahead=ahead, batch=4), loaded, reader)
        train_epoch(bench, loaded.train, 0)
        return [p.detach() for p in bench.model.parameters()]

    for one, other in zip(after_one_step(1), after_one_step(0), strict=True):
        torch.testing.assert_close(one, other)


def test_validation_is_not_changed_by_reading_ahead(
    loaded: Cohort, reader: TileReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [*loaded.train, *loaded.val]
    bench = bench_of(TINY, loaded, reader)
    train_epoch(bench, loaded.train, 0)
    ahead = TileReader.ahead
    depths = []

    def now(self: TileReader, batches: Any, depth: int) -> Any:
        depths.append(depth)
        return ahead(self, batches, 0)

    found = validate(bench, examples)
    monkeypatch.setattr(TileReader, "ahead", now)
    assert validate(bench, examples) == found
    assert depths == [1]


def test_validation_attends_once(
    loaded: Cohort, reader: TileReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has changed between draw and verdict."""
    attend, calls = AttentionSampling.attend, []

    def counted(*args: Any) -> torch.Tensor:
        calls.append(args)
        return attend(*args)

    monkeypatch.setattr(AttentionSampling, "attend", counted)
    validate(bench_of(TINY, loaded, reader), loaded.train)
    assert len(calls) == len(loaded.train) / TINY.training.batch


@pytest.mark.parametrize("snap", ["pixel", "tile"])
def test_the_slides_of_a_cohort_know_where_tiles_may_begin(
    cohort: TinyCohort, pyramids: Path, snap: Snap
) -> None:
    config = replace(TINY, tiles=replace(TINY.tiles, mpp=1.0, snap=snap))
    loaded = load_cohort(cohort.rows, OneClass(("a", "b")), pyramids, config, stride=1)

    for example in loaded.train:
        with example.subject.slide.open() as slide:
            assert example.subject.lattice == slide.lattice_for(32, 1.0, snap)
        assert example.subject.lattice is not None
        assert example.subject.lattice.pixel_l0 == 2


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_an_unreadable_slide_costs_itself(tmp_path: Path, ahead: int, reader: TileReader) -> None:
    """In whichever batch, alone in it, or known before the epoch begins."""
    config = with_training(read_ahead=ahead, batch=1)
    rows = make_rows(tmp_path)
    loaded = load_cohort(rows, OneClass(("a", "b")), tmp_path, config, stride=1)
    bench = bench_of(config, loaded, reader)

    for epoch in range(2):
        assert train_epoch(bench, loaded.train, epoch)["tiles_read"] == 2 * TINY.tiles.per_slide
        assert list(bench.failures) == ["bad"]


def make_rows(folder: Path) -> list[SheetRow]:
    rows = []
    for i, (name, label) in enumerate((("good", "a"), ("bad", "b"), ("fine", "b"))):
        path = write_pyramid_tiff(folder / f"{name}.tiff", tissue_like(1024, 1024, i))
        if name == "bad":
            damage_level_0(path)
        rows.append(SheetRow(name, path, label, f"p{i}", "train"))
    return rows


def test_each_group_follows_the_schedule_at_its_own_rate(
    loaded: Cohort, reader: TileReader
) -> None:
    bench = bench_of(with_training(layer_decay=0.5, learning_rate=0.01), loaded, reader)
    rate = train_epoch(bench, loaded.train, 0)["learning_rate"]

    assert rate == learning_rate(bench.config.training, 1.0) < 0.01
    assert {group["lr"] / rate for group in bench.optimizer.param_groups} == {1, 0.5, 0.25, 0.125}


def test_the_time_of_steps_and_of_waiting_is_counted(loaded: Cohort, reader: TileReader) -> None:
    bench = bench_of(TINY, loaded, reader)
    train_epoch(bench, loaded.train, 0)
    seconds, waited = bench.spent.seconds, bench.spent.waited
    validate(bench, loaded.val)

    assert 0 < waited < seconds
    assert (bench.spent.seconds, bench.spent.waited) == (seconds, waited)
    assert reader.waited_seconds > waited


def test_the_regulariser_weakens_from_step_to_step(
    loaded: Cohort, reader: TileReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_training(batch=2, entropy_first=0.5, entropy=0.1, entropy_epochs=1)
    strengths: list[float] = []

    class Noted(Step):
        def __post_init__(self) -> None:
            strengths.append(self.entropy)
            super().__post_init__()

    monkeypatch.setattr("saccade.pipeline.fit.Step", Noted)
    bench = bench_of(config, loaded, reader)
    train_epoch(bench, loaded.train, 0)
    steps = len(loaded.train) // 2

    each = [0.1 + 0.4 * (1 - (step + 1) / steps) for step in range(steps)]
    assert strengths == pytest.approx(each)


@pytest.mark.parametrize("ahead", [0, 2])
def test_files_stay_few_however_many_slides_there_are(
    cohort: TinyCohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ahead: int,
) -> None:
    """Three stay open, and each of two threads may be reading another one."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux says which files a process has open")
    rows = [_linked(cohort, tmp_path, i) for i in range(24)]
    loaded = load_cohort(rows, OneClass(("a", "b")), tmp_path, TINY, stride=1)
    assert _open_slides(tmp_path) == 0
    found: list[int] = []
    with TileReader(size_px=32, mpp=0.5, workers=2, max_open=3) as reader:
        bench = bench_of(with_training(read_ahead=ahead), loaded, reader)
        monkeypatch.setattr(bench.optimizer, "step", lambda: found.append(_open_slides(tmp_path)))
        assert train_epoch(bench, loaded.train, 0)["slides"] == 24
        assert validate(bench, loaded.train)["loss"] > 0
        found.append(_open_slides(tmp_path))

    assert len(found) == 13
    assert 3 in found
    assert max(found) <= 3 + 2
    assert _open_slides(tmp_path) == 0


def _linked(cohort: TinyCohort, folder: Path, i: int) -> SheetRow:
    row = cohort.rows[i % 2]
    path = folder / f"slide{i}.tiff"
    path.hardlink_to(row.path)
    return replace(row, slide=f"slide{i}", path=path)


def _open_slides(folder: Path) -> int:
    """Files of a folder that this process has open."""
    opened = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return sum(name.startswith(str(folder)) for name in opened)
