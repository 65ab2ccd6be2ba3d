"""One writer at a time: the second waits for the first, instead of both writing over each other.

docs/design/second-writer.md says what follows from that for a workflow that is started twice.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

logger = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def exclusive(folder: Path, step: str = "") -> Iterator[None]:
    """Hold what a step writes into the folder, for the block; whoever comes second waits.

    The system lets go of it when the process dies, however. Steps of different names do not wait
    for each other. On a file system without locks (Lustre, mounted without `flock`) a warning says
    that nothing is held.

    Args:
        folder: of results, made if missing.
        step: name of what is written there; without one, all that has no name of its own.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f".{step}.lock" if step else folder / ".lock"
        with path.open("w") as file:
            _hold(file, folder)
            # Whoever held it may have removed the folder: then this is the lock of nothing.
            if _is_at(file, path):
                yield
                return


def _hold(file: TextIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logger.warning("%s: another process is writing there; waiting until it has ended.", folder)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.warning(
            "%s: its file system has no locks (%s), so nothing keeps a second process from writing "
            "there, too.",
            folder,
            error.strerror,
        )


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
