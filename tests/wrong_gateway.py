"""A gateway that is wrong on purpose: `python -m tests.wrong_gateway APP RANK PLACE…`.

It verifies and serves as any gateway does, but for one bit, of the release of this RANK, in the
bitmap at this PLACE of the app's tables, which it flips whenever the program has been verified.
"""

import runpy
import sys
from collections.abc import Iterator
from typing import Any

from gateway import layout

Place = tuple[Any, ...]
"""Where in a program's tables: names of members, and indexes."""

TABLES = ("schedule", "hosts", "attributes", "lists", "percents")


def bitmaps(tables: Any, place: Place = ()) -> Iterator[Place]:
    """Give the places of all bitmaps of a program's tables."""
    if isinstance(tables, bytes):
        yield place
    elif isinstance(tables, dict | list):
        for name, inner in tables.items() if isinstance(tables, dict) else enumerate(tables):
            if place or name in TABLES:
                yield from bitmaps(inner, (*place, name))


def flip(tables: Any, place: Place, rank: int) -> None:
    """Flip a rank's bit in the bitmap at a place."""
    *way, last = place
    for name in way:
        tables = tables[name]
    tables[last] = layout.encode_bits(layout.decode_bits(tables[last]) ^ 1 << rank)


def go_wrong(app: str, rank: int, place: Place) -> None:
    """Flip the bit from now on whenever this app's program is decoded."""
    decode = layout.decode

    def wrongly(shape: type, blob: layout.Blob) -> Any:
        found = decode(shape, blob)
        if shape is layout.Program and found["app"] == app:
            flip(found, place, rank)
        return found

    layout.decode = wrongly


if __name__ == "__main__":
    app, rank, *names = sys.argv[1:]
    go_wrong(app, int(rank), tuple(int(each) if each.isdigit() else each for each in names))
    sys.argv = ["gateway"]
    runpy.run_module("gateway", run_name="__main__")
