"""Gathering a list's ids: which lines are ids, what is dropped, and what is a fault of which line.

One pass of a regular expression and a few counts tell whether a block of lines is plain (ASCII,
nothing odd); only a block that is not is looked at line by line.
"""

import re
from collections.abc import Callable, Collection, Sequence

import numpy as np

from compiler.diagnostic import Diagnostic, error, warning
from compiler.lists.runs import sort_unique
from compiler.plan import ListSource, Span

ID_BYTES = 128
"""The longest id, in bytes of UTF-8."""
SHOWN_FAULTS = 20
"""So many faulty lines of one file are shown; the others are counted."""

Progress = Callable[[int], None]
"""Hears how many bytes of the source are read."""

# Numbers as a spreadsheet writes them, text that it protects, and its error cells. An exponent
# counts only with a sign or a dot: 12e5 may well be an id in hexadecimal.
_TRACE = (
    r"[+-]?[0-9]+\.0+|[+-]?[0-9]\.[0-9]+[eE][+-]?[0-9]{1,3}|[+-]?[0-9][eE][+-][0-9]{1,3}"
    r"|'[+-]?[0-9.,]+|=\".*|[0-9]{1,3}(?:,[0-9]{3})+"
    r"|#+|#(?:N/A|REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!)"
)
_IS_TRACE = re.compile(_TRACE).fullmatch
# C0, DEL, C1 (often text of another encoding), zero-width and direction marks, stray BOMs.
_UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060\ufeff]")
_ODD_BYTES = bytes({*range(0x21), 0x7F} - {0x0A})


class Gathering:
    """What has been read so far: runs of good ids, and what was wrong with the others."""

    def __init__(
        self, source: ListSource, placeholders: Collection[str], progress: Progress | None
    ) -> None:
        self.runs: list[bytes] = []
        self.kept = self.blanks = self.faults = self._dropped = 0
        self._source = source
        self._progress = progress
        self._found: list[Diagnostic] = []
        self._first_dropped: tuple[int, str] | None = None
        self._doubts: list[Diagnostic] = []
        self._placeholders = frozenset(text.casefold() for text in placeholders)
        folded = "|".join(re.escape(text) for text in sorted(self._placeholders) if text.isascii())
        self._suspect = re.compile(
            f"^(?:{_TRACE}{f'|(?i:{folded})' if folded else ''})\n".encode(), re.MULTILINE
        )

    def add(self, block: bytes, places: Sequence[int]) -> None:
        """Take a block of lines, each with a newline behind it; `places` has a number for each."""
        if not self._is_plain(block):
            block = self._check_lines(block, places)
        if block:
            self.kept += block.count(b"\n")
            self.runs.append(sort_unique(block))

    def tell(self, size: int) -> None:
        """Tell that so many bytes of the source are read."""
        if self._progress:
            self._progress(size)

    def fault(self, place: int, message: str) -> None:
        """Note a fault at a line (a row of Parquet), or of the whole file when `place` is 0."""
        self.faults += 1
        if self.faults <= SHOWN_FAULTS:
            self._found.append(error(self._span(place), self._placed(place, message)))
        elif self.faults == SHOWN_FAULTS + 1:
            self._unshown = place

    def doubt_header(self, name: str) -> None:
        """Warn of a column's name that looks like an id: the file may have no header at all."""
        if sum(char.isdigit() for char in name) * 4 > len(name):
            message = f'"{name}" is taken for the header. If it is an id, write a header above it.'
            self._doubts.append(warning(self._span(1), message))

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Give the faults shown, the count of the others, and the warnings."""
        found = [*self._found, *self._doubts]
        if self.faults > SHOWN_FAULTS:
            more = f"and {self.faults - SHOWN_FAULTS:,} more such faults. Mend the source."
            found.append(error(self._span(self._unshown), self._placed(self._unshown, more)))
        if self._first_dropped:
            place, text = self._first_dropped
            message = f'"{text}" is a placeholder and no id: {self._dropped:,} such dropped.'
            found.append(warning(self._span(place), self._placed(place, message)))
        return tuple(found)

    def _span(self, place: int) -> Span:
        if not place and self._source.span.file:
            return self._source.span  # where lists.yaml names the file; an import has no such place
        return Span(self._source.file or "", 0 if self._by_rows() else place, 1)

    def _placed(self, place: int, message: str) -> str:
        return f"row {place:,}: {message}" if place and self._by_rows() else message

    def _by_rows(self) -> bool:
        return self._source.file is not None and self._source.file.lower().endswith(".parquet")

    def _is_plain(self, block: bytes) -> bool:
        """Tell whether every line is an id as it stands."""
        if (
            not block.isascii()
            or len(block.translate(None, _ODD_BYTES)) != len(block)
            or block.startswith(b"\n")
            or b"\n\n" in block
        ):
            return False
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
        longest = int(np.diff(ends, prepend=-1).max()) - 1
        return longest <= ID_BYTES and not self._suspect.search(block)

    def _check_lines(self, block: bytes, places: Sequence[int]) -> bytes:
        good = []
        for place, line in zip(places, block.split(b"\n"), strict=False):
            try:
                text = line.decode().strip()
            except UnicodeDecodeError as fault:
                wrong = f"byte {line[fault.start]:#04x} is not UTF-8. Save the file as UTF-8."
                self.fault(place, wrong)
                continue
            if not text:
                self.blanks += 1
            elif message := _fault_of(line, text):
                self.fault(place, message)
            elif text.casefold() in self._placeholders:
                self._dropped += 1
                self._first_dropped = self._first_dropped or (place, text)
            else:
                good.append(text)
        return "".join(f"{text}\n" for text in good).encode()


def _fault_of(line: bytes, text: str) -> str | None:
    """Say what is wrong with an id, given its line (for what strip would hide), or None."""
    if unseen := _UNSEEN.search(line.decode().strip(" \t\r")):
        return f"this id holds the unseen character U+{ord(unseen[0]):04X}. Remove it."
    size = len(text.encode())
    if size > ID_BYTES:
        return f"this id has {size} bytes in UTF-8, and the most is {ID_BYTES}. Shorten it."
    if _IS_TRACE(text):
        return (
            f'"{text}" is what a spreadsheet makes of an id. '
            "Format the column as text there and export it again."
        )
    return None
