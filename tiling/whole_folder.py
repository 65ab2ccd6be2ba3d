"""A folder that appears whole or not at all.

It is filled beside its place and renamed when complete. Who writes holds a lock that the system
lets go of when the process dies, however it dies; so the next writer can tell the remains of a
killed run, which it removes, from the work of a living one, which it leaves alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MARK = ".partial-"
_LOCK = "lock"


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, which becomes `out` when the block ends without an error.

    What lies at `out` before is replaced then, and not touched until then. Of two writers the
    later one wins; both leave a whole folder.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(out)
    workshop, lock = _open_workshop(out)
    try:
        new = workshop / "new"
        new.mkdir()
        yield new
        _replace(out, new, workshop)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
        os.close(lock)


def _open_workshop(out: Path) -> tuple[Path, int]:
    """A locked folder beside `out`, on the same file system, and the handle of its lock."""
    token = secrets.token_hex(4)
    making = out.with_name(f".{out.name}.making-{token}")
    making.mkdir()
    lock = os.open(making / _LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # Only now gets it the name that others look for: nobody ever finds it without its lock.
    return making.rename(out.with_name(f"{out.name}{_MARK}{token}")), lock


def _replace(out: Path, new: Path, workshop: Path) -> None:
    while True:
        try:
            new.rename(out)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        try:
            out.rename(workshop / f"old-{secrets.token_hex(4)}")
        except FileNotFoundError:  # another writer took the old one away just now
            continue


def _remove_abandoned(out: Path) -> None:
    for found in out.parent.iterdir():
        if found.name.startswith(out.name + _MARK) and _is_abandoned(found):
            shutil.rmtree(found, ignore_errors=True)


def _is_abandoned(workshop: Path) -> bool:
    try:
        lock = os.open(workshop / _LOCK, os.O_RDWR | os.O_CREAT)
    except OSError:  # gone meanwhile, or not ours to touch
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
