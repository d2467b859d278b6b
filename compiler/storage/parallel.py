"""Work on many items by threads: for stores, which wait more than they compute."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = 16
"""Items worked on at once: a bucket answers slowly."""

WINDOW = 2 * THREADS
"""At most this many items of a stream are held in memory."""

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Give the results in the items' order, with at most WINDOW items taken and not given.

    The first exception of `work` is raised; what has not begun by then is left undone.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        running: deque[Future[R]] = deque()
        try:
            for item in items:
                if len(running) == WINDOW:
                    yield running.popleft().result()
                running.append(pool.submit(work, item))
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
