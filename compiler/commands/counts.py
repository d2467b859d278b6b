"""`tidegate census` and `tidegate reports`: what all gateways have counted together."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from compiler.commands.console import counted, out, say, say_json
from compiler.commands.naming import app_of_file
from compiler.commands.session import (
    DEFAULT_REDIS,
    AsJson,
    RedisUrl,
    WorkspaceName,
    open_session,
)
from compiler.patching.census import counted_by_gateways, last_days
from gateway.keys import CENSUS_DAYS

DAYS = 7

Apps = Annotated[
    list[str] | None,
    typer.Argument(metavar="[APP…]", help="Ids, or names of files in apps/ here; all if none."),
]
Days = Annotated[
    int, typer.Option(min=1, max=CENSUS_DAYS, help="Sum so many days, to now; a day is UTC's.")
]


def census(
    names: Apps = None,
    days: Days = DAYS,
    redis: RedisUrl = DEFAULT_REDIS,
    workspace: WorkspaceName = "",
    as_json: AsJson = False,
) -> None:
    """Show which versions phones have, as the gateways counted in checks.

    `none` has nothing installed, or nothing readable; `other` a version that the plan lacks. What
    --json says is a file for `tidegate patch --census`.
    """
    session = open_session(redis, "", workspace)
    found = counted_by_gateways(session.mirror, last_days(time.time(), days), _ids(names))
    if as_json:
        say_json(found)
        return
    table = _table("app", "version", "checks", "share")
    for app, numbers in sorted(found.items()):
        checks = sum(numbers.values())
        for version, count in sorted(numbers.items(), key=lambda each: (-each[1], each[0])):
            table.add_row(Text(app), Text(version), f"{count:,}", f"{count * 100 / checks:.2f} %")
    if found:
        out.print(table)
    else:
        say(f"No check was counted in {counted(days, 'day')}: gateways add theirs every 10 s.")


def reports(
    names: Apps = None,
    redis: RedisUrl = DEFAULT_REDIS,
    workspace: WorkspaceName = "",
    as_json: AsJson = False,
) -> None:
    """Show what clients reported of each release.

    Devices (or users) are told apart, to 1 % or so; reports are counted as they came.
    """
    session = open_session(redis, "", workspace)
    mirror, keys = session.mirror, session.mirror.keys
    ids = _ids(names)
    apps = {keys.reports_of(app): app for app in sorted(ids or mirror.names(keys.reports))}
    places = {
        keys.subjects_of(apps[key], release, event): (apps[key], release, event, count)
        for key, numbers in mirror.numbers(apps)
        for field, count in sorted(numbers.items())
        for release, _, event in (field.partition(":"),)
    }
    rows = [(*places[key], devices) for key, devices in mirror.distinct(places)]
    headings = ("app", "release", "event", "reports", "devices")
    if as_json:
        say_json([dict(zip(headings, row, strict=True)) for row in rows])
        return
    table = _table(*headings)
    for app, release, event, count, devices in rows:
        table.add_row(Text(app), Text(release), Text(event), f"{count:,}", f"{devices:,}")
    if rows:
        out.print(table)
    else:
        say("Nothing was reported yet.")


def _ids(names: Iterable[str] | None) -> list[str] | None:
    return [app_of_file(Path(), name) for name in names] if names else None


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        right = heading in ("checks", "share", "reports", "devices")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    return table
