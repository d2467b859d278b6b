"""A meter: bytes done by several threads, told to one progress; and how to make the threads end."""

import threading
from collections import Counter

from compiler.progress import Progress


class StoppedError(Exception):
    """The work was given up, by Ctrl-C or for a fault elsewhere; nobody has to hear of it."""


class Meter:
    """Counts bytes of named work; safe in many threads."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._done: Counter[str] = Counter()
        self._total: Counter[str] = Counter()
        self._stopped = False

    def expect(self, what: str, size: int) -> None:
        """Hear of so many more bytes to do."""
        with self._lock:
            self._total[what] += size

    def add(self, what: str, size: int) -> None:
        """Hear of so many more bytes done. Raises StoppedError, once the work was given up."""
        with self._lock:
            if self._stopped:
                raise StoppedError
            self._done[what] += size
            self._progress(what, self._done[what], max(self._total[what], self._done[what]))

    def stop(self) -> None:
        """Make every thread that counts here end at its next step."""
        self._stopped = True
