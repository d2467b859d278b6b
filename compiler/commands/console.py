"""What commands say to a person: lines, tables, and progress; and `--json` for scripts."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console

from compiler.progress import Progress

PIPED_COLUMNS = 200
"""The width of tables where no terminal has one: ids and notes are not folded then."""

_piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
out = Console(highlight=False, soft_wrap=True, width=PIPED_COLUMNS if _piped else None)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_LINE_SECONDS = 2.0


def say(text: str) -> None:
    """Print a line of result."""
    out.print(text, markup=False)


def note(text: str) -> None:
    """Print a line about what is going on; scripts that read the result don't see it."""
    err.print(text, markup=False, style="dim")


def counted(number: int, what: str) -> str:
    """Say how many, as `1 app` or `1,200 apps`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def say_json(value: Any) -> None:
    """Print a value for a script."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def confirm(question: str, *, yes: bool) -> bool:
    """Ask before something that is hard to take back; without a terminal only --yes agrees."""
    if yes:
        return True
    if not sys.stdin.isatty():
        note(f"{question} Nobody can answer here: say --yes.")
        return False
    return out.input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def progress() -> AbstractContextManager[Progress]:
    """Show long work: bars on a terminal, a plain line now and then elsewhere."""
    return _progress("MofNCompleteColumn")


def byte_progress() -> AbstractContextManager[Progress]:
    """Show long work on bytes, in the same way."""
    return _progress("DownloadColumn", "TransferSpeedColumn")


@contextmanager
def _progress(*counts: str) -> Iterator[Progress]:
    if not err.is_terminal:
        yield _lines()
        return
    from rich import progress as rich  # noqa: PLC0415 - where nobody looks it would only take time

    columns = (rich.TextColumn("{task.description}"), rich.BarColumn())
    numbers = (getattr(rich, each)() for each in (*counts, "TimeRemainingColumn"))
    with rich.Progress(*columns, *numbers, console=err, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total or None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield show


def _lines() -> Progress:
    started = last = time.monotonic()

    def show(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _LINE_SECONDS:
            last = now
            of = f" of {total:,}" if total else ""
            err.print(f"{what}: {done:,}{of} after {now - started:.0f} s", markup=False)

    return show
