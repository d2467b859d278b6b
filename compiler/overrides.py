"""Overrides: single values laid over the plan, until their opposite is given or the plan agrees.

    what          app   name      value
    state         app   release   live, paused, ended
    percent       app   release   basis points; in the place of a whole ramp
    withdrawn     app   version   true, false
    check_after                   seconds
    enabled       switch          true, false
    variant       switch          the variant that everybody gets, enabled or not
    member        list  id        true, false

Pure: `lay_over` is the meaning, used by image, explain and all who compare.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from compiler.plan import App, Audience, Package, Plan, Release, State, Switch, percent_text
from gateway.errors import FormatError
from gateway.hashing import PERCENT_BUCKETS
from gateway.layout import Override
from gateway.version import VersionKey, parse_version


class What(StrEnum):
    """The sorts of values that can be overridden."""

    STATE = "state"
    PERCENT = "percent"
    WITHDRAWN = "withdrawn"
    CHECK_AFTER = "check_after"
    ENABLED = "enabled"
    VARIANT = "variant"
    MEMBER = "member"


SWITCHED = (What.ENABLED, What.VARIANT)
"""Those of a switch, whose key stands in the place of an app's id."""


class Place(NamedTuple):
    """Which value is overridden: equal versions, however they are written, are one place."""

    what: str
    app: str
    name: str | VersionKey


def place_of(override: Override) -> Place:
    """Tell which value an override is of."""
    name: str | VersionKey = override["name"]
    if override["what"] == What.WITHDRAWN:
        name = parse_version(override["name"]) or name
    return Place(override["what"], override["app"], name)


def put(overrides: Iterable[Override], one: Override) -> list[Override]:
    """Lay one more value over the plan, in the place of an older one."""
    return in_order([*drop(overrides, place_of(one)), one])


def drop(overrides: Iterable[Override], place: Place) -> list[Override]:
    """Leave the override of a value out."""
    return [each for each in overrides if place_of(each) != place]


def in_order(overrides: Iterable[Override]) -> list[Override]:
    """Sort overrides, as every tree holds them."""
    return sorted(overrides, key=lambda each: (each["what"], each["app"], each["name"]))


def lay_over(plan: Plan, overrides: Iterable[Override]) -> Plan:
    """Give the plan with its overrides laid over it.

    One of a release, version, switch or variant that the plan does not have changes nothing; a
    plan holds no list's ids, so that those are left to amendments.py.
    Raises FormatError for what no tidegate writes.
    """
    by_app: dict[str, list[Override]] = {}
    by_switch: dict[str, list[Override]] = {}
    workspace = plan.workspace
    for each in overrides:
        if each["what"] == What.CHECK_AFTER:
            workspace = replace(workspace, check_after=_number(each))
        elif each["what"] != What.MEMBER:
            owners = by_switch if each["what"] in SWITCHED else by_app
            owners.setdefault(each["app"], []).append(each)
    apps = [_app(app, by_app[app.id]) if app.id in by_app else app for app in plan.apps]
    switches = [_switch(each, by_switch.get(each.key, ())) for each in plan.switches]
    return replace(plan, workspace=workspace, apps=tuple(apps), switches=tuple(switches))


def _app(app: App, overrides: Iterable[Override]) -> App:
    releases, packages = list(app.releases), list(app.packages)
    for each in overrides:
        if each["what"] == What.WITHDRAWN:
            for at, package in enumerate(packages):
                if package.key == parse_version(each["name"]):
                    packages[at] = replace(package, withdrawn=each["value"] == "true")
            continue
        for at, release in enumerate(releases):
            if release.id == each["name"]:
                releases[at] = _release(release, each)
    return replace(app, releases=tuple(releases), packages=tuple(packages))


def _release(release: Release, override: Override) -> Release:
    if override["what"] == What.STATE and override["value"] in list(State):
        return replace(release, state=State(override["value"]))
    if override["what"] == What.PERCENT:
        audience = replace(release.audience, ramp=(), basis_points=_number(override))
        return replace(release, audience=audience)
    raise _unreadable(override)


def _switch(switch: Switch, overrides: Iterable[Override]) -> Switch:
    values = {each["what"]: each["value"] for each in overrides}
    variant = values.get(What.VARIANT)
    if variant in switch.variants:
        switch = replace(switch, default=variant, targeting=(), enabled=True)
    enabled = values.get(What.ENABLED)
    return switch if enabled is None else replace(switch, enabled=enabled == "true")


def _number(override: Override) -> int:
    if not override["value"].isdecimal():
        raise _unreadable(override)
    return int(override["value"])


def _unreadable(override: Override) -> FormatError:
    return FormatError(
        f"The override {override['what']} {override['value']!r:.80} is not known to this tidegate. "
        "Install the version that made it."
    )


def find_app(plan: Plan, app: str) -> App | None:
    """Give the app of an id."""
    return next((each for each in plan.apps if each.id == app), None)


def find_release(plan: Plan, app: str, name: str) -> Release | None:
    """Give a release by its app's id and its own."""
    found = find_app(plan, app)
    return next((each for each in found.releases if each.id == name), None) if found else None


def find_switch(plan: Plan, key: str) -> Switch | None:
    """Give a switch by its key."""
    return next((each for each in plan.switches if each.key == key), None)


def find_package(plan: Plan, app: str, key: object) -> Package | None:
    """Give a package by its app's id and its version's key."""
    found = find_app(plan, app)
    return next((each for each in found.packages if each.key == key), None) if found else None


def said(plan: Plan, place: Place, members: Collection[Place] = ()) -> str | None:
    """Tell what a plan itself says of a value, written as an override's; None: it has no such.

    `members` are those places of ids that are on the plan's lists, as no plan holds them.
    """
    if place.what == What.MEMBER:
        there = any(source.name == place.app for source in plan.lists)
        return str(place in members).lower() if there else None
    if place.what == What.CHECK_AFTER:
        return str(plan.workspace.check_after)
    if place.what == What.WITHDRAWN:
        package = find_package(plan, place.app, place.name)
        return None if package is None else str(package.withdrawn).lower()
    if place.what in SWITCHED:
        switch = find_switch(plan, place.app)
        return None if switch is None else _of_switch(switch, place.what)
    release = find_release(plan, place.app, str(place.name))
    if release is None:
        return None
    return release.state.value if place.what == What.STATE else _percent(release.audience)


def _of_switch(switch: Switch, what: str) -> str:
    """Write what a switch says; of targeting, which gives several variants, all of it."""
    if what == What.ENABLED:
        return str(switch.enabled).lower()
    return switch.default if not switch.targeting else f"{switch.default}, or by {switch.targeting}"


def _percent(audience: Audience) -> str:
    """Write a percentage in basis points; of a ramp, which is never the same, all its steps."""
    if audience.ramp:
        return " ".join(f"{step.at}:{step.basis_points}" for step in audience.ramp)
    return str(PERCENT_BUCKETS if audience.basis_points is None else audience.basis_points)


def named(override: Override) -> str:
    """Name the value for people, and for `--take-plan`: `2021000000000001/ramp`."""
    if override["what"] == What.CHECK_AFTER:
        return override["what"]
    if override["what"] in SWITCHED:
        return f"{override['app']}/{override['what']}"
    return f"{override['app']}/{override['name']}"


_WORDS: dict[tuple[str, str], str] = {
    (What.WITHDRAWN, "true"): "is withdrawn",
    (What.WITHDRAWN, "false"): "is not withdrawn",
    (What.ENABLED, "true"): "is enabled",
    (What.ENABLED, "false"): "is disabled",
    (What.MEMBER, "true"): "is on the list",
    (What.MEMBER, "false"): "is not on the list",
}


def in_words(what: str, value: str | None) -> str:
    """Say a value in words: `is paused`, `is at 12.5 %`."""
    if value is None:
        return "is not there"
    if what == What.STATE:
        return f"is {value}"
    if (what, value) in _WORDS:
        return _WORDS[what, value]
    if what == What.PERCENT:
        return f"is at {percent_text(int(value))} %" if value.isdecimal() else "is a ramp"
    if what == What.VARIANT:
        return "goes by its targeting" if ", or by " in value else f"gives everybody {value}"
    return f"is {value}"


def laid_line(override: Override) -> str:
    """Say an override in a line: `2021000000000001/ramp is paused`."""
    return f"{named(override)} {in_words(override['what'], override['value'])}"


@dataclass(frozen=True, slots=True)
class Contested:
    """An override whose very value the plan has changed, to another one than the override's."""

    override: Override
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a new plan does to the overrides of the live one.

    `kept` stay laid over it; `agreed` end, as the plan says the same; `taken` end because the
    operator takes what the plan says; `contested` must be taken or written into the plan.
    """

    kept: tuple[Override, ...] = ()
    agreed: tuple[Override, ...] = ()
    taken: tuple[Override, ...] = ()
    contested: tuple[Contested, ...] = ()


def settle(
    before: Plan | None,
    after: Plan,
    overrides: Sequence[Override],
    take: Collection[str] = (),
    members: Collection[Place] = (),
) -> Settlement:
    """Hold overrides against the plan that they were laid over and the one that is to come.

    `take` names those whose value is to be the plan's, as `named` does, or by the app's file: of
    one name the contested ones if there are any, so that nothing else ends with them. `members`
    are those ids that are on the lists to come. What the plans do not have is kept: a version or
    release may come back.
    """
    kept, agreed, contested = [], [], list[Contested]()
    for each in overrides:
        place = place_of(each)
        now = said(after, place, members)
        then = now if before is None or each["what"] == What.MEMBER else said(before, place)
        if now == each["value"]:
            agreed.append(each)
        elif now is None or then is None or now == then:
            kept.append(each)
        else:
            contested.append(Contested(each, then, now))
    fought = [each.override for each in contested]
    taken = set[Place]()
    for name in take:
        meant = [each for each in fought if name in names_of(each, after)]
        meant = meant or [each for each in kept if name in names_of(each, after)]
        taken.update(map(place_of, meant))
    return Settlement(
        tuple(each for each in kept if place_of(each) not in taken),
        tuple(agreed),
        tuple(each for each in (*fought, *kept) if place_of(each) in taken),
        tuple(each for each in contested if place_of(each.override) not in taken),
    )


def names_of(override: Override, plan: Plan) -> set[str]:
    """Give all names by which `--take-plan` may mean an override; a list's means all its ids."""
    if override["what"] == What.MEMBER:
        return {named(override), override["app"]}
    app = find_app(plan, override["app"])
    if app is None:  # check_after is a command, too
        return {named(override), named(override).replace("_", "-")}
    file = app.file.removeprefix("apps/").removesuffix(".yaml")
    return {named(override), f"{file}/{override['name']}"}
