"""The situation of a workspace for people: tables on a terminal, plain lines elsewhere."""

from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from compiler.commands.console import counted, out, say
from compiler.publication.epoch import shown_time
from compiler.publication.gateways import Gateway
from compiler.status.last_change import Changed
from compiler.status.situation import (
    EVENTS,
    Alarm,
    AppStatus,
    ReleaseStatus,
    Situation,
    VersionStatus,
)

_STYLES = {"live": "green", "paused": "yellow", "withdrawn": "red"}
_VERSIONS = 8


def _changed(changed: Changed | None, before: int) -> str:
    if changed is None:
        return f"before epoch {before}"
    when = f"{datetime.fromtimestamp(changed.time, UTC):%m-%d %H:%M}"
    return f"epoch {changed.epoch}, {changed.author}, {when}"


def _title(app: AppStatus) -> str:
    return f"{app.id} ({app.name})" if app.name and app.name != app.id else app.id


def _state(release: ReleaseStatus) -> str:
    said = release.standing.value
    return f"{said} by override" if release.by == "override" else said


def _served(gateway: Gateway, live: int, now: float) -> tuple[str, str, str, str]:
    """Say a gateway's name, epoch, how long it has served that, and its version."""
    epoch = str(gateway.epoch) if gateway.epoch else "none yet"
    if gateway.epoch < live:
        epoch += " (behind)"
    age = _age(now - gateway.since) if gateway.since else "-"
    return gateway.name, epoch, age, gateway.version or "unknown"


def _age(seconds: float) -> str:
    left = max(0, int(seconds))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if left >= 2 * size:
            return f"{left // size} {unit}"
    return f"{left} s"


def _head(found: Situation) -> list[str]:
    said = f', "{found.note}"' if found.note else ""
    lines = [
        f"{found.workspace}: epoch {found.epoch} by {found.author}, {shown_time(found.time)}{said}"
    ]
    laid = ", ".join(f"{count:,} {sort}" for sort, count in sorted(found.overrides.items()))
    totals = [counted(found.all_apps, "app"), counted(found.all_lists, "allowlist")]
    lines.append(f"{', '.join(totals)}; laid over the plan: {laid or 'nothing'}")
    if not found.gateways:
        lines.append("No gateway is running.")
    if found.unwatched:
        lines.append("No controller is active, so no guardrail works. Run: tidegate control")
    return lines + [_alarm(each) for each in found.alarms]


def _alarm(alarm: Alarm) -> str:
    since = f", since {shown_time(alarm.since)}" if alarm.since else ""
    return f"ALARM {alarm.app}/{alarm.release}, offered to everyone: {alarm.why}{since}"


def _tally(app: AppStatus) -> str:
    states: dict[str, int] = {}
    for each in app.releases:
        states[each.standing.value] = states.get(each.standing.value, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in states.items()) or "no releases"


def _seen(version: VersionStatus, app: AppStatus) -> str:
    """Say how many checks report a version; of a withdrawn one, that they still do."""
    still = " (withdrawn) still" if version.withdrawn else ""
    said = f"{version.version}{still} {version.checks:,} of {app.checks:,}"
    said += f" ({version.share * 100:.1f} %)"
    if not version.withdrawn or version.lately is None:
        return said
    lately = sum(each.lately or 0 for each in app.versions)
    return f"{said}, {version.lately:,} of {lately:,} in the last minute"


def _versions(app: AppStatus) -> str:
    """Name the versions seen most, and every one that is withdrawn."""
    shown = [each for at, each in enumerate(app.versions) if at < _VERSIONS or each.withdrawn]
    more = len(app.versions) - len(shown)
    said = "; ".join(_seen(each, app) for each in shown)
    return (f"{said}; and {more} more" if more else said) or "none counted yet"


def _period(days: int) -> str:
    return "today (UTC)" if days == 1 else f"in {days} days"


def _summary(found: Situation, days: int) -> str:
    return (
        f"the {len(found.apps)} apps asked about most {_period(days)}, of "
        f"{found.all_checks:,} checks in all; name an app to see its releases"
    )


def lines(found: Situation, now: float, days: int) -> list[str]:
    """Say all in plain lines, each of which tells what it is about."""
    lines = _head(found)
    for gateway in found.gateways:
        name, epoch, age, version = _served(gateway, found.epoch, now)
        lines.append(f"gateway {name}: epoch {epoch} for {age}, version {version}")
    if found.summed:
        lines.append(_summary(found, days))
    for app in found.apps:
        changed = _changed(app.changed, found.before)
        lines.append(f"app {_title(app)}: {_tally(app)}; changed: {changed}")
        lines.append(f"versions of {app.id} {_period(days)}: {_versions(app)}")
        if found.summed:
            continue
        for each in app.releases:
            told = ", ".join(f"{event} {each.heard[event].devices:,}" for event in EVENTS)
            window = f", window {each.window}" if each.window else ""
            lines.append(
                f"release {app.id}/{each.id}: {_state(each)}, {each.package} to {each.audience}"
                f"{window}; reach {each.reach:,}, {told}; "
                f"changed: {_changed(each.changed, found.before)}"
            )
    return lines


def print_tables(found: Situation, now: float, days: int) -> None:
    """Print all as tables."""
    for line in _head(found):
        say(line)
    if found.gateways:
        table = _table("gateway", "epoch", "for", "version")
        for gateway in found.gateways:
            row = _served(gateway, found.epoch, now)
            style = "yellow" if gateway.epoch < found.epoch else ""
            table.add_row(*(Text(cell, style=style) for cell in row))
        out.print(table)
    if found.summed:
        _summary_table(found, days)
        return
    for app in found.apps:
        say("")
        out.print(Text(_title(app), style="bold"))
        windows = any(each.window for each in app.releases)
        fill = ("window",) if windows else ()
        headings = ("release", "state", "package", "audience", *fill, "reach")
        table = _table(*headings, *EVENTS[:3], "changed")
        for each in app.releases:
            numbers = (each.reach, *(each.heard[event].devices for event in EVENTS[:3]))
            table.add_row(
                Text(each.id),
                Text(_state(each), style=_STYLES.get(each.standing.value, "dim")),
                Text(each.package),
                Text(each.audience),
                *((Text(each.window or ""),) if windows else ()),
                *(f"{number:,}" for number in numbers),
                Text(_changed(each.changed, found.before)),
            )
        out.print(table)
        say(f"installed, by checks {_period(days)}: {_versions(app)}")


def _summary_table(found: Situation, days: int) -> None:
    table = _table("app", "checks", "releases", "installed", "changed")
    for app in found.apps:
        first = app.versions[0] if app.versions else None
        table.add_row(
            Text(_title(app)),
            f"{app.checks:,}",
            Text(_tally(app)),
            Text(_seen(first, app) if first is not None else "-"),
            Text(_changed(app.changed, found.before)),
        )
    say("")
    out.print(table)
    say(_summary(found, days))


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        right = heading in ("checks", "reach", *EVENTS)
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    return table
