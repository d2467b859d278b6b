"""An epoch's ids and seats, searched where they lie as bytes."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import crowds
from compiler.plan import ListSource
from gateway.hashing import id_hash, id_seed
from loadtest.rules import Ids, Rules, SeatHashes

RULES = crowds.rules()
ids = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=4)
near = st.text("ab\x00é中", max_size=3)  # many prefixes of one another


@given(st.sets(ids | near.filter(bool)), st.lists(ids | near, max_size=30))
def test_a_list_has_the_ids_that_it_has(listed: set[str], asked: list[str]) -> None:
    """Every id of the text is found, and no other: not a part of one, nor two of them."""
    found = crowds.ids_of(sorted(listed))
    assert all(each in found for each in listed)
    for each in asked:
        assert (each in found) is (each in listed)
    for one, other in zip(sorted(listed), sorted(listed)[1:], strict=False):
        assert f"{one}\n{other}" not in found
    assert "" not in found


@given(st.sets(ids, min_size=1), st.integers(1, 12))
def test_a_sample_is_of_the_list(listed: set[str], most: int) -> None:
    """A sample has so many ids of the list at most, each once, and its first one."""
    found = crowds.ids_of(sorted(listed)).sample(most)
    assert 0 < len(found) <= most
    assert set(found) <= listed
    assert len(set(found)) == len(found)
    assert found[0] == min(listed, key=str.encode)
    assert set(crowds.ids_of(sorted(listed)).sample(1000)) == listed


def test_an_empty_list_has_no_sample() -> None:
    """No ids, no sample, and nobody on it."""
    assert Ids(b"").sample(5) == []
    assert "a" not in Ids(b"")


@given(st.sets(st.integers(0, 2**64 - 1), max_size=40), st.integers(0, 2**64 - 1))
def test_a_window_has_the_seats_that_it_has(seated: set[int], asked: int) -> None:
    """Every hash in the sorted bytes is found, and no other."""
    found = SeatHashes(b"".join(each.to_bytes(8, "big") for each in sorted(seated)))
    assert all(each in found for each in seated)
    assert (asked in found) is (asked in seated)
    assert all((each ^ 1 in found) is (each ^ 1 in seated) for each in seated)


@pytest.mark.parametrize(
    ("phone", "surely"),
    [
        ({"user": "s-001", "device": "p-001"}, {"staff", "phones", "testers"}),
        ({"user": "s-100"}, {"staff"}),
        ({"user": "p-001", "device": "s-001"}, set()),
        ({"user": "unknown", "device": "0"}, set()),
        ({"user": ["s-001"]}, set()),
        ({}, set()),
    ],
)
def test_an_id_counts_on_lists_of_its_kind(phone: dict[str, Any], surely: set[str]) -> None:
    """A user is on no list of devices; what is away is unknown, expressions never are."""
    assert RULES.memberships(phone).surely == surely
    assert not RULES.memberships(phone).unknown
    away = RULES.memberships(phone, frozenset(("user", "device")))
    assert away.surely == surely & {"testers"}
    kinds = {"staff": "user", "phones": "device"}
    real = {kind for kind in ("user", "device") if str(phone.get(kind, "0"))[:2] in ("s-", "p-")}
    assert away.unknown == {name for name, kind in kinds.items() if kind in real}


def test_only_likely_members_need_looking_up() -> None:
    """All members are looked up, hardly any stranger; without the table anybody may be."""
    assert all("user" in RULES.looked_up({"user": each}) for each in crowds.IDS["staff"])
    assert all("device" in RULES.looked_up({"device": each}) for each in crowds.IDS["phones"])
    strangers = [{"user": f"n-{number}", "device": f"n-{number}"} for number in range(500)]
    asked = sum(len(RULES.looked_up(each)) for each in strangers)
    assert 0 < asked < 100
    bare = replace(RULES, table=None)
    assert bare.looked_up(strangers[0]) == ["user", "device"]
    assert bare.looked_up({"user": "0"}) == []


def test_one_app_is_judged_by_a_plan_of_its_own() -> None:
    """The plan of one app has that app alone; of an app that is not there, it is the whole."""
    assert [app.id for app in RULES.plan_of("tea").apps] == ["tea"]
    assert RULES.plan_of("tea") is RULES.plan_of("tea")
    assert RULES.plan_of("nothing") is RULES.plan
    assert RULES.plan_of("tea").switches == RULES.plan.switches


def test_a_list_of_expressions_is_searched_in_the_id_as_written() -> None:
    """Any of its expressions is enough, anywhere in the id."""
    source = ListSource("qa", "device", regex=("^qa-", "7$"))
    plan = replace(RULES.plan, lists=(source,))
    rules = Rules(1, plan)
    for device, on in (("qa-1", True), ("x7", True), ("x-qa-1", False), ("QA-1", False)):
        assert bool(rules.memberships({"device": device}).surely) is on
    assert not rules.memberships({"user": "qa-7"}).surely


def test_a_seat_is_that_of_the_kind_that_counts() -> None:
    """A window of subjects counts the device, and the user only of who sends no device."""
    app = RULES.apps["cake"]
    hashed = id_hash("d-1-3", id_seed("demo", "device"))
    assert hashed in RULES.frozen["cake", "first"]
    seated = {("cake", "first")}
    assert RULES.windows({"device": "d-1-3"}, app) == (seated, set())
    assert RULES.windows({"user": "d-1-3"}, app) == (set(), set())
    assert RULES.windows({"device": "d-1-3"}, app, frozenset(("device",))) == (set(), set())
    assert RULES.windows({"device": "d-1-3"}, app, frozenset(("user",))) == (seated, set())
    assert RULES.windows({"device": "d"}, RULES.apps["tea"]) == (set(), {("tea", "first")})
    assert RULES.windows({}, RULES.apps["tea"]) == (set(), set())


def test_a_window_by_user_counts_no_device() -> None:
    """With `by: user` who sends no user id has no seat, whatever the device."""
    tea = RULES.apps["tea"]
    first, *others = tea.releases
    by_user = replace(first, audience=replace(first.audience, by_user=True))
    app = replace(tea, releases=(by_user, *others))
    assert RULES.windows({"device": "d"}, app) == (set(), set())
    assert RULES.windows({"device": "d", "user": "u"}, app) == (set(), {("tea", "first")})
    frozen = id_hash("u", id_seed("demo", "user")).to_bytes(8, "big")
    rules = replace(RULES, frozen={("tea", "first"): SeatHashes(frozen)})
    assert rules.windows({"device": "u"}, app) == (set(), set())
    assert rules.windows({"device": "d", "user": "u"}, app) == ({("tea", "first")}, set())
