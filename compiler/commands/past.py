"""`tidegate history`: who published what and when, from the signed chain of epochs."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from compiler.amendments import laid_lines
from compiler.commands.console import counted, out, progress, say, say_json
from compiler.commands.publishing import as_data
from compiler.commands.session import (
    DEFAULT_REDIS,
    AsJson,
    RedisUrl,
    Session,
    StorePlace,
    WorkspaceName,
    open_session,
)
from compiler.publication.checkout import DIRTY
from compiler.publication.difference import compare, shown
from compiler.publication.epoch import read_publication
from compiler.publication.history import (
    End,
    difference_of,
    find_epoch,
    oldest_kept,
    read_history,
    verify_history,
)
from compiler.refusal import Refused
from gateway.errors import OtherFormatError
from gateway.signing import PublicKey, parse_trusted_keys

history_app = typer.Typer(help="Who published what, and when.", invoke_without_command=True)


# The same options behind a subcommand's name; what stands before it, or the environment, is meant
# where they are left out.
_Redis = Annotated[str, typer.Option("--redis", metavar="URL", help="Where Redis is.")]
_Store = Annotated[str, typer.Option("--store", help="The store's folder.")]
_Workspace = Annotated[str, typer.Option("--workspace", help="The workspace's name.")]


def _session(context: typer.Context, *given: str) -> Session:
    return open_session(*(own or outer for own, outer in zip(given, context.obj, strict=True)))


def _trusted(text: str) -> tuple[PublicKey, ...]:
    try:
        return parse_trusted_keys(Path(text).read_text() if Path(text).is_file() else text)
    except (ValueError, OSError) as fault:
        raise typer.BadParameter(f"--trusted {text!r:.200} gives no keys: {fault}") from None


def _commit(commit: str) -> str:
    """Shorten a commit, but never hide that the plan differed from it."""
    return commit.removesuffix(DIRTY)[:12] + (DIRTY if commit.endswith(DIRTY) else "")


def _when(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")


@history_app.callback(invoke_without_command=True)
def history(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many epochs.")] = 20,
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
    as_json: AsJson = False,
) -> None:
    """Show who published what and when, newest first."""
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
            _commit(entry.commit),
            entry.note,
            entry.difference or "",
        )
        table.add_row(*(Text(cell) for cell in cells))
    out.print(table)
    say(str(found.end.value))


@history_app.command()
def show(
    context: typer.Context,
    epoch: Annotated[int, typer.Argument(help="The epoch's number.")],
    redis: _Redis = "",
    store: _Store = "",
    workspace: _Workspace = "",
    as_json: AsJson = False,
) -> None:
    """Show one epoch and what it changed."""
    session = _session(context, redis, store, workspace)
    live = session.live()
    found = find_epoch(session.store, live.digest, epoch)
    previous = found.epoch["previous"]
    difference, end = None, End.COLLECTED
    if not previous or found.number > oldest_kept(session.store):
        try:
            before = read_publication(previous, session.store.get_blob) if previous else None
            difference = compare(before, found, session.store.get_blob)
        except OtherFormatError:
            end = End.OTHER_FORMAT
    if as_json:
        told = as_data(difference) if difference is not None else None
        say_json({**found.epoch, "digest": found.digest, "difference": told})
        return
    entry = found.epoch
    say(f"epoch {found.number}  {found.digest.hex()}")
    say(f"by {entry['author']} at {_when(entry['time'])} UTC, commit {entry['commit'] or '-'}")
    say(f"note: {entry['note'] or '-'}")
    for line in laid_lines(found.tree["overrides"]):
        say(f"laid over the plan: {line}")
    say(shown(difference, None) if difference is not None else end.value)


@history_app.command("diff")
def diff(
    context: typer.Context,
    first: Annotated[int, typer.Argument(help="The earlier epoch's number.")],
    second: Annotated[int, typer.Argument(help="The later epoch's number.")],
    redis: _Redis = "",
    store: _Store = "",
    workspace: _Workspace = "",
    as_json: AsJson = False,
) -> None:
    """Show what differs between two epochs."""
    session = _session(context, redis, store, workspace)
    difference = difference_of(session.store, session.live().digest, first, second)
    if as_json:
        say_json(as_data(difference))
    else:
        say(shown(difference, None))


@history_app.command()
def verify(
    context: typer.Context,
    trusted: Annotated[
        str,
        typer.Option(
            "--trusted", envvar="TIDEGATE_TRUSTED_KEYS", help="Public keys: a file, or lines."
        ),
    ] = "",
    redis: _Redis = "",
    store: _Store = "",
    workspace: _Workspace = "",
) -> None:
    """Check the whole signed chain of epochs.

    That is each epoch's digest, signature, number, workspace and author. Without --trusted any
    key may have signed.
    """
    keys = _trusted(trusted) if trusted else ()
    session = _session(context, redis, store, workspace)
    with progress() as show_progress:
        found = verify_history(
            session.store,
            session.live().digest,
            session.workspace,
            trusted=keys,
            progress=show_progress,
        )
    if found.fault is not None:
        raise Refused(
            f"After {counted(found.epochs, 'sound epoch')} the chain breaks: {found.fault}"
        )
    say(f"{counted(found.epochs, 'epoch')} checked, all sound; {found.end.value}.")
