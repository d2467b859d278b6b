"""Reads books in a thread of its own, so that checks go on while an epoch's plan is read."""

from collections.abc import Callable
from typing import Any, TypeVar

import gevent
from gevent.threadpool import ThreadPool

from loadtest.books import Books, open_books
from loadtest.options import Settings
from loadtest.rules import Rules

_CLOSE_SECONDS = 30.0
T = TypeVar("T")


class Clerk:
    """The one thread that opens and reads the books: sockets stay in the thread of their making."""

    def __init__(self, settings: Settings, url_secret: str | None = None) -> None:
        """Open a store's books. Raises StoreError, and ValueError for a Redis URL that is none."""
        self._thread = ThreadPool(1)
        places = (settings.store, settings.workspace, settings.redis, url_secret)
        self._books: Books = self._do(open_books, *places)

    def newest(self) -> Rules:
        """Read the newest epoch; raises as Books.newest does."""
        return self._do(self._books.newest)

    def rules(self, number: int) -> Rules:
        """Read an epoch; raises as Books.rules does."""
        return self._do(self._books.rules, number)

    def close(self) -> None:
        """Wait until the thread is idle: a process that ends under it would crash."""
        with gevent.Timeout(_CLOSE_SECONDS, False):
            self._thread.join()

    def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        """Let the thread do it. A fault comes back as a value, as the thread would print it."""

        def attempt() -> tuple[T | None, Exception | None]:
            try:
                return work(*arguments), None
            except Exception as fault:  # noqa: BLE001 - raised again below
                return None, fault

        found, fault = self._thread.apply(attempt)
        if fault is not None:
            raise fault
        return found
