"""Random plans that use every feature, the files they are written in, and phones that ask.

Plans are drawn by Hypothesis, so that a failure shrinks; phones by a seeded generator that
prefers the very values, bounds and neighbours that the plan mentions.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any

from hypothesis import strategies as st

from compiler.amendments import of_id
from compiler.overrides import put
from compiler.plan import (
    App,
    Audience,
    CdnRule,
    Comparison,
    Condition,
    Form,
    Halt,
    ListSource,
    Operator,
    Package,
    PackageRecord,
    Plan,
    Release,
    State,
    Step,
    Upgrade,
    Window,
    Workspace,
)
from gateway.attribute import BUILT_IN, CUSTOM, TEXT, VERSIONS
from gateway.layout import Override
from gateway.version import parse_version

NOW = 1_800_000_000
VERSION_TEXTS = (
    "1",
    "1.0.0.1",
    "1.0.0.2",
    "1.0.1",
    "1.1-beta",
    "1.1-beta.2",
    "1.1-beta.11",
    "1.1",
    "2.0.0.0",
    "9.9",
    "10.2.0",
    "10.3+b1",
    "010.3.0.1",
    "11",
    "999999999999999999",
)
WORDS = (
    "WIFI",
    "wifi",
    "5G",
    "Straße",
    "STRASSE",
    "CN-ZJ",
    "a",
    "*",
    "İ",
    "ﬁ",
    "x.y",
    "on",
    "中国",
)
GLOBS = ("*", "?", "W*", "*a*", "?N-*", "s*e", "", "x.y", "1.*", "1?*", "中?")
NUMBERS = (0, 1, 1.0, 1.5, -3, 10, 2**53, 2**53 + 1, 1e300, -0.0)
IDS = (*(f"id-{number}" for number in range(12)), "qa-7", "qa-x")
LIST_NAMES = ("staff", "friends", "blocked", "phones", "testers", "qa-phones")
CUSTOM_NAMES = ("custom.tier", "custom.level", "custom.vip")
PLATFORMS = ("android", "ios", "Harmony")

version_texts = st.sampled_from(VERSION_TEXTS)


def _alternatives(values: Any) -> Any:
    return st.lists(st.sampled_from(values), min_size=1, max_size=4, unique=True).map(tuple)


@st.composite
def _ordered_pair(draw: Any, values: Any, key: Any) -> Any:
    return tuple(sorted((draw(st.sampled_from(values)), draw(st.sampled_from(values))), key=key))


@st.composite
def conditions(draw: Any) -> Condition:
    attribute = draw(st.sampled_from(BUILT_IN + CUSTOM_NAMES))
    if attribute in VERSIONS:
        ordered, values, key = True, VERSION_TEXTS, parse_version
    elif attribute in TEXT:
        ordered, values, key = False, (*WORDS, *PLATFORMS), str
    elif draw(st.booleans()):
        ordered, values, key = True, NUMBERS, None  # exact, beyond what a float holds
    else:
        ordered, values, key = False, (*WORDS, *NUMBERS, True, False, "1", "true"), str
    numbers = attribute.startswith(CUSTOM) and ordered
    operators = list(Operator) if ordered else [Operator.IN, Operator.NOT_IN, Operator.MATCHES]
    if numbers:
        operators.remove(Operator.MATCHES)
    operator = draw(st.sampled_from(operators))
    if operator is Operator.MATCHES:
        operands = draw(_alternatives(tuple(glob for glob in GLOBS if glob)))
    elif operator in (Operator.BETWEEN, Operator.NOT_BETWEEN):
        operands = draw(_ordered_pair(values, key))
    elif operator in (Operator.AT_LEAST, Operator.BELOW):
        operands = (draw(st.sampled_from(values)),)
    else:
        chosen = draw(st.lists(st.sampled_from(values), min_size=1, max_size=4))
        operands = tuple({(type(value), value): value for value in chosen}.values())
    return Condition(attribute, operator, operands)


comparisons = st.lists(
    st.builds(Comparison, st.sampled_from((">=", ">", "<", "<=", "=")), version_texts),
    min_size=1,
    max_size=3,
).map(tuple)

ramps = st.lists(
    st.builds(Step, st.integers(NOW - 3, NOW + 3), st.sampled_from((0, 1, 1250, 5000, 10_000))),
    max_size=4,
    unique_by=lambda step: step.at,
).map(lambda steps: tuple(sorted(steps, key=lambda step: step.at)))

audiences = st.builds(
    Audience,
    lists=st.just(()) | st.just(()) | _alternatives(LIST_NAMES),
    not_lists=st.just(()) | st.just(()) | _alternatives(LIST_NAMES),
    basis_points=st.none() | st.none() | st.sampled_from((0, 1, 1250, 5000, 9999, 10_000)),
    by_user=st.booleans(),
    ramp=st.just(()) | st.just(()) | ramps,
    window=st.none() | st.builds(Window, st.sampled_from((1, 10_000_000)), st.just(NOW + 9)),
).map(
    lambda a: (
        replace(a, basis_points=None)
        if a.ramp
        else a
        if counts(a)
        else Audience(a.lists, a.not_lists)
    )
)


def counts(audience: Audience) -> bool:
    """Tell whether an audience counts subjects, so that `by` means something."""
    return bool(audience.basis_points is not None or audience.ramp or audience.window is not None)


def record(app: str, version: str) -> PackageRecord:
    sha256 = (app + version).encode().hex().ljust(64, "0")[:64]
    form = Form("identity", 1000, sha256, f"files/{sha256[:2]}/{sha256}.zip")
    return PackageRecord(1000, sha256, (form,))


@st.composite
def packages(draw: Any, app: str, version: str) -> Package:
    has_info = draw(st.booleans())
    named = st.dictionaries(st.sampled_from(PLATFORMS), comparisons, min_size=1)
    clients = draw(st.none() | st.none() | named)
    key = parse_version(version)
    assert key is not None
    return Package(
        version,
        key,
        None if clients is None else {name.casefold(): each for name, each in clients.items()},
        draw(st.sampled_from(("any", "wifi"))),
        draw(st.sampled_from(("on_open", "preload"))),
        draw(
            st.sampled_from(({"entry": "/i.html"}, [1, None, True], "on"))
            if has_info
            else st.none()
        ),
        has_info,
        draw(st.booleans()) and draw(st.booleans()),
        record(app, version),
    )


seconds = st.none() | st.none() | st.integers(NOW - 3, NOW + 3)


@st.composite
def releases(draw: Any, name: str, versions: list[str]) -> Release:
    starts, ends = draw(seconds), draw(seconds)
    if starts is not None and ends is not None and starts >= ends:
        starts, ends = ends, starts + 1
    audience = draw(st.just(Audience()) | audiences)
    if audience.window is not None and starts is not None and draw(st.booleans()):
        audience = replace(audience, window=replace(audience.window, linear=True))
    return Release(
        name,
        draw(st.sampled_from(versions)),
        audience,
        tuple(draw(st.lists(conditions(), max_size=draw(st.sampled_from((0, 0, 1, 3)))))),
        draw(st.sampled_from(Upgrade)),
        draw(st.sampled_from((State.LIVE, State.LIVE, State.LIVE, State.PAUSED, State.ENDED))),
        starts,
        ends,
        draw(st.none() | st.just(Halt(250, 200, 30))),
    )


WIDE = 70
"""Releases of an app that has many, at least."""


@st.composite
def apps(draw: Any, app: str) -> App:
    texts = draw(st.lists(version_texts, min_size=1, max_size=4, unique_by=parse_version))
    names = draw(
        st.lists(st.sampled_from([f"r{n}" for n in range(9)]), min_size=1, max_size=8, unique=True)
    )
    return App(
        app,
        "",
        f"apps/{app}.yaml",
        tuple(draw(packages(app, text)) for text in texts),
        tuple(draw(releases(name, texts)) for name in names),
    )


def widened(plan: Plan) -> Plan:
    """Give each app more releases than a machine word has bits: compiled, those differ."""

    def more(app: App) -> App:
        copies = range(WIDE // len(app.releases))
        added = [replace(each, id=f"{each.id}-{n}") for n in copies for each in app.releases]
        return replace(app, releases=(*app.releases, *added))

    return replace(plan, apps=tuple(map(more, plan.apps)))


LISTS = (
    ListSource("blocked", "user", file="lists/blocked.txt"),
    ListSource("friends", "user", file="lists/friends.txt"),
    ListSource("phones", "device", file="lists/phones.txt"),
    ListSource("qa-phones", "device", regex=("^qa-", "7$")),
    ListSource("staff", "user", file="lists/staff.txt"),
    ListSource("testers", "user", regex=("^qa-[0-9]+$",)),
)


@st.composite
def plans(draw: Any) -> tuple[Plan, dict[str, list[str]]]:
    """Draw a plan, and the ids of its lists of ids by list name."""
    workspace = Workspace(
        draw(st.sampled_from(("demo", "other"))),
        draw(st.sampled_from((0, 1, 1800, 86400))),
        (
            CdnRule(("CN-*",), ("https://east.example.com", "https://cdn.example.com")),
            CdnRule(("*",), ("https://cdn.example.com",)),
        ),
    )
    ids = {
        source.name: sorted(draw(st.sets(st.sampled_from(IDS), min_size=1, max_size=6)))
        for source in LISTS
        if not source.regex
    }
    return Plan(workspace, (draw(apps("a1")), draw(apps("b.2"))), LISTS), ids


def overrides(plan: Plan, random: Random) -> list[Override]:
    """Make up overrides of what the plan has, and of what it has not."""
    found = [Override(what="check_after", app="", name="", value=str(random.randint(0, 86_400)))]
    for app in (*(app.id for app in plan.apps), "gone"):
        names = [f"r{n}" for n in range(9)]
        values = (
            *(("state", name, state) for name in names for state in ("live", "paused", "ended")),
            *(("percent", name, bp) for name in names for bp in ("0", "1250", "9999", "10000")),
            *(("withdrawn", text, truth) for text in VERSION_TEXTS for truth in ("true", "false")),
        )
        for what, name, value in random.sample(values, 8):
            found = put(found, {"what": what, "app": app, "name": name, "value": value})
    for source in (*plan.lists, ListSource("gone", "user", file="gone.txt")):
        for text in random.sample(IDS, 3):
            found.append(of_id(source.name, text, on=random.random() < 0.5))
    return random.sample(found, random.randint(0, len(found)))


def _quote(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _halt(halt: Halt) -> dict[str, Any]:
    share = f"{halt.failures / 100:g}%"
    return {"failures": share, "min_reports": halt.min_reports, "within": f"{halt.minutes}m"}


def _when(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()


def to_files(plan: Plan, random: Random) -> dict[str, str]:
    """Write a plan's files, with releases, packages and conditions in a random order."""
    workspace = plan.workspace
    files = {
        "workspace.yaml": _quote(
            {
                "workspace": workspace.name,
                "check_after": workspace.check_after,
                "cdn": [
                    {"regions": list(rule.regions), "bases": list(rule.bases)}
                    for rule in workspace.cdn
                ],
            }
        ),
        "lists.yaml": _quote({"lists": [_list(source) for source in plan.lists]}),
    }
    for app in plan.apps:
        files[app.file] = _quote(
            {
                "app": app.id,
                "packages": random.sample([_package(p) for p in app.packages], len(app.packages)),
                "releases": random.sample([_release(r) for r in app.releases], len(app.releases)),
            }
        )
        for package in app.packages:
            assert package.record is not None
            files[f"packages/{app.id}/{package.version}.json"] = _quote(
                {
                    "format": 1,
                    "size": package.record.size,
                    "sha256": package.record.sha256,
                    "forms": [
                        {
                            "compression": form.compression,
                            "size": form.size,
                            "sha256": form.sha256,
                            "path": form.path,
                        }
                        for form in package.record.forms
                    ],
                    "signatures": [],
                }
            )
    return files


def _list(source: ListSource) -> dict[str, Any]:
    found: dict[str, Any] = {"list": source.name, "of": source.of}
    return found | ({"regex": list(source.regex)} if source.regex else {"file": source.file})


def _package(package: Package) -> dict[str, Any]:
    found: dict[str, Any] = {
        "version": package.version,
        "download": package.download,
        "install": package.install,
        "withdrawn": package.withdrawn,
    }
    if package.clients is not None:
        found["clients"] = {
            name: " ".join(each.sign + each.version for each in ranges)
            for name, ranges in package.clients.items()
        }
    if package.has_info:
        found["info"] = package.info
    return found


def _release(release: Release) -> dict[str, Any]:  # noqa: C901 - a branch for each key
    audience, parts = release.audience, {}
    if audience.lists:
        parts["lists"] = list(audience.lists)
    if audience.not_lists:
        parts["not_lists"] = list(audience.not_lists)
    if audience.basis_points is not None:
        parts["percent"] = str(audience.basis_points / 100)
    if audience.ramp:
        parts["percent"] = [
            {"at": _when(step.at), "percent": str(step.basis_points / 100)}
            for step in audience.ramp
        ]
    if audience.window is not None:
        parts |= {"first": audience.window.first, "until": _when(audience.window.until)}
        if audience.window.linear:
            parts["pace"] = "linear"
    if counts(audience):
        parts["by"] = "user" if audience.by_user else "device"
    found: dict[str, Any] = {
        "id": release.id,
        "package": release.package,
        "audience": parts or "everyone",
        "upgrade": release.upgrade.name.lower(),
        "state": release.state.value,
        "when": [_condition(each) for each in release.conditions],
    }
    if release.starts is not None:
        found["starts"] = _when(release.starts)
    if release.halt is not None:
        found["halt"] = _halt(release.halt)
    if release.ends is not None:
        found["ends"] = _when(release.ends)
    return found


def _condition(condition: Condition) -> dict[str, Any]:
    operands: Any = list(condition.operands)
    if condition.operator in (Operator.AT_LEAST, Operator.BELOW):
        operands = operands[0]
    return {"attribute": condition.attribute, condition.operator.value: operands}


ODD: tuple[Any, ...] = (None, "", 14, 1.5, True, [], ["x"], {}, {"a": 1}, "?" * 300, " ", "x\ny")


def phones(plan: Plan, random: Random, count: int) -> list[dict[str, Any]]:
    """Make up requests that ask for all apps and for one that is not there."""
    operands: dict[str, list[Any]] = {}
    for app in plan.apps:
        for release in app.releases:
            for condition in release.conditions:
                operands.setdefault(condition.attribute, []).extend(condition.operands)
        for package in app.packages:
            for comparisons in (package.clients or {}).values():
                bounds = [each.version for each in comparisons]
                operands.setdefault("client_version", []).extend(bounds)
    return [_phone(plan, random, operands) for _ in range(count)]


def _value(random: Random, attribute: str, operands: dict[str, list[Any]]) -> Any:
    roll = random.random()
    near = operands.get(attribute, [])
    if roll < 0.55 and near:
        value = random.choice(near)
        if isinstance(value, str) and random.random() < 0.4:
            value = random.choice((value.upper(), value.lower(), value + ".0", value.swapcase()))
        elif isinstance(value, int | float) and random.random() < 0.3:
            value = random.choice((value + 1, value - 1, str(value), float(value), bool(value)))
        return value
    if roll < 0.65:
        return random.choice(ODD)
    if attribute in VERSIONS:
        return random.choice((*VERSION_TEXTS, "1.2.3.4.5", "1.0.0.0.0.0.0.1", "v1", "1.0.0.1-rc"))
    if attribute == "platform":
        return random.choice((*PLATFORMS, "ANDROID", "web"))
    return random.choice((*WORDS, *NUMBERS, True, False, "qux"))


def _phone(plan: Plan, random: Random, operands: dict[str, list[Any]]) -> dict[str, Any]:
    phone: dict[str, Any] = {}
    for attribute in (*TEXT, "os_version", "client_version"):
        if random.random() < 0.85:
            phone[attribute] = _value(random, attribute, operands)
    if random.random() < 0.85:
        phone["platform"] = random.choice(("android", "iOS", "harmony"))
    custom: Any = {
        name.removeprefix(CUSTOM): _value(random, name, operands)
        for name in CUSTOM_NAMES
        if random.random() < 0.8
    }
    if random.random() < 0.9:
        phone["custom"] = custom
    elif random.random() < 0.5:
        phone["custom"] = random.choice(ODD)
    for kind in ("user", "device"):
        if random.random() < 0.8:
            phone[kind] = random.choice(
                (*IDS, *IDS, f"u-{random.random()}", "unknown", "NULL", 7, "")
            )
    installed = [package.version for app in plan.apps for package in app.packages]
    phone["apps"] = {
        app: random.choice((*installed, *installed, *VERSION_TEXTS, None, "junk", "", 5, "1" * 300))
        for app in (*(app.id for app in plan.apps), *(["missing"] if random.random() < 0.1 else []))
    }
    return phone
