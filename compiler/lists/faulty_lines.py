"""The lines of lists' files that findings name, as a list's text is not kept to show them."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

from compiler.diagnostic import Diagnostic

_SHOWN_BYTES = 400


def faulty_lines(
    folder: Path, found: Iterable[Diagnostic], known: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Give of each list's file the lines that findings name, blank ones for the others."""
    wanted: dict[str, set[int]] = {}
    for each in found:
        if each.file not in known and each.line:
            wanted.setdefault(each.file, set()).add(each.line)
    for file, numbers in wanted.items():
        lines = []
        with suppress(OSError), (folder / file).open("rb") as opened:
            for number, line in enumerate(islice(opened, max(numbers)), 1):
                lines.append(line[:_SHOWN_BYTES] if number in numbers else b"")
        text = b"\n".join(line.rstrip(b"\r\n") for line in lines)
        yield file, text.decode(errors="replace")
