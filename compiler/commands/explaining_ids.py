"""`tidegate explain --ids FILE`: what each of many ids would get, line by line as it is read."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import orjson
import typer

from compiler.commands.session import Session
from compiler.explanation import Roll
from compiler.plan import Plan
from compiler.publication.epoch import Publication
from compiler.publication.mirror import batches
from compiler.publication.seat_records import SeatRecords
from compiler.reference import evaluate
from gateway.request import MAX_ID_BYTES

BATCH_IDS = 1_000
"""Ids whose buckets are read together; what is known of them is forgotten before the next."""

KINDS = ("user", "device")
_NAMES = ("id", "status", "version", "release")


def explain_ids(
    session: Session,
    live: Publication,
    plan: Plan,
    check: Mapping[str, Any],
    app: str,
    *,
    file: Path,
    kind: str,
    second: int,
    as_json: bool,
) -> None:
    """Print what a check would get with each id of a file as its `kind`; `-` is standard input.

    Raises BadParameter for a file that cannot be read, naming the line; StoreError.
    """
    if kind not in KINDS:
        raise typer.BadParameter(f"--of {kind!r} is not one of {', '.join(KINDS)}.")
    buckets: dict[bytes, bytes | None] = {}
    roll = Roll(live, plan, session.store.get_blob, buckets.get)
    keys, records = session.mirror.keys, SeatRecords(session.mirror)
    found_app = next(each for each in plan.apps if each.id == app)

    def sit(release: str, hashed: int, takes: bool) -> bool:
        return records.would_sit(app, release, hashed, takes=takes)

    for some in batches(_ids(file), BATCH_IDS):
        checks = [(each, {**check, kind: each}) for each in some]
        wanted = {digest for _, asked in checks for digest in roll.wanted(asked)}
        names = {keys.bucket(digest): digest for digest in sorted(wanted)}
        buckets.clear()
        buckets.update((names[key], value) for key, value in session.mirror.get_many(names))
        for each, asked in checks:
            seats = roll.seats(asked, found_app, sit)
            found = evaluate(plan, asked, app, second, roll.memberships(asked), seats)
            row = (each, found.status, found.version, found.release)
            sys.stdout.write(_line(row, as_json))
        sys.stdout.flush()


def _line(row: tuple[str | None, ...], as_json: bool) -> str:
    if as_json:
        return orjson.dumps(dict(zip(_NAMES, row, strict=True))).decode() + "\n"
    return "\t".join(value or "-" for value in row) + "\n"


def _ids(file: Path) -> Iterator[str]:
    """Read the ids: a line each, without blank ones."""
    if str(file) == "-":
        yield from _lines(sys.stdin, "standard input")
        return
    try:
        with file.open(encoding="utf-8-sig") as opened:
            yield from _lines(opened, str(file))
    except OSError as fault:
        raise typer.BadParameter(f"--ids {file}: {fault.strerror or fault}.") from None


def _lines(opened: TextIO, name: str) -> Iterator[str]:
    number = 0
    try:
        for number, line in enumerate(opened, 1):
            found = line.strip()
            if len(found.encode()) > MAX_ID_BYTES:
                raise typer.BadParameter(
                    f"{name}:{number}: an id has at most {MAX_ID_BYTES} bytes. Write one id a line."
                )
            if found:
                yield found
    except UnicodeDecodeError:
        raise typer.BadParameter(
            f"{name} is not UTF-8 near line {number + 1}. Save it as UTF-8."
        ) from None
