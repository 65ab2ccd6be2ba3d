import threading
import time

import pytest

from saccade.tiling.threads import in_turn


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_at_first(n: int) -> int:
        time.sleep(0.02 if n < 2 else 0)
        return n * n

    assert list(in_turn(slow_at_first, range(12), 4)) == [n * n for n in range(12)]


def test_no_more_is_begun_than_may_wait() -> None:
    begun: list[int] = []
    results = in_turn(begun.append, range(100), 3)

    for taken in range(1, 20):
        next(results)
        time.sleep(0.001)
        assert len(begun) <= 2 * 3 + taken
    results.close()  # type: ignore[attr-defined]

    assert len(begun) < 30


def test_an_error_ends_the_work() -> None:
    begun, before = [], threading.active_count()

    def fail_at_five(n: int) -> None:
        begun.append(n)
        if n == 5:
            raise RuntimeError("five")

    with pytest.raises(RuntimeError, match="five"):
        list(in_turn(fail_at_five, range(1000), 2))

    assert len(begun) < 20
    assert threading.active_count() == before
