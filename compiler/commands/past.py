"""`tidegate history`: who published what and when, from the signed chain of epochs."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from compiler.commands.console import out, progress, say, say_json
from compiler.commands.publishing import as_data
from compiler.commands.session import (
    DEFAULT_REDIS,
    AsJson,
    RedisUrl,
    StorePlace,
    WorkspaceName,
    open_session,
)
from compiler.publication.difference import compare, shown
from compiler.publication.epoch import read_publication
from compiler.publication.history import difference_of, find_epoch, read_history, verify_history
from compiler.refusal import Refused
from gateway.signing import parse_trusted_keys

history_app = typer.Typer(help="Who published what, and when.", invoke_without_command=True)


def _when(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")


@history_app.callback(invoke_without_command=True)
def history(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many epochs.")] = 20,
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
    as_json: AsJson = False,
) -> None:
    """List the epochs, newest first: author, time (UTC), note, Git commit, difference."""
    context.obj = (redis, store, workspace)
    if context.invoked_subcommand is not None:
        return
    session = open_session(redis, store, workspace)
    found = read_history(session.store, session.live().digest, limit=limit)
    if as_json:
        say_json([asdict(entry) for entry in found.entries])
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("epoch", "time", "author", "commit", "note", "changed"):
        table.add_column(heading, overflow="fold")
    for entry in found.entries:
        cells = (
            str(entry.number),
            _when(entry.time),
            entry.author,
            entry.commit[:12],
            entry.note,
            entry.difference or "",
        )
        table.add_row(*(Text(cell) for cell in cells))
    out.print(table)
    say(str(found.end.value))


@history_app.command()
def show(context: typer.Context, epoch: int, as_json: AsJson = False) -> None:
    """Show one epoch and what it changed."""
    session = open_session(*context.obj)
    live = session.live()
    found = find_epoch(session.store, live.digest, epoch)
    previous = found.epoch["previous"]
    before = read_publication(previous, session.store.get_blob) if previous else None
    difference = compare(before, found, session.store.get_blob)
    if as_json:
        say_json({**found.epoch, "digest": found.digest, "difference": as_data(difference)})
        return
    entry = found.epoch
    say(f"epoch {found.number}  {found.digest.hex()}")
    say(f"by {entry['author']} at {_when(entry['time'])} UTC, commit {entry['commit'] or '-'}")
    say(f"note: {entry['note'] or '-'}")
    say(shown(difference, None))


@history_app.command("diff")
def diff(context: typer.Context, first: int, second: int, as_json: AsJson = False) -> None:
    """Show what differs between two epochs."""
    session = open_session(*context.obj)
    difference = difference_of(session.store, session.live().digest, first, second)
    if as_json:
        say_json(as_data(difference))
    else:
        say(shown(difference, None) or f"Nothing: epochs {first} and {second} say the same.")


@history_app.command()
def verify(
    context: typer.Context,
    trusted: Annotated[
        str,
        typer.Option("--trusted", envvar="TIDEGATE_TRUSTED_KEYS", help="File of public keys."),
    ] = "",
) -> None:
    """Check the whole chain: digests, signatures, falling numbers, workspace, authors."""
    session = open_session(*context.obj)
    text = Path(trusted).read_text() if trusted and Path(trusted).is_file() else trusted
    with progress() as show_progress:
        found = verify_history(
            session.store,
            session.live().digest,
            session.workspace,
            trusted=parse_trusted_keys(text) if text else (),
            progress=show_progress,
        )
    if found.fault is not None:
        raise Refused(f"After {found.epochs} sound epochs the chain breaks: {found.fault}")
    say(f"{found.epochs} epochs are sound. {found.end.value}")
