"""`tidegate status`: who serves what, and what becomes of each release, once or again and again."""

import sys
import time
from typing import Annotated, Any

import orjson
import typer

from compiler.commands.console import note, out, say, say_json
from compiler.commands.naming import app_id
from compiler.commands.session import (
    DEFAULT_REDIS,
    AsJson,
    RedisUrl,
    StorePlace,
    WorkspaceName,
    open_session,
)
from compiler.commands.situation_view import lines, print_tables
from compiler.status.last_change import Changed
from compiler.status.observer import Observer
from compiler.status.situation import AppStatus, Situation
from gateway.errors import StoreError
from gateway.keys import CENSUS_DAYS

WATCH_SECONDS = 2.0


def status(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[APP…]", help="Ids, or their files' names; all if none."),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every 2 s, until Ctrl-C.")
    ] = False,
    days: Annotated[
        int, typer.Option(min=1, max=CENSUS_DAYS, help="Days of the census, UTC's, today included.")
    ] = 1,
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
    as_json: AsJson = False,
) -> None:
    """Show who serves what, and what becomes of each release. Changes nothing.

    Of more than 20 apps, without APP, the ten that are asked about most. REACH estimates, to 1 % or
    so, to how many distinct devices (else users) a release was offered; DOWNLOADED, INSTALLED and
    FAILED how many reported that. A version's share is of the checks that were counted.

    --json prints an object; with --watch one a line. Times are Unix seconds, null is not known:

    workspace, now; live {epoch, time, author, note};

    gateways [{name, version, epoch, since, behind}];

    alarms [{app, release, why, since}]: releases to everyone that break their guardrail; unwatched:
    a guardrail is there, and no controller is active;

    totals {apps, lists, checks, shown, overrides {paused, ended, live, percent, withdrawn,
    check_after}};

    apps [{app, name, checks, changed, releases, versions}]; changed, also a release's, is {epoch,
    time, author, note}, or {before}: it was changed before that epoch;

    releases [{release, package, state, by, audience, window, reach, reports {downloaded,
    installed, failed, rolled_back: {reports, devices}}, changed}]; state is live, paused, ended,
    withdrawn, scheduled or over; by is plan or override;

    versions [{version, checks, share, withdrawn, lately}]; version may be none or other; share is 0
    to 1; lately, with --watch, is the checks of the last minute.
    """
    session = open_session(redis, store, workspace)
    observer = Observer(session.store, session.mirror, workspace)
    looked = False
    try:
        while True:
            try:
                known = observer.live().tree["apps"]
                ids = list(dict.fromkeys(app_id(known, name) for name in names)) if names else None
                now = time.time()
                found = observer.look(ids, now, days)
            except StoreError as fault:
                if not looked:
                    raise
                note(f"{fault} Looking again.")
            else:
                _print(found, now, days, watch=watch, as_json=as_json)
                looked = True
            if not watch:
                return
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        if not watch:
            raise


def _print(found: Situation, now: float, days: int, *, watch: bool, as_json: bool) -> None:
    if as_json and watch:
        sys.stdout.write(orjson.dumps(as_data(found, now)).decode() + "\n")
    elif as_json:
        say_json(as_data(found, now))
    elif out.is_terminal:
        if watch:
            out.clear()
        print_tables(found, now, days)
    else:
        for line in lines(found, now, days):
            say(line)
    sys.stdout.flush()


def as_data(found: Situation, now: float) -> dict[str, Any]:
    """Give the situation as `--json` prints it."""
    return {
        "workspace": found.workspace,
        "now": int(now),
        "live": {
            "epoch": found.epoch,
            "time": found.time,
            "author": found.author,
            "note": found.note,
        },
        "gateways": [
            {
                "name": each.name,
                "version": each.version,
                "epoch": each.epoch,
                "since": each.since,
                "behind": each.epoch < found.epoch,
            }
            for each in found.gateways
        ],
        "alarms": [
            {"app": each.app, "release": each.release, "why": each.why, "since": each.since}
            for each in found.alarms
        ],
        "unwatched": found.unwatched,
        "totals": {
            "apps": found.all_apps,
            "lists": found.all_lists,
            "checks": found.all_checks,
            "shown": len(found.apps),
            "overrides": found.overrides,
        },
        "apps": [_app_data(app, found.before) for app in found.apps],
    }


def _app_data(app: AppStatus, before: int) -> dict[str, Any]:
    return {
        "app": app.id,
        "name": app.name,
        "checks": app.checks,
        "changed": _changed_data(app.changed, before),
        "releases": [
            {
                "release": each.id,
                "package": each.package,
                "state": each.standing.value,
                "by": each.by,
                "audience": each.audience,
                "window": each.window,
                "reach": each.reach,
                "reports": {
                    event: {"reports": heard.reports, "devices": heard.devices}
                    for event, heard in each.heard.items()
                },
                "changed": _changed_data(each.changed, before),
            }
            for each in app.releases
        ],
        "versions": [
            {
                "version": each.version,
                "checks": each.checks,
                "share": round(each.share, 6),
                "withdrawn": each.withdrawn,
                "lately": each.lately,
            }
            for each in app.versions
        ],
    }


def _changed_data(changed: Changed | None, before: int) -> dict[str, Any]:
    if changed is None:
        return {"before": before}
    return {
        "epoch": changed.epoch,
        "time": changed.time,
        "author": changed.author,
        "note": changed.note,
    }
