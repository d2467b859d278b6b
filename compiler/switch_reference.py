"""The meaning of switches, written slowly and obviously; reference.py says what its parts mean.

The compiled tables must agree with this for every plan, client and moment (law 1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from compiler.plan import App, JsonValue, Plan, Release, Switch, Targeting
from compiler.reference import Memberships, explain_audience, explain_condition, real_id
from gateway.hashing import id_hash, id_seed, percent_bucket, percent_key, percent_place

STEPS = 10_000


@dataclass(frozen=True, slots=True)
class SwitchVerdict:
    """What a client gets of one switch; `reason` is the protocol's word (OFREP)."""

    variant: str
    value: JsonValue
    reason: str


def evaluate_switch(
    plan: Plan, check: Mapping[str, Any], second: int, key: str, members: Memberships
) -> SwitchVerdict | None:
    """Judge one switch for a client at a Unix second; None: no such switch.

    `check` is a check's JSON object.
    """
    switch = next((each for each in plan.switches if each.key == key), None)
    if switch is None:
        return None
    if not switch.enabled:
        return _verdict(switch, switch.default, "DISABLED")
    for row in switch.targeting:
        if not _holds(plan, switch, row, check, second, members):
            continue
        if row.variant is not None:
            return _verdict(switch, row.variant, "TARGETING_MATCH")
        subject = _subject(plan, row, check)
        if subject is not None:
            place = percent_place(percent_bucket(subject), percent_key(f"split:{key}", ""))
            return _verdict(switch, owners(row.split)[place], "SPLIT")
    # Nothing of the client was looked at, or nothing of it fitted.
    return _verdict(switch, switch.default, "UNKNOWN" if switch.targeting else "STATIC")


def _verdict(switch: Switch, variant: str, reason: str) -> SwitchVerdict:
    value = switch.variants[variant]
    fractions = any(isinstance(each, float) for each in switch.variants.values())
    if fractions and isinstance(value, int):
        value = float(value)
    return SwitchVerdict(variant, value, reason)


def _holds(
    plan: Plan,
    switch: Switch,
    row: Targeting,
    check: Mapping[str, Any],
    second: int,
    members: Memberships,
) -> bool:
    if not all(explain_condition(each, check, "").holds for each in row.conditions):
        return False
    if row.same_as is None:
        audience = row.audience
        app_id, release_id = f"switch:{switch.key}", row.variant or ""
    else:
        audience = _named(plan, row).audience
        app_id, release_id = row.same_as.app, row.same_as.release
    app = App(app_id, "", "", (), ())
    release = Release(release_id, "", audience)
    findings = explain_audience(plan.workspace, app, release, check, second, members)
    return all(finding.holds for finding in findings)


def _named(plan: Plan, row: Targeting) -> Release:
    assert row.same_as is not None
    app = next(each for each in plan.apps if each.id == row.same_as.app)
    return next(each for each in app.releases if each.id == row.same_as.release)


def _subject(plan: Plan, row: Targeting, check: Mapping[str, Any]) -> int | None:
    """Hash whom a split counts: the device, else the user; `by: user` the user only."""
    audience = row.audience if row.same_as is None else _named(plan, row).audience
    for kind in ("user",) if audience.by_user else ("device", "user"):
        subject = real_id(plan.workspace, check, kind)
        if subject is not None:
            return id_hash(subject, id_seed(plan.workspace.name, kind))
    return None


@lru_cache
def owners(split: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """Tell the variant of each place: variants enter in turn, each takes from those before it."""
    owner: list[str] = []
    for count in range(1, len(split) + 1):
        shares = _shares(split[:count])
        if not owner:
            owner = [split[count - 1][0]] * shares.get(split[count - 1][0], 0)
            continue
        for name, _ in split[: count - 1]:
            too_many = owner.count(name) - shares[name]
            for place in reversed(range(STEPS)):
                if too_many and owner[place] == name:
                    owner[place] = split[count - 1][0]
                    too_many -= 1
    return tuple(owner)


def _shares(split: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """Give out the places one by one, each to whom one more brings nearest to its weight.

    That is Webster's method of giving out seats; of equals the first gets it.
    """
    if not any(weight for _, weight in split):
        return {}
    shares = {name: 0 for name, _ in split}
    for _ in range(STEPS):
        best, most = "", (-1, 1)
        for name, weight in split:
            quotient = (weight, 2 * shares[name] + 1)
            if quotient[0] * most[1] > most[0] * quotient[1]:
                best, most = name, quotient
        shares[best] += 1
    return shares
