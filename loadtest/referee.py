"""The referee: judges a whole answer by the plan of the epoch that it names. Pure.

    verdict = judge(rules, phone, answer, began, ended)

The slow reference evaluator decides, at every second from before the check was sent to after it was
answered: at a schedule's edge either side is right, but one second must be right for the whole
answer. Where a time window is open nobody outside knows who sits there, so with and without a seat
is right. What would be right had Redis not told of lists or seats is UNCONFIRMED: while Redis is
away that is as promised, else it is a fault, which the run must know.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from compiler.reference import Memberships, Seats, evaluate
from compiler.switch_reference import evaluate_switch
from loadtest.expectation import ANY, expected
from loadtest.rules import NOBODY, Rules, Window

SPREAD = 0.2
"""`check_after` is spread by this share to both sides."""

MOST_CHECK_AFTER = 86_400
_SHOWN = 80
_MD5 = re.compile(r"(?<=\?md5=)[^&]*")


class Outcome(StrEnum):
    """What an answer is."""

    RIGHT = "right"
    UNCONFIRMED = "unconfirmed"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement; `sentence` says what is wrong or unconfirmed, and is empty if it is right."""

    outcome: Outcome
    sentence: str = ""


RIGHT = Verdict(Outcome.RIGHT)


def judge(
    rules: Rules,
    phone: Mapping[str, Any],
    answer: Any,
    began: float,
    ended: float,
    held: Collection[Window] = (),
    *,
    vouched: bool = False,
) -> Verdict:
    """Judge the decoded body of a 200 to `phone`, which was sent and answered at these Unix times.

    `rules` are those of the epoch in the answer. Where the gateway has another clock, widen the
    times by how far it may be off. `held` are the windows in which this phone's subject is known
    to sit (see `windows_won`): from those it must go on getting what it got. `vouched` is whether a
    token that counts came with the check and says the same ids: where the plan has an identity
    provider, a phone is nobody without.
    """
    if rules.plan.workspace.identity is not None and not vouched:
        phone = {name: value for name, value in phone.items() if name not in ("user", "device")}
    fault = _envelope_fault(rules, phone, answer)
    if fault is not None:
        return Verdict(Outcome.WRONG, fault)
    first = ""
    for outcome, away, seats in _suppositions(rules, phone, frozenset(held)):
        members = rules.memberships(phone, away)
        for second in range(int(began), int(ended) + 1):
            fault = _fault(rules, phone, answer, second, members, away, seats)
            if fault is None:
                return _accepted(outcome, away, first)
            first = first or fault
    return Verdict(Outcome.WRONG, first)


def windows_won(rules: Rules, answer: Any) -> set[Window]:
    """Name the windows by whose releases an answer offers something: after a live check, seats."""
    windows = {
        (app.id, release.id)
        for app in (rules.apps.get(each["app"]) for each in answer["apps"])
        if app is not None
        for release in app.releases
        if release.audience.window is not None
    }
    return {(each["app"], each.get("release")) for each in answer["apps"]} & windows


Supposition = tuple[Outcome, frozenset[str], frozenset[Window]]
"""What an answer is if it is right, supposing these kinds of id unknown, and these windows held."""


def _suppositions(
    rules: Rules, phone: Mapping[str, Any], held: frozenset[Window]
) -> Iterator[Supposition]:
    nothing: frozenset[Window] = frozenset()
    yield Outcome.RIGHT, NOBODY, held
    if held:
        yield Outcome.UNCONFIRMED, NOBODY, nothing
    kinds = rules.looked_up(phone)
    for away in (*({kind} for kind in kinds), *([set(kinds)] if len(kinds) > 1 else [])):
        yield Outcome.UNCONFIRMED, frozenset(away), nothing


def _accepted(outcome: Outcome, away: frozenset[str], first: str) -> Verdict:
    if outcome is Outcome.RIGHT:
        return RIGHT
    what = f"the lists of its {' and '.join(sorted(away))}" if away else "its seat"
    return Verdict(outcome, f"right only if Redis did not tell of {what}; else {first}")


def _envelope_fault(rules: Rules, phone: Mapping[str, Any], answer: Any) -> str | None:
    """Say what is wrong around the apps: members, epoch, check_after, which apps are answered."""
    names = {"epoch", "check_after", "apps"}
    if phone.get("switches") is True:
        names.add("switches")
    if not isinstance(answer, dict) or answer.keys() != names:
        return f"the answer is {_shown(answer)}, no object of {', '.join(sorted(names))}"
    epoch, seconds, apps = answer["epoch"], answer["check_after"], answer["apps"]
    if type(epoch) is not int or epoch != rules.number:
        return f"the answer names epoch {_shown(epoch)}, and is judged by {rules.number}"
    middle = rules.plan.workspace.check_after
    low, high = middle - int(middle * SPREAD), min(middle + int(middle * SPREAD), MOST_CHECK_AFTER)
    if type(seconds) is not int or not low <= seconds <= high:
        return f"check_after is {_shown(seconds)}, not {low} to {high}, by epoch {rules.number}"
    asked = list(phone.get("apps", {}))
    if not isinstance(apps, list) or [_id_of(each) for each in apps] != asked:
        return f"`apps` is {_shown(apps)}, and asked was about {_shown(asked)}"
    return None


def _id_of(told: Any) -> Any:
    return told.get("app") if isinstance(told, dict) else None


def _fault(
    rules: Rules,
    phone: Mapping[str, Any],
    answer: Mapping[str, Any],
    second: int,
    members: Memberships,
    away: frozenset[str],
    held: frozenset[Window],
) -> str | None:
    """Say what is wrong at one second, under one supposition."""
    for told in answer["apps"]:
        faults = [
            _difference(each, _comparable(rules, told))
            for each in _possible(rules, phone, told["app"], second, members, away, held)
        ]
        if None not in faults:
            return f"app {told['app']}: {faults[0]}, by epoch {rules.number}"
    if phone.get("switches") is True:
        return _switch_fault(rules, phone, answer["switches"], second, members, doubted=bool(away))
    return None


def _possible(
    rules: Rules,
    phone: Mapping[str, Any],
    app_id: str,
    second: int,
    members: Memberships,
    away: frozenset[str],
    held: frozenset[Window],
) -> Iterator[dict[str, Any]]:
    """Give every right answer for one app: without an open window's seat, and with each one.

    Of several seats the strongest wins, so that none need be tried together.
    """
    plan, app = rules.plan_of(app_id), rules.apps.get(app_id)
    seated, maybe = (set(), set()) if app is None else rules.windows(phone, app, away)
    surely = seated | held
    for more in (set(), *({window} for window in sorted(maybe - surely))):
        verdict = evaluate(plan, phone, app_id, second, members, Seats(frozenset(surely | more)))
        yield expected(rules, phone, app_id, verdict, second)


def _switch_fault(
    rules: Rules,
    phone: Mapping[str, Any],
    told: Any,
    second: int,
    members: Memberships,
    *,
    doubted: bool,
) -> str | None:
    """Say what is wrong of the switches; if `doubted`, Redis might have changed `degraded` ones."""
    wanted = {}
    for switch in rules.plan.switches:
        verdict = evaluate_switch(rules.plan, phone, second, switch.key, members)
        assert verdict is not None
        wanted[switch.key] = {"variant": verdict.variant, "value": verdict.value}
    if doubted and isinstance(told, dict):
        told = {key: _undoubted(each) for key, each in told.items()}
    found = _difference(wanted, told)
    return None if found is None else f"switch {found}, by epoch {rules.number}"


def _undoubted(told: Any) -> Any:
    """Take off a switch's mark that Redis might have changed it."""
    if not isinstance(told, dict) or told.get("degraded") is not True:
        return told
    return {name: value for name, value in told.items() if name != "degraded"}


def _comparable(rules: Rules, told: dict[str, Any]) -> dict[str, Any]:
    """Leave out of an app's answer what cannot be known: a detail, signatures without a secret."""
    if told.get("status") == "invalid" and told.get("detail"):
        return {name: value for name, value in told.items() if name != "detail"}
    if rules.url_secret is not None:
        return told
    found = dict(told)
    for name in ("package", "patch"):
        part = told.get(name)
        if isinstance(part, dict) and isinstance(part.get("urls"), list):
            urls = [_MD5.sub(ANY, str(url)) for url in part["urls"]]
            found[name] = part | {"urls": urls}
    return found


def _difference(wanted: Any, told: Any, place: str = "") -> str | None:
    """Say where two JSON values differ first, or None; 1 is neither 1.0 nor true here."""
    if isinstance(wanted, dict) and isinstance(told, dict):
        for name in (*wanted, *told):
            inner = f"{place}.{name}" if place else str(name)
            if name not in told or name not in wanted:
                return f"`{inner}` is {'missing' if name in wanted else 'too much'}"
            found = _difference(wanted[name], told[name], inner)
            if found is not None:
                return found
        return None
    if wanted == told and json.dumps(wanted) == json.dumps(told):
        return None
    return f"`{place}` is {_shown(told)}, not {_shown(wanted)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
