"""A plan as an operator has it in mind: a few values, its files, and what it says of one value.

Small, and with everything in it that an override can be laid over. Values are texts, written as
overrides write them: a percentage in basis points, truth as `true` and `false`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from compiler.language.reading import read_files
from compiler.plan import Plan, percent_text
from compiler.reference import Memberships, real_id
from publishing import COFFEE, record

Place = tuple[str, ...]
"""What can be overridden: ("state", "ramp"), ("member", "staff", "u-1"), ("check_after",)…"""

Said = str | tuple[Any, ...] | None
"""What a plan says of a value; a tuple is what no override can say, None: it has no such."""

NOW = int(time.time())
LATER = (NOW, NOW + 400_000_000, NOW + 500_000_000)
"""Seconds to ask at: before the steps of ramps, between them and after."""

RAMPS = {
    "rising": ((NOW + 350_000_000, "1000"), (NOW + 450_000_000, "6000")),
    "falling": ((NOW - 5_000, "7000"), (NOW + 450_000_000, "500")),
}
UNTIL = {"open": NOW + 600_000_000, "over": NOW - 5}
STARTS = NOW - 300_000_000
"""Of a window with a pace: it opens its seats one in years, so none while a test runs."""

CONDITIONS = {
    "": "",
    "android": "{attribute: platform, in: [android]}",
    "new": "{attribute: client_version, at_least: 10}",
    "no-ios": "{attribute: platform, not_in: [ios]}",
}
ROWS = {
    "": "",
    "same": "{variant: on, audience: {same_as: {app: coffee, release: ramp}}}",
    "some": "{variant: on, audience: {percent: 30, not_lists: staff}}, {split: {on: 1, off: 2}}",
    "mine": "{variant: on, audience: {lists: [vip, qa]}, when: [{attribute: platform, in: ios}]}",
}
KINDS = {"staff": "user", "phones": "device", "guests": "user", "qa": "user", "vip": "user"}
"""The lists: two are files of a kind each, one may vanish, one is a pattern, one is stored."""


@dataclass(frozen=True)
class Offer:
    """A release: `percent` is in basis points, the name of a ramp, or None: it has none."""

    package: str
    percent: str | None = None
    first: int | None = None
    until: str = "open"
    linear: bool = False
    by: str = ""
    lists: str = ""
    not_lists: str = ""
    when: str = ""
    state: str = "live"

    @property
    def share(self) -> Said:
        """The percentage, or the steps of a ramp."""
        return RAMPS.get(self.percent or "", self.percent or "10000")


@dataclass(frozen=True)
class Flag:
    """A switch, off or on, by the rows of this name."""

    default: str = "off"
    enabled: str = "true"
    rows: str = ""

    @property
    def gives(self) -> Said:
        """The variant for everybody; with rows it is by those."""
        return (self.default, self.rows) if self.rows else self.default


@dataclass(frozen=True)
class Draft:
    """A whole plan; `ids` are those of its lists but of `qa`, which is an expression."""

    offers: Mapping[str, Offer]
    flags: Mapping[str, Flag]
    ids: Mapping[str, frozenset[str]]
    check_after: str = "1800"
    withdrawn: frozenset[str] = frozenset()

    @property
    def versions(self) -> list[str]:
        """The packages: 1 to 3 always, others while a release offers them."""
        return sorted({"1", "2", "3", *(each.package for each in self.offers.values())})

    def says(self, place: Place) -> Said:
        """Tell what is written at a place."""
        what, *names = place
        if what == "member":
            return None if names[0] not in self.lists else str(self.lists_id(*names)).lower()
        if what == "withdrawn":
            known = names[0] in self.versions
            return str(names[0] in self.withdrawn).lower() if known else None
        if what in ("enabled", "variant"):
            flag = self.flags.get(names[0])
            return flag and (flag.enabled if what == "enabled" else flag.gives)
        if what in ("state", "percent"):
            offer = self.offers.get(names[0])
            return offer and (offer.state if what == "state" else offer.share)
        return self.check_after

    @property
    def lists(self) -> set[str]:
        """The lists that it has."""
        return {*self.ids, "qa"}

    def lists_id(self, name: str, text: str) -> bool:
        """Tell whether an id is on a list."""
        return text.startswith("q") if name == "qa" else text in self.ids[name]

    def offering(self, name: str, offer: Offer | None) -> "Draft":
        """Give the plan with this release, or without it; `guests` is there for one alone."""
        offers = {key: each for key, each in self.offers.items() if key != name}
        if offer is not None:
            offers[name] = offer
        changed = replace(self, offers=offers)
        there = {"guests": self.ids.get("guests", frozenset(("u-5",)))} if "guest" in offers else {}
        kept = {key: each for key, each in self.ids.items() if key != "guests"}
        known = frozenset(each for each in self.withdrawn if each in changed.versions)
        return replace(changed, ids=kept | there, withdrawn=known)

    def saying(self, overrides: Mapping[Place, str]) -> "Draft":
        """Give the plan with overrides written into it, but for ids; what it has not is nothing."""
        offers, flags, draft = dict(self.offers), dict(self.flags), self
        for (what, *names), value in sorted(overrides.items(), key=lambda each: each[0]):
            name = names[-1] if names else ""
            if what == "check_after":
                draft = replace(draft, check_after=value)
            elif what == "withdrawn" and name in self.versions:
                gone = draft.withdrawn | {name} if value == "true" else draft.withdrawn - {name}
                draft = replace(draft, withdrawn=gone)
            elif what in ("state", "percent") and name in offers:
                offers[name] = replace(offers[name], **{what: value})
            elif what == "enabled" and name in flags:
                flags[name] = replace(flags[name], enabled=value)
            elif what == "variant" and name in flags:  # for everybody, enabled or not
                flags[name] = replace(flags[name], default=value, rows="")
        return replace(draft, offers=offers, flags=flags)


def first_draft() -> Draft:
    """Give the plan that everything begins with."""
    offers = {
        "stable": Offer("1"),
        "ramp": Offer("2", "3000", not_lists="qa"),
        "slow": Offer("3", "rising", when="android"),
        "listed": Offer("3", lists="staff, phones", state="paused"),
        "vip": Offer("2", lists="vip, qa", when="new"),
        "rush": Offer("3", "5000", first=3),
        "even": Offer("2", first=4, linear=True, by="user"),
        "late": Offer("3", first=2, until="over", lists="phones"),
        "beta": Offer("4", "2000"),
        "guest": Offer("2", lists="guests"),
    }
    ids = {"staff": ("u-1", "u-2", "u-3"), "phones": ("d-1", "d-2", "d-3", "d-4")}
    ids |= {"guests": ("u-5",), "vip": ("u-3", "u-4")}
    flags = {"home": Flag(rows="same"), "theme": Flag()}
    return Draft(offers, flags, {name: frozenset(each) for name, each in ids.items()})


def files(draft: Draft) -> dict[str, str]:
    """Write a plan's files, its lists' too."""
    lists = [
        "{list: staff, of: user, file: lists/staff.csv, column: id}",
        "{list: phones, of: device, file: lists/phones.txt}",
        "{list: qa, of: user, regex: '^q'}",
        "{list: vip, of: user, stored: true}",
    ]
    found = {
        "lists/staff.csv": "name,id\n" + "".join(f"n,{each}\n" for each in _ids(draft, "staff")),
        "lists/phones.txt": "".join(f"{each}\n" for each in _ids(draft, "phones")),
    }
    if "guests" in draft.ids:
        lists.append("{list: guests, of: user, file: lists/guests.txt}")
        found["lists/guests.txt"] = "".join(f"{each}\n" for each in _ids(draft, "guests"))
    for version in draft.versions:
        found |= record(version)
    return found | {
        "workspace.yaml": f"workspace: demo\ncheck_after: {draft.check_after}\n",
        "lists.yaml": "lists:\n" + "".join(f"  - {each}\n" for each in lists),
        "switches.yaml": "switches:\n"
        + "".join(f"  - {_flag(name, each)}\n" for name, each in sorted(draft.flags.items())),
        "apps/coffee.yaml": f"app: {COFFEE}\npackages:\n"
        + "".join(f"  - {_package(draft, each)}\n" for each in draft.versions)
        + "releases:\n"
        + "".join(f"  - {_release(name, each)}\n" for name, each in sorted(draft.offers.items())),
    }


def _ids(draft: Draft, name: str) -> list[str]:
    return sorted(draft.ids[name])


def _flag(name: str, flag: Flag) -> str:
    return (
        f"{{key: {name}, variants: {{on: true, off: false}}, default: {flag.default}, "
        f"enabled: {flag.enabled}, targeting: [{ROWS[flag.rows]}]}}"
    )


def _package(draft: Draft, version: str) -> str:
    clients = ', clients: {android: ">=10", ios: ">=9"}' if version == "2" else ""
    withdrawn = ", withdrawn: true" if version in draft.withdrawn else ""
    return f"{{version: {version}{clients}{withdrawn}}}"


def _release(name: str, offer: Offer) -> str:
    parts = []
    if offer.percent in RAMPS:
        steps = (
            f"{{at: '{_time(at)}', percent: {percent_text(int(value))}}}"
            for at, value in RAMPS[offer.percent]
        )
        parts.append(f"percent: [{', '.join(steps)}]")
    elif offer.percent is not None:
        parts.append(f"percent: {percent_text(int(offer.percent))}")
    if offer.first is not None:
        parts.append(f"first: {offer.first}, until: '{_time(UNTIL[offer.until])}'")
        parts += ["pace: linear"] * offer.linear
    parts += [f"by: {offer.by}"] * bool(offer.by)
    parts += [f"lists: [{offer.lists}]"] * bool(offer.lists)
    parts += [f"not_lists: [{offer.not_lists}]"] * bool(offer.not_lists)
    audience = f"{{{', '.join(parts)}}}" if parts else "everyone"
    when = f", when: [{CONDITIONS[offer.when]}]" if offer.when else ""
    starts = f", starts: '{_time(STARTS)}'" if offer.linear else ""
    return (
        f"{{id: {name}, package: {offer.package}, audience: {audience}, state: {offer.state}"
        f"{when}{starts}}}"
    )


def _time(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def meant(draft: Draft, overrides: Mapping[Place, str]) -> Plan:
    """Give the plan that reference.py is to judge by: the overrides stand in its files."""
    return _read(tuple(sorted(files(draft.saying(overrides)).items())))


@lru_cache(maxsize=64)
def _read(texts: tuple[tuple[str, str], ...]) -> Plan:
    plan_files = {path: text for path, text in texts if not path.startswith("lists/")}
    reading = read_files(plan_files, now=0)
    assert reading.plan is not None, reading.diagnostics
    return reading.plan


def members(
    draft: Draft, overrides: Mapping[Place, str], plan: Plan, phone: Mapping[str, Any]
) -> Memberships:
    """Tell on which lists a phone is: of the plan, or by an override of its id."""
    found = set()
    for name in draft.lists:
        text = real_id(plan.workspace, phone, KINDS[name])
        if text is not None:
            own = "true" if draft.lists_id(name, text) else "false"
            if overrides.get(("member", name, text), own) == "true":
                found.add(name)
    return Memberships(frozenset(found))


def edited(draft: Draft, line: str) -> Draft:
    """Give the plan after an edit, written as `ramp percent 4000` or `drop beta`."""
    name, key, *rest = line.split()
    value = rest[0] if rest else ""
    if name in ("drop", "bring"):
        draft = _with(draft, key, there=name == "bring")
    elif name == "check_after":
        draft = replace(draft, check_after=key)
    elif name in ("withdraw", "keep"):
        gone = draft.withdrawn | {key} if name == "withdraw" else draft.withdrawn - {key}
        draft = replace(draft, withdrawn=gone & frozenset(draft.versions))
    elif name in draft.ids and key in ("+", "-"):
        ids = draft.ids[name] | {value} if key == "+" else draft.ids[name] - {value}
        draft = replace(draft, ids={**draft.ids, name: ids})
    elif name in draft.flags:
        flag = replace(draft.flags[name], **{key: "" if value == "none" else value})
        draft = replace(draft, flags={**draft.flags, name: flag})
    elif name in draft.offers:
        worth = {"first": int(value)} if key == "first" else {key: value}
        change: Any = {key: None} if value == "none" else worth
        draft = draft.offering(name, replace(draft.offers[name], **change))
    return draft


def _with(draft: Draft, name: str, *, there: bool) -> Draft:
    """Give the plan with a release or a switch of the first plan, or without it."""
    first = first_draft()
    if name in first.offers:
        return draft.offering(name, draft.offers.get(name, first.offers[name]) if there else None)
    flags = {key: each for key, each in draft.flags.items() if key != name}
    if there:
        flags[name] = draft.flags.get(name, first.flags[name])
    return replace(draft, flags=flags)
