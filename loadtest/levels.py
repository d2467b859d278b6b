"""Service levels: what a run must hold, whether it did, and the sentence that says so. Pure."""

from dataclasses import dataclass

from loadtest.referee import Outcome
from loadtest.timeline import Second

UNJUDGED = "unjudged"
"""A sampled answer of which nobody knows whether it was right: its epoch could not be read."""


@dataclass(frozen=True, slots=True)
class Levels:
    """The most that is allowed: of latency in ms, failed checks in %, and sampled answers.

    `unconfirmed` bounds answers that are right only if Redis was away. `sampled` is whether any
    answer is to be judged at all.
    """

    p99_ms: float = 250.0
    failures_percent: float = 0.0
    wrong: int = 0
    unconfirmed: int = 0
    sampled: bool = True


@dataclass(frozen=True, slots=True)
class Level:
    """One level after a run."""

    name: str
    allowed: str
    measured: str
    held: bool


def hold(levels: Levels, total: Second) -> list[Level]:
    """Hold a run, or a part of it, against its levels."""
    checks = total.answered + total.failures
    failed = 100 * total.failures / checks if checks else 100.0
    p99 = total.percentile(0.99)
    measured = "no answer" if p99 is None else f"{p99:,.1f} ms"
    found = [
        Level(
            "p99 of answers",
            f"at most {levels.p99_ms:g} ms",
            measured,
            p99 is not None and p99 <= levels.p99_ms,
        ),
        Level(
            "failed checks",
            f"at most {levels.failures_percent:g} %",
            f"{total.failures:,} of {checks:,} ({failed:.3g} %)",
            failed <= levels.failures_percent,
        ),
    ]
    if levels.sampled:
        found += _of_answers(levels, total)
    return found


def heard(told: int, workers: int) -> Level:
    """Hold a distributed run to its workers: who did not tell all may have hidden anything."""
    return Level("workers heard to the end", "all", f"{told} of {workers}", told == workers)


def _of_answers(levels: Levels, total: Second) -> list[Level]:
    judged = total.judged
    known = judged[Outcome.RIGHT] + judged[Outcome.WRONG] + judged[Outcome.UNCONFIRMED]
    unsure, unjudged = judged[Outcome.UNCONFIRMED], judged[UNJUDGED]
    return [
        Level("judged answers", "at least 1", f"{known:,}", known > 0),
        Level(
            "wrong answers",
            f"at most {levels.wrong:,}",
            f"{judged[Outcome.WRONG]:,} of {known:,} judged",
            judged[Outcome.WRONG] <= levels.wrong,
        ),
        Level(
            "unconfirmed answers",
            f"at most {levels.unconfirmed:,}",
            f"{unsure:,}",
            unsure <= levels.unconfirmed,
        ),
        Level("sampled, but not judged", "at most 0", f"{unjudged:,}", not unjudged),
    ]
