"""99.999 %: which failures, how often, how long, and whose checks fail then. Pure arithmetic.

What fails is counted in checks, not in minutes: a failure that meets a third of the checks for ten
seconds costs a third of ten seconds. A failed check loses nothing: the phone keeps what it has, and
asks again 30 s later; so it is a delay of the news, never a loss.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

YEAR_SECONDS = 365.25 * 86_400
TARGET = 0.99999


@dataclass(frozen=True, slots=True)
class Failure:
    """How often a year something fails, for how many seconds, and which share of checks fails.

    `why` tells where the seconds and the share are from.
    """

    what: str
    a_year: float
    seconds: float
    share: float
    why: str

    @property
    def lost_seconds(self) -> float:
        """Seconds a year in which all checks would have to fail for the same number to fail."""
        return self.a_year * self.seconds * self.share


@dataclass(frozen=True, slots=True)
class Failures:
    """How often things fail, as the operator knows; the rest follows from the fleet."""

    redis_failovers: float = 12
    redis_seconds: float = 3
    crashes: float = 52
    crash_seconds: float = 1
    deploys: float = 104
    machines_a_year: float = 0.5
    machine_seconds: float = 10
    zones_a_year: float = 0.5
    zone_seconds: float = 30


def expected(
    often: Failures, *, machines: int, cores: int, zones: int, asked: float
) -> list[Failure]:
    """List a year's failures of a fleet; `asked` is the share of checks that Redis is asked in.

    `machines_a_year` is a machine's; the others are the whole fleet's.
    """
    zone_share = 1 / zones
    return [
        Failure(
            *("Redis fails over", often.redis_failovers, often.redis_seconds, 0.0),
            f"no check fails (law 9); {asked:.2%} are answered without their lists",
        ),
        Failure(
            *("a worker crashes", often.crashes, often.crash_seconds, 1 / cores),
            "its connections end; others of the machine answer on, another starts",
        ),
        Failure(
            *("a deploy", often.deploys, 0.0, 0.0),
            "workers are replaced one after the other; each finishes what it began",
        ),
        Failure(
            *("a machine is lost", often.machines_a_year * machines, often.machine_seconds),
            *(1 / machines, "until the balancer's health checks have noticed"),
        ),
        Failure(
            *("a zone is lost", often.zones_a_year, often.zone_seconds, zone_share),
            "until it is out of the balancer or the DNS; the others have its cores to spare"
            if zones > 1
            else "there is no other: give --zone-seconds what it takes to return",
        ),
    ]


def availability(failures: Iterable[Failure]) -> float:
    """Give the share of a year's checks that do not fail."""
    return 1 - sum(each.lost_seconds for each in failures) / YEAR_SECONDS


def allowed_seconds(target: float = TARGET) -> float:
    """Give the seconds a year that a target lets be lost: 316 for 99.999 %."""
    return (1 - target) * YEAR_SECONDS


def worst(failures: Sequence[Failure]) -> Failure:
    """Name the failure that costs most."""
    return max(failures, key=lambda each: each.lost_seconds)
