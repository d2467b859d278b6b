"""A street: the phones behind one Locust user, and when each of them asks next. Pure.

Fifty thousand greenlets with a socket each would measure Locust. A street has one connection at a
time and many phones, which ask one after another, each when it is due.
"""

from heapq import heapify, heappop, heappush
from random import Random
from typing import NamedTuple, Self

FIRST_BACK_OFF_SECONDS = 30.0
"""After a failed check; doubled from one to the next, as the reference client does."""


class Due(NamedTuple):
    """A phone by its number, and the moment from which it asks."""

    moment: float
    phone: int


class Street:
    """Phones `first` to `first + size`, awake since before the run: first checks are spread."""

    def __init__(
        self, seed: int, first: int, size: int, *, began: float, spread_seconds: float
    ) -> None:
        self._random = Random(f"{seed}/{first}")
        self._heap = [
            Due(began + self._random.random() * spread_seconds, first + at) for at in range(size)
        ]
        heapify(self._heap)
        self._failures: dict[int, int] = {}
        self.first = first
        self.size = size

    def resume(self, before: Self) -> None:
        """Go on where a street of the same phones ended: nobody asks sooner than told there."""
        self._failures = before._failures
        told = {each.phone: each.moment for each in before._heap}
        self._heap = [
            Due(max(each.moment, told.get(each.phone, 0.0)), each.phone) for each in self._heap
        ]
        heapify(self._heap)

    def chance(self, share: float) -> bool:
        """Tell whether it happens now: so often of all times."""
        return self._random.random() < share

    @property
    def next_moment(self) -> float:
        """When the next phone asks."""
        return self._heap[0].moment if self._heap else float("inf")

    def take(self, now: float) -> Due | None:
        """Take the phone that is due; None when none is."""
        return heappop(self._heap) if self.next_moment <= now else None

    def answered(self, phone: int, now: float, seconds: float) -> None:
        """Let a phone ask again after so many seconds."""
        self._failures.pop(phone, None)
        heappush(self._heap, Due(now + seconds, phone))

    def failed(self, phone: int, now: float, *, hurry: float, most_seconds: float) -> None:
        """Let a phone back off: 30 s, doubled each time, up to `most_seconds`; sooner by `hurry`.

        Spread by a fifth, so that phones that failed together do not come back together.
        """
        times = self._failures[phone] = self._failures.get(phone, 0) + 1
        wait = min(FIRST_BACK_OFF_SECONDS * 2.0 ** (times - 1), most_seconds)
        spread = 0.8 + 0.4 * self._random.random()
        heappush(self._heap, Due(now + wait * spread / hurry, phone))

    def wake(self, now: float, within_seconds: float) -> None:
        """Let everyone ask within so many seconds, whatever they were waiting for."""
        self._heap = [
            Due(now + self._random.random() * within_seconds, each.phone) for each in self._heap
        ]
        heapify(self._heap)
