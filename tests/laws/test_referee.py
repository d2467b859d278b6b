"""The referee: it finds right what a gateway says, and nothing else."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random
from time import process_time
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import crowds
import plans
import snapshots
import switch_plans
from compiler.image import build_image
from compiler.language.reading import read_files
from compiler.plan import Encryption
from compiler.reference import Seats
from compiler.windows import freeze
from gateway.cdn import secure_link
from gateway.hashing import id_hash, id_seed
from loadtest.population import Population
from loadtest.referee import Outcome, judge, windows_won
from loadtest.rules import Rules, SeatHashes

SOAK = "TIDEGATE_SOAK" in os.environ
PLANS = 3_000 if SOAK else 40
PHONES = 15
CROWD = 20_000 if SOAK else 250
ALL = list(HealthCheck)
NOW = crowds.STARTS + 100
STAFF = {"user": "s-100", "client_version": "10.3", "platform": "android"}
SEEN: Counter[str] = Counter()
SPENT: list[float] = []
RULES = crowds.rules()
DESK = crowds.desk(crowds.image())


def outcome(
    phone: Mapping[str, Any], answer: Any, second: float = NOW, rules: Rules = RULES, **more: Any
) -> Outcome:
    """Judge an answer that took no time."""
    return judge(rules, phone, answer, second, second, **more).outcome


def asked(phone: Mapping[str, Any], second: int = NOW, *, seat: bool = False) -> Any:
    """Ask the gateway."""
    return orjson.loads(DESK.ask(phone, second, seat=seat))


def crowd(count: int = CROWD) -> Iterator[tuple[dict[str, Any], Any]]:
    """Give phones and their right answers, some of which a window has seated."""
    population = Population(1, count, RULES.plan, RULES.members(), member_share=0.2)
    for number in range(count):
        phone = population.phone(number)
        yield phone, asked(phone, seat=number % 2 > 0)


def rules_of(opened: snapshots.Opened) -> Rules:
    """Write down the rules of a random plan."""

    def hashed(kind: str, text: str) -> int:
        return id_hash(text, id_seed(opened.plan.workspace.name, kind))

    frozen = {
        window: freeze(np.array([hashed(*each) for each in sorted(subjects)], np.uint64)).seats
        for window, subjects in opened.frozen.items()
    }
    lists = {name: crowds.ids_of(ids) for name, ids in opened.ids.items()}
    seats = {name: SeatHashes(each) for name, each in frozen.items()}
    return Rules(1, opened.plan, lists, seats, table=opened.snapshot._table)


@settings(max_examples=PLANS, deadline=None, derandomize=not SOAK, suppress_health_check=ALL)
@given(drawn=switch_plans.switched_plans(), seed=st.integers(0, 2**32))
def test_a_gateway_is_right(drawn: Any, seed: int) -> None:
    """Whatever the plan, phone and second: right; and with Redis away right or unconfirmed."""
    random = Random(seed)
    plan, ids = drawn
    overrides = plans.overrides(plan, random) if random.random() < 0.3 else []
    more = switch_plans.to_file(plan, random)
    opened = snapshots.open_plan(plan, ids, random, overrides=overrides, more=more)
    rules = rules_of(opened)
    windows = [(app, release) for app, release, _ in snapshots.windows_in(opened.plan)]
    for phone in plans.phones(opened.plan, random, PHONES):
        phone["switches"] = random.random() < 0.3
        down = random.random() < 0.3
        second = plans.NOW + random.randint(-4, 4)
        seated, free = (frozenset(w for w in windows if random.random() < 0.5) for _ in "ab")
        redis = Seats() if down else Seats(seated, free)
        answer = orjson.loads(opened.ask(phone, second, down=down, redis=redis))
        began = process_time()
        verdict = judge(rules, phone, answer, second - random.random(), second + 0.9)
        SPENT.append(process_time() - began)
        SEEN[f"{verdict.outcome}{' without Redis' if down else ''}"] += 1
        assert verdict.outcome is not Outcome.WRONG, verdict.sentence
        assert down or verdict.outcome is Outcome.RIGHT, verdict.sentence


def test_the_law_above_saw_redis_away() -> None:
    """Of the answers above some were unconfirmed, and those were asked for without Redis."""
    print(f"\nreferee: {dict(SEEN)}, {1e6 * sum(SPENT) / len(SPENT):.0f} µs of CPU an answer")
    assert SEEN["right"] > 100
    assert SEEN["right without Redis"] > 10
    assert SEEN["unconfirmed without Redis"] > 0
    assert len(SEEN) == 3


def mutants(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Give every JSON value that differs from this one in one place, and that place."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*path, name), {key: each for key, each in value.items() if key != name}
            yield from (
                (place, value | {name: each}) for place, each in mutants(inner, (*path, name))
            )
        yield path, value | {"more": 1}
    elif isinstance(value, list):
        yield path, [*value, *value[:1]]
        yield path, value[:-1]
        yield path, [*value[1:], *value[:1]]
        for at, inner in enumerate(value):
            yield from (
                (place, [*value[:at], each, *value[at + 1 :]])
                for place, each in mutants(inner, (*path, at))
            )
    elif isinstance(value, str):
        yield from ((path, each) for each in (f"{value}x", value[:-1], None, 7))
    elif isinstance(value, bool):
        yield from ((path, each) for each in (not value, int(value)))
    else:
        yield from ((path, each) for each in (value + 1, value - 1, float(value), str(value)))


def test_whatever_is_wrong_in_an_answer_is_noticed() -> None:
    """A right answer with one thing changed, left out or added, anywhere in it, is wrong."""
    seen: set[str] = set()
    tried = 0
    for phone, answer in crowd():
        assert outcome(phone, answer) is Outcome.RIGHT
        changed = list(mutants(answer))
        names = {each for path, _ in changed for each in path if isinstance(each, str)}
        if names <= seen and not SOAK:
            continue
        seen |= names
        for path, mutant in changed:
            same = json.dumps(mutant) == json.dumps(answer)  # a list of one, turned round
            near = path == ("check_after",) and type(mutant.get("check_after")) is int
            if not (same or near or path[-1:] == ("detail",)):
                tried += 1
                assert outcome(phone, mutant) is Outcome.WRONG, path
    needed = {"app", "check_after", "download", "epoch", "from", "format", "info", "install"}
    needed |= {"package", "patch", "release", "sha256", "size", "status", "switches", "upgrade"}
    assert needed | {"transfer_sha256", "transfer_size", "urls", "version", "variant"} <= seen
    assert tried > 400, tried


def test_another_decision_is_noticed() -> None:
    """What is right for one phone is wrong for every phone to whom the plan gives something else.

    But for tea, where a window is open, and for what Redis may have kept back.
    """
    told: dict[str, dict[str, Any]] = {}
    crowded = list(crowd())
    for _, answer in crowded:
        for each in answer["apps"]:
            told.setdefault(each["app"], {})[json.dumps(each)] = each
    assert len(told[crowds.COFFEE]) > 20
    random = Random(1)
    found: Counter[Outcome] = Counter()
    for phone, answer in crowded:
        for at, right in enumerate(answer["apps"]):
            other = random.choice(list(told[right["app"]].values()))
            if other != right and right["app"] != "tea":
                apps = [*answer["apps"][:at], other, *answer["apps"][at + 1 :]]
                found[outcome(phone, answer | {"apps": apps})] += 1
    assert not found[Outcome.RIGHT]
    assert found[Outcome.WRONG] > 10 * found[Outcome.UNCONFIRMED] > 0


TWO = {
    "workspace.yaml": "workspace: demo\ncheck_after: 60\n",
    **{
        f"apps/{app}.yaml": f"app: {app}\npackages: [{{version: 1}}, {{version: 2}}]\nreleases:\n"
        "  - {id: old, package: 1, audience: everyone}\n"
        "  - {id: new, package: 2, audience: everyone, starts: 2027-01-15T08:00:00Z}\n"
        for app in ("one", "two")
    },
    **crowds.records({"one": ("1", "2"), "two": ("1", "2")}),
}


def test_at_the_edge_of_a_schedule_either_second_is_right() -> None:
    """What was right at some second from asking to being answered is right, for all apps alike."""
    read = read_files(TWO, now=0)
    assert read.plan is not None
    rules = Rules(1, read.plan)
    phone = {"device": "d", "apps": {"one": "1", "two": "1"}}
    desk = crowds.desk(build_image(read.plan, ()))
    before, after = (
        orjson.loads(desk.ask(phone, second)) for second in (crowds.STARTS - 1, crowds.STARTS)
    )
    assert [each["status"] for each in before["apps"]] == ["latest", "latest"]
    assert [each["status"] for each in after["apps"]] == ["update", "update"]
    edge = crowds.STARTS - 0.2, crowds.STARTS + 0.1
    assert judge(rules, phone, before, *edge).outcome is Outcome.RIGHT
    assert judge(rules, phone, after, *edge).outcome is Outcome.RIGHT
    mixed = before | {"apps": [before["apps"][0], after["apps"][1]]}
    assert judge(rules, phone, mixed, *edge).outcome is Outcome.WRONG
    assert outcome(phone, before, crowds.STARTS - 0.2, rules) is Outcome.RIGHT
    assert outcome(phone, after, crowds.STARTS - 0.2, rules) is Outcome.WRONG
    assert outcome(phone, before, crowds.STARTS, rules) is Outcome.WRONG
    slow = judge(rules, phone, before, crowds.STARTS - 20, crowds.STARTS + 20)
    assert slow.outcome is Outcome.RIGHT


def test_with_and_without_an_open_windows_seat_is_right() -> None:
    """Nobody outside knows who sits; but who is known to sit must go on getting what it got."""
    phone = {"device": "d", "region": "CN-ZJ", "apps": {"tea": "1.0"}}
    nobody = {"region": "CN-ZJ", "apps": {"tea": "1.0"}}
    seated, passed = asked(phone, seat=True), asked(phone)
    assert seated["apps"][0]["release"] == "first"
    assert passed["apps"][0] == {"app": "tea", "status": "latest"}
    assert outcome(phone, seated) is outcome(phone, passed) is Outcome.RIGHT
    held = windows_won(RULES, seated)
    assert held == {("tea", "first")}
    assert windows_won(RULES, passed) == set()
    assert outcome(phone, seated, held=held) is Outcome.RIGHT
    lost = judge(RULES, phone, passed, NOW, NOW, held)
    assert lost.outcome is Outcome.UNCONFIRMED
    assert "did not tell of its seat" in lost.sentence
    assert outcome(nobody, seated) is Outcome.WRONG, "without an id no seat"


def test_a_frozen_windows_seats_are_known() -> None:
    """Who sits in a frozen window gets its release, and nobody else does."""
    sits, stands = ({"device": name, "apps": {"cake": None}} for name in ("d-1-3", "d-1-4"))
    assert [asked(each)["apps"][0]["release"] for each in (sits, stands)] == ["first", "not-ours"]
    assert outcome(sits, asked(sits)) is outcome(stands, asked(stands)) is Outcome.RIGHT
    assert outcome(stands, asked(sits)) is outcome(sits, asked(stands)) is Outcome.WRONG
    lost = judge(RULES, stands, asked(stands), NOW, NOW, {("cake", "first")})
    assert lost.outcome is Outcome.UNCONFIRMED, "it sat there, and the frozen seats lack it"


def test_what_redis_kept_back_is_unconfirmed() -> None:
    """A member who gets what a stranger gets is told apart, a stranger who gets more is wrong."""
    apps = {"apps": {crowds.COFFEE: "1.0.0.3"}}
    member, stranger = STAFF | apps, STAFF | apps | {"user": "nobody"}
    verdict = judge(RULES, member, asked(stranger), NOW, NOW)
    assert verdict.outcome is Outcome.UNCONFIRMED
    assert "did not tell of the lists of its user" in verdict.sentence
    assert outcome(stranger, asked(member)) is Outcome.WRONG
    # Under an exclusion a likely member counts as one; and a stranger is likely by accident.
    phones = [{"device": f"nobody-{number}", "apps": {"cake": None}} for number in range(500)]
    none = [asked(each) | {"apps": [{"app": "cake", "status": "none"}]} for each in phones]
    found = Counter(map(outcome, phones, none))
    assert found[Outcome.WRONG] > 10 * found[Outcome.UNCONFIRMED] > 0


def test_a_degraded_switch_is_unconfirmed() -> None:
    """A switch that says that Redis might have changed it is right at most while Redis is away."""
    phone = STAFF | {"apps": {}, "switches": True}
    answer = asked(phone)
    assert answer["switches"]["new-home"] == {"variant": "on", "value": True}
    assert outcome(phone, answer) is Outcome.RIGHT
    for mark in (False, 7, None):
        off = {"variant": "off", "value": False, "degraded": mark}
        told = answer | {"switches": answer["switches"] | {"new-home": off}}
        assert outcome(phone, told) is Outcome.WRONG
    answer["switches"]["new-home"] = {"variant": "off", "value": False, "degraded": True}
    found = {outcome(phone | {"device": device}, answer) for device in map(str, range(1000, 1040))}
    assert found == {Outcome.UNCONFIRMED, Outcome.WRONG}, "a quarter has it on anyway"
    assert outcome(phone, answer | {"switches": {"new-home": 7, "size": None}}) is Outcome.WRONG


@pytest.mark.parametrize(("secret", "told"), [("s3cret", True), (None, True), ("s3cret", False)])
def test_signed_urls_hold_as_long_as_they_should(secret: str | None, told: bool) -> None:
    """Their end is that of the next period; the signature is checked where the secret is known."""
    end = (NOW // 300 + 2) * 300

    def signed(until: int, key: str) -> Any:
        answer = asked(phone)
        package = answer["apps"][0]["package"]
        package["urls"] = [secure_link(url, key, until) for url in package["urls"]]
        return answer

    phone = {"device": "d", "apps": {"plain": None}}
    workspace = RULES.plan.workspace
    cdn = tuple(replace(rule, expires=300) for rule in workspace.cdn)
    plan = replace(RULES.plan, workspace=replace(workspace, cdn=cdn))
    rules = Rules(1, plan, RULES.lists, RULES.frozen, RULES.patches, secret)
    right = signed(end, "s3cret" if told else "another")
    verdict = Outcome.RIGHT if told else Outcome.WRONG
    assert outcome(phone, right, rules=rules) is verdict
    for late in (-300, -1, 1, 300):
        assert outcome(phone, signed(end + late, "s3cret"), rules=rules) is Outcome.WRONG
    assert outcome(phone, asked(phone), rules=rules) is Outcome.WRONG, "not signed"


def test_how_a_package_is_sealed_is_part_of_the_answer() -> None:
    """Encryption and signatures are told as they stand in the record, whatever the form."""
    app = RULES.apps["plain"]
    package = app.packages[0]
    assert package.record is not None
    record = replace(
        package.record, signatures=("a.b.c", "d.e.f"), encryption=Encryption("age", "key-1")
    )
    bare = replace(record, forms=record.forms[:1])
    for kept in (record, bare):
        only = replace(app, packages=(replace(package, record=kept),))
        sealed = replace(RULES.plan, apps=(only,), lists=(), switches=())
        desk = crowds.desk(build_image(sealed, ()))
        phone = {"device": "d", "apps": {"plain": None}}
        answer = orjson.loads(desk.ask(phone, NOW))
        rules = Rules(1, sealed)
        told = answer["apps"][0]
        assert told["encryption"] == {"format": "age", "key_id": "key-1"}
        assert told["signatures"] == ["a.b.c", "d.e.f"]
        assert "transfer_sha256" in told["package"]
        assert outcome(phone, answer, rules=rules) is Outcome.RIGHT
        for path, mutant in mutants(answer):
            if path != ("check_after",) and json.dumps(mutant) != json.dumps(answer):
                assert outcome(phone, mutant, rules=rules) is Outcome.WRONG, path


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None, derandomize=not SOAK)
@given(value=json_values, place=st.sampled_from(("", "epoch", "check_after", "apps", "switches")))
def test_no_answer_is_too_strange_to_be_wrong(value: Any, place: str) -> None:
    """Whatever JSON a gateway says, in whole or in part, is judged."""
    phone = {"device": "d", "switches": True, "apps": {"plain": "1"}}
    answer = asked(phone) | {place: value} if place else value
    near = place == "check_after" and value in range(480, 721)
    assert near or outcome(phone, answer) is Outcome.WRONG
    told = asked(phone) | {"apps": [value if place else {"app": "plain", "status": value}]}
    assert outcome(phone, told) is Outcome.WRONG
