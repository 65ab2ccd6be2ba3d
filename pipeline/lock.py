"""One writer a folder: the second is told, instead of both writing over each other."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saccade.pipeline.errors import ResultsError


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder for the block; the system lets go of it when the process dies, however.

    Raises:
        ResultsError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResultsError(
                f"{folder}: another process is writing there. Wait for it, or choose another --out."
            ) from error
        yield
