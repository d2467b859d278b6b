"""Ids as an operator gives them: typed, in a file, or on standard input."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from compiler.commands.console import note, progress
from compiler.diagnostic import PlanError, has_errors, render
from compiler.language.words import is_name
from compiler.lists.allowlist import ListIds, read_given, read_ids, read_stream
from compiler.lists.faulty_lines import faulty_lines
from compiler.plan import ListSource, Workspace

_STDIN = "-"
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


def check_name(name: str) -> None:
    """Raise BadParameter for what cannot be a list's name."""
    if not is_name(name):
        raise typer.BadParameter(f"{name!r} is no name of a list. Write letters, digits and ._-.")


def given_ids(name: str, ids: Sequence[str] | None, file: str, column: str) -> ListIds:
    """Read the ids that `add` or `remove` is given. Raises BadParameter, PlanError."""
    check_name(name)
    if bool(ids) == bool(file):
        raise typer.BadParameter("Name the ids, or a file of ids with --from: one of both.")
    if ids and _STDIN in ids and len(ids) > 1:
        raise typer.BadParameter("- is standard input, and stands alone. Name ids, or -, not both.")
    if file or ids == [_STDIN]:
        return ids_of_file(name, "user", file or _STDIN, column)
    assert ids is not None
    source = ListSource(name, "user", file="ids")
    lines = {"ids": "\n".join(text.replace("\n", " ") for text in ids)}
    return _sound(read_given(source, ids, _PLACEHOLDERS), lines)


def ids_of_file(name: str, of: str, file: str, column: str) -> ListIds:
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
