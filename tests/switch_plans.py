"""Random switches for the random plans of plans.py, and the file that they are written in."""

import json
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import strategies as st

import plans
from compiler.plan import Audience, Plan, ReleaseName, Switch, Targeting

KINDS: tuple[tuple[Any, ...], ...] = (
    (True, False),
    ("", "on", "straße", "1", "null"),
    (1, 0, -3, 2.5, 2**53 + 1, 1e300),
    ({}, {"a": [1, 1.0, None]}, [], ["x", {"y": True}]),
)
NAMES = ("on", "off", "a", "b", "0012", "1.10")
WEIGHTS = (0, 1, 1, 33, 50, 50, 100, 12.34, 9999999)


@st.composite
def _targeting(draw: Any, plan: Plan, names: list[str]) -> Targeting:
    audience = draw(st.just(Audience()) | plans.audiences)
    releases = [
        (app.id, release.id)
        for app in plan.apps
        for release in app.releases
        if release.audience.window is None
    ]
    same_as = None
    if releases and draw(st.integers(0, 3)) == 0:
        same_as = ReleaseName(*draw(st.sampled_from(releases)))
        audience = Audience()
    conditions = draw(st.lists(plans.conditions(), max_size=draw(st.sampled_from((0, 0, 1, 2)))))
    kept = tuple(each for each in conditions if each.attribute != "installed")
    variant, split = draw(st.sampled_from(names)), ()
    if draw(st.booleans()):
        weights = {name: draw(st.sampled_from(WEIGHTS)) for name in draw(st.permutations(names))}
        if any(weights.values()):
            variant = None
            split = tuple((name, round(weight * 100)) for name, weight in weights.items())
            audience = replace(audience, by_user=same_as is None and draw(st.booleans()))
    return Targeting(variant, split, audience, same_as, kept)


@st.composite
def _switch(draw: Any, plan: Plan, key: str) -> Switch:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    kind = st.sampled_from(draw(st.sampled_from(KINDS)))
    return Switch(
        key,
        {name: draw(kind) for name in names},
        draw(st.sampled_from(names)),
        draw(st.integers(0, 5)) > 0,
        tuple(draw(st.lists(_targeting(plan, names), max_size=4))),
    )


@st.composite
def switched_plans(draw: Any) -> tuple[Plan, dict[str, list[str]]]:
    """Draw a plan with switches, and the ids of its lists of ids by list name."""
    plan, ids = draw(plans.plans())
    keys = draw(st.lists(st.sampled_from("stuvw"), min_size=1, max_size=4, unique=True))
    return replace(plan, switches=tuple(draw(_switch(plan, key)) for key in keys)), ids


def to_file(plan: Plan, random: Random) -> dict[str, str]:
    """Write switches.yaml, with the switches and their variants in a random order."""
    rows = [_written(switch, random) for switch in plan.switches]
    return {"switches.yaml": json.dumps({"switches": random.sample(rows, len(rows))})}


def _written(switch: Switch, random: Random) -> dict[str, Any]:
    variants = random.sample(list(switch.variants.items()), len(switch.variants))
    return {
        "key": switch.key,
        "variants": dict(variants),
        "default": switch.default,
        "enabled": "true" if switch.enabled else "false",
        "targeting": [_row(row) for row in switch.targeting],
    }


def _row(row: Targeting) -> dict[str, Any]:
    audience: dict[str, Any] = {}
    if row.audience.lists:
        audience["lists"] = list(row.audience.lists)
    if row.audience.not_lists:
        audience["not_lists"] = list(row.audience.not_lists)
    if row.audience.basis_points is not None:
        audience["percent"] = str(row.audience.basis_points / 100)
    if row.audience.ramp:
        audience["percent"] = [
            {"at": plans._when(step.at), "percent": str(step.basis_points / 100)}
            for step in row.audience.ramp
        ]
    if row.audience.by_user:
        audience["by"] = "user"
    if row.same_as is not None:
        audience["same_as"] = {"app": row.same_as.app, "release": row.same_as.release}
    found: dict[str, Any] = {"when": [plans._condition(each) for each in row.conditions]}
    found["audience"] = audience or "everyone"
    if row.variant is not None:
        return found | {"variant": row.variant}
    return found | {"split": {name: str(weight / 100) for name, weight in row.split}}
