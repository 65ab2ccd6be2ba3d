"""Another writer, who lets go as soon as somebody waits for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from saccade.pipeline.lock import exclusive, logger

LIMIT_S = 60


@contextmanager
def held_until_waited_for(folder: Path, step: str = "") -> Iterator[None]:
    """Hold a step's lock while the block begins; fail if the block never waited for it."""
    held, waited = Event(), Event()

    def hold() -> None:
        with exclusive(folder, step):
            held.set()
            waited.wait(LIMIT_S)

    holder, ears = Thread(target=hold), _Ears(waited)
    holder.start()
    assert held.wait(LIMIT_S)
    logger.addHandler(ears)
    try:
        yield
        assert waited.is_set(), f"nobody waited for {folder}"
    finally:
        waited.set()
        holder.join()
        logger.removeHandler(ears)


class _Ears(logging.Handler):
    """Sets an event when somebody says that they wait."""

    def __init__(self, waited: Event) -> None:
        super().__init__()
        self._waited = waited

    def emit(self, record: logging.LogRecord) -> None:
        if "waiting until it has ended" in record.getMessage():
            self._waited.set()
