"""Progress: a bar on a terminal, plain lines in a log. All of it goes to stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_EVERY_SECONDS = 10.0
_console = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def say(line: str) -> None:
    """Print a line that stays, above any bar."""
    _console.print(line, markup=False)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with (done, all)."""
    if _console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=_console, transient=True) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield _PlainLines(what)


class _PlainLines:
    """Says how far it is now and then, so that a log of hours stays readable."""

    def __init__(self, what: str) -> None:
        self._what, self._said = what, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._said >= _EVERY_SECONDS:
            self._said = time.monotonic()
            say(f"{self._what}: {done} of {total}")
