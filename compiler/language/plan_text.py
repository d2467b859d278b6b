"""A plan file's bytes and raw lines, before YAML sees them.

What would confuse the parser, or the eye, is found here with a better sentence than any parser
has: bytes that are no UTF-8, merge-conflict markers, characters that cannot be seen.
"""

import re

from compiler.language.faults import Faults
from compiler.plan import Span

MOST_BYTES = 4 * 2**20
"""A longer plan file is refused: ids belong in lists, and an epoch carries every plan file."""

_MOST_BAD_LINES = 20  # of one kind in one file; more are the same mistake


def decode(file: str, data: bytes, faults: Faults) -> str | None:
    """Decode a plan file, dropping a byte order mark; None when it is no UTF-8 or too large."""
    if len(data) > MOST_BYTES:
        faults.error(
            Span(file, 0, 0),
            f"This file has {len(data):,} bytes; a plan file may have {MOST_BYTES:,}. "
            "Move ids into a list's file, or split the app.",
        )
        return None
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as fault:
        at = fault.start
    start = data.rfind(b"\n", 0, at) + 1
    place = Span(
        file, data.count(b"\n", 0, at) + 1, len(data[start:at].decode().removeprefix("\ufeff")) + 1
    )
    kind = "UTF-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "not UTF-8"
    faults.error(
        place,
        f"This file is {kind}: byte 0x{data[at]:02x} at offset {at}. "
        "Save the file as UTF-8 in your editor.",
    )
    return None


def check_text(file: str, text: str, faults: Faults) -> None:
    """Report what stands in the raw lines: conflict markers, unprintable characters, too much."""
    if len(text) > MOST_BYTES:
        faults.error(Span(file, 0, 0), "This file is too large. Split it.")
    _find_conflicts(file, text, faults)
    _find_unprintable(file, text, faults)


_MARKER = re.compile(r"^(<{7}|\|{7}|={7}|>{7})(?= |\r?$)", re.MULTILINE)


def _find_conflicts(file: str, text: str, faults: Faults) -> None:
    """Report each conflict once, at its first marker; a marker left over alone is one too."""
    inside, reported = False, 0
    for found in _MARKER.finditer(text):
        marker = found[1]
        if not inside:
            reported += 1
            if reported > _MOST_BAD_LINES:
                return
            faults.error(
                Span(file, _line_of(text, found.start()), 1, len(marker)),
                f"{marker} is a merge-conflict marker. Keep one of the two sides and delete the "
                "lines with <<<<<<<, ======= and >>>>>>>.",
            )
        if marker[0] == "<":
            inside = True
        elif marker[0] == ">":
            inside = False


# What YAML forbids, and what some programs take for the end of a line and others do not.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def _find_unprintable(file: str, text: str, faults: Faults) -> None:
    """Report the first such character of a line."""
    lines: set[int] = set()
    for found in _UNPRINTABLE.finditer(text):
        line = _line_of(text, found.start())
        if line in lines:
            continue
        lines.add(line)
        if len(lines) > _MOST_BAD_LINES:
            return
        faults.error(
            Span(file, line, found.start() - text.rfind("\n", 0, found.start())),
            f"The character U+{ord(found[0]):04X} cannot be seen and may not stand here. Delete "
            "it; in info it can be written as an escape in double quotes.",
        )


def _line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1
