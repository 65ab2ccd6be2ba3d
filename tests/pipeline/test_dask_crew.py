"""One slide over workers of dask, which are real processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import dask
import psutil
import pytest

from saccade.pipeline.config import PyramidConfig
from saccade.pipeline.dask_crew import DaskCrew, dask_crew
from saccade.pipeline.errors import ConfigError, WorkersError
from saccade.pipeline.reading import SlideRef
from saccade.pipeline.saliency_slide import SaliencyOptions, find_saliency
from saccade.pipeline.segment import files
from saccade.pipeline.segment.options import SegmentOptions
from saccade.pipeline.segment.run import segment_slide
from saccade.pipeline.stages.tile_work import TileWork
from saccade.pipeline.thumbnails import make_thumbnails
from saccade.tiling.errors import UnreadableSlideError
from tests.cohort import TinyCohort
from tests.saliency_model import write_narrow_model
from tests.segment_model import write_small_model
from tests.slides import tissue_like, write_pyramid_tiff

pytest.importorskip(
    "distributed", reason="distributed is not installed: pip install saccade[cluster]"
)

T = TypeVar("T")
R = TypeVar("R")

TILED = SaliencyOptions(tile_px=16, tissue_only=True)


@pytest.fixture(scope="module")
def crew() -> Iterator[DaskCrew]:
    """Two workers, of which a piece of work may cost one."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        dask_crew("local:2") as two,
    ):
        assert isinstance(two, DaskCrew)
        yield two


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_narrow_model(tmp_path_factory.mktemp("model") / "saliency.safetensors")


@pytest.fixture(scope="module")
def alone(
    tmp_path_factory: pytest.TempPathFactory, cohort: TinyCohort, model: Path, one_thread: None
) -> Path:
    """What one process finds."""
    out = tmp_path_factory.mktemp("alone")
    find_saliency(SlideRef(cohort.path("s3")), model, out, TILED)
    return out


def files_in(folder: Path) -> dict[str, bytes]:
    """All but the record, which says how long it took."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith("record.json")
    }


def assert_same_files(one: Path, other: Path) -> None:
    ours, theirs = files_in(one), files_in(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def losing_one(crew: DaskCrew) -> Callable[..., Iterator[object]]:
    """The crew, of which one worker dies by signal 9 when a first result is there."""

    def losing(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        for number, result in enumerate(crew(work, items)):
            if number == 0:
                pids = crew._client.run(os.getpid, on_error="ignore")
                os.kill(next(iter(pids.values())), signal.SIGKILL)
            yield result

    return losing


def test_saliency_has_the_bytes_of_one_process(
    crew: DaskCrew,
    alone: Path,
    model: Path,
    cohort: TinyCohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tiles are read elsewhere alone, and a worker lost on the way costs nothing but time."""
    monkeypatch.delattr(TileWork, "encode")  # of this process; the workers have their own
    calls: list[tuple[int, int]] = []
    find_saliency(
        SlideRef(cohort.path("s3")),
        model,
        tmp_path,
        TILED,
        crew=losing_one(crew),  # type: ignore[arg-type]
        progress=lambda *step: calls.append(step),
    )

    assert_same_files(alone, tmp_path)
    assert calls[-1][0] == calls[-1][1] > 10


def test_a_segmentation_that_reads_the_slide_itself_has_the_same_bytes(
    crew: DaskCrew, cohort: TinyCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker opens it, also where it was named from another folder."""
    monkeypatch.setattr(files, "draw_classes", lambda path, _: path.write_bytes(b""))
    small = write_small_model(tmp_path / "small.safetensors")
    monkeypatch.chdir(cohort.path("s3").parent)
    slide, options = SlideRef(Path("s3.tiff")), SegmentOptions(tile_px=128)
    for name, workers in (("one", None), ("two", crew)):
        segment_slide(slide, small, tmp_path / name, options, crew=workers)

    assert_same_files(tmp_path / "one", tmp_path / "two")


class CutOffError(Exception):
    """The run ends here."""


def test_a_run_that_was_cut_off_goes_on_with_any_number_of_workers(
    crew: DaskCrew, model: Path, cohort: TinyCohort, tmp_path: Path
) -> None:
    options = SaliencyOptions(tile_px=24)

    def cut(done: int, total: int) -> None:
        if total > 10 and done > total // 2:
            raise CutOffError

    slide = SlideRef(cohort.path("s3"))
    with pytest.raises(CutOffError):
        find_saliency(slide, model, tmp_path / "cut", options, crew=crew, progress=cut)
    first: list[int] = []
    find_saliency(
        slide, model, tmp_path / "cut", options, progress=lambda done, _: first.append(done)
    )
    find_saliency(slide, model, tmp_path / "whole", options)

    assert first[0] > 0  # what was done before counts
    assert_same_files(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_a_run_that_was_killed_leaves_no_workers_and_goes_on(
    alone: Path, model: Path, cohort: TinyCohort, tmp_path: Path
) -> None:
    words = ["saliency", cohort.path("s3"), "--model", model, "--out", tmp_path / "out"]
    words += ["--tile", "16", "--tissue-only", "--device", "cpu"]
    command = [sys.executable, "-m", "saccade.cli", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "log").open("w") as log:
        main = subprocess.Popen([*command, "--dask", "local:2"], env=environment, stderr=log)
    journals = tmp_path / "out" / ".saliency.zarr.work"
    wait_for(lambda: any(path.stat().st_size for path in journals.glob("*/*.journal")))
    family = psutil.Process(main.pid).children(recursive=True)
    main.kill()
    main.wait()

    assert len(family) >= 2
    wait_for(lambda: not any(child.is_running() for child in family))
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert_same_files(alone, tmp_path / "out")


def wait_for(found: Callable[[], bool]) -> None:
    until = time.monotonic() + 300
    while not found():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_pyramid_has_the_bytes_of_one_process(crew: DaskCrew, tmp_path: Path) -> None:
    """Of several parcels, with a worker lost on the way."""
    path = write_pyramid_tiff(tmp_path / "slide.tiff", tissue_like(4300, 2100))
    config = PyramidConfig(finest_mpp=0.5)
    make_thumbnails(path, tmp_path / "one", config)
    make_thumbnails(path, tmp_path / "two", config, crew=losing_one(crew))  # type: ignore[arg-type]

    assert_same_files(tmp_path / "one", tmp_path / "two")


def fail(_: int) -> None:
    raise UnreadableSlideError("slide.svs: is torn")


def die(_: int) -> None:
    os._exit(1)


def test_an_error_of_a_worker_is_an_error_here(crew: DaskCrew) -> None:
    with pytest.raises(UnreadableSlideError, match=r"slide\.svs: is torn"):
        list(crew(fail, range(9)))


@pytest.mark.slow
def test_work_that_kills_its_workers_is_given_up(crew: DaskCrew) -> None:
    with pytest.raises(WorkersError, match="2 workers of dask died one after the other"):
        list(crew(die, [0]))


@pytest.mark.parametrize("count", [0, 1, 50])
def test_each_item_is_done_once(crew: DaskCrew, count: int) -> None:
    assert sorted(crew(abs, range(count))) == list(range(count))


def test_without_a_place_there_are_no_workers() -> None:
    with dask_crew(None) as crew:
        assert crew is None


@pytest.mark.parametrize("where", ["local", "local:0", "slurm", "8", "host:8786"])
def test_other_places_are_refused(where: str) -> None:
    with pytest.raises(ConfigError, match=r"wanted local:4"), dask_crew(where):
        pass


def test_a_scheduler_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saccade.pipeline.dask_crew._PATIENCE_S", 0.3)
    with (
        pytest.raises(WorkersError, match=r"tcp://127\.0\.0\.1:9: no scheduler of dask answers"),
        dask_crew("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(
            ConfigError, match=r"distributed, which is not installed.*saccade\[cluster\]"
        ),
        dask_crew("local:2"),
    ):
        pass
