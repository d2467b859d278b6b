"""Work on many items by threads: for stores, which wait more than they compute."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = 16
"""Items worked on at once: a bucket answers slowly."""

WINDOW = 2 * THREADS
"""At most this many items of a stream are held in memory, with so many threads."""

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(
    work: Callable[[T], R],
    items: Iterable[T],
    threads: int = THREADS,
    abandon: Callable[[], None] = lambda: None,
) -> Generator[R, None, None]:
    """Give the results in the items' order, with at most two items a thread taken and not given.

    The first exception of `work` is raised; what has not begun by then is left undone, and what
    runs is waited for: `abandon` is called before that, also on Ctrl-C, and may hurry it.
    """
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[R]] = deque()
        try:
            for item in items:
                while running and (len(running) == 2 * threads or running[0].done()):
                    yield _first(running)
                running.append(pool.submit(work, item))
            while running:
                yield _first(running)
        except BaseException:
            if running:
                abandon()
            raise
        finally:
            for future in running:
                future.cancel()


def _first(running: deque[Future[R]]) -> R:
    found = running[0].result()
    running.popleft()  # not before: what is waited for when Ctrl-C comes is to be abandoned, too
    return found
