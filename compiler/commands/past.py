"""`tidegate history`: who published what and when, from the signed chain of epochs."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

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
from compiler.publication.audit import Expected, Signed, Verified, verify_history
from compiler.publication.checkout import DIRTY
from compiler.publication.difference import compare, shown
from compiler.publication.epoch import read_publication
from compiler.publication.history import (
    End,
    Link,
    difference_of,
    find_epoch,
    find_record,
    oldest_kept,
    read_history,
)
from compiler.refusal import Refused
from gateway.errors import OtherFormatError
from gateway.layout import DIGEST_BYTES
from gateway.signing import PublicKey, key_id, parse_trusted_keys

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
    key: Annotated[
        str, typer.Option("--key", help="Only what this key signed: its name, or its id's start.")
    ] = "",
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
    found = read_history(session.store, session.live().digest, limit=limit, key=key)
    if as_json:
        say_json([asdict(entry) for entry in found.entries])
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("epoch", "time", "author", "key", "commit", "note", "changed"):
        table.add_column(heading, overflow="fold")
    for entry in found.entries:
        cells = (
            str(entry.number),
            _when(entry.time),
            entry.author,
            entry.key_id,
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
    """Show one epoch: who published it, when, why, with which key, and what it changed.

    Of an epoch that `gc` has collected the signed record is left.
    """
    session = _session(context, redis, store, workspace)
    live = session.live()
    record = find_record(session.store, live.digest, epoch)
    if record is not None and epoch < oldest_kept(session.store):
        _tell(record, as_json=as_json)
        if not as_json:
            say("what it published was collected")
        return
    found = find_epoch(session.store, live.digest, epoch)
    assert record is not None
    previous = found.epoch["previous"]
    difference, end = None, End.COLLECTED
    if not previous or found.number > oldest_kept(session.store):
        try:
            before = read_publication(previous, session.store.get_blob) if previous else None
            difference = compare(before, found, session.store.get_blob)
        except OtherFormatError:
            end = End.OTHER_FORMAT
    told = as_data(difference) if difference is not None else None
    _tell(record, as_json=as_json, difference=told)
    if as_json:
        return
    for line in laid_lines(found.tree["overrides"]):
        say(f"laid over the plan: {line}")
    say(shown(difference, None) if difference is not None else end.value)


def _tell(record: Link, *, as_json: bool, difference: dict[str, Any] | None = None) -> None:
    """Say what is recorded of an epoch, and in JSON what it changed."""
    epoch, key = record.epoch, key_id(record.signed["key"])
    if as_json:
        say_json({**epoch, "digest": record.digest, "key_id": key, "difference": difference})
        return
    say(f"epoch {record.number}  {record.digest.hex()}")
    say(f"by {epoch['author']} at {_when(epoch['time'])} UTC, commit {epoch['commit'] or '-'}")
    say(f"signed with key {key}")
    say(f"note: {epoch['note'] or '-'}")


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
    revoked: Annotated[
        list[str] | None,
        typer.Option("--revoked", metavar="NAME:EPOCH", help="This key counts up to that epoch."),
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="EPOCH:DIGEST", help="This is known of that epoch."),
    ] = None,
    redis: _Redis = "",
    store: _Store = "",
    workspace: _Workspace = "",
    as_json: AsJson = False,
) -> None:
    """Check the whole signed chain of epochs, and say what each key has signed.

    That is each epoch's digest, signature, number, workspace and author. Without --trusted any
    key may have signed. The last line is an anchor to note down where the store's owner cannot
    write: given again, it proves that history was not replaced.
    """
    keys = _trusted(trusted) if trusted else ()
    until = dict(_numbered("--revoked", each) for each in revoked or ())
    for name in until.keys() - {key.name for key in keys}:
        raise typer.BadParameter(f"--revoked {name}: --trusted has no key of this name.")
    session = _session(context, redis, store, workspace)
    expected = Expected(session.workspace, keys, until, dict(map(_anchor, anchor or ())))
    with progress() as show_progress:
        found = verify_history(session.store, session.live().digest, expected, show_progress)
    if as_json:
        say_json(asdict(found) | {"end": found.end.value})
    if found.fault is not None:
        raise Refused(
            f"After {counted(found.epochs, 'sound epoch')} the chain breaks: {found.fault}"
        )
    if not as_json:
        _say_verified(found)


def _say_verified(found: Verified) -> None:
    for each in found.keys:
        say(f"{each.author}, key {each.key_id}: {_span(each)}")
    kept = f", of {found.records:,} the record alone" if found.records else ""
    say(f"{counted(found.epochs, 'epoch')} checked{kept}, all sound; {found.end.value}.")
    say(f"anchor: {found.newest}")


def _span(signed: Signed) -> str:
    first, last = f"{signed.first} ({_when(signed.first_time)})", _when(signed.last_time)
    if signed.epochs == 1:
        return f"epoch {first}"
    return f"{counted(signed.epochs, 'epoch')}, from {first} to {signed.last} ({last})"


def _numbered(option: str, text: str) -> tuple[str, int]:
    name, _, number = text.rpartition(":")
    if not name or not (number.isascii() and number.isdigit()):
        raise typer.BadParameter(f"{option} {text[:80]!r}: write NAME:EPOCH, as ann:41.")
    return name, int(number)


def _anchor(text: str) -> tuple[int, bytes]:
    number, _, digest = text.partition(":")
    try:
        found = int(number), bytes.fromhex(digest)
    except ValueError:
        found = 0, b""
    if found[0] < 1 or len(found[1]) != DIGEST_BYTES:
        raise typer.BadParameter(
            f"--anchor {text[:80]!r}: write EPOCH:DIGEST, as `history verify` prints it."
        )
    return found
