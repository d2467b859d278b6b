"""Law 1, of a workspace with an identity provider: first the token is read, then the rules are.

The reference is told who the client is by who made up the token, not by what reads it.
"""

import json
import os
from collections import Counter
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import identities
import plans
import snapshots
from compiler.reference import evaluate

SOAK = "TIDEGATE_SOAK" in os.environ
PLANS = 1_500 if SOAK else 40
PHONES = 30
SEEN: Counter[str] = Counter()


def _identified(random: Random) -> tuple[bytes | None, dict[str, Any]]:
    """Make up an Authorization, and say who comes with it; nobody if it is not sound."""
    ids = {
        name: random.choice((*plans.IDS, *plans.IDS, "unknown", f"u-{random.random()}", "", 7))
        for name in ("user", "device")
        if random.random() < 0.8
    }
    told = {"sub": ids.get("user", ...), "device": ids.get("device", ...)}
    roll = random.random()
    if roll < 0.1:
        return None, {}
    if roll < 0.2:
        return identities.bearer(**told, exp=plans.NOW - 60), {}
    if roll < 0.3:
        return identities.bearer("ed", signed_by="ed-evil", **told), {}
    SEEN["sound"] += 1
    kid = random.choice(sorted(identities.KINDS))
    return identities.bearer(kid, **told), ids


@settings(
    max_examples=PLANS,
    deadline=None,
    derandomize=not SOAK,
    suppress_health_check=list(HealthCheck),
)
@given(drawn=plans.plans(), seed=st.integers(0, 2**32))
def test_rules_hold_for_whom_the_token_names(drawn: Any, seed: int) -> None:
    """A decision is the reference's for the ids of a sound token; ids as sent are nothing."""
    random = Random(seed)
    plan, ids = drawn
    text = json.loads(plans.to_files(plan, random)["workspace.yaml"])
    text["identity"] = json.loads(identities.plan_text())
    opened = snapshots.open_plan(plan, ids, random, more={"workspace.yaml": json.dumps(text)})
    for phone in plans.phones(opened.plan, random, PHONES):
        authorization, found = _identified(random)
        meant = {name: value for name, value in phone.items() if name not in ("user", "device")}
        meant |= found
        second = plans.NOW + random.randint(-4, 4)
        down = random.random() < 0.2
        said = opened.ask(phone, second, down=down, authorization=authorization)
        truth = opened.truth(meant, down)
        seats = opened.seats(meant, snapshots.NO_SEATS, down)
        for got in orjson.loads(said)["apps"]:
            verdict = evaluate(opened.plan, meant, got["app"], second, truth, seats)
            mistaken = evaluate(opened.plan, phone, got["app"], second, truth, seats)
            SEEN["else another answer"] += verdict != mistaken
            assert got["status"] == verdict.status
            if verdict.status in ("update", "rollback"):
                assert (got["version"], got["release"]) == (verdict.version, verdict.release)


def test_the_law_saw_tokens_that_matter() -> None:
    """The law above met sound tokens, and answers that the ids as sent would have made others."""
    if not SEEN:
        pytest.skip("the law did not run")
    print(f"\nlaw 1 with tokens: {dict(SEEN)}")
    assert SEEN["sound"] > 300
    assert SEEN["else another answer"] > 50
