"""What was measured, as tables for people and as JSON: medians, spreads, and the budgets."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from loadtest import rows
from loadtest.wrk import Found

_SHOWN_US = 0.3
"""Less is what a Redis does while nobody asks it."""

Rounds = Mapping[str, Sequence["Measured"]]
"""The rounds of each row, by its name and in order; all have equally many."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One round of one row: what wrk found, CPU seconds of server and Redis, look-ups given up."""

    found: Found
    cpu_seconds: float
    redis_seconds: float
    given_up: int

    @property
    def rate(self) -> float:
        """Checks a second."""
        return self.found.answers / self.found.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of the server's CPU a check, user and system."""
        return self.cpu_seconds / self.found.answers * 1e6

    @property
    def redis_us(self) -> float:
        """Microseconds of Redis's CPU a check."""
        return self.redis_seconds / self.found.answers * 1e6


class Budget(NamedTuple):
    """A bound on a figure of one row against another's, as design.md's section 7 has it."""

    what: str
    row: str
    against: str
    figure: str
    at_least: bool
    bound: float


BUDGETS = (
    Budget("one app: CPU, against nginx", rows.ONE, rows.NGINX, "cpu_us", False, 1.3),
    Budget("one app: rate, against aiohttp", rows.ONE, rows.AIOHTTP, "rate", True, 4),
    Budget("one app: rate, against uvicorn", rows.ONE, rows.UVICORN, "rate", True, 2),
    Budget("new connection: CPU, against nginx", rows.NEW, rows.NGINX_NEW, "cpu_us", False, 1.3),
    Budget("20 apps: CPU, against one app", rows.TWENTY, rows.ONE, "cpu_us", False, 3),
    Budget(
        *("1,000 releases: CPU, against 10", rows.RELEASES_1000, rows.RELEASES_10),
        *("cpu_us", False, 1.15),
    ),
    Budget("stranger: CPU, against no list", rows.STRANGER, rows.ONE, "cpu_us", False, 1.1),
    Budget("every subject a member: rate, no list", rows.FIRST, rows.ONE, "rate", True, 0.5),
)


class Ratio(NamedTuple):
    """A ratio taken within each round: the median over the rounds, the lowest, the highest."""

    median: float
    low: float
    high: float


def ratio(rounds: Rounds, row: str, against: str, figure: str) -> Ratio | None:
    """Compare two rows by a figure, round by round; None when one was not measured."""
    if row not in rounds or against not in rounds:
        return None
    found = [
        getattr(one, figure) / getattr(other, figure)
        for one, other in zip(rounds[row], rounds[against], strict=True)
        if getattr(other, figure)
    ]
    return Ratio(statistics.median(found), min(found), max(found)) if found else None


_COLUMNS = (
    *(("checks/s", 9), ("CPU µs", 8), ("Redis", 7), ("p50 ms", 8), ("p99 ms", 8)),
    *(("to nginx", 10), ("spread", 15), ("server", 8), ("wrk", 6), ("wrong", 7)),
)
_WIDTH = 40


def as_text(rounds: Rounds, wrong: Mapping[str, int]) -> str:
    """Write the table of rows and that of the budgets."""
    lines = [" " * _WIDTH + "".join(f"{name:>{width}}" for name, width in _COLUMNS)]
    for name, each in rounds.items():
        against = ratio(rounds, name, rows.NGINX, "cpu_us")
        lines.append(_row(name, figures(each), against, wrong[name]))
    budgets = [
        (budget, reached)
        for budget in BUDGETS
        if (reached := ratio(rounds, budget.row, budget.against, budget.figure)) is not None
    ]
    if budgets:
        lines += ["", f"{'budget':{_WIDTH}}{'bound':>9}{'reached':>9}{'spread':>16}{'by CPU':>8}"]
    for budget, reached in budgets:
        bound = f"{'≥' if budget.at_least else '≤'} {budget.bound:g}"
        said = "yes" if holds(budget, reached) else "no"
        median, apart = _shown(reached.median), by_cpu(rounds, budget)
        aside = "" if apart is None else _shown(apart.median)
        spread = _spread(reached)
        lines.append(f"{budget.what:{_WIDTH}}{bound:>9}{median:>9}{spread:>16}{aside:>8}  {said}")
    return "\n".join(lines)


def _row(name: str, found: Mapping[str, float], against: Ratio | None, wrong: int) -> str:
    redis = found["redis_us"]
    cells = (
        f"{found['rate']:,.0f}",
        f"{found['cpu_us']:.1f}",
        f"{redis:.1f}" if redis >= _SHOWN_US else "",
        f"{found['p50_ms']:.2f}",
        f"{found['p99_ms']:.2f}",
        _shown(against.median) if against else "",
        _spread(against) if against else "",
        f"{found['server_busy']:.0%}",
        f"{found['wrk_busy']:.0%}",
        f"{wrong}",
    )
    widths = (width for _, width in _COLUMNS)
    return f"{name:{_WIDTH}}" + "".join(map(str.rjust, cells, widths))


def _spread(found: Ratio) -> str:
    return f"{_shown(found.low)} to {_shown(found.high)}"


def _shown(number: float) -> str:
    """Write a ratio by three digits or so."""
    return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f}"


def by_cpu(rounds: Rounds, budget: Budget) -> Ratio | None:
    """Give what a ratio of rates would be if each server had its core for itself; else None.

    A server that waits for nothing answers as often as its CPU time allows. On a machine that
    others use this is the steadier figure.
    """
    if budget.figure != "rate":
        return None
    return ratio(rounds, budget.against, budget.row, "cpu_us")


def holds(budget: Budget, reached: Ratio) -> bool:
    """Tell whether the median is within the budget."""
    if budget.at_least:
        return reached.median >= budget.bound
    return reached.median <= budget.bound


def as_json(rounds: Rounds, wrong: Mapping[str, int]) -> dict[str, Any]:
    """Give the same as data, with every round."""
    found: dict[str, Any] = {"rows": [], "budgets": []}
    for name, each in rounds.items():
        against = ratio(rounds, name, rows.NGINX, "cpu_us")
        given_up = sum(one.given_up for one in each)
        row = {"row": name, **figures(each), "wrong": wrong[name], "given_up": given_up}
        row["cpu_against_nginx"] = against._asdict() if against else None
        row["rounds"] = [figures([one]) for one in each]
        found["rows"].append(row)
    for budget in BUDGETS:
        reached = ratio(rounds, budget.row, budget.against, budget.figure)
        if reached is not None:
            apart = by_cpu(rounds, budget)
            held = {"reached": reached._asdict(), "holds": holds(budget, reached)}
            held["by_cpu"] = apart._asdict() if apart else None
            found["budgets"].append(budget._asdict() | held)
    return found


def figures(rounds: Sequence[Measured]) -> dict[str, float]:
    """Give a row's figures: medians over its rounds."""
    every = {
        "rate": [each.rate for each in rounds],
        "cpu_us": [each.cpu_us for each in rounds],
        "redis_us": [each.redis_us for each in rounds],
        "p50_ms": [each.found.p50_ms for each in rounds],
        "p99_ms": [each.found.p99_ms for each in rounds],
        "server_busy": [each.cpu_seconds / each.found.seconds for each in rounds],
        "wrk_busy": [each.found.busy for each in rounds],
        "answer_bytes": [each.found.received / each.found.answers for each in rounds],
    }
    return {name: statistics.median(values) for name, values in every.items()}
