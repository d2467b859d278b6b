"""What happened in each second of a load test; timelines of several processes are summed. Pure.

Each process keeps one. A worker's is taken as a message and merged at the master, so that the
report of a distributed run counts everything once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from loadtest.histogram import Histogram, bucket_of, percentile

MOST_SHOWN = 20
"""Answers of one outcome that are kept whole; all are counted."""

BUSY = 0.9
"""From this share of a core on, the event loop of a Locust process is the limit."""

DELAYED_MS = 10.0
"""From this median of the generator's own delays on, latencies are partly the generator's."""


@dataclass(slots=True)
class Second:
    """One second (or more of them, summed) of all processes.

    `answered` and `apps` count by HTTP request and by the app's status in it; `failed` by the
    reason, `judged` by outcome. `delays` are those of Locust's own event loops, of which every
    latency has its part; `late_ms` is the most that a check left after its time, `busy` the
    largest share of a core that a Locust process took.
    """

    answered: int = 0
    times: Histogram = field(default_factory=Counter)
    apps: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    extra: Counter[str] = field(default_factory=Counter)
    delays: Histogram = field(default_factory=Counter)
    late_ms: float = 0.0
    busy: float = 0.0
    phones: int = 0

    def add(self, other: Self) -> None:
        """Add what others counted in the same time."""
        self.answered += other.answered
        for mine, theirs in zip(self._counters(), other._counters(), strict=True):
            mine.update(theirs)
        self.late_ms = max(self.late_ms, other.late_ms)
        self.busy = max(self.busy, other.busy)
        self.phones = max(self.phones, other.phones)

    def _counters(self) -> tuple[Counter[Any], ...]:
        return self.times, self.apps, self.failed, self.judged, self.extra, self.delays

    @property
    def failures(self) -> int:
        """Checks that got no good answer."""
        return self.failed.total()

    @property
    def saturated(self) -> bool:
        """Tell whether Locust itself was the limit, so that times are the generator's."""
        return self.busy >= BUSY or (self.delay(0.5) or 0.0) >= DELAYED_MS

    def percentile(self, share: float) -> float | None:
        """Give a percentile of what good answers took, in milliseconds; None of none."""
        return percentile(self.times, share)

    def delay(self, share: float) -> float | None:
        """Give a percentile of what Locust itself was late by, in milliseconds; None of none."""
        return percentile(self.delays, share)

    def as_data(self) -> list[Any]:
        """Write it for a message between processes."""
        counters = [list(each.items()) for each in self._counters()]
        return [self.answered, *counters, self.late_ms, self.busy, self.phones]

    @classmethod
    def from_data(cls, data: list[Any]) -> Self:
        """Read what `as_data` wrote."""
        answered, *counters, late_ms, busy, phones = data
        read = [Counter(dict(each)) for each in counters]
        return cls(answered, *read, late_ms, busy, phones)


class Timeline:
    """Seconds by Unix time, epochs by the moment they were first seen, and answers not right."""

    def __init__(self) -> None:
        self.seconds: dict[int, Second] = {}
        self.epochs: dict[int, float] = {}
        self.cases: list[dict[str, Any]] = []

    def at(self, moment: float) -> Second:
        """Give the second of a moment, to count in."""
        return self.seconds.setdefault(int(moment), Second())

    def answered(self, moment: float, milliseconds: float, apps: Iterable[str]) -> None:
        """Count a good answer, and the statuses of its apps."""
        second = self.at(moment)
        second.answered += 1
        second.times[bucket_of(milliseconds)] += 1
        second.apps.update(apps)

    def served(self, epoch: int, moment: float) -> bool:
        """Note which epoch an answer names; tell whether it is a newer one than any before."""
        news = epoch > max(self.epochs, default=0)
        self.epochs[epoch] = min(moment, self.epochs.get(epoch, moment))
        return news

    def show(self, case: dict[str, Any]) -> None:
        """Keep an answer that was not right, with its `outcome`, while there is room for it.

        It is counted by `Second.judged`.
        """
        alike = sum(each["outcome"] == case["outcome"] for each in self.cases)
        if alike < MOST_SHOWN:
            self.cases.append(case)

    def take(self) -> dict[str, Any]:
        """Give everything as a message, and begin anew."""
        message = {
            "seconds": [[at, second.as_data()] for at, second in self.seconds.items()],
            "epochs": list(self.epochs.items()),
            "cases": self.cases,
        }
        self.seconds, self.cases = {}, []
        return message

    def merge(self, message: Mapping[str, Any]) -> None:
        """Add what another process has taken."""
        for at, data in message["seconds"]:
            self.at(at).add(Second.from_data(data))
        for epoch, moment in message["epochs"]:
            self.served(epoch, moment)
        for case in message["cases"]:
            self.show(case)

    def total(self, after: float = float("-inf"), before: float = float("inf")) -> Second:
        """Sum the whole seconds from `after` on, up to `before`."""
        found = Second()
        for at, second in self.seconds.items():
            if after <= at < before:
                found.add(second)
        return found

    def span(self) -> tuple[int, int]:
        """Give the first second and the one after the last; (0, 0) of none."""
        if not self.seconds:
            return 0, 0
        return min(self.seconds), max(self.seconds) + 1

    def rows(self, step: int = 1) -> list[tuple[int, Second]]:
        """Give every second, empty ones too, or sums of `step` seconds."""
        first, after = self.span()
        found = {at: Second() for at in range(first, after, step)}
        for at, second in self.seconds.items():
            found[at - (at - first) % step].add(second)
        return list(found.items())
