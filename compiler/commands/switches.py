"""`tidegate switch`: the switches of a plan or of the live epoch, for people and for programs."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from compiler.atomic_file import atomic_file
from compiler.commands.console import out, say, say_json
from compiler.commands.going_live import Note, Wait
from compiler.commands.overriding import lay
from compiler.commands.session import (
    DEFAULT_REDIS,
    AsJson,
    KeyFile,
    PlanFolder,
    RedisUrl,
    StorePlace,
    WorkspaceName,
    open_session,
)
from compiler.diagnostic import PlanError
from compiler.explanation import plan_of
from compiler.language.reading import SWITCHES_FILE, Reading, read_files, read_folder
from compiler.overrides import What
from compiler.plan import Switch
from compiler.publication.emergency import Wish
from compiler.refusal import Refused
from compiler.switch_data import as_data, as_file

switch_app = typer.Typer(
    help="Switches: remotely configured values (feature flags).", no_args_is_help=True
)

_HERE = Path()
SwitchKey = Annotated[str, typer.Argument(metavar="KEY", help="The switch's key.")]
_Live = Annotated[bool, typer.Option("--live", help="Those of the live epoch, not of a plan.")]


def _switches(reading: Reading) -> tuple[Switch, ...]:
    if reading.plan is None:
        raise PlanError(reading.diagnostics, reading.sources)
    return reading.plan.switches


def _read(plan: Path, live: bool, redis: str, store: str, workspace: str) -> tuple[Switch, ...]:
    if not live:
        return _switches(read_folder(plan, now=int(time.time())))
    session = open_session(redis, store, workspace)
    return plan_of(session.live(), session.store.get_blob, ()).switches


@switch_app.command("list")
def list_switches(
    plan: PlanFolder = _HERE,
    live: _Live = False,
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
    as_json: AsJson = False,
) -> None:
    """Show each switch with its variants and its default."""
    switches = _read(plan, live, redis, store, workspace)
    if as_json:
        say_json(as_data(switches)["switches"])
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("switch", "variants", "default", "rows", "state"):
        table.add_column(heading, overflow="fold")
    for switch in switches:
        state = "enabled" if switch.enabled else "disabled"
        rows = str(len(switch.targeting))
        table.add_row(switch.key, ", ".join(switch.variants), switch.default, rows, state)
    out.print(table)


@switch_app.command("set")
def set_switch(
    switch: SwitchKey,
    variant: Annotated[
        str, typer.Argument(metavar="[VARIANT]", help="What everybody gets.", show_default=False)
    ] = "",
    as_planned: Annotated[
        bool, typer.Option("--as-planned", help="Take that back: go by the plan again.")
    ] = False,
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Give everybody one variant of a switch at once, enabled or not.

    Whatever the plan's targeting says; a push of the plan keeps it, and says so.
    """
    if bool(variant) is as_planned:
        raise typer.BadParameter("Name a variant, or say --as-planned.")
    session = open_session(redis, store, workspace, changes=True)
    wish = Wish(What.VARIANT, variant or None, switch)
    said = f"switch set {switch} {variant or '--as-planned'}"
    lay(session, wish, said, key=key, wait=wait, message=message)


@switch_app.command("enable")
def enable_switch(
    switch: SwitchKey,
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Let a switch go by its targeting again."""
    session = open_session(redis, store, workspace, changes=True)
    wish = Wish(What.ENABLED, "true", switch)
    lay(session, wish, f"switch enable {switch}", key=key, wait=wait, message=message)


@switch_app.command("disable")
def disable_switch(
    switch: SwitchKey,
    message: Note = "",
    wait: Wait = 10.0,
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Give everybody a switch's default at once."""
    session = open_session(redis, store, workspace, changes=True)
    wish = Wish(What.ENABLED, "false", switch)
    lay(session, wish, f"switch disable {switch}", key=key, wait=wait, message=message)


@switch_app.command("export")
def export_switches(
    plan: PlanFolder = _HERE,
    live: _Live = False,
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Print all switches as JSON: what `switch import` reads, here or elsewhere."""
    say_json(as_data(_read(plan, live, redis, store, workspace)))


@switch_app.command("import")
def import_switches(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON as of `switch export`.")],
    plan: PlanFolder = _HERE,
    replace: Annotated[bool, typer.Option(help="Replace the switches that are there.")] = False,
) -> None:
    """Write a plan's switches.yaml from JSON, if all of it is right in this plan.

    What lists, rules and apps the switches name must be in the plan. Nothing is published: look
    at the file, commit and push.
    """
    reading = read_folder(plan, now=int(time.time()))
    texts = {path: text for path, text in reading.sources.items() if path != SWITCHES_FILE}
    text = file.read_text(encoding="utf-8", errors="replace")
    switches = _switches(read_files({**texts, SWITCHES_FILE: text}, now=int(time.time())))
    target = plan / SWITCHES_FILE
    if target.exists() and not replace:
        raise Refused(f"{target} is there already. To replace it, say --replace.")
    with atomic_file(target) as opened:
        opened.write(as_file(switches).encode())
    say(f"{target}: {len(switches):,} switch{'' if len(switches) == 1 else 'es'}")
