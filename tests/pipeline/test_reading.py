import time
from pathlib import Path
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
    """A failing piece must not let the reader go on while other pieces of it are read."""
    begun, ended = [], []

    def first_fails(slide: Slide, at: NDArray[np.int64], *_: object) -> NDArray[np.uint8]:
        begun.append(at)
        if len(begun) == 1:
            raise UnreadableSlideError("no")
        time.sleep(0.05)
        ended.append(at)
        return np.zeros((len(at), 24, 24, 3), np.uint8)

    monkeypatch.setattr(Slide, "read_tiles", first_fails)
    with TileReader(size_px=24, mpp=0.5, workers=2) as reader:
        (found,) = reader.read([request(cohort.path("s0"), 40)])
        assert len(ended) == len(begun) - 1 == 4
    assert isinstance(found, UnreadableSlideError)
