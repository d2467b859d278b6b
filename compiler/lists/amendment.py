"""Amending a list's ids: some added, some removed, in the sorted text, without sorting it anew.

Both texts are runs (runs.py). The list is walked in blocks beside the ids given; a block that none
of them falls into is passed on as it is. So a few ids in ten million cost little more than a copy.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from compiler.lists.runs import blocks_of, find_line

_BLOCK_BYTES = 1 << 14  # small, as only blocks that are touched are split into lines

Lines = list[bytes]


@dataclass(frozen=True, slots=True)
class Amended:
    """A list after ids were added or removed.

    `text` and `count` are of the new list. Of the ids given, `changed` were added (or removed),
    and `unchanged` were there already (or were not there).
    """

    text: bytes
    count: int
    changed: int
    unchanged: int


def add_ids(text: bytes, given: bytes) -> Amended:
    """Add the ids of one run to another."""

    def merged(lines: Lines, more: Lines) -> Lines:
        lines += set(more).difference(lines)
        lines.sort()  # two sorted parts, nearly: far from sorting anew
        return lines

    after = _amend(text, given, merged)
    count, asked = after.count(b"\n"), given.count(b"\n")
    added = count - text.count(b"\n")
    return Amended(after, count, added, asked - added)


def remove_ids(text: bytes, given: bytes) -> Amended:
    """Remove the ids of one run from another."""

    def remaining(lines: Lines, less: Lines) -> Lines:
        gone = set(less)
        return [line for line in lines if line not in gone]

    after = _amend(text, given, remaining)
    count, asked = after.count(b"\n"), given.count(b"\n")
    removed = text.count(b"\n") - count
    return Amended(after, count, removed, asked - removed)


def with_ids(text: bytes, added: Iterable[str], removed: Iterable[str]) -> bytes:
    """Give a list's text with ids more and ids less, given in any order."""
    for ids, change in ((added, add_ids), (removed, remove_ids)):
        run = b"".join(sorted(f"{each}\n".encode() for each in ids))
        text = change(text, run).text if run else text
    return text


def _amend(text: bytes, given: bytes, change: Callable[[Lines, Lines], Lines]) -> bytes:
    return b"".join(_changed_blocks(text, given, change))


def _changed_blocks(
    text: bytes, given: bytes, change: Callable[[Lines, Lines], Lines]
) -> Iterator[bytes | memoryview]:
    """Give the list's blocks, each changed by the ids that belong up to its last line.

    What lies behind the last line belongs to the last block.
    """
    start = done = 0
    for block in blocks_of(text, _BLOCK_BYTES) if text else (memoryview(b""),):
        done += len(block)
        if done == len(text):
            end = len(given)
        else:
            last = text[text.rfind(b"\n", 0, done - 1) + 1 : done - 1]
            end = find_line(given, last + b"\0", start)  # the first id above `last`
        if end > start:
            yield _joined(change(_lines(bytes(block)), _lines(given[start:end])))
        else:
            yield block
        start = end


def _lines(run: bytes) -> Lines:
    return run.split(b"\n")[:-1]


def _joined(lines: Lines) -> bytes:
    return b"\n".join(lines) + b"\n" if lines else b""
