"""Shards written directly are those that zarr-python reads, and would have written."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.codecs import TransposeCodec, ZstdCodec

from saccade.tiling import jpeg_codec
from saccade.tiling.jpeg_codec import JpegCodec, encode_jpeg
from saccade.tiling.shards import Place, ShardedArray

SHAPE, CHUNK, SHARD = (3, 70, 90), (1, 16, 16), (3, 32, 64)


def created(path: Path, **options: Any) -> zarr.Array[Any]:
    usual = {"shape": SHAPE, "chunks": CHUNK, "shards": SHARD, "compressors": ZstdCodec(level=1)}
    made: zarr.Array[Any] = zarr.create_array(
        path, dtype="uint8", fill_value=7, **(usual | options)
    )
    return made


def image() -> NDArray[np.uint8]:
    """Noise, with three chunks of nothing but the fill value."""
    pixels = np.random.default_rng(0).integers(0, 255, SHAPE, dtype=np.uint8)
    pixels[:, 16:32, 32:48] = 7
    return pixels


def chunks_of(pixels: NDArray[np.uint8]) -> dict[Place, bytes | None]:
    found: dict[Place, bytes | None] = {}
    for c, row, col in product(range(3), range(5), range(6)):
        chunk = np.full((16, 16), 7, np.uint8)
        part = pixels[c, row * 16 : row * 16 + 16, col * 16 : col * 16 + 16]
        chunk[: part.shape[0], : part.shape[1]] = part
        empty = (chunk == 7).all()
        found[c, row, col] = None if empty else imagecodecs.zstd_encode(chunk.tobytes(), level=1)
    return found


def files_in(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_zarr_reads_what_was_written_in_any_order(tmp_path: Path) -> None:
    chunks = chunks_of(image())
    places = list(chunks)
    for seed in range(2):
        array = ShardedArray(created(tmp_path / str(seed)))
        for i in np.random.default_rng(seed).permutation(len(places)):
            array.put(places[i], chunks[places[i]])
        assert array.open_shards == 0

    assert (zarr.open_array(tmp_path / "0", mode="r")[:] == image()).all()
    assert files_in(tmp_path / "0") == files_in(tmp_path / "1")


def test_zarr_itself_writes_as_many_bytes(tmp_path: Path) -> None:
    created(tmp_path / "theirs")[:] = image()
    array = ShardedArray(created(tmp_path / "ours"))
    for place, data in chunks_of(image()).items():
        array.put(place, data)

    theirs, ours = files_in(tmp_path / "theirs"), files_in(tmp_path / "ours")
    assert theirs.keys() == ours.keys()
    # The order of the chunks is free; index and checksum take the same room.
    assert all(abs(len(theirs[name]) - len(ours[name])) < 100 for name in theirs)


def test_a_shard_is_written_when_it_is_complete_and_not_before(tmp_path: Path) -> None:
    array = ShardedArray(created(tmp_path / "a"))
    chunks = chunks_of(image())
    first = [place for place in chunks if place[1] < 2 and place[2] < 4]
    for place in first[:-1]:
        array.put(place, chunks[place])
    assert not (tmp_path / "a" / "c").exists()

    array.put(first[-1], chunks[first[-1]])

    assert [path.name for path in (tmp_path / "a" / "c" / "0" / "0").iterdir()] == ["0"]


def test_a_shard_of_nothing_is_no_file(tmp_path: Path) -> None:
    array = ShardedArray(created(tmp_path / "a"))
    for place in chunks_of(image()):
        array.put(place, None)

    assert (zarr.open_array(tmp_path / "a", mode="r")[:] == 7).all()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["zarr.json"]


def test_a_damaged_shard_is_noticed(tmp_path: Path) -> None:
    array = ShardedArray(created(tmp_path / "a"))
    for place, data in chunks_of(image()).items():
        array.put(place, data)
    shard = tmp_path / "a" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[-20] ^= 1  # in the index
    shard.write_bytes(data)

    with pytest.raises(ValueError, match="checksum"):
        zarr.open_array(tmp_path / "a", mode="r")[:]


def test_an_array_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shards"):
        ShardedArray(created(tmp_path / "a", shards=None))


def test_jpeg_streams_are_chunks_of_zarr(tmp_path: Path) -> None:
    """Written and read through zarr-python, by the name that imagecodecs uses."""
    jpeg_codec.register()
    pixels = np.full((32, 48, 3), (200, 120, 180), np.uint8)
    array = created(
        tmp_path / "a", shape=(3, 32, 48), chunks=(3, 16, 16), shards=(3, 32, 48),
        serializer=JpegCodec(), compressors=None, filters=TransposeCodec(order=(1, 2, 0)),
    )  # fmt: skip
    array[:] = np.moveaxis(pixels, 2, 0)

    found = np.moveaxis(np.asarray(zarr.open_array(tmp_path / "a", mode="r")[:]), 0, 2)
    assert np.abs(found.astype(int) - pixels).max() <= 2
    assert '"imagecodecs_jpeg"' in (tmp_path / "a" / "zarr.json").read_text()
    assert encode_jpeg(pixels)[:2] == b"\xff\xd8"


def test_options_that_change_what_is_decoded_are_not_passed_over() -> None:
    name = jpeg_codec.NAME
    JpegCodec.from_dict({"name": name, "configuration": {"level": 80}})

    with pytest.raises(ValueError, match=r"tables.*imagecodecs-zarr"):
        JpegCodec.from_dict({"name": name, "configuration": {"tables": "AAAA"}})
