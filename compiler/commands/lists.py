"""`tidegate allowlist`: lists that live in the store instead of in Git."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from compiler.commands.console import note, progress, say, say_json
from compiler.commands.session import AsJson, StorePlace
from compiler.diagnostic import PlanError, has_errors, render
from compiler.language.words import is_name
from compiler.lists.allowlist import read_ids
from compiler.lists.stored_list import read_stored_list, write_stored_list
from compiler.plan import ListSource, Workspace
from compiler.refusal import Refused
from compiler.storage.store import open_store

allowlist_app = typer.Typer(
    help="Lists that are kept in the store, not in Git.", no_args_is_help=True
)


@allowlist_app.command("import")
def import_list(
    name: Annotated[str, typer.Argument(help="The list's name, as in lists.yaml.")],
    file: Annotated[Path, typer.Argument(help="Text (one id a line), CSV or Parquet.")],
    of: Annotated[str, typer.Option(help="What its ids are: user or device.")],
    store: StorePlace,
    column: Annotated[str, typer.Option(help="The column of a CSV or Parquet file.")] = "",
    allow_shrink: Annotated[
        bool, typer.Option("--allow-shrink", help="Even if the list loses half of its ids.")
    ] = False,
) -> None:
    """Read ids from a file into the store.

    The next push of a plan that names the list (`stored: true` in lists.yaml) takes them up.
    """
    if not is_name(name):
        raise typer.BadParameter(f"{name!r} is no name of a list. Write letters, digits and ._-.")
    if of not in ("user", "device"):
        raise typer.BadParameter(f"--of is user or device, not {of!r}.")
    source = ListSource(name, of, file=file.name, column=column or None)
    with progress() as show:
        ids = read_ids(
            source,
            file.parent,
            Workspace("").placeholders,
            lambda rows: show(f"list {name}: rows", rows, 0),
        )
    if has_errors(ids.diagnostics):
        raise PlanError(ids.diagnostics)
    if ids.diagnostics:
        note(render(ids.diagnostics, {}))
    place = open_store(store)
    before = read_stored_list(place, name)
    if before is not None and ids.count * 2 <= before.count and not allow_shrink:
        raise Refused(
            f"The list {name} would shrink from {before.count:,} to {ids.count:,} ids. "
            "Is the file whole? If this is meant, say --allow-shrink."
        )
    written = write_stored_list(place, ids, int(time.time()))
    say(
        f"{name}: {written.count:,} {of} ids ({ids.duplicates:,} duplicates and {ids.blanks:,} "
        "empty lines dropped). It takes effect with the next push."
    )


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
        say_json(
            {"list": name, "of": found.of, "count": found.count, "time": found.time}
            | {"digest": found.digest}
        )
    else:
        when = datetime.fromtimestamp(found.time, UTC).strftime("%Y-%m-%d %H:%M:%S")
        say(f"{name}: {found.count:,} {found.of} ids, imported {when} UTC")
