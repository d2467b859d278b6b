"""Tables that work out a value once and remember it, within one bound for a whole worker."""

from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import ref

WORKER_ENTRIES = 250_000
"""What all tables of a worker remember together: some 100 bytes an entry, 400 under attack."""

KEPT_CHARS = 64
"""The longest text that is a key: no brand or model is longer, and four bytes a character count."""

TABLE_ENTRIES = 16_384
"""What one table remembers: more than there are percent buckets, or models of phones."""


class Memory:
    """Counts what a worker's tables remember, and empties the oldest one when it is too much."""

    def __init__(self, entries: int = WORKER_ENTRIES) -> None:
        self._limit = entries
        self._used = 0
        self._filled: deque[ref[Remembered]] = deque()
        self._prune_at = 1_000

    @property
    def used(self) -> int:
        """Tell how many entries all living tables hold."""
        return self._used

    def make_room(self, table: "Remembered", entries: int) -> None:
        """Account for more entries of `table`; the caller stores them right after."""
        if len(table.known) >= TABLE_ENTRIES:
            self.empty(table)
        while self._used + entries > self._limit and self._filled:
            oldest = self._filled.popleft()()
            if oldest is not None:
                oldest.queued = False
                self.empty(oldest)
        if not table.queued:
            table.queued = True
            self._filled.append(ref(table))
            if len(self._filled) > self._prune_at:
                self._filled = deque(kept for kept in self._filled if kept() is not None)
                self._prune_at = max(1_000, 2 * len(self._filled))
        table.held += entries
        self._used += entries

    def gone(self, entries: int) -> None:
        """Account for a table that went with its program."""
        self._used -= entries

    def empty(self, table: "Remembered") -> None:
        """Let a table forget everything."""
        held = table.held  # apart, as `gone` may come from another thread in any call
        self._used -= held
        table.held = 0
        table.known.clear()


class Remembered:
    """A table that works out what it lacks, and never to None: `table[key]`.

    The hot path asks `known.get(key)` itself, and `learn(key)` when that is None. `known` is a
    plain dict, as CPython subscribes a subclass of dict at twice the cost. `queued` is Memory's: it
    has the table among those to empty, once, however often it forgets and is filled again; `held`
    is what the table counts for.
    """

    __slots__ = ("__weakref__", "_memory", "_work_out", "held", "known", "queued")

    def __init__(self, work_out: Callable[[Any], Any], memory: Memory) -> None:
        self.known: dict[Any, Any] = {}
        self.held = 0
        self.queued = False
        self._work_out = work_out
        self._memory = memory

    def __getitem__(self, key: Any) -> Any:
        value = self.known.get(key)
        return self.learn(key) if value is None else value

    def learn(self, key: Any) -> Any:
        """Work out the value of an unknown key, and remember it."""
        value = self._work_out(key)
        # Long texts are not kept: a client chooses them, and the bound counts entries, not bytes.
        if _is_short(key):
            self.keep(key, value)
        return value

    def keep(self, key: Any, value: Any, entries: int = 1) -> None:
        """Remember what is worked out on the way to a value; it may count for several entries."""
        self._memory.make_room(self, entries)
        self.known[key] = value

    def forget(self) -> None:
        """Forget everything."""
        self._memory.empty(self)

    def __del__(self) -> None:
        self._memory.gone(self.held)


def _is_short(key: Any) -> bool:
    if isinstance(key, tuple):  # an answer's: the installed version is in it
        return all(map(_is_short, key))
    return not isinstance(key, str) or len(key) <= KEPT_CHARS
