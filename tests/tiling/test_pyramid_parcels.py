"""Parcels of a pyramid, made anywhere in any order, give the bytes of one pass."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest

from saccade.tiling import open_slide
from saccade.tiling.errors import PyramidError
from saccade.tiling.pyramid import Pyramid, build_pyramid
from saccade.tiling.pyramid_levels import thumbnail_cut
from saccade.tiling.pyramid_parcels import Parcels, parcel_windows
from saccade.tiling.shards import ShardedArray
from tests.slides import tissue_like, write_flat_tiff, write_pyramid_tiff

T = TypeVar("T")
R = TypeVar("R")


def somewhere(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Last first, every other item twice, and nothing shared but what a pickle holds."""
    for number, item in enumerate(reversed(items)):
        for _ in range(1 + number % 2):
            found = pickle.loads(pickle.dumps(work))(item)
        yield pickle.loads(pickle.dumps(found))


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4703 x 2307 px: parcels of 2048 or 4096 px, the last ones narrow, of odd sides."""
    folder = tmp_path_factory.mktemp("slide")
    return write_flat_tiff(
        folder / "slide.tiff", tissue_like(4703, 2307), compression="jpeg", tile=256
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"finest_mpp": 0.5},
        {"finest_mpp": 0.73, "smallest_px": 64},
        {"full": True},
        {"full": True, "codec": "zstd"},
    ],
)
def test_parcels_give_the_bytes_of_one_pass(
    path: Path, tmp_path: Path, settings: dict[str, object]
) -> None:
    calls: list[tuple[int, int]] = []
    with open_slide(path, mpp=0.5) as slide:
        build_pyramid(slide, tmp_path / "one.zarr", **settings)  # type: ignore[arg-type]
        build_pyramid(
            slide,
            tmp_path / "many.zarr",
            crew=somewhere,
            progress=lambda *step: calls.append(step),
            **settings,  # type: ignore[arg-type]
        )

    one, many = files_in(tmp_path / "one.zarr"), files_in(tmp_path / "many.zarr")
    assert one.keys() == many.keys()
    assert [name for name in one if one[name] != many[name]] == []
    assert len(calls) > 2
    assert calls[-1][0] == calls[-1][1] == len(calls)


def test_a_small_slide_is_one_parcel(tmp_path: Path) -> None:
    path = write_pyramid_tiff(tmp_path / "slide.tiff", tissue_like(700, 300))
    with open_slide(path, mpp=0.5) as slide:
        build_pyramid(slide, tmp_path / "one.zarr")
        build_pyramid(slide, tmp_path / "many.zarr", crew=somewhere)

    assert files_in(tmp_path / "one.zarr") == files_in(tmp_path / "many.zarr")


def test_what_a_parcel_hands_back_is_small(path: Path, tmp_path: Path) -> None:
    """Its finest level, which is 3/4 of all pixels, is written where it is made."""
    sizes: list[int] = []

    def weighed(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        for item in items:
            found = work(item)
            sizes.append(len(pickle.dumps(found)))
            yield found

    with open_slide(path, mpp=0.5) as slide:
        build_pyramid(slide, tmp_path / "p.zarr", finest_mpp=0.5, crew=weighed)
    assert max(sizes) < 0.35 * 3 * 2048**2


@pytest.mark.parametrize("shape", [(100, 100), (20000, 9000), (70000, 80001), (300000, 1)])
def test_parcels_are_large_and_enough(shape: tuple[int, int]) -> None:
    """At most four times as many as are enough, and whole files of the finest level each."""
    blocks = SimpleNamespace(shape=shape, block=(1024, 1024))
    windows = parcel_windows(blocks, thumbnail_cut())  # type: ignore[arg-type]

    assert len(windows) <= 4 * 64
    assert {part.start % 2048 for window in windows for part in window} == {0}


def test_half_written_files_of_killed_workers_are_swept(path: Path, tmp_path: Path) -> None:
    def killed_once(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        assert isinstance(work, Parcels)
        torn = work.folder / "0/c/0/.partial-0-0"
        torn.parent.mkdir(parents=True)
        torn.write_bytes(b"half a shard")
        yield from somewhere(work, items)

    with open_slide(path, mpp=0.5) as slide:
        pyramid = build_pyramid(slide, tmp_path / "p.zarr", crew=killed_once)
    assert not list((tmp_path / "p.zarr").rglob(".partial-*"))
    assert Pyramid.open(tmp_path / "p.zarr").levels == pyramid.levels


def test_a_worker_that_sees_another_slide_says_so(path: Path, tmp_path: Path) -> None:
    other = write_pyramid_tiff(tmp_path / "other.tiff", tissue_like(700, 300))

    def elsewhere(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        assert isinstance(work, Parcels)
        with open_slide(other) as slide:
            moved = Parcels(pickle.dumps(slide), work.settings, work.folder)
        yield moved(items[0])  # type: ignore[arg-type,misc]

    with (
        open_slide(path, mpp=0.5) as slide,
        pytest.raises(PyramidError, match="is another slide here"),
    ):
        build_pyramid(slide, tmp_path / "p.zarr", crew=elsewhere)
    assert not (tmp_path / "p.zarr").exists()


def test_chunks_of_begun_shards_can_be_put_by_somebody_else(tmp_path: Path) -> None:
    import zarr

    made = [
        zarr.create_array(
            tmp_path / name, shape=(5, 7), chunks=(1, 2), shards=(2, 4), dtype="uint8"
        )
        for name in ("one", "two")
    ]
    chunks = {(row, col): bytes([row, col]) for row in range(5) for col in range(4)}
    whole, first, second = ShardedArray(made[0]), ShardedArray(made[1]), ShardedArray(made[1])
    for place, data in chunks.items():
        whole.put(place, data)
    for place in list(chunks)[:11]:
        first.put(place, chunks[place])
    for place, data in [*first.take_rest(), *((p, chunks[p]) for p in list(chunks)[11:])]:
        second.put(place, data)

    assert first.open_shards == second.open_shards == 0
    ours, theirs = files_in(tmp_path / "one"), files_in(tmp_path / "two")
    assert {n: d for n, d in ours.items() if n != "zarr.json"} == {
        n: d for n, d in theirs.items() if n != "zarr.json"
    }
    assert len(ours) == 7
