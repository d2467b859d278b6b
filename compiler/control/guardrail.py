"""Guardrails: when what clients reported of a release stops it. Pure.

Reports are claims. Whoever reaches a gateway can make up ids and report for them, so that `failed`
says what somebody wants it to: therefore a guardrail may pause a canary, never what everyone gets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.plan import Audience, Halt
from gateway.hashing import PERCENT_BUCKETS

MINUTE = 60

LOOK_MINUTES = 30
"""A guardrail is looked at every second up to this period, and as much more seldom as its period is
longer: a look counts each minute of it, and Redis does nothing else meanwhile."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A live release and its guardrail; reports count from the minute `since` (since 1970) on."""

    app: str
    release: str
    halt: Halt
    audience: Audience
    since: int = 0

    @property
    def name(self) -> str:
        """Its name in alarms."""
        return f"{self.app}/{self.release}"

    @property
    def look_seconds(self) -> float:
        """How long a look at it holds."""
        return self.halt.minutes / LOOK_MINUTES

    def minutes(self, now: float) -> range:
        """Give the minutes whose reports count at `now` (Unix seconds)."""
        last = int(now) // MINUTE
        return range(max(self.since, last + 1 - self.halt.minutes), last + 1)


def is_broken(halt: Halt, failed: int, reported: int) -> bool:
    """Tell whether of so many subjects that reported too many failed."""
    return reported >= halt.min_reports and failed * 10_000 > halt.failures * reported


def finding(halt: Halt, failed: int, reported: int) -> str:
    """Say what was counted: `14 of 210 (6.7 %) failed within 30 min`."""
    share = failed * 100 / reported if reported else 0.0
    return f"{failed:,} of {reported:,} ({share:.1f} %) failed within {halt.minutes} min"


def reaches_everyone(audience: Audience, now: int) -> bool:
    """Tell whether an audience is `everyone`, or 100 percent of everyone, at a second."""
    percent = PERCENT_BUCKETS if audience.basis_points is None else audience.basis_points
    if audience.ramp:
        percent = next((step.basis_points for step in audience.ramp[::-1] if step.at <= now), 0)
    rest = replace(audience, basis_points=None, ramp=(), by_user=False)
    return percent == PERCENT_BUCKETS and rest == Audience()


def counted_from(runs: Sequence[tuple[int, str | None]]) -> int:
    """Give the minute from which a release's reports count.

    `runs` says of epochs, the live one first, when each was published (Unix seconds) and which
    version the release offered, None for none. What was reported before a resume, or of another
    version, says nothing of what is offered now; the minute in which it changed is mixed.
    """
    version = runs[0][1]
    since = runs[0][0]
    for at, (published, offered) in enumerate(runs):
        if offered != version:
            mixed = any(earlier is not None for _, earlier in runs[at:])
            return since // MINUTE + mixed
        since = published
    return since // MINUTE
