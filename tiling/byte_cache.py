"""Bytes of remote files kept on this machine's disk: bounded, shared by processes, off by default.

A file holds one range of one version of a remote file. It is written beside and renamed, so a kill
leaves no half of it, and begins with a checksum, so a damaged one counts as absent. The one used
longest ago goes first. A lock holds whoever writes; whoever reads needs none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saccade.tiling.errors import UnreadableSlideError

FOLDER, BOUND = "SACCADE_CACHE_DIR", "SACCADE_CACHE_MB"
_DEFAULT_MB = 4096
_AFTER_EVICTION = 0.9  # of the bound: not every write has to look through the folder
_CHECKSUM = 16  # bytes


@dataclass(frozen=True, slots=True)
class ByteCache:
    """A folder of at most `most_bytes`.

    A cache that cannot be written or read costs time and nothing else.

    Attributes:
        folder: is made if it is not there; it belongs to the cache.
        most_bytes: of all ranges in it together, at any moment.

    Raises:
        ValueError: if `most_bytes` is not positive.
    """

    folder: Path
    most_bytes: int

    def __post_init__(self) -> None:
        if self.most_bytes <= 0:
            raise ValueError(f"most_bytes must be positive, got {self.most_bytes}.")

    @classmethod
    def from_environment(cls) -> ByteCache | None:
        """`$SACCADE_CACHE_DIR` with up to `$SACCADE_CACHE_MB` (4096) megabytes; None if unset.

        Raises:
            UnreadableSlideError: if the number is none.
        """
        folder, text = os.environ.get(FOLDER), os.environ.get(BOUND) or str(_DEFAULT_MB)
        if not folder:
            return None
        try:
            return cls(Path(folder), int(float(text) * 1e6))
        except (ValueError, OverflowError):
            raise UnreadableSlideError(
                f"{BOUND} is {text!r}; wanted are megabytes, such as {_DEFAULT_MB}."
            ) from None

    def get(self, key: str) -> bytes | None:
        """Return what is kept under `key`, and note that it was used."""
        file = self._file(key)
        try:
            stored = file.read_bytes()
            os.utime(file)
        except OSError:
            return None
        data = stored[_CHECKSUM:]
        return data if stored[:_CHECKSUM] == _checksum(key, data) else None

    def put(self, key: str, data: bytes) -> None:
        """Keep `data`; nothing happens where it has no room, is there, or cannot be written."""
        count = len(data) + _CHECKSUM
        file = self._file(key)
        if count > self.most_bytes * (1 - _AFTER_EVICTION) or file.exists():
            return
        with contextlib.suppress(OSError), self._locked() as ledger:
            # Counted first: a kill between the two makes the cache smaller, never larger.
            held = self._held(ledger) + count
            if held > self.most_bytes:
                held = self._evict(count) + count
            _write(ledger, held)
            self._store(file, _checksum(key, data) + data)

    def _file(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:]}.bytes"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The ledger, a file with the number of bytes that are held, as long as it is ours."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ledger = os.open(self.folder / "held", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            yield ledger
        finally:
            os.close(ledger)  # which also gives the lock back

    def _held(self, ledger: int) -> int:
        text = os.pread(ledger, 32, 0)
        return int(text) if text.isdigit() else self._evict(0)

    def _evict(self, count: int) -> int:
        """Make room for `count` bytes, what was used longest ago first; return what is left."""
        found = sorted(self._found())
        held = sum(size for _, size, _ in found)
        room = self.most_bytes * _AFTER_EVICTION - count
        for _, size, file in found:
            if held > room or file.suffix == ".part":  # of one who was killed: the lock is ours
                file.unlink(missing_ok=True)
                held -= size
        return held

    def _found(self) -> Iterator[tuple[float, int, Path]]:
        for file in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                yield stat.st_mtime, stat.st_size, file

    def _store(self, file: Path, stored: bytes) -> None:
        beside = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            file.parent.mkdir(exist_ok=True)
            beside.write_bytes(stored)
            beside.replace(file)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


def _write(ledger: int, held: int) -> None:
    os.pwrite(ledger, f"{held:032d}".encode(), 0)


def _checksum(key: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM, key=key.encode()[-64:]).digest()
