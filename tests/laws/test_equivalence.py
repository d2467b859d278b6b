"""Law 1: for every plan, check and moment the compiled decision is that of the reference."""

import os
from collections import Counter
from random import Random
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgpack import unpackb

import plans
import snapshots
from compiler.reference import Seats, evaluate

SOAK = "TIDEGATE_SOAK" in os.environ
PLANS = 12_500 if SOAK else 300
PHONES = 40
SEEN: Counter[str] = Counter()


@settings(
    max_examples=PLANS,
    deadline=None,
    derandomize=not SOAK,
    suppress_health_check=list(HealthCheck),
)
@given(drawn=plans.plans(), seed=st.integers(0, 2**32))
def test_the_compiled_decision_is_that_of_the_reference(drawn: Any, seed: int) -> None:
    """Every field that the reference decides stands in the answer, in both notations."""
    random = Random(seed)
    plan, ids = drawn
    if random.random() < 0.05:
        plan = plans.widened(plan)
    overrides = plans.overrides(plan, random) if random.random() < 0.3 else []
    opened = snapshots.open_plan(plan, ids, random, overrides=overrides)
    SEEN["plans"] += 1
    for phone in plans.phones(opened.plan, random, PHONES):
        down = random.random() < 0.2
        second = plans.NOW + random.randint(-4, 4)
        names = [(app, release) for app, release, _ in snapshots.windows_in(opened.plan)]
        drawn_seats = [
            frozenset(name for name in names if not down and random.random() < 0.5) for _ in "ab"
        ]
        redis = Seats(*drawn_seats)
        answer = orjson.loads(opened.ask(phone, second, down=down, redis=redis))
        packed = opened.ask(phone, second, down=down, msgpack=True, redis=redis)
        assert unpackb(packed) == answer
        truth = opened.truth(phone, down)
        seats = opened.seats(phone, redis, down)
        assert [got["app"] for got in answer["apps"]] == list(phone["apps"])
        for got in answer["apps"]:
            verdict = evaluate(opened.plan, phone, got["app"], second, truth, seats)
            SEEN[verdict.status] += 1
            won = (got["app"], got.get("release"))
            SEEN["seated"] += won in seats.seated
            SEEN["free seat"] += won in seats.free
            fields = (got.get("version"), got.get("release"), got.get("upgrade"))
            wanted = (verdict.version, verdict.release, verdict.upgrade)
            assert got["status"] == verdict.status, verdict
            if verdict.status in ("update", "rollback"):
                assert fields == wanted, verdict
            else:
                assert fields == (None, None, None)


def test_the_law_saw_every_status() -> None:
    """The law above was put to the test by every status that a decision can have."""
    plans_seen = SEEN.pop("plans")
    seats = {name: SEEN.pop(name) for name in ("seated", "free seat")}
    print(f"\nlaw 1: {plans_seen} plans, {SEEN.total()} decisions: {dict(SEEN)}, {seats}")
    assert SEEN.total() >= 20_000
    assert min(seats.values()) >= 20, seats
    for status in ("update", "latest", "rollback", "withdrawn", "none", "unknown", "invalid"):
        assert SEEN[status] >= 100, status
