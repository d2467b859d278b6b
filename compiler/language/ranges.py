"""Intervals of versions or numbers: whether one is empty, lies in another, or is covered.

Host-app ranges and the range conditions of a release become intervals for the cross-checks. The
gateway never sees them. Between any two versions lie others (a client may have eight numbers and
a prerelease), so an interval is empty only if its ends say so.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from compiler.plan import Comparison
from gateway.version import PLAN_PARTS, parse_version


@dataclass(frozen=True, slots=True)
class Bound:
    """One end: the value that compares, its text, and whether it belongs to the interval."""

    value: Any  # a version's key or a number; one interval's ends are of one kind
    text: str
    included: bool


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`; None is without an end."""

    low: Bound | None = None
    high: Bound | None = None

    @property
    def is_empty(self) -> bool:
        """Tell whether no value can lie in it."""
        if self.low is None or self.high is None:
            return False
        if self.low.value == self.high.value:
            return not (self.low.included and self.high.included)
        return bool(self.low.value > self.high.value)

    def meet(self, other: "Interval") -> "Interval":
        """Give what lies in both."""
        low = other.low if _starts_before(self.low, other.low) else self.low
        high = other.high if _ends_before(other.high, self.high) else self.high
        return Interval(low, high)

    def lies_in(self, other: "Interval") -> bool:
        """Tell whether all of it lies in the other."""
        return not _starts_before(self.low, other.low) and not _ends_before(other.high, self.high)

    def __str__(self) -> str:
        """Write it as a host-app range."""
        parts = []
        if self.low is not None:
            parts.append(f"{'>=' if self.low.included else '>'}{self.low.text}")
        if self.high is not None:
            parts.append(f"{'<=' if self.high.included else '<'}{self.high.text}")
        return " ".join(parts) or ">=0"


def _starts_before(one: Bound | None, other: Bound | None) -> bool:
    """Tell whether an interval that starts at `one` starts before one that starts at `other`."""
    if other is None:
        return False
    if one is None or one.value < other.value:
        return True
    return bool(one.value == other.value and one.included and not other.included)


def _ends_before(one: Bound | None, other: Bound | None) -> bool:
    """Tell whether an interval that ends at `one` ends before one that ends at `other`."""
    if one is None:
        return False
    if other is None or one.value < other.value:
        return True
    return bool(one.value == other.value and not one.included and other.included)


@lru_cache(maxsize=4096)
def interval(comparisons: tuple[Comparison, ...]) -> Interval:
    """Give the interval of a host-app range: all comparisons hold."""
    found = Interval()
    for comparison in comparisons:
        key = parse_version(comparison.version, PLAN_PARTS)
        bound = Bound(key, comparison.version, included=comparison.sign in {">=", "<=", "="})
        if comparison.sign in {">=", ">", "="}:
            found = found.meet(Interval(low=bound))
        if comparison.sign in {"<=", "<", "="}:
            found = found.meet(Interval(high=bound))
    return found


def first_gap(wanted: Interval, covers: Iterable[Interval]) -> Interval | None:
    """Give the first part of `wanted` that lies in none of the others; None: all is covered."""
    rest = wanted
    progress = True
    pieces = list(covers)
    while progress and not rest.is_empty:
        progress = False
        for piece in pieces:
            # A piece that starts no later than the rest and ends within it eats its beginning.
            if piece.is_empty or _starts_before(rest.low, piece.low):
                continue
            if piece.high is None:
                return None
            beginning = Interval(
                Bound(piece.high.value, piece.high.text, included=not piece.high.included)
            )
            if _starts_before(rest.low, beginning.low):
                rest = rest.meet(beginning)
                progress = True
    if rest.is_empty:
        return None
    starts = [piece.low for piece in pieces if piece.low and _starts_before(rest.low, piece.low)]
    for low in starts:
        rest = rest.meet(Interval(high=Bound(low.value, low.text, included=not low.included)))
    return rest


def gaps(wanted: Interval, covers: Sequence[Interval]) -> Iterator[Interval]:
    """Give every part of `wanted` that lies in none of the others, the lowest first."""
    rest = wanted
    while (gap := first_gap(rest, covers)) is not None:
        yield gap
        if gap.high is None:
            return
        rest = rest.meet(
            Interval(Bound(gap.high.value, gap.high.text, included=not gap.high.included))
        )


Hosts = Mapping[str, tuple[Comparison, ...]] | None
"""The host apps that can run a package, by platform; None: all of them."""


def unserved(hosts: Hosts, others: Sequence[Hosts]) -> Iterator[tuple[str, Interval]]:
    """Give the host apps of one package that no other serves: platform and range.

    The platform is empty for those that nobody names.
    """
    named = [other for other in others if other is not None]
    if len(named) < len(others):
        return
    wanted = hosts if hosts is not None else {name: () for other in named for name in other}
    for platform, comparisons in sorted(wanted.items()):
        covers = [interval(other[platform]) for other in named if platform in other]
        for gap in gaps(interval(comparisons), covers):
            yield platform, gap
    if hosts is None:
        yield "", Interval()
