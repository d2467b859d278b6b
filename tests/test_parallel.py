"""Work by threads: in order, bounded, and ended soon when it is given up."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from compiler.storage.parallel import in_parallel


def test_results_come_in_order_and_none_is_lost() -> None:
    """Whoever finishes first, results come in the items' order; ending well abandons nothing."""
    abandoned: list[bool] = []
    found = in_parallel(
        lambda n: threading.Event().wait(0.001 * (n % 7)) or n,
        range(100),
        3,
        lambda: abandoned.append(True),
    )
    with closing(found):
        assert [next(found) for _ in range(100)] == list(range(100))
    assert not abandoned


def test_a_failure_abandons_what_runs() -> None:
    """When one item fails, what runs is told to end, and what has not begun never begins."""
    stop = threading.Event()
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            raise ValueError("one")
        assert number == 0 or stop.wait(30), "nobody told it to end"

    with pytest.raises(ValueError, match="one"):
        list(in_parallel(work, range(50), 2, stop.set))
    assert len(begun) < 10


def test_a_failing_source_abandons_what_runs() -> None:
    """When items cannot be had any more, as after Ctrl-C, what runs is told to end as well."""
    stop = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_parallel(lambda _: stop.wait(30), items(), 2, stop.set))
    assert stop.is_set()
