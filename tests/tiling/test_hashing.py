"""The same bytes have the same name, and are read once for it."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from saccade.tiling import hashing
from saccade.tiling.hashing import array_hash, file_hash


def test_a_file_has_the_hash_of_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a.svs"
    file.write_bytes(b"pixels")
    assert file_hash(file) == f"sha256:{hashlib.sha256(b'pixels').hexdigest()}"


def test_the_second_time_costs_no_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.svs"
    file.write_bytes(b"pixels")
    first = file_hash(file)

    def read_again(_: Path) -> str:
        raise AssertionError("the file was read again")

    monkeypatch.setattr(hashing, "_hash_of", read_again)
    assert file_hash(file) == first


def test_changed_bytes_of_the_same_number_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "a.svs"
    file.write_bytes(b"pixels")
    first = file_hash(file)
    file.write_bytes(b"PIXELS")
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
    assert file_hash(file) != first


def test_a_damaged_cache_entry_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "a.svs"
    file.write_bytes(b"pixels")
    first = file_hash(file)
    for damage in ("", "[]", '{"state": 1}'):
        hashing._kept_at(file.resolve()).write_text(damage)
        assert file_hash(file) == first


def test_a_cache_that_cannot_be_written_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is wanted")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    file = tmp_path / "a.svs"
    file.write_bytes(b"pixels")
    assert file_hash(file) == f"sha256:{hashlib.sha256(b'pixels').hexdigest()}"


def test_no_part_of_an_entry_is_left_behind(tmp_path: Path) -> None:
    file = tmp_path / "a.svs"
    file.write_bytes(b"pixels")
    file_hash(file)
    folder = hashing._kept_at(file.resolve()).parent
    assert not list(folder.glob("*.part"))


def _folder(place: Path, extra: bytes = b"b") -> Path:
    (place / "0").mkdir(parents=True)
    (place / "zarr.json").write_bytes(b"{}")
    (place / "0" / "c").write_bytes(extra)
    return place


def test_a_folder_is_known_by_what_it_holds_not_by_where_it_lies(tmp_path: Path) -> None:
    first = file_hash(_folder(tmp_path / "one.zarr"))
    assert first == file_hash(_folder(tmp_path / "elsewhere" / "two.zarr"))
    assert first != file_hash(_folder(tmp_path / "three.zarr", b"c"))


def test_a_mirax_slide_is_its_folder_too(tmp_path: Path) -> None:
    index = tmp_path / "a.mrxs"
    index.write_bytes(b"preview")
    alone = file_hash(index)
    _folder(tmp_path / "a")
    assert file_hash(index) != alone


def test_arrays_of_other_shape_differ() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    assert array_hash(pixels) == array_hash(pixels.copy())
    assert array_hash(pixels) != array_hash(pixels.reshape(6, 4, 3))
