"""What differs between two plans, as data: changes of apps, their releases and packages. Pure.

A change's details are short phrases of what it was and is: `percent 10 % → 25 %`.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TypeVar

from compiler.plan import (
    App,
    Audience,
    Condition,
    Identity,
    Package,
    Release,
    Workspace,
    percent_text,
)
from compiler.publication.epoch import shown_time

T = TypeVar("T")

_AUDIENCE_KNOWN = ("lists", "not_lists", "basis_points", "by_user", "ramp", "window")


class Kind(StrEnum):
    """Whether a thing came, went, or is another now; the value is the sign that is shown."""

    ADDED = "+"
    REMOVED = "-"
    CHANGED = "~"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs: `what` is its sort (release, package, list, …), `name` which."""

    kind: Kind
    what: str
    name: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AppChange:
    """One app that differs; `changes` are of its releases, packages and name."""

    kind: Kind
    app: str
    name: str
    changes: tuple[Change, ...]


def changed_apps(before: Iterable[App], after: Iterable[App]) -> Iterator[AppChange]:
    """Compare apps by id, in the ids' order."""
    old, new = {app.id: app for app in before}, {app.id: app for app in after}
    for app in sorted({*old, *new}):
        found = _app_change(old.get(app), new.get(app))
        if found is not None:
            yield found


def _app_change(old: App | None, new: App | None) -> AppChange | None:
    app = new or old
    assert app is not None
    name = (
        [Change(Kind.CHANGED, "name", "", (f"{old.name} → {new.name}",))]
        if old and new and old.name != new.name
        else []
    )
    changes = (
        *name,
        *_changes(
            "package",
            {package.key: package for package in old.packages} if old else {},
            {package.key: package for package in new.packages} if new else {},
            _package_phrases,
            lambda package: package.version,
        ),
        *_changes(
            "release",
            {release.id: release for release in old.releases} if old else {},
            {release.id: release for release in new.releases} if new else {},
            _release_phrases,
            lambda release: release.id,
        ),
    )
    if old is None or new is None:
        return AppChange(Kind.REMOVED if new is None else Kind.ADDED, app.id, app.name, changes)
    return AppChange(Kind.CHANGED, app.id, app.name, changes) if changes else None


def _changes(
    what: str,
    old: Mapping[object, T],
    new: Mapping[object, T],
    phrases: Callable[[T], Mapping[str, str]],
    name: Callable[[T], str],
) -> Iterator[Change]:
    for key in [*old, *(key for key in new if key not in old)]:
        if key not in new:
            yield Change(Kind.REMOVED, what, name(old[key]))
        elif key not in old:
            said = phrases(new[key])
            yield Change(
                Kind.ADDED,
                what,
                name(new[key]),
                tuple(f"{part} {text}".strip() for part, text in said.items() if text),
            )
        elif details := differing(phrases(old[key]), phrases(new[key])):
            yield Change(Kind.CHANGED, what, name(new[key]), details)


_ABSENT = {"clients": "every host app"}


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    """Phrase what differs between two tables of phrases with the same keys."""
    return tuple(
        f"{part} {old[part] or absent} → {new[part] or absent}".lstrip()
        for part in new
        for absent in [_ABSENT.get(part, "none")]
        if old[part] != new[part]
    )


def _release_phrases(release: Release) -> dict[str, str]:
    return {
        "package": release.package,
        "audience": audience_words(release.audience),
        "when": " and ".join(_condition(each) for each in release.conditions),
        "upgrade": release.upgrade.name.lower(),
        "state": release.state.value,
        "starts": "" if release.starts is None else shown_time(release.starts),
        "ends": "" if release.ends is None else shown_time(release.ends),
    }


def audience_words(audience: Audience) -> str:
    """Say who may get a release: `lists staff and 12.5 %`, `everyone`."""
    parts = []
    if audience.lists:
        parts.append(f"lists {', '.join(audience.lists)}")
    if audience.not_lists:
        parts.append(f"not lists {', '.join(audience.not_lists)}")
    by = " by user" if audience.by_user else ""
    if audience.basis_points is not None:
        parts.append(f"{percent_text(audience.basis_points)} %{by}")
    if audience.ramp:
        steps = (
            f"{percent_text(step.basis_points)} % from {shown_time(step.at)}"
            for step in audience.ramp
        )
        parts.append(f"{', '.join(steps)}{by}")
    if audience.window is not None:
        until = shown_time(audience.window.until)
        pace = " at a linear pace" if audience.window.linear else ""
        parts.append(f"first {audience.window.first:,} until {until}{pace}{by}")
    # A field that is not known here yet still shows that it differs.
    parts += [
        f"{field.name} {getattr(audience, field.name)}"
        for field in fields(audience)
        if field.name not in _AUDIENCE_KNOWN and getattr(audience, field.name) != field.default
    ]
    return " and ".join(parts) or "everyone"


def _condition(condition: Condition) -> str:
    operands = ", ".join(str(each) for each in condition.operands)
    return f"{condition.attribute} {condition.operator.value} {operands}"


def _package_phrases(package: Package) -> dict[str, str]:
    clients = package.clients
    record = package.record
    return {
        "clients": ""
        if clients is None
        else "; ".join(
            f"{platform} {' '.join(each.sign + each.version for each in comparisons)}"
            for platform, comparisons in sorted(clients.items())
        ),
        "download": package.download,
        "install": package.install,
        "info": json.dumps(package.info, ensure_ascii=False, sort_keys=True)
        if package.has_info
        else "",
        "withdrawn": "yes" if package.withdrawn else "",
        "encrypted": ""
        if record is None or record.encryption is None
        else record.encryption.key_id,
        "signatures": ", ".join(_short(each) for each in record.signatures) if record else "",
        "file": "" if record is None else f"{record.size:,} bytes, SHA-256 {record.sha256[:12]}…",
    }


def _short(signature: str) -> str:
    return hashlib.sha256(signature.encode()).hexdigest()[:8]


def changed_settings(old: Workspace | None, new: Workspace) -> Iterator[Change]:
    """Compare what holds for the whole workspace; nothing is said of a first epoch's."""
    if old is None:
        return
    for part, text in _settings(new).items():
        before = _settings(old)[part]
        if before != text:
            yield Change(Kind.CHANGED, "setting", part, (f"{before or 'none'} → {text or 'none'}",))


def _identity(identity: Identity | None) -> str:
    if identity is None:
        return ""
    keys = (
        f"{key.kid or 'a key'} ({hashlib.sha256(key.public).hexdigest()[:8]})"
        for key in identity.keys
    )
    parts = [", ".join(keys), f"issuer {identity.issuer}" if identity.issuer else ""]
    parts += [f"audience {', '.join(identity.audience)}" if identity.audience else ""]
    return "; ".join(filter(None, (*parts, f"device {identity.device}")))


def _settings(workspace: Workspace) -> dict[str, str]:
    return {
        "workspace": workspace.name,
        "check_after": str(workspace.check_after),
        "cdn": "; ".join(
            f"{', '.join(rule.regions)}: {' '.join(rule.bases)}"
            + (f" signed for {rule.expires} s" if rule.expires else "")
            for rule in workspace.cdn
        ),
        "placeholders": ", ".join(sorted(workspace.placeholders)),
        "cors": ", ".join(workspace.cors),
        "identity": _identity(workspace.identity),
        "keys": ", ".join(f"{key.name} ({key.id[:8]})" for key in workspace.keys),
    }
