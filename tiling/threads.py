"""Work shared out over threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_parts(
    work: Callable[[Sequence[T]], R], items: Sequence[T], workers: int, *, least: int = 1
) -> list[R]:
    """Do `work` on up to `workers` stretches of `items`, each in a thread; results in order.

    Args:
        work: called with some consecutive items.
        items: all there is to do.
        workers: threads; with one, everything is done by the caller's.
        least: items that are worth a thread of their own.

    Raises:
        ValueError: if there is no worker.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}.")
    count = max(1, min(workers, len(items) // least))
    if count == 1:
        return [work(items)]
    ends = [len(items) * i // count for i in range(count + 1)]
    parts = [items[start:end] for start, end in pairwise(ends)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, parts))


def in_turn(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Do `work` on items in threads; results in the order of the items, whoever is done first.

    No more than twice as many items as there are workers are under way or wait to be taken.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                if len(waiting) == 2 * workers:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:  # after an error, do no more than what is under way
            pool.shutdown(wait=True, cancel_futures=True)
