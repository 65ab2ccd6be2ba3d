"""Processes that work together, as whoever spreads work over them sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Crew(Protocol):
    """Other processes, on this machine or others, that see the same files under the same paths."""

    def __call__(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Do work that can be pickled on items; results in whatever order they are done.

        A process may be lost and its item done again, even while the first still works on it: so
        work writes files whole, and the same ones each time.
        """
