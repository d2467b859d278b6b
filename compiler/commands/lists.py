"""`tidegate allowlist`: lists that live in the store instead of in Git."""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from compiler.commands.console import counted, note, progress, say, say_json
from compiler.commands.session import AsJson, StorePlace
from compiler.compilation import faulty_lines
from compiler.diagnostic import PlanError, has_errors, render
from compiler.language.words import is_name
from compiler.lists.allowlist import ListIds, read_given, read_ids, read_stream
from compiler.lists.amendment import Amended, add_ids, remove_ids
from compiler.lists.stored_list import (
    StoredList,
    amend_stored_list,
    read_stored_list,
    replaceable_list,
    write_stored_list,
)
from compiler.plan import ListSource, Workspace
from compiler.refusal import Refused
from compiler.storage.store import open_store

allowlist_app = typer.Typer(
    help="Lists that are kept in the store, not in Git.", no_args_is_help=True
)

_STDIN = "-"
_LATER = "It takes effect with the next push."
_PLACEHOLDERS = Workspace("").placeholders
_MB = 1_000_000

Name = Annotated[str, typer.Argument(help="The list's name, as in lists.yaml.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID…", help="The ids, or - for stdin.")]
From = Annotated[
    str, typer.Option("--from", metavar="FILE", help="Text, CSV, Parquet, or - for stdin.")
]
Column = Annotated[str, typer.Option(help="The column of a CSV or Parquet file.")]
Shrink = Annotated[
    bool, typer.Option("--allow-shrink", help="Even if the list loses half of its ids.")
]


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
    _check_name(name)
    if of not in ("user", "device"):
        raise typer.BadParameter(f"--of is user or device, not {of!r}.")
    place = open_store(store)
    before = replaceable_list(place, name)  # before the file is read: what changes then is noticed
    if before is not None and before.of not in ("", of):  # "": its record is damaged
        raise Refused(
            f"The list {name} holds {before.of} ids, and --of says {of}. Say --of {before.of}, or "
            "import under another name."
        )
    ids = _read(name, of, file, column)
    written = write_stored_list(place, ids, int(time.time()), before, allow_shrink=allow_shrink)
    if as_json:
        dropped = {"duplicates": ids.duplicates, "blanks": ids.blanks}
        say_json(_as_data(written) | dropped)
        return
    say(
        f"{name}: {written.count:,} {of} ids ({ids.duplicates:,} duplicates and {ids.blanks:,} "
        f"empty lines dropped). {_LATER}"
    )


@allowlist_app.command("add")
def add(
    name: Name,
    store: StorePlace,
    ids: Ids = None,
    file: From = "",
    column: Column = "",
    as_json: AsJson = False,
) -> None:
    """Add ids to a stored list.

    One fault in an id, and none is added. Ids that are on the list already are counted.
    """
    given = _given(name, ids, file, column)
    amend = partial(add_ids, given=given.text)
    written, amended = amend_stored_list(open_store(store), name, amend, int(time.time()))
    if as_json:
        say_json(_as_data(written) | {"added": amended.changed, "there_already": amended.unchanged})
        return
    said = f"{amended.changed:,} added, {amended.unchanged:,} there already"
    say(_outcome(written, amended, said))


@allowlist_app.command("remove")
def remove(
    name: Name,
    store: StorePlace,
    ids: Ids = None,
    file: From = "",
    column: Column = "",
    allow_shrink: Shrink = False,
    as_json: AsJson = False,
) -> None:
    """Remove ids from a stored list.

    One fault in an id, and none is removed. Ids that are not on the list are counted.
    """
    given = _given(name, ids, file, column)
    written, amended = amend_stored_list(
        open_store(store),
        name,
        partial(remove_ids, given=given.text),
        int(time.time()),
        allow_shrink=allow_shrink,
    )
    if as_json:
        say_json(_as_data(written) | {"removed": amended.changed, "not_there": amended.unchanged})
        return
    said = f"{amended.changed:,} removed, {amended.unchanged:,} not on it"
    say(_outcome(written, amended, said))


@allowlist_app.command("show")
def show_list(
    name: Annotated[str, typer.Argument(help="The list's name.")],
    store: StorePlace,
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids themselves.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a stored list, or its ids.

    How many ids it has, of which kind, and since when.
    """
    place = open_store(store, create=False)
    found = read_stored_list(place, name) if is_name(name) else None
    if found is None:
        raise Refused(f"The store has no list {name}. `tidegate allowlist import` makes one.")
    if ids:
        typer.echo(place.get_blob(found.digest), nl=False)
    elif as_json:
        say_json(_as_data(found))
    else:
        when = datetime.fromtimestamp(found.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
        say(f"{name}: {found.count:,} {found.of} ids, as of {when} UTC")


def _check_name(name: str) -> None:
    if not is_name(name):
        raise typer.BadParameter(f"{name!r} is no name of a list. Write letters, digits and ._-.")


def _given(name: str, ids: Sequence[str] | None, file: str, column: str) -> ListIds:
    """Read the ids that `add` or `remove` is given. Raises BadParameter, PlanError."""
    _check_name(name)
    if bool(ids) == bool(file):
        raise typer.BadParameter("Name the ids, or a file of ids with --from: one of both.")
    if ids and _STDIN in ids and len(ids) > 1:
        raise typer.BadParameter("- is standard input, and stands alone. Name ids, or -, not both.")
    if file or ids == [_STDIN]:
        return _read(name, "user", file or _STDIN, column)
    assert ids is not None
    source = ListSource(name, "user", file="ids")
    lines = {"ids": "\n".join(text.replace("\n", " ") for text in ids)}
    return _sound(read_given(source, ids, _PLACEHOLDERS), lines)


def _read(name: str, of: str, file: str, column: str) -> ListIds:
    """Read the ids of a file, or of standard input. Raises PlanError with every fault."""
    if file == _STDIN:
        source = ListSource(name, of, file="standard input")
        with progress() as show:
            ids = read_stream(
                source,
                sys.stdin.buffer,
                _PLACEHOLDERS,
                lambda size: show(f"list {name}: MB read", size // _MB, 0),
            )
        return _sound(ids, {})
    path = Path(file)
    source = ListSource(name, of, file=path.name or file, column=column or None)
    total = path.stat().st_size if path.is_file() else 0
    with progress() as show:
        ids = read_ids(
            source,
            path.parent,
            _PLACEHOLDERS,
            lambda size: show(f"list {name}: MB read", size // _MB, total // _MB),
        )
    return _sound(ids, dict(faulty_lines(path.parent, ids.diagnostics, {})))


def _sound(ids: ListIds, sources: dict[str, str]) -> ListIds:
    """Give the ids if all are good, and tell of warnings. Raises PlanError."""
    if has_errors(ids.diagnostics):
        raise PlanError(ids.diagnostics, sources)
    if ids.diagnostics:
        note(render(ids.diagnostics, sources))
    return ids


def _outcome(written: StoredList, amended: Amended, said: str) -> str:
    later = f" {_LATER}" if amended.changed else " Nothing has changed."
    return f"{written.name}: {said}. It has {counted(written.count, f'{written.of} id')}.{later}"


def _as_data(found: StoredList) -> dict[str, Any]:
    return {
        "list": found.name,
        "of": found.of,
        "count": found.count,
        "time": found.time,
        "digest": found.digest,
    }
