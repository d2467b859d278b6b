"""`tidegate allowlist`: who is on a list, at once; and lists in the store instead of in Git."""

import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from compiler.amendments import few, laid_ids
from compiler.carried_plan import read_plan
from compiler.commands import enlisting
from compiler.commands.console import counted, say, say_json
from compiler.commands.given_ids import Column, Name, Shrink, check_name, ids_of_file
from compiler.commands.session import AsJson, StorePlace
from compiler.language.words import is_name
from compiler.lists.amendment import with_ids
from compiler.lists.stored_list import (
    as_data,
    read_stored_list,
    replaceable_list,
    write_stored_list,
)
from compiler.publication.epoch import read_publication
from compiler.publication.live import stored_pointer
from compiler.refusal import Refused
from compiler.storage.store import Store, open_store
from gateway.pointer import decode_pointer

allowlist_app = typer.Typer(
    help="Allowlists: ids added or removed at once; lists kept in the store, not in Git.",
    no_args_is_help=True,
)
allowlist_app.command("add")(enlisting.add)
allowlist_app.command("remove")(enlisting.remove)


@allowlist_app.command("import")
def import_list(
    name: Name,
    file: Annotated[
        str, typer.Argument(help="Text (one id a line), CSV or Parquet; - for stdin, as text.")
    ],
    of: Annotated[str, typer.Option(help="What its ids are: user or device.")],
    store: StorePlace,
    column: Column = "",
    allow_shrink: Shrink = False,
    as_json: AsJson = False,
) -> None:
    """Read ids from a file into the store, in the place of those that the list had.

    The next push of a plan that names the list (`stored: true` in lists.yaml) takes them up.
    """
    check_name(name)
    if of not in ("user", "device"):
        raise typer.BadParameter(f"--of is user or device, not {of!r}.")
    place = open_store(store)
    before = replaceable_list(place, name)  # before the file is read: what changes then is noticed
    if before is not None and before.of not in ("", of):  # "": its record is damaged
        raise Refused(
            f"The list {name} holds {before.of} ids, and --of says {of}. Say --of {before.of}, or "
            "import under another name."
        )
    ids = ids_of_file(name, of, file, column)
    written = write_stored_list(place, ids, int(time.time()), before, allow_shrink=allow_shrink)
    if as_json:
        dropped = {"duplicates": ids.duplicates, "blanks": ids.blanks}
        say_json(as_data(written) | dropped)
        return
    say(
        f"{name}: {written.count:,} {of} ids ({ids.duplicates:,} duplicates and {ids.blanks:,} "
        f"empty lines dropped). {enlisting.LATER}"
    )


@allowlist_app.command("show")
def show_list(
    name: Annotated[str, typer.Argument(help="The list's name.")],
    store: StorePlace,
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids themselves.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a list, or its ids.

    Of a stored list how many ids it has in the store, of which kind, and since when; of a list of
    the newest epoch how many it has there, and which overrides lay over it. The ids are those in
    the store, or else of the epoch with what lies over them.
    """
    place = open_store(store, create=False)
    stored = read_stored_list(place, name) if is_name(name) else None
    live = _on_live(place, name)
    if stored is None and live is None:
        raise Refused(
            f"The store has no list {name}, nor has the newest epoch there. "
            "`tidegate allowlist import` makes one."
        )
    if ids:
        typer.echo(place.get_blob(stored.digest) if stored else _ids(place, live), nl=False)
    elif as_json:
        say_json((asdict(live) if live else {}) | (as_data(stored) if stored else {}))
    else:
        if stored:
            when = datetime.fromtimestamp(stored.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
            say(f"{name}: {stored.count:,} {stored.of} ids in the store, as of {when} UTC")
        if live:
            say(str(live))


@dataclass(frozen=True, slots=True)
class _Live:
    """A list as an epoch has it: `count` ids of the plan's (None: expressions), and overrides."""

    list: str
    of: str
    epoch: int
    count: int | None
    digest: bytes
    added: tuple[str, ...]
    removed: tuple[str, ...]

    def __str__(self) -> str:
        has = "expressions" if self.count is None else counted(self.count, f"{self.of} id")
        laid = [f"with {few(self.added)}"] if self.added else []
        laid += [f"without {few(self.removed)}"] if self.removed else []
        over = f"; by overrides {' and '.join(laid)}" if laid else ""
        return f"{self.list}: {has} in epoch {self.epoch}{over}"


def _on_live(place: Store, name: str) -> _Live | None:
    """Find a list in the newest epoch that the store knows."""
    pointer = stored_pointer(place)
    if pointer is None:
        return None
    found = read_publication(decode_pointer(pointer)[1], place.get_blob)
    lists = read_plan(found.tree, place.get_blob, ()).lists
    source = next((each for each in lists if each.name == name), None)
    if source is None:
        return None
    on, off = laid_ids(found.tree["overrides"]).get(name, ([], []))
    file = found.tree["lists"].get(name)
    count, digest = (file["count"], file["digest"]) if file else (None, b"")
    return _Live(name, source.of, found.number, count, digest, tuple(on), tuple(off))


def _ids(place: Store, live: _Live | None) -> bytes:
    assert live is not None
    if live.count is None:
        raise Refused(f"The list {live.list} is of expressions: nobody can name its ids.")
    return with_ids(place.get_blob(live.digest), live.added, live.removed)
