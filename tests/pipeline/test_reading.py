import signal
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from saccade.pipeline.reading import SlideRef, TileReader, TileRequest
from saccade.tiling import Slide
from saccade.tiling.errors import SlideError, SlideNotFoundError, UnreadableSlideError
from tests.cohort import TinyCohort, damage_level_0
from tests.slides import tissue_like, write_pyramid_tiff


def corners(n: int, seed: int = 0) -> NDArray[np.int64]:
    """In no order, and partly over the edge."""
    return np.random.default_rng(seed).integers(-20, 600, (n, 2))


def request(path: Path, n: int = 20) -> TileRequest:
    return TileRequest(SlideRef(path), corners(n))


def read(requests: list[TileRequest], workers: int = 1) -> list[NDArray[np.uint8] | SlideError]:
    with TileReader(size_px=24, mpp=0.7, workers=workers) as reader:
        return reader.read(requests)


@pytest.mark.parametrize("workers", [1, 4])
def test_tiles_come_in_the_order_asked_for(cohort: TinyCohort, workers: int) -> None:
    names = ("s0", "s1", "s2")
    found = read([request(cohort.path(name)) for name in names], workers)

    for name, tiles in zip(names, found, strict=True):
        with SlideRef(cohort.path(name)).open() as slide:
            for tile, (x, y) in zip(tiles, corners(20), strict=True):  # type: ignore[arg-type]
                assert np.array_equal(tile, slide.read(x, y, 24, 0.7))


def test_one_slide_in_two_requests(cohort: TinyCohort) -> None:
    path = cohort.path("s0")
    first, second = read([request(path, 3), TileRequest(SlideRef(path), corners(9, seed=1))])

    assert [len(tiles) for tiles in (first, second)] == [3, 9]  # type: ignore[arg-type]
    assert not np.array_equal(first[0], second[0])  # type: ignore[index]


def test_the_mpp_of_the_sheet_counts(cohort: TinyCohort) -> None:
    path = cohort.path("s0")
    own, told = read([request(path, 1), TileRequest(SlideRef(path, mpp=0.35), corners(1))])

    with SlideRef(path, 0.35).open() as slide:
        (tile,) = slide.read_tiles(corners(1), 24, 0.7)
    assert np.array_equal(told[0], tile)  # type: ignore[index]
    assert not np.array_equal(own[0], told[0])  # type: ignore[index]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_broken_slide_costs_nobody_else(cohort: TinyCohort, tmp_path: Path, workers: int) -> None:
    broken = write_pyramid_tiff(tmp_path / "broken.tiff", tissue_like(700, 700))
    damage_level_0(broken)
    lost = tmp_path / "lost.tiff"
    whole = request(cohort.path("s0"))

    found = read([request(broken), whole, request(lost), whole], workers)

    assert isinstance(found[0], UnreadableSlideError)
    assert "broken.tiff" in str(found[0])
    assert isinstance(found[2], SlideNotFoundError)
    (alone,) = read([whole])
    assert np.array_equal(found[1], alone)  # type: ignore[arg-type]
    assert np.array_equal(found[3], alone)  # type: ignore[arg-type]


def test_a_bug_is_no_broken_slide(cohort: TinyCohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slide, "read_tiles", Mock(side_effect=ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        read([request(cohort.path("s0"))])


class Doors:
    """Counts the slides that are open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open: list[str] = []
        opened, closed = SlideRef.open, Slide.close

        def count_open(ref: SlideRef) -> Slide:
            self.open.append(ref.path.name)
            return opened(ref)

        def count_closed(slide: Slide) -> None:
            self.open.remove(slide.name)
            closed(slide)

        monkeypatch.setattr(SlideRef, "open", count_open)
        monkeypatch.setattr(Slide, "close", count_closed)


def test_few_slides_stay_open_and_none_afterwards(
    cohort: TinyCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors = Doors(monkeypatch)
    with TileReader(size_px=24, mpp=0.5, workers=2, max_open=2) as reader:
        for name in ("s0", "s1", "s0", "s2", "s3"):
            reader.read([request(cohort.path(name), 2)])
        assert doors.open == ["s2.tiff", "s3.tiff"]
        reader.read([request(cohort.path("s2"), 2)])
        reader.read([request(cohort.path("s4"), 2)])
        assert doors.open == ["s2.tiff", "s4.tiff"]  # the one that was not used for longest went
    assert doors.open == []


def test_slides_are_closed_after_an_error_too(
    cohort: TinyCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors = Doors(monkeypatch)
    monkeypatch.setattr(Slide, "read_tiles", Mock(side_effect=ZeroDivisionError))
    with (
        pytest.raises(ZeroDivisionError),
        TileReader(size_px=24, mpp=0.5, workers=2) as reader,
    ):
        reader.read([request(cohort.path("s0"), 2)])
    assert doors.open == []


def test_nobody_closes_a_slide_that_is_being_read(
    cohort: TinyCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four slides one may stay open; the first is read until the others are done."""
    read_tiles, done = Slide.read_tiles, threading.Semaphore(0)

    def first_is_last(slide: Slide, *args: Any, **options: Any) -> NDArray[np.uint8]:
        if slide.name == "s0.tiff":
            for _ in range(3):
                assert done.acquire(timeout=30)
            time.sleep(0.02)  # for the last of them to be given back
        tiles = read_tiles(slide, *args, **options)
        done.release()
        return tiles

    requests = [request(cohort.path(name), 5) for name in ("s0", "s1", "s2", "s3")]
    wanted = read(requests)
    monkeypatch.setattr(Slide, "read_tiles", first_is_last)
    with TileReader(size_px=24, mpp=0.7, workers=2, max_open=1) as reader:
        found = reader.read(requests)
    for one, other in zip(found, wanted, strict=True):
        assert np.array_equal(one, other)  # type: ignore[arg-type]


def test_after_a_bug_nothing_is_being_read_any_more(
    cohort: TinyCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def first_fails(slide: Slide, *_: Any, **__: Any) -> NDArray[np.uint8]:
        if slide.name == "s0.tiff":
            assert begun.wait(30)
            raise ZeroDivisionError
        begun.set()
        time.sleep(0.1)
        ended.set()
        return np.zeros((1, 24, 24, 3), np.uint8)

    monkeypatch.setattr(Slide, "read_tiles", first_fails)
    with TileReader(size_px=24, mpp=0.5, workers=2) as reader:
        with pytest.raises(ZeroDivisionError):
            reader.read([request(cohort.path(name)) for name in ("s0", "s1")])
        assert ended.is_set()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("mpp", [0.5, 0.7])
def test_source_tiles_that_are_shared_are_decoded_once(
    tmp_path: Path, workers: int, mpp: float
) -> None:
    """100 tiles are asked for of a slide of 64, one after the other over all of it."""
    path = write_pyramid_tiff(tmp_path / "a.tiff", tissue_like(512, 512), tile=64, levels=1)
    with TileReader(size_px=24, mpp=mpp, workers=workers) as reader:
        reader.read([request(path, 0)])
        reader.read([request(path, 1)])  # the first read of a level is compared with OpenSlide
        before = reader.counts()
        reader.read([request(path, 100)])
        assert 32 < (reader.counts() - before).tiles <= 64


@dataclass(frozen=True)
class Batch:
    """A number and what is read for it."""

    number: int
    requests: Sequence[TileRequest]


def batches(cohort: TinyCohort, count: int = 5) -> Iterator[Batch]:
    """Each of two slides, of which a third one is lost."""
    lost = TileRequest(SlideRef(Path("lost.tiff")), corners(1))
    for number in range(count):
        two = [TileRequest(SlideRef(cohort.path(s)), corners(4, number)) for s in ("s0", "s1")]
        yield Batch(number, [*two, lost] if number == 2 else two)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("depth", [0, 1, 3, 9])
def test_reading_ahead_gives_what_reading_gives(
    cohort: TinyCohort, depth: int, workers: int
) -> None:
    with TileReader(size_px=24, mpp=0.7, workers=workers) as reader:
        ahead = list(reader.ahead(batches(cohort), depth))

    assert [batch.number for batch, _ in ahead] == [0, 1, 2, 3, 4]
    for batch, tiles in ahead:
        for one, other in zip(tiles, read(list(batch.requests)), strict=True):
            if isinstance(one, SlideError):
                assert isinstance(other, SlideNotFoundError)
            else:
                assert np.array_equal(one, other)  # type: ignore[arg-type]


def test_no_batches_are_fine(cohort: TinyCohort) -> None:
    with TileReader(size_px=24, mpp=0.7, workers=1) as reader:
        assert list(reader.ahead(batches(cohort, 0), 2)) == []


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_batches_are_taken_when_those_before_are_asked_for(cohort: TinyCohort, depth: int) -> None:
    """By order alone, and in the caller's thread: never more than `depth` are ahead."""
    taken: list[int] = []

    def watched() -> Iterator[Batch]:
        for batch in batches(cohort, 7):
            assert threading.current_thread() is threading.main_thread()
            taken.append(batch.number)
            yield batch

    with TileReader(size_px=24, mpp=0.7, workers=2) as reader:
        ahead = reader.ahead(watched(), depth)
        assert taken == []
        for number, _ in enumerate(ahead):
            assert taken == list(range(min(number + depth + 1, 7)))


def test_the_next_batch_is_read_while_the_caller_works(
    cohort: TinyCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_tiles, done = Slide.read_tiles, threading.Semaphore(0)

    def counted(*args: Any, **options: Any) -> NDArray[np.uint8]:
        tiles = read_tiles(*args, **options)
        time.sleep(0.1)
        done.release()
        return tiles

    monkeypatch.setattr(Slide, "read_tiles", counted)
    with TileReader(size_px=24, mpp=0.7, workers=2) as reader:
        ahead = reader.ahead(batches(cohort, 3), 1)
        next(ahead)
        assert reader.waited_seconds > 0.1
        waited = reader.waited_seconds
        for _ in range(4):  # two requests of each batch
            assert done.acquire(timeout=30)
        time.sleep(0.05)
        next(ahead)
        assert reader.waited_seconds - waited < 0.05


def test_what_was_taken_is_not_kept(cohort: TinyCohort) -> None:
    with TileReader(size_px=24, mpp=0.7, workers=2) as reader:
        ahead = reader.ahead(batches(cohort), 1)
        _, (first, second) = next(ahead)
        assert isinstance(first, np.ndarray)
        watched = weakref.ref(first)
        del first, second
        assert watched() is None


def open_files() -> list[str]:
    """What this process has open, but for what is opened to find out."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("only Linux says which files a process has open")
    return sorted(str(each.readlink()) for each in folder.iterdir() if each.is_symlink())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As in the foreground: jobs that a shell runs in the background ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("how", ["stops", "raises", "is interrupted"])
def test_nothing_is_left_behind_when_the_caller(
    cohort: TinyCohort, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    read_tiles, reading = Slide.read_tiles, threading.Event()

    def slow(*args: Any, **options: Any) -> NDArray[np.uint8]:
        reading.set()
        time.sleep(0.1)
        return read_tiles(*args, **options)

    def interrupt() -> None:
        reading.wait(30)
        ident = threading.main_thread().ident
        assert ident is not None
        signal.pthread_kill(ident, signal.SIGINT)

    def caller() -> None:
        with (
            TileReader(size_px=24, mpp=0.7, workers=2) as reader,
            closing(reader.ahead(batches(cohort, 50), 3)) as ahead,
        ):
            if how == "is interrupted":
                monkeypatch.setattr(Slide, "read_tiles", slow)
                threading.Thread(target=interrupt).start()
            for batch, _ in ahead:
                if batch.number == 1 and how == "raises":
                    raise ZeroDivisionError
                if batch.number == 1 and how == "stops":
                    return

    read([request(cohort.path("s0"))])  # whatever is opened once for good
    files, threads = open_files(), threading.active_count()
    if how == "stops":
        caller()
    else:
        with pytest.raises(ZeroDivisionError if how == "raises" else KeyboardInterrupt):
            caller()
    assert open_files() == files
    until = time.monotonic() + 30  # a thread that has nothing more to do is about to end
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.001)
    assert threading.active_count() == threads


def test_a_closed_iterator_reads_nothing_more(
    cohort: TinyCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader itself lives on, and may be asked again."""
    begun = []

    def slow(slide: Slide, *_: Any, **__: Any) -> NDArray[np.uint8]:
        begun.append(slide.name)
        time.sleep(0.02)
        return np.zeros((4, 24, 24, 3), np.uint8)

    monkeypatch.setattr(Slide, "read_tiles", slow)
    with TileReader(size_px=24, mpp=0.7, workers=1) as reader:
        with closing(reader.ahead(batches(cohort, 50), 20)) as ahead:
            next(ahead)
        before = len(begun)
        assert before < 10
        assert len(reader.read([request(cohort.path("s2"), 4)])[0]) == 4  # type: ignore[arg-type]
        assert begun[before:] == ["s2.tiff"]


def memory_mb() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def test_memory_and_files_stay_as_they_are(cohort: TinyCohort) -> None:
    """Of 2,000 tiles, which are 25 MB, and what is decoded for them ten times that."""
    held = []
    with TileReader(size_px=64, mpp=0.5, workers=2, max_open=2) as reader:
        for turn in range(4):
            for _ in reader.ahead(many_batches(cohort, turn), 2):
                pass
            held.append((len(open_files()), memory_mb()))
    files, memory = zip(*held, strict=True)
    assert len(set(files)) == 1
    assert memory[-1] - memory[0] < 8


def many_batches(cohort: TinyCohort, turn: int) -> Iterator[Batch]:
    for number in range(10):
        names = [f"s{(number + i) % 6}" for i in range(3)]
        wanted = [
            TileRequest(SlideRef(cohort.path(name)), corners(17, 1000 * turn + 10 * number + i))
            for i, name in enumerate(names)
        ]
        yield Batch(number, wanted)
