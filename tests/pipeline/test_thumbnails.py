import shutil
from pathlib import Path

import pytest

from saccade.pipeline.config import PyramidConfig
from saccade.pipeline.lock import exclusive
from saccade.pipeline.thumbnails import ensure_pyramid, make_full, make_thumbnails
from saccade.tiling import open_slide
from saccade.tiling.errors import MissingMppError, PyramidError
from tests.cohort import TinyCohort
from tests.holding import held_until_waited_for
from tests.slides import tissue_like, write_pyramid_tiff

CONFIG = PyramidConfig(finest_mpp=4.0)


def inode(path: Path) -> int:
    """Another number means that the folder was made anew."""
    return path.stat().st_ino


def test_built_once(cohort: TinyCohort, tmp_path: Path) -> None:
    path, built = make_thumbnails(cohort.path("s0"), tmp_path, CONFIG)
    before = inode(path)
    again, built_again = make_thumbnails(cohort.path("s0"), tmp_path, CONFIG)

    assert (path, built) == (tmp_path / "pyramid.zarr", True)
    assert (again, built_again) == (path, False)
    assert inode(path) == before


def test_a_copy_of_the_slide_is_the_same_slide(cohort: TinyCohort, tmp_path: Path) -> None:
    make_thumbnails(cohort.path("s0"), tmp_path, CONFIG)
    copy = tmp_path / "copy.tiff"
    shutil.copy(cohort.path("s0"), copy)

    assert not make_thumbnails(copy, tmp_path, CONFIG)[1]


@pytest.mark.parametrize(
    ("slide", "config", "mpp"),
    [("s1", CONFIG, None), ("s0", PyramidConfig(finest_mpp=8.0), None), ("s0", CONFIG, 0.25)],
    ids=["another slide", "another scale", "another mpp"],
)
def test_built_again_for(
    cohort: TinyCohort, tmp_path: Path, slide: str, config: PyramidConfig, mpp: float | None
) -> None:
    make_thumbnails(cohort.path("s0"), tmp_path, CONFIG)
    path, built = make_thumbnails(cohort.path(slide), tmp_path, config, mpp=mpp)

    assert built
    with open_slide(cohort.path(slide), mpp=mpp) as opened:
        before = inode(path)
        assert ensure_pyramid(opened, path, config).size_l0 == opened.size_l0
        assert inode(path) == before


def test_what_somebody_else_made_is_left_alone(cohort: TinyCohort, tmp_path: Path) -> None:
    precious = tmp_path / "pyramid.zarr" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("mine")

    with pytest.raises(PyramidError, match=r"pyramid\.zarr"):
        make_thumbnails(cohort.path("s0"), tmp_path, CONFIG)
    assert precious.read_text() == "mine"


def test_no_mpp_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    slide = write_pyramid_tiff(tmp_path / "bare.tiff", tissue_like(300, 300), mpp=None)
    with pytest.raises(MissingMppError, match=r"--mpp 0\.25"):
        make_thumbnails(slide, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out" / "pyramid.zarr").exists()


def test_two_writers_do_not_meet(cohort: TinyCohort, tmp_path: Path) -> None:
    with held_until_waited_for(tmp_path, "pyramid"):
        assert make_thumbnails(cohort.path("s0"), tmp_path, CONFIG)[1]
    with held_until_waited_for(tmp_path, "full"):
        assert make_full(cohort.path("s0"), tmp_path)[1]


def test_a_pyramid_that_another_step_builds_is_waited_for(
    cohort: TinyCohort, tmp_path: Path
) -> None:
    """Two steps that find none build it once."""
    path = tmp_path / "pyramid.zarr"
    with open_slide(cohort.path("s0")) as slide:
        with held_until_waited_for(tmp_path, "pyramid"):
            ensure_pyramid(slide, path, CONFIG)
        before = inode(path)
        with exclusive(tmp_path, "pyramid"):  # one that is there is not waited for
            ensure_pyramid(slide, path, CONFIG)
    assert inode(path) == before


def test_progress_reaches_its_end(cohort: TinyCohort, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    make_thumbnails(
        cohort.path("s0"), tmp_path, CONFIG, progress=lambda done, total: seen.append((done, total))
    )
    assert seen
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_full_pyramid_is_built_once_and_again_for_another_codec(
    cohort: TinyCohort, tmp_path: Path
) -> None:
    slide = cohort.path("s0")
    thumbnails, _ = make_thumbnails(slide, tmp_path, CONFIG)
    before = inode(thumbnails)

    built = [make_full(slide, tmp_path, codec=codec)[1] for codec in ("auto", "auto", "zstd")]

    assert built == [True, False, True]
    assert inode(thumbnails) == before
    with open_slide(slide) as opened, open_slide(tmp_path / "full.zarr") as copy:
        assert (copy.size_l0, copy.mpp) == (opened.size_l0, opened.mpp)
