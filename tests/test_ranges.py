"""Intervals: their algebra agrees with asking every version of a small world."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from compiler.language.ranges import Interval, first_gap, interval
from compiler.plan import Comparison
from gateway.version import VersionKey, parse_version

# Written bounds, and points that lie on and between them.
BOUNDS = ["1", "2", "3-beta", "3", "4.0.1"]
POINTS = ["0", "1", "1.5", "2", "2.5", "3-alpha", "3-beta", "3-rc", "3", "4", "4.0.1", "5"]
SIGNS = {
    ">=": lambda one, other: one >= other,
    ">": lambda one, other: one > other,
    "<=": lambda one, other: one <= other,
    "<": lambda one, other: one < other,
    "=": lambda one, other: one == other,
}
COMPARISONS = [Comparison(sign, bound) for sign, bound in product(SIGNS, BOUNDS)]
RANGES = st.lists(st.sampled_from(COMPARISONS), min_size=1, max_size=3).map(tuple)


def key(text: str) -> VersionKey:
    """Give the key of a version that is one."""
    found = parse_version(text)
    assert found is not None
    return found


def members(comparisons: tuple[Comparison, ...]) -> set[str]:
    """Ask every point whether all comparisons hold: the obvious meaning."""
    return {
        point
        for point in POINTS
        if all(SIGNS[one.sign](key(point), key(one.version)) for one in comparisons)
    }


def points_in(found: Interval) -> set[str]:
    """Ask every point whether it lies in the interval, by its text."""
    text = str(found).split()
    signs = [part.rstrip("0123456789.-abcdefghijklmnopqrstuvwxyz") for part in text]
    return members(
        tuple(
            Comparison(sign, part.removeprefix(sign))
            for sign, part in zip(signs, text, strict=True)
        )
    )


@given(RANGES)
def test_an_interval_is_its_comparisons(comparisons: tuple[Comparison, ...]) -> None:
    """It is empty exactly when no version meets all, and its text has the same members."""
    found = interval(comparisons)
    assert found.is_empty == (not members(comparisons))
    assert points_in(found) == members(comparisons)


@given(RANGES, RANGES)
def test_meet_and_containment(one: tuple[Comparison, ...], other: tuple[Comparison, ...]) -> None:
    """Meeting is intersection, and lying in is being a subset."""
    both = interval(one).meet(interval(other))
    assert points_in(both) == members(one) & members(other)
    if members(one):
        assert interval(one).lies_in(interval(other)) == (members(one) <= members(other))


@given(RANGES, st.lists(RANGES, max_size=3))
def test_the_first_gap(
    wanted: tuple[Comparison, ...], covers: list[tuple[Comparison, ...]]
) -> None:
    """There is a gap exactly when some version is covered by none, and the gap has only such."""
    uncovered = members(wanted) - set().union(*map(members, covers))
    gap = first_gap(interval(wanted), [interval(one) for one in covers])
    assert (gap is None) == (not uncovered)
    if gap is not None:
        assert points_in(gap)
        assert points_in(gap) <= uncovered
