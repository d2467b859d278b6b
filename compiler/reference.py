"""The meaning of the plan language, written slowly and obviously.

This is the definition: the compiled tables must agree with it for every plan, check and moment
(law 1), `explain` shows its reasons, and load tests judge answers by it. It reads the client's
JSON object itself and shares with the gateway only the order of versions and the keyed hash,
which known-answer vectors pin down. Memberships and seats are given as data. So is who asks, where
the workspace has an identity provider: `user` and `device` of a check are then those of its token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compiler.plan import (
    App,
    Audience,
    Comparison,
    Condition,
    Operand,
    Operator,
    Package,
    Plan,
    Release,
    State,
    Workspace,
)
from gateway.attribute import BUILT_IN, CUSTOM, VALUE_CHARS, VERSIONS
from gateway.hashing import id_hash, id_seed, percent_bucket, percent_key, percent_place
from gateway.version import VersionKey, parse_version


@dataclass(frozen=True, slots=True)
class Memberships:
    """The lists that surely have this client, and those of which it could not be known."""

    surely: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Seats:
    """The windows, as (app, release id), in which this client sits, and that would seat it now."""

    seated: frozenset[tuple[str, str]] = frozenset()
    free: frozenset[tuple[str, str]] = frozenset()


NO_SEATS = Seats()


def seats_open(first: int, starts: int | None, until: int, second: int) -> int:
    """Tell how many seats a window has opened by a second, that second included.

    `starts` is given if its pace is linear. From `until` on, nobody else is seated.
    """
    if second >= until:
        return 0
    if starts is None:
        return first
    if second < starts:
        return 0
    return -(-first * (second - starts + 1) // (until - starts))  # rounded up


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a release asked for: what it needed, what it got, and whether that holds."""

    subject: str
    needed: str
    got: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """A release and all its findings; it is eligible when they all hold."""

    release: Release
    package: Package
    findings: tuple[Finding, ...]

    @property
    def eligible(self) -> bool:
        """Tell whether everything holds."""
        return all(finding.holds for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one app is told, and why; `release` and `version` as they stand in the answer."""

    status: str
    version: str | None = None
    release: str | None = None
    upgrade: str | None = None
    explanations: tuple[Explanation, ...] = ()


def evaluate(
    plan: Plan,
    check: Mapping[str, Any],
    app_id: str,
    second: int,
    members: Memberships,
    seats: Seats = NO_SEATS,
) -> Verdict:
    """Judge one app of a check: `check` is the request's JSON object, `second` is Unix time."""
    app = next((app for app in plan.apps if app.id == app_id), None)
    installed = check["apps"][app_id]
    if app is None:
        return Verdict("unknown")
    if installed is not None and not isinstance(installed, str):
        return Verdict("invalid")
    explanations = tuple(
        explain_release(plan.workspace, app, release, check, second, members, seats)
        for release in app.releases
    )
    eligible = [each for each in explanations if each.eligible]
    # The highest package version; then the strongest upgrade; then the smallest id.
    winner: Explanation | None = None
    for candidate in eligible:
        if winner is None or _beats(candidate, winner):
            winner = candidate
    have = _version(installed)
    withdrawn = have is not None and any(
        package.withdrawn and package.key == have for package in app.packages
    )
    if winner is None:
        return Verdict("withdrawn" if withdrawn else "none", explanations=explanations)
    target = winner.package
    if withdrawn:
        assert have is not None
        status = "update" if target.key > have else "rollback"
    elif have is None or have < target.key:
        status = "update"
    else:
        return Verdict("latest", release=winner.release.id, explanations=explanations)
    upgrade = "force" if withdrawn else winner.release.upgrade.name.lower()
    return Verdict(status, target.version, winner.release.id, upgrade, explanations)


def _beats(one: Explanation, other: Explanation) -> bool:
    if one.package.key != other.package.key:
        return one.package.key > other.package.key
    if one.release.upgrade != other.release.upgrade:
        return one.release.upgrade > other.release.upgrade
    return one.release.id < other.release.id


def explain_release(
    workspace: Workspace,
    app: App,
    release: Release,
    check: Mapping[str, Any],
    second: int,
    members: Memberships,
    seats: Seats = NO_SEATS,
) -> Explanation:
    """Hold one release against one client, part by part."""
    package = next(each for each in app.packages if each.version == release.package)
    findings = [
        Finding("state", "live", release.state.value, release.state is State.LIVE),
        Finding(
            "package",
            "not withdrawn",
            "withdrawn" if package.withdrawn else "on offer",
            not package.withdrawn,
        ),
    ]
    if release.starts is not None or release.ends is not None:
        begun = release.starts is None or second >= release.starts
        over = release.ends is not None and second >= release.ends
        needed = f"{_time(release.starts)} <= second < {_time(release.ends)}"
        findings.append(Finding("schedule", needed, str(second), begun and not over))
    findings.append(_host(package, check))
    findings.extend(explain_condition(condition, check, app.id) for condition in release.conditions)
    findings.extend(explain_audience(workspace, app, release, check, second, members))
    if release.audience.window is not None:
        findings.append(_window(workspace, app, release, check, seats))
    return Explanation(release, package, tuple(findings))


def _time(second: int | None) -> str:
    return "-" if second is None else str(second)


def _host(package: Package, check: Mapping[str, Any]) -> Finding:
    if package.clients is None:
        return Finding("host app", "any", "-", True)
    platform, version = _text(check, "platform"), _text(check, "client_version")
    needed = "; ".join(
        f"{name} {' '.join(each.sign + each.version for each in comparisons)}"
        for name, comparisons in sorted(package.clients.items())
    )
    got = f"{platform or 'no platform'} {version or 'no client_version'}"
    comparisons = package.clients.get(platform.casefold()) if platform else None
    key = _version(version)
    holds = (
        comparisons is not None
        and key is not None
        and all(_compares(key, each) for each in comparisons)
    )
    return Finding("host app", needed, got, holds)


def _compares(key: VersionKey, comparison: Comparison) -> bool:
    bound = _version(comparison.version)
    assert bound is not None
    if comparison.sign == ">=":
        return key >= bound
    if comparison.sign == ">":
        return key > bound
    if comparison.sign == "<=":
        return key <= bound
    if comparison.sign == "<":
        return key < bound
    assert comparison.sign == "="
    return key == bound


def explain_condition(condition: Condition, check: Mapping[str, Any], app_id: str) -> Finding:
    """Hold one condition against one client."""
    value = sent_value(condition.attribute, check, app_id)
    needed = f"{condition.operator.value} {', '.join(map(str, condition.operands))}"
    got = "not sent" if value is None else str(value)
    return Finding(condition.attribute, needed, got, _holds(condition, value))


def sent_value(attribute: str, check: Mapping[str, Any], app_id: str) -> Operand | None:
    """Give what the client sent as this attribute, or None where that counts as not sent."""
    if attribute == "installed":
        return _readable(check["apps"][app_id], version=True)
    if attribute in BUILT_IN:
        return _readable(check.get(attribute), version=attribute in VERSIONS)
    custom = check.get("custom")
    value = custom.get(attribute.removeprefix(CUSTOM)) if isinstance(custom, dict) else None
    if isinstance(value, bool | int | float):
        return value
    return _readable(value, version=False)


def _readable(value: Any, *, version: bool) -> str | None:
    if not isinstance(value, str) or value == "" or len(value) > VALUE_CHARS:
        return None
    if version and parse_version(value) is None:
        return None
    return value


def _text(check: Mapping[str, Any], name: str) -> str | None:
    return _readable(check.get(name), version=False)


def _version(text: str | None) -> VersionKey | None:
    if text is None or len(text) > VALUE_CHARS:
        return None
    return parse_version(text)


def _kind(value: Operand) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "text" if isinstance(value, str) else "number"


def _holds(condition: Condition, value: Operand | None) -> bool:
    """Test a condition: false for what was not sent, whatever the operator."""
    if value is None:
        return False
    operator, operands = condition.operator, condition.operands
    if operator is Operator.MATCHES:
        return isinstance(value, str) and any(
            _glob(str(operand).casefold(), value.casefold()) for operand in operands
        )
    if condition.attribute in VERSIONS:
        return _among(operator, _key(value), [_key(operand) for operand in operands])
    same_kind = [operand for operand in operands if _kind(operand) == _kind(value)]
    if not same_kind:
        return False
    return _among(operator, _folded(value), [_folded(operand) for operand in same_kind])


def _key(value: Operand) -> VersionKey:
    key = parse_version(str(value))
    assert key is not None
    return key


def _folded(value: Operand) -> Any:
    return value.casefold() if isinstance(value, str) else value


def _among(operator: Operator, value: Any, operands: list[Any]) -> bool:
    if operator is Operator.IN:
        return value in operands
    if operator is Operator.NOT_IN:
        return value not in operands
    if operator is Operator.BETWEEN:
        return bool(operands[0] <= value <= operands[1])
    if operator is Operator.NOT_BETWEEN:
        return not operands[0] <= value <= operands[1]
    if operator is Operator.AT_LEAST:
        return bool(value >= operands[0])
    assert operator is Operator.BELOW
    return bool(value < operands[0])


def _glob(pattern: str, text: str) -> bool:
    """Match a whole text against `*` and `?`, by the table of all prefixes."""
    reachable = {0}
    for char in pattern:
        if char == "*":
            reachable = set(range(min(reachable), len(text) + 1)) if reachable else set()
        else:
            reachable = {at + 1 for at in reachable if at < len(text) and char in ("?", text[at])}
    return len(text) in reachable


def explain_audience(
    workspace: Workspace,
    app: App,
    release: Release,
    check: Mapping[str, Any],
    second: int,
    members: Memberships,
) -> list[Finding]:
    """Hold a release's audience against one client, part by part."""
    audience, findings = release.audience, []
    on = ", ".join(sorted(members.surely)) or "none"
    unknown = f" (unknown: {', '.join(sorted(members.unknown))})" if members.unknown else ""
    if audience.lists:
        holds = any(name in members.surely for name in audience.lists)
        needed = f"any of {', '.join(audience.lists)}"
        findings.append(Finding("lists", needed, on + unknown, holds))
    if audience.not_lists:
        # A member that could not be looked up counts as one where members are kept out.
        holds = not any(
            name in members.surely or name in members.unknown for name in audience.not_lists
        )
        needed = f"none of {', '.join(audience.not_lists)}"
        findings.append(Finding("not_lists", needed, on + unknown, holds))
    percent = _percent_at(audience, second)
    if percent is not None:
        findings.append(_percent(workspace, app, release, percent, check))
    return findings


def _percent_at(audience: Audience, second: int) -> int | None:
    """Give the percentage in basis points, of a ramp that of the last step that was taken."""
    if not audience.ramp:
        return audience.basis_points
    taken = [step.basis_points for step in audience.ramp if step.at <= second]
    return taken[-1] if taken else 0


def _percent(
    workspace: Workspace, app: App, release: Release, percent: int, check: Mapping[str, Any]
) -> Finding:
    needed = f"{percent / 100:g} %"
    kind, subject = "user", real_id(workspace, check, "user")
    device = real_id(workspace, check, "device")
    if not release.audience.by_user and device is not None:
        kind, subject = "device", device
    if subject is None:
        return Finding("percent", needed, "no id", percent == 10_000)
    bucket = percent_bucket(id_hash(subject, id_seed(workspace.name, kind)))
    place = percent_place(bucket, percent_key(app.id, release.id))
    return Finding("percent", needed, f"{kind} at {place / 100:.2f} %", place < percent)


def _window(
    workspace: Workspace, app: App, release: Release, check: Mapping[str, Any], seats: Seats
) -> Finding:
    window = release.audience.window
    assert window is not None
    subject = real_id(workspace, check, "user")
    if not release.audience.by_user:
        subject = real_id(workspace, check, "device") or subject
    needed = f"one of the first {window.first:,} before {window.until}"
    if subject is None:
        return Finding("window", needed, "no id", False)
    if (app.id, release.id) in seats.seated:
        return Finding("window", needed, "seated", True)
    if (app.id, release.id) not in seats.free:
        return Finding("window", needed, "not seated", False)
    # Who has the package already takes nobody's seat.
    have = _version(_readable(check["apps"][app.id], version=True))
    target = next(each.key for each in app.packages if each.version == release.package)
    left = any(package.withdrawn and package.key == have for package in app.packages)
    news = have is None or have < target or left
    return Finding("window", needed, "would be seated" if news else "has it already", news)


def real_id(workspace: Workspace, check: Mapping[str, Any], kind: str) -> str | None:
    """Give the id of a kind, or None when none was sent: placeholders are no ids."""
    value = check.get(kind)
    if not isinstance(value, str) or value == "":
        return None
    if value.casefold() in {text.casefold() for text in workspace.placeholders}:
        return None
    return value
