"""`tidegate switch`: the switches of a plan or of the live epoch, for people and for programs."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from compiler.atomic_file import atomic_file
from compiler.commands.console import out, say, say_json
from compiler.commands.session import (
    DEFAULT_REDIS,
    AsJson,
    PlanFolder,
    RedisUrl,
    StorePlace,
    WorkspaceName,
    open_session,
)
from compiler.diagnostic import PlanError
from compiler.language.reading import SWITCHES_FILE, Reading, read_files, read_folder
from compiler.plan import Switch
from compiler.refusal import Refused
from compiler.switch_data import as_data, as_file

switch_app = typer.Typer(
    help="Switches: remotely configured values (feature flags).", no_args_is_help=True
)

_HERE = Path()
_Live = Annotated[bool, typer.Option("--live", help="Those of the live epoch, not of a plan.")]


def _switches(reading: Reading) -> tuple[Switch, ...]:
    if reading.plan is None:
        raise PlanError(reading.diagnostics, reading.sources)
    return reading.plan.switches


def _read(plan: Path, live: bool, redis: str, store: str, workspace: str) -> tuple[Switch, ...]:
    if not live:
        return _switches(read_folder(plan, now=int(time.time())))
    session = open_session(redis, store, workspace)
    files = session.live().tree["files"]
    texts = {path: session.store.get_blob(digest).decode() for path, digest in files.items()}
    return _switches(read_files(texts, now=0))


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
