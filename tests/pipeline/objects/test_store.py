"""Very many objects come back from disk as they were, whatever happened on the way there."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import shapely

from saccade.pipeline.errors import ResultsError
from saccade.pipeline.objects.batch import ObjectBatch
from saccade.pipeline.objects.log import ObjectLog
from saccade.pipeline.objects.store import ObjectStore, joined, write_object_store
from tests.pipeline.objects.columns import CLASSES, same, some_boxes

STAR = shapely.Polygon([(0, 0), (4, 1), (8, 0), (5, 4), (8, 9)])
RING = shapely.box(10, 20, 30, 40).difference(shapely.box(15, 25, 20, 30))


def test_outlines_are_the_outer_rings_of_polygons() -> None:
    batch = ObjectBatch.of_polygons([STAR, RING], np.array([0, 1]), np.array([0.5, 1]))

    assert batch.lengths.tolist() == [5, 4]
    assert batch.boxes_l0.tolist() == [[0, 0, 8, 9], [10, 20, 30, 40]]
    assert batch.centres_l0.tolist() == [[4, 4.5], [20, 30]]
    outlines = np.split(batch.points_l0, batch.starts[1:])
    for outline, polygon in zip(outlines, (STAR, shapely.box(10, 20, 30, 40)), strict=True):
        assert shapely.Polygon(outline).equals(polygon)


def test_some_of_the_objects_are_those_objects() -> None:
    batch = ObjectBatch.of_polygons([STAR, RING, STAR], np.array([0, 1, 1]), np.array([0.5, 1, 0]))
    chosen = batch.take(np.array([1, 0]))

    wanted = ObjectBatch.of_polygons([RING, STAR], np.array([1, 0]), np.array([1, 0.5]))
    assert same(chosen, wanted)
    assert same(joined([batch.take(np.array([0])), batch.take(np.array([1, 2]))]), batch)
    assert len(batch.take(np.empty(0, np.int64))) == 0


@pytest.mark.parametrize(
    ("polygon", "score", "message"),
    [
        (shapely.Polygon(), 0.5, "valid and not empty"),
        (shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), 0.5, "valid and not empty"),
        (STAR, np.nan, "must be finite"),
        (STAR, [0.5, 0.5], "need a number each"),
    ],
)
def test_impossible_objects_are_refused(
    polygon: shapely.Polygon, score: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectBatch.of_polygons([polygon], np.array([0]), np.atleast_1d(np.asarray(score)))


def test_a_box_without_area_is_refused() -> None:
    with pytest.raises(ValueError, match="right edge right of its left"):
        ObjectBatch.of_boxes(np.array([[3, 3, 3, 8]]), np.array([0]), np.array([1]))


def test_a_log_gives_tiles_in_their_order_whatever_was_added_when(tmp_path: Path) -> None:
    tiles = {number: some_boxes(number % 3, seed=number) for number in range(7)}
    log = ObjectLog(tmp_path / "log", ["area"])
    log.add({number: tiles[number] for number in (5, 1, 3)})
    log = ObjectLog(tmp_path / "log", ["area"])
    assert 3 in log
    assert 2 not in log
    log.add(dict(reversed(tiles.items())))

    assert (len(log), log.objects) == (7, sum(map(len, tiles.values())))
    for (number, found), (wanted, batch) in zip(log.blocks(), tiles.items(), strict=True):
        assert number == wanted
        assert same(found, batch)


def test_what_a_kill_left_half_written_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = ObjectLog(path, ["area"])
    log.add({0: some_boxes(2)})
    whole = path.stat().st_size
    log.add({1: some_boxes(3, seed=1)})
    data = path.read_bytes()
    damaged = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
    for left in (*(data[:end] for end in range(whole, len(data))), damaged):
        path.write_bytes(left)
        again = ObjectLog(path, ["area"])
        assert (len(again), again.objects, path.stat().st_size) == (1, 2, whole)
    again.add({1: some_boxes(3, seed=1)})
    assert path.read_bytes() == data


def test_a_log_refuses_other_measurements(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"have the measurements \['size'\], got \['area'\]"):
        ObjectLog(tmp_path / "log", ["size"]).add({0: some_boxes(1)})


def stored(path: Path, batches: list[ObjectBatch]) -> ObjectStore:
    write_object_store(
        path, batches, classes=CLASSES, measurements=["area"], about={"slide": "sha256:1"}
    )
    return ObjectStore.open(path)


def test_a_store_gives_back_what_was_put_in(tmp_path: Path) -> None:
    batches = [some_boxes(count, seed) for seed, count in enumerate((20_000, 0, 1, 9_000))]
    store = stored(tmp_path / "o.h5", batches)

    assert (store.classes, store.measurements, store.count) == (CLASSES, ("area",), 29_001)
    assert store.provenance == {"slide": "sha256:1"}
    read = list(store.batches(size=7_000))
    assert [len(each) for each in read] == [7_000] * 4 + [1_001]
    assert same(joined(read), joined(batches))
    stored(tmp_path / "again.h5", batches)
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "o.h5").read_bytes()


def test_a_store_without_objects_is_one(tmp_path: Path) -> None:
    store = stored(tmp_path / "o.h5", [])
    assert (store.count, list(store.batches())) == (0, [])


def test_other_files_are_no_store(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("objects")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.attrs["saccade"] = '{"kind": "tiles", "version": 1}'
    for name in ("text.h5", "other.h5", "none.h5"):
        with pytest.raises(ResultsError, match=f"{name}: cannot be read as objects of Saccade"):
            ObjectStore.open(tmp_path / name)
