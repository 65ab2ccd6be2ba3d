"""Errors of the input become one line and exit code 1; anything else is a bug and shows itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

P = ParamSpec("P")
T = TypeVar("T")


def input_errors_in_one_line(command: Callable[P, T]) -> Callable[P, T]:
    """Let a command end with one line on stderr and exit code 1 when its input is at fault."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except _input_errors() as error:
            typer.secho(f"error: {error}", err=True, fg="red")
            raise typer.Exit(code=1) from error

    return guarded


def _input_errors() -> tuple[type[Exception], ...]:
    # Asked for only when something went wrong: the readers that come along would slow `--help`.
    from saccade.pipeline.errors import InputError
    from saccade.tiling.errors import SlideError

    return InputError, SlideError, OSError
