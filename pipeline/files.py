"""Writing files that appear whole or not at all.

A process may be killed at any moment, so results are written beside their place under another
name and renamed when they are complete; POSIX promises that nobody ever sees half a rename.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MARK = ".partial."


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path to write to; `path` itself appears, or is replaced, when the block ends well.

    The temporary file lies in the folder of `path`, made if missing, and ends in the same name,
    because libraries choose a format by the suffix. After an error it is removed and `path` stays
    as it was. What a killed process left behind is removed by the next writer of the same file.

    Raises:
        FileNotFoundError: if the block wrote nothing.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder) / "greeting.txt") as temporary:
    ...         _ = temporary.write_text("hello")
    ...     (Path(folder) / "greeting.txt").read_text()
    'hello'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    # Beside `path`, as a rename is atomic only within one file system.
    owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{owner}{_MARK}{path.name}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush(path.parent)  # the rename, too, has to survive a power cut


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON that every reader accepts; the same value gives the same bytes.

    Raises:
        ValueError: if a number is NaN or infinite, which JSON cannot hold.
        TypeError: if a part of `value` has no form in JSON.
    """
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_abandoned(path: Path) -> None:
    """Remove temporaries of `path` whose process, on this machine, is gone."""
    for found in path.parent.glob(f".*{_MARK}*"):
        owner, _, target = found.name.partition(_MARK)
        host, _, process = owner.rpartition("-")[0].rpartition("-")
        # Whether a process of another machine still runs cannot be asked from here.
        here = host == f".{socket.gethostname()}" and process.isdigit()
        if target == path.name and here and not _runs(int(process)):
            found.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it runs, as somebody else's
    return True
