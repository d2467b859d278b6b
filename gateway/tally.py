"""What this process has counted and not yet added to the sums in Redis (sums.py). Pure; bounded.

Reports are kept as distinct subjects by place, ENTRIES of them and of places together; while Redis
is away they wait, and what is new beyond that bound is dropped. The census has one number for each
version of an app that the plan has, and needs no other bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.report import Place

ENTRIES = 50_000
"""Subjects of all places, and places: some 5 MB."""

NONE = "none"
"""The census's name for phones without a readable version; it is no version itself."""

Census = dict[tuple[str, str], int]
"""Checks by app and installed version: one that the plan has, NONE, or `other`."""


@dataclass(slots=True)
class Heard:
    """Reports of one place: how many, and whose, by the hash of a device or user."""

    times: int = 0
    subjects: set[int] = field(default_factory=set)


Reported = dict[Place, Heard]


class Tally:
    """The counts of one process, on their way to Redis."""

    def __init__(self, entries: int = ENTRIES) -> None:
        self._limit = entries
        self._reported: Reported = {}
        self._held = 0
        self._census: Census = {}

    @property
    def held(self) -> int:
        """Tell how many entries wait, or are on their way; never over the limit."""
        return self._held

    def report(self, place: Place, subject: int | None) -> bool:
        """Count a report; False when that would be an entry too many, and it was dropped."""
        heard = self._reported.get(place)
        new = (heard is None) + (
            subject is not None and (heard is None or subject not in heard.subjects)
        )
        if self._held + new > self._limit:
            return False
        if heard is None:
            heard = self._reported[place] = Heard()
        heard.times += 1
        if subject is not None:
            heard.subjects.add(subject)
        self._held += new
        return True

    def take_reported(self) -> Reported:
        """Give all reports, which are still held until they are let go or restored."""
        taken, self._reported = self._reported, {}
        return taken

    def let_go(self, taken: Reported) -> None:
        """Forget what was taken, or a part of it: it is in Redis."""
        self._held -= _entries(taken)

    def restore(self, taken: Reported) -> None:
        """Take back what was taken, or a part of it: it did not get to Redis."""
        for place, heard in taken.items():
            here = self._reported.get(place)
            if here is None:
                self._reported[place] = heard
                continue
            apart = len(here.subjects) + len(heard.subjects)
            here.times += heard.times
            here.subjects |= heard.subjects
            self._held -= 1 + apart - len(here.subjects)

    def check(self, app: str, version: str, times: int) -> None:
        """Count checks of an app from an installed version, "" for none."""
        key = app, version or NONE
        self._census[key] = self._census.get(key, 0) + times

    def take_census(self) -> Census:
        """Give the census since the last time, and begin anew."""
        taken, self._census = self._census, {}
        return taken

    def restore_census(self, taken: Mapping[tuple[str, str], int]) -> None:
        """Take back what did not get to Redis, or a part of it."""
        for (app, version), times in taken.items():
            self.check(app, version, times)


def _entries(reported: Reported) -> int:
    return len(reported) + sum(len(heard.subjects) for heard in reported.values())
