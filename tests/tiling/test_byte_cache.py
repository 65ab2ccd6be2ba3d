"""The cache of bytes on disk: what is kept is right, bounded, and survives a kill."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from saccade.tiling.byte_cache import ByteCache
from saccade.tiling.errors import UnreadableSlideError


def stored(folder: Path) -> int:
    """Bytes at one moment: nobody writes while the ledger is ours."""
    with (folder / "held").open("a") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)
        return sum(file.stat().st_size for file in folder.glob("??/*"))


def test_what_is_put_is_got(tmp_path: Path) -> None:
    cache = ByteCache(tmp_path / "deep" / "cache", 10_000)
    assert cache.get("a") is None
    cache.put("a", b"bytes")
    assert (cache.get("a"), cache.get("b")) == (b"bytes", None)


def test_it_stays_below_its_bound_and_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = ByteCache(tmp_path, 20_000)
    cache.put("kept", bytes(1000))
    for i in range(100):
        cache.put(f"{i}", bytes(1000))
        assert cache.get("kept") is not None, i
        assert stored(tmp_path) <= 20_000
    assert [cache.get(f"{i}") is not None for i in (0, 50, 98, 99)] == [False, False, True, True]


def test_a_range_too_large_for_it_is_not_kept(tmp_path: Path) -> None:
    cache = ByteCache(tmp_path, 20_000)
    cache.put("a", bytes(1000))
    cache.put("b", bytes(15_000))
    assert (cache.get("a"), cache.get("b")) == (bytes(1000), None)


@pytest.mark.parametrize("damage", [b"", b"short", bytes(5016)])
def test_a_damaged_file_counts_as_absent(damage: bytes, tmp_path: Path) -> None:
    cache = ByteCache(tmp_path, 100_000)
    cache.put("a", b"x" * 5000)
    (file,) = tmp_path.glob("??/*")
    file.write_bytes(damage)
    assert cache.get("a") is None


def test_a_folder_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ByteCache(tmp_path / "file", 10_000)
    cache.put("a", b"bytes")
    assert cache.get("a") is None


def _fill(folder: Path, number: int) -> None:
    cache = ByteCache(folder, 50_000)
    for i in range(200):
        key = f"{number if i % 2 else ''} {i}"
        cache.put(key, key.encode() * 100)
        found = cache.get(key)
        assert found in (None, key.encode() * 100)


@pytest.fixture
def spawn() -> multiprocessing.context.SpawnContext:
    return multiprocessing.get_context("spawn")


def test_several_processes_share_one_bound(
    tmp_path: Path, spawn: multiprocessing.context.SpawnContext
) -> None:
    workers = [spawn.Process(target=_fill, args=(tmp_path, i)) for i in range(3)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        assert stored(tmp_path) <= 50_000
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert 0 < stored(tmp_path) <= 50_000


def _die(folder: Path, step: str) -> None:
    """End without a word in the middle of `put`."""

    def killed(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if step == "rename":
        Path.replace = killed  # type: ignore[method-assign, assignment]
    else:
        ByteCache._store = killed  # type: ignore[method-assign, assignment]
    ByteCache(folder, 50_000).put("b", bytes(4000))


@pytest.mark.parametrize("step", ["rename", "ledger"])
def test_a_kill_leaves_a_cache_that_works(
    step: str, tmp_path: Path, spawn: multiprocessing.context.SpawnContext
) -> None:
    cache = ByteCache(tmp_path, 50_000)
    cache.put("a", b"before")
    worker = spawn.Process(target=_die, args=(tmp_path, step))
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert (cache.get("a"), cache.get("b")) == (b"before", None)
    for part in tmp_path.glob("??/*.part"):
        os.utime(part, (2**33, 2**33))  # as if it had been used last
    for i in range(20):
        cache.put(f"{i}", bytes(4000))
        assert stored(tmp_path) <= 50_000
    assert cache.get("19") == bytes(4000)
    assert not list(tmp_path.glob("??/*.part"))


def test_the_environment_turns_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACCADE_CACHE_DIR", raising=False)
    assert ByteCache.from_environment() is None
    monkeypatch.setenv("SACCADE_CACHE_DIR", str(tmp_path))
    assert ByteCache.from_environment() == ByteCache(tmp_path, 4_096_000_000)
    monkeypatch.setenv("SACCADE_CACHE_MB", "1.5")
    assert ByteCache.from_environment() == ByteCache(tmp_path, 1_500_000)
    for text in ("much", "0", "nan", "inf", "-1"):
        monkeypatch.setenv("SACCADE_CACHE_MB", text)
        with pytest.raises(UnreadableSlideError, match="wanted are megabytes"):
            ByteCache.from_environment()
