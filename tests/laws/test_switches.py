"""Laws 1 and 2 for switches, and what targeting promises: splits, same_as, and a Redis outage."""

import json
import os
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import msgpack
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import plans
import snapshots
import switch_plans
from compiler.image import build_image
from compiler.language.reading import read_files
from compiler.plan import Audience, Plan, ReleaseName, Switch, Targeting, Workspace
from compiler.reference import evaluate
from compiler.splits import places
from compiler.switch_reference import SwitchVerdict, evaluate_switch, owners
from gateway import ofrep
from snapshots import Opened

SOAK = "TIDEGATE_SOAK" in os.environ
PLANS = 6_000 if SOAK else 120
PHONES = 30
SEEN: Counter[str] = Counter()
ALL = list(HealthCheck)


def _opened(drawn: Any, seed: int) -> Opened:
    written, ids = drawn
    random = Random(seed)
    return snapshots.open_plan(written, ids, random, more=switch_plans.to_file(written, random))


def _flags(
    opened: Opened, phone: dict[str, Any], key: str | None, down: bool, second: int = plans.NOW
) -> Any:
    """Ask as OFREP does: the same attributes, as a context."""
    context = {name: value for name, value in phone.items() if name not in ("apps", "switches")}
    placeholders = opened.snapshot.settings["placeholders"]
    check = ofrep.parse_context(orjson.dumps({"context": context}), placeholders)
    members = opened.members(check, down)
    reply = ofrep.evaluate(opened.snapshot, check, members, second, key)
    assert reply.status == 200
    return reply, orjson.loads(reply.body)


def _as_member(verdict: SwitchVerdict) -> dict[str, Any]:
    return {"variant": verdict.variant, "value": verdict.value}


def _same(one: Any, other: Any) -> bool:
    """Compare as JSON is compared: 1 is not 1.0, nor true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@settings(max_examples=PLANS, deadline=None, derandomize=not SOAK, suppress_health_check=ALL)
@given(drawn=switch_plans.switched_plans(), seed=st.integers(0, 2**32), down=st.booleans())
def test_the_compiled_switches_are_those_of_the_reference(
    drawn: Any, seed: int, down: bool
) -> None:
    """Law 1: beside a check's apps in both notations, and by OFREP, one and all."""
    opened = _opened(drawn, seed)
    keys = [switch.key for switch in opened.plan.switches]
    random = Random(seed)
    for phone in plans.phones(opened.plan, Random(seed), PHONES):
        second = plans.NOW + random.randint(-4, 4)
        asked = phone | {"switches": True}
        truth = opened.truth(asked, down)
        wanted = {key: evaluate_switch(opened.plan, asked, second, key, truth) for key in keys}
        body = orjson.loads(opened.ask(asked, second, down=down))
        packed = msgpack.unpackb(opened.ask(asked, second, down=down, msgpack=True))
        assert packed == body
        assert sorted(body["switches"]) == sorted(keys)
        _, bulk = _flags(opened, phone, None, down, second)
        by_key = {flag["key"]: flag for flag in bulk["flags"]}
        for key, verdict in wanted.items():
            assert verdict is not None
            member = body["switches"][key]
            degraded = member.pop("degraded", False)
            assert _same(member, _as_member(verdict)), (key, phone)
            flag = by_key[key]
            assert flag["metadata"] == ({"degraded": True} if degraded else {})
            assert flag["reason"] == verdict.reason
            assert _same({name: flag[name] for name in member}, member)
            assert _flags(opened, phone, key, down, second)[1] == flag
            SEEN[f"{verdict.reason}{' degraded' if degraded else ''}"] += 1


def test_the_random_switches_came_to_every_reason() -> None:
    """The law above has seen every reason, and answers that Redis would have known better."""
    needed = {"STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN"}
    assert needed <= set(SEEN)
    assert any("degraded" in each for each in SEEN)
    print(f"\nlaw 1, switches: {dict(SEEN)}")


@settings(max_examples=PLANS, deadline=None, derandomize=not SOAK, suppress_health_check=ALL)
@given(drawn=switch_plans.switched_plans(), seed=st.integers(0, 2**32))
def test_what_is_not_degraded_is_what_redis_would_say(drawn: Any, seed: int) -> None:
    """Without Redis a value either is the right one, or says that it may not be; and no ETag."""
    opened = _opened(drawn, seed)
    for phone in plans.phones(opened.plan, Random(seed), PHONES):
        reply, away = _flags(opened, phone, None, True)
        there = {flag["key"]: flag for flag in _flags(opened, phone, None, False)[1]["flags"]}
        degraded = [flag for flag in away["flags"] if flag["metadata"]]
        assert bool(reply.etag) is not bool(degraded)
        for flag in away["flags"]:
            assert flag in degraded or flag == there[flag["key"]]


@settings(max_examples=PLANS, deadline=None, derandomize=not SOAK, suppress_health_check=ALL)
@given(drawn=switch_plans.switched_plans(), seed=st.integers(0, 2**32))
def test_equal_tags_are_equal_answers(drawn: Any, seed: int) -> None:
    """Who is told 304 has what would be sent: also where a ramp rises from second to second."""
    opened = _opened(drawn, seed)
    for phone in plans.phones(opened.plan, Random(seed), 3):
        told: dict[str, bytes] = {}
        for second in range(plans.NOW - 4, plans.NOW + 5):
            reply, _ = _flags(opened, phone, None, False, second)
            assert told.setdefault(reply.etag, reply.body) == reply.body


@settings(max_examples=PLANS, deadline=None, suppress_health_check=ALL)
@given(drawn=plans.plans(), seed=st.integers(0, 2**32), down=st.booleans())
def test_same_as_agrees_with_the_package_canary(drawn: Any, seed: int, down: bool) -> None:
    """For every subject: the switch is on just where the release's audience holds."""
    plan, ids = drawn
    switches = tuple(
        Switch(
            f"{app.id}-{release.id}",
            {"on": True, "off": False},
            "off",
            targeting=(Targeting("on", (), Audience(), ReleaseName(app.id, release.id)),),
        )
        for app in plan.apps
        for release in app.releases
        if release.audience.window is None
    )
    opened = _opened((replace(plan, switches=switches), ids), seed)
    for phone in plans.phones(plan, Random(seed), PHONES):
        asked = phone | {"switches": True}
        found = orjson.loads(opened.ask(asked, plans.NOW, down=down))["switches"]
        truth = opened.truth(asked, down)
        for app in opened.plan.apps:
            verdict = evaluate(opened.plan, asked, app.id, plans.NOW, truth)
            for each in verdict.explanations:
                if each.release.audience.window is not None:
                    continue
                parts = ("lists", "not_lists", "percent")
                holds = all(part.holds for part in each.findings if part.subject in parts)
                assert found[f"{app.id}-{each.release.id}"]["value"] is holds


@settings(max_examples=40, deadline=None, suppress_health_check=ALL)
@given(drawn=switch_plans.switched_plans(), one=st.integers(0, 2**32), other=st.integers(0, 2**32))
def test_order_changes_no_switches(drawn: Any, one: int, other: int) -> None:
    """Law 2: switches and variants in another order give the same blob."""
    written, _ = drawn
    images = []
    for seed in (one, other):
        random = Random(seed)
        files = plans.to_files(written, random) | switch_plans.to_file(written, random)
        plan = read_files(files, now=plans.NOW).plan
        assert plan is not None
        images.append(build_image(plan, []))
    assert images[0].contents["switches"] == images[1].contents["switches"] is not None


def _runs(weights: list[int]) -> list[int]:
    found: list[int] = []
    for end, variant in places(weights):
        found += [variant] * (end - len(found))
    return found


_weights = st.lists(st.sampled_from((0, 1, 2, 50, 3333, 10_000)), min_size=1, max_size=5)


@settings(max_examples=300 if SOAK else 60, deadline=None)
@given(before=_weights.filter(any), more=st.integers(1, 20_000))
def test_raising_the_last_weight_moves_as_few_as_possible(before: list[int], more: int) -> None:
    """Whoever gets another variant gets the raised one; so does whom a new variant takes."""
    then = _runs(before)
    for after in ([*before[:-1], before[-1] + more], [*before, more]):
        now = _runs(after)
        moved = {new for old, new in zip(then, now, strict=True) if old != new}
        assert moved <= {len(after) - 1}
        total = sum(after)
        for variant, weight in enumerate(after):
            assert abs(now.count(variant) - 10_000 * weight / total) <= len(after) / 2 + 0.5


@settings(max_examples=100 if SOAK else 15, deadline=None)
@given(weights=_weights.filter(any))
def test_the_places_of_a_split_are_those_of_the_reference(weights: list[int]) -> None:
    """Runs worked out by arithmetic are those of giving and taking places one by one."""
    names = [f"v{at}" for at in range(len(weights))]
    slow = owners(tuple(zip(names, weights, strict=True)))
    assert [names[at] for at in _runs(weights)] == list(slow)


def test_a_split_gives_each_variant_its_share_of_whom_a_percentage_reaches() -> None:
    """Within 5 sigma, and whatever the percentage beside it: the two are drawn apart."""
    count = 200_000 if SOAK else 20_000
    row = Targeting(None, (("a", 2500), ("b", 7500)), Audience(basis_points=2_000))
    switch = Switch("theme", {"a": 1, "b": 2, "none": 0}, "none", targeting=(row,))
    plan = Plan(Workspace("demo"), (), switches=(switch,))
    opened = snapshots.open_plan(plan, {}, Random(1), more=switch_plans.to_file(plan, Random(1)))
    got: Counter[str] = Counter()
    for number in range(count):
        asked = {"device": f"d-{number}", "switches": True}
        found = orjson.loads(opened.ask(asked, plans.NOW))["switches"]["theme"]["variant"]
        got[found] += 1
    for variant, share in (("a", 0.05), ("b", 0.15), ("none", 0.8)):
        # Buckets of 0.01 % hold not quite the same number of subjects: that is in the 5 sigma.
        assert abs(got[variant] - count * share) < 5 * (count * share * (1 - share)) ** 0.5
