"""`tidegate explain`: every release of an app held against one client, from the live epoch."""

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from rich.table import Table
from rich.text import Text

from compiler.commands.console import out, say, say_json
from compiler.commands.explaining_ids import explain_ids
from compiler.commands.naming import app_id
from compiler.commands.session import (
    DEFAULT_REDIS,
    AsJson,
    RedisUrl,
    StorePlace,
    WorkspaceName,
    open_session,
)
from compiler.explanation import Roll, plan_of
from compiler.overrides import What, laid_line
from compiler.plan import Release
from compiler.publication.epoch import shown_time
from compiler.publication.seat_records import SeatRecords
from compiler.reference import Explanation, Finding, Verdict, evaluate
from gateway.attribute import BUILT_IN, CUSTOM
from gateway.request import parse_query

_LAST = 253_402_300_799  # the end of the year 9999
_MARKS = {True: Text("yes", style="green"), False: Text("no", style="red")}


def explain(
    app: Annotated[str, typer.Option(help="The app's id, or its file's name.")],
    installed: Annotated[str, typer.Option(help="The version that the client has.")] = "",
    user: Annotated[str, typer.Option(help="The user id that the client sends.")] = "",
    device: Annotated[str, typer.Option(help="The device id that the client sends.")] = "",
    attr: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="An attribute, as brand=Xiaomi or custom.tier=gold."
        ),
    ] = None,
    at: Annotated[
        int | None, typer.Option(min=0, max=_LAST, help="The moment in Unix seconds; default: now.")
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of each id in a file, a line each: what it would get."),
    ] = None,
    of: Annotated[str, typer.Option(help="What --ids are ids of: user or device.")] = "user",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
    as_json: AsJson = False,
) -> None:
    """Show why one client is offered what it is offered.

    Each release of the app, from the live epoch: what it needed of this client, what it got, and
    which one won. For example:

    tidegate explain --app coffee --user u-1001 --attr platform=android

    With --ids FILE (or -, standard input) no reasons, but a line an id: the id, its status, version
    and release, between tabs, `-` for none; with --json an object a line.
    """
    session = open_session(redis, store, workspace)
    live = session.live()
    wanted = app_id(live.tree["apps"], app)
    plan = plan_of(live, session.store.get_blob, [wanted])
    check = _check(wanted, installed, user, device, attr or [])
    second = int(time.time()) if at is None else at
    if ids is not None:
        explain_ids(
            session, live, plan, check, wanted, file=ids, kind=of, second=second, as_json=as_json
        )
        return

    def bucket(digest: bytes) -> bytes | None:
        return dict(session.mirror.get_many([session.mirror.keys.bucket(digest)])).popitem()[1]

    roll = Roll(live, plan, session.store.get_blob, bucket)
    records = SeatRecords(session.mirror)

    def sit(release: str, hashed: int, takes: bool) -> bool:
        return records.would_sit(wanted, release, hashed, takes=takes)

    found = next(each for each in plan.apps if each.id == wanted)
    seats = roll.seats(check, found, sit)
    verdict = evaluate(plan, check, wanted, second, roll.memberships(check), seats)
    if as_json:
        say_json(_as_json(live.number, wanted, verdict))
        return
    say(f"Epoch {live.number}, app {wanted}, {shown_time(second)}: {_answer(verdict)}")
    sent = {user, device}
    for each in live.tree["overrides"]:
        of_id = each["what"] == What.MEMBER
        if (each["name"] in sent) if of_id else each["app"] == wanted:
            say(f"laid over the plan: {laid_line(each)}")
    for explanation in _by_strength(verdict):
        _show(explanation, second, explanation.release.id == verdict.release)


def _check(app: str, installed: str, user: str, device: str, pairs: list[str]) -> dict[str, Any]:
    """Make the request that the client would send; the values are read as in the GET form."""
    sent = []
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not (name in BUILT_IN or name.startswith(CUSTOM)):
            raise typer.BadParameter(
                f"--attr {pair!r} is not KEY=VALUE ; KEY is one of "
                f"{', '.join(BUILT_IN)} or custom.NAME."
            )
        sent.append((name, value))
    check = parse_query(app, urlencode(sent))
    request = {**check.sent, "custom": check.custom, "apps": {app: installed or None}}
    if user:
        request["user"] = user
    if device:
        request["device"] = device
    return request


def _answer(verdict: Verdict) -> str:
    if verdict.version is None:
        return verdict.status
    return f"{verdict.status} to {verdict.version} by {verdict.release} ({verdict.upgrade})"


def _by_strength(verdict: Verdict) -> list[Explanation]:
    """Sort as a winner is chosen, strongest first."""
    found = sorted(verdict.explanations, key=lambda each: each.release.id)
    return sorted(found, key=lambda each: (each.package.key, each.release.upgrade), reverse=True)


def _told(finding: Finding, release: Release, second: int) -> tuple[str, str]:
    """Give what was needed and got; moments as times, which the reference counts in seconds."""
    window = release.audience.window
    if finding.subject == "window" and window is not None:
        return f"one of the first {window.first:,} before {shown_time(window.until)}", finding.got
    if finding.subject != "schedule":
        return finding.needed, finding.got
    starts, ends = (
        "-" if bound is None else shown_time(bound) for bound in (release.starts, release.ends)
    )
    return f"from {starts} until {ends}", shown_time(second)


def _show(explanation: Explanation, second: int, won: bool) -> None:
    release = explanation.release
    outcome = "won" if won else "eligible, but another is stronger"
    title = f"{release.id}: {release.package}, {release.upgrade.name.lower()}"
    if not explanation.eligible:
        outcome = "not for this client"
    table = Table(title=f"{title} — {outcome}", title_justify="left", title_style="bold")
    for heading in ("asks about", "needs", "gets", "holds"):
        table.add_column(heading, overflow="fold")
    for finding in explanation.findings:
        needed, got = _told(finding, release, second)
        table.add_row(Text(finding.subject), Text(needed), Text(got), _MARKS[finding.holds])
    out.print(table)


def _as_json(number: int, app: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "epoch": number,
        "app": app,
        "status": verdict.status,
        "version": verdict.version,
        "release": verdict.release,
        "upgrade": verdict.upgrade,
        "releases": [
            {
                "id": each.release.id,
                "package": each.release.package,
                "eligible": each.eligible,
                "findings": [
                    {
                        "subject": finding.subject,
                        "needed": finding.needed,
                        "got": finding.got,
                        "holds": finding.holds,
                    }
                    for finding in each.findings
                ],
            }
            for each in _by_strength(verdict)
        ],
    }
