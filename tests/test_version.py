"""The order of versions: SemVer's examples and ours, written by hand."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.version import PLAN_PARTS, parse_version

RISING = (
    "0",
    "0.0.0.1",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.0.1",
    "1.0.0.1.0.0.0.1",
    "1.0.1",
    "1.2",
    "1.10",
    "2",
    "10.2.3",
    "999999999999999999",
)


def test_versions_rise_as_written() -> None:
    """Every version of the table is below the next one."""
    keys = [parse_version(text) for text in RISING]
    assert None not in keys
    assert all(low < high for low, high in pairwise(keys))


@pytest.mark.parametrize(
    ("one", "other"),
    [("1.0", "1.0.0.0"), ("1", "1.0.0.0.0.0.0.0"), ("007.010", "7.10"), ("1.0+b1", "1.0+b.2")],
)
def test_equal_versions(one: str, other: str) -> None:
    """Absent numbers are zero; leading zeros and the build are ignored."""
    assert parse_version(one) == parse_version(other)


@pytest.mark.parametrize(
    "text",
    [
        *("", "v1", "1.", ".1", "1..2", "1.2.3.4.5.6.7.8.9", "1" * 19, "1.0-", "1.0+", "1.0-a..b"),
        *("1 ", " 1", "1\n", "\u0661.\u0662", "1.0-\u00e4", "-1", "1,0", "1.x", "1.0-a_b", "0x1"),
        "1.0-" + "9" * 5_000,
    ],
)
def test_what_is_no_version(text: str) -> None:
    """Anything else counts as not sent."""
    assert parse_version(text) is None


def test_a_plan_writes_four_numbers() -> None:
    """A client's version may have eight numbers, a plan's four."""
    assert parse_version("1.2.3.4.5") is not None
    assert parse_version("1.2.3.4.5", PLAN_PARTS) is None


@given(st.lists(st.integers(0, 10**18 - 1), min_size=1, max_size=8))
def test_numbers_compare_as_numbers(numbers: list[int]) -> None:
    """Raising the last number raises the version."""
    text = ".".join(map(str, numbers))
    raised = [*numbers[:-1], min(numbers[-1] + 1, 10**18 - 1)]
    key, higher = parse_version(text), parse_version(".".join(map(str, raised)))
    assert key is not None
    assert higher is not None
    assert (key < higher) is (raised != numbers)


@given(st.text(alphabet="019.-+aZ ", max_size=12), st.text(alphabet="019.-+aZ ", max_size=12))
def test_any_two_versions_compare(one: str, other: str) -> None:
    """The order is total: exactly one of <, ==, > holds, whatever the parts."""
    low, high = parse_version(one), parse_version(other)
    if low is not None and high is not None:
        assert (low < high) + (low == high) + (low > high) == 1
