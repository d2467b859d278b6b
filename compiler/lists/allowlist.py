"""The ids of an allowlist, read from text, CSV or Parquet to sorted unique lines.

An id is 1 to ID_BYTES bytes of UTF-8, case-sensitive, without control or invisible characters.
Blanks around it are stripped; empty lines and duplicates are dropped and counted; placeholders
(`unknown`, all-zero UUIDs, …) are dropped with a warning; what a spreadsheet makes of numbers
(`8841.0`, `8.841E+03`, `'8841`) is an error with its line.

How: the rows come in blocks of some MB. One pass of a regular expression and a few counts tell
whether a block is plain (ASCII, nothing odd); only a block that is not is looked at line by line.
A block becomes a *run*: sorted unique lines as one bytes object. In the end the runs are merged,
range by range. So memory is about twice the size of the ids as text, and a few blocks.
"""

import csv
import io
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from compiler.diagnostic import Diagnostic, error, warning
from compiler.plan import ListSource, Span

ID_BYTES = 128
"""The longest id, in bytes of UTF-8."""
SHOWN_FAULTS = 20
"""So many faulty lines of one file are shown; the others are counted."""

_BLOCK_BYTES = 1 << 21
_BLOCK_ROWS = 1 << 17
_LINE_BYTES = 1 << 20  # a longer line is no id: perhaps the file has no line breaks at all
_BOM = b"\xef\xbb\xbf"
_LISTS_FILE = Span("lists.yaml", 0, 0)

Progress = Callable[[int], None]

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


@dataclass(frozen=True, slots=True)
class ListIds:
    """What a list's file holds; not to be used when `diagnostics` has errors.

    `text` is the unique ids, sorted by their UTF-8 bytes, each with a newline behind it; `count`
    of them. It is equal for equal sets of ids, whatever the file's format and order.
    """

    name: str
    of: str
    count: int
    duplicates: int
    blanks: int
    text: bytes
    diagnostics: tuple[Diagnostic, ...]


def read_ids(
    source: ListSource,
    folder: Path,
    placeholders: Collection[str],
    progress: Progress | None = None,
) -> ListIds:
    """Read the ids of a list's file; every fault is a diagnostic, none is raised.

    `folder` is the plan's; `progress` is called now and then with the rows read so far.
    """
    assert source.file is not None
    gathering = _Gathering(source, placeholders, progress)
    try:
        _read(source, folder / source.file, gathering)
    except _Unreadable as fault:
        gathering.fault(fault.place, str(fault))
    except (OSError, pa.ArrowException) as fault:
        reason = getattr(fault, "strerror", None) or str(fault).splitlines()[0]
        gathering.fault(0, f"{source.file} cannot be read: {reason}. Export it again.")
    text = _merge(gathering.runs)
    count = text.count(b"\n")
    if not count and not gathering.faults:
        gathering.fault(
            0, f"{source.file} holds no id. Add ids, or remove the list and what uses it."
        )
    return ListIds(
        name=source.name,
        of=source.of,
        count=count,
        duplicates=gathering.kept - count,
        blanks=gathering.blanks,
        text=text,
        diagnostics=gathering.diagnostics(),
    )


def ids_from_text(text: bytes) -> Iterator[str]:
    """Give the ids of a ListIds.text one by one."""
    return (line[:-1].decode() for line in io.BytesIO(text))


def check_shrink(
    name: str, old_count: int, new_count: int, span: Span = _LISTS_FILE
) -> Diagnostic | None:
    """Give an error when a list has lost half of its ids or more, for a push to refuse."""
    if not old_count or new_count * 2 > old_count:
        return None
    return error(
        span,
        f'list "{name}" would shrink from {old_count:,} to {new_count:,} ids. '
        "If that is meant, push with --allow-shrink.",
    )


class _Unreadable(Exception):  # noqa: N818 - it never leaves this file
    """The rest of the file cannot be read; `place` is a line, or 0 for the whole file."""

    def __init__(self, place: int, message: str) -> None:
        super().__init__(message)
        self.place = place


class _Gathering:
    """What has been read so far: runs of good ids, and what was wrong with the others."""

    def __init__(
        self, source: ListSource, placeholders: Collection[str], progress: Progress | None
    ) -> None:
        self.runs: list[bytes] = []
        self.kept = self.blanks = self.faults = self._rows = self._dropped = 0
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
            self.runs.append(_sort_unique(block))
        self._rows += len(places)
        if self._progress:
            self._progress(self._rows)

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
        return _suffix(self._source) == ".parquet"

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


def _suffix(source: ListSource) -> str:
    return Path(source.file or "").suffix.lower()


def _read(source: ListSource, path: Path, gathering: _Gathering) -> None:
    suffix = _suffix(source)
    if not path.is_file():
        raise _Unreadable(
            0, f"there is no file {source.file}. Write its path in the plan's folder."
        )
    if suffix in (".xlsx", ".xls", ".ods"):
        raise _Unreadable(0, f"{source.file} is a spreadsheet. Save it as CSV in UTF-8.")
    if suffix == ".parquet":
        _read_parquet(source, path, gathering)
        return
    if source.column is not None and suffix != ".csv":
        message = f"{source.file} is read as text, which has no columns. Remove `column`."
        raise _Unreadable(0, f"{message[:-1]}, or name a file that ends in .csv or .parquet.")
    with path.open("rb") as file:
        if suffix == ".csv":
            _read_csv(source, file, gathering)
            return
        line = 1
        for block in _blocks(file):
            lines = block.count(b"\n")
            gathering.add(block.replace(b"\r\n", b"\n"), range(line, line + lines))
            line += lines


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Cut a file into blocks of whole lines, without BOM, the last one ended too."""
    rest = file.read(len(_BOM)).removeprefix(_BOM)
    if rest[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _Unreadable(1, "this file is UTF-16. Save it as UTF-8.")
    line = 1
    while chunk := file.read(_BLOCK_BYTES):
        chunk = rest + chunk
        cut = chunk.rfind(b"\n") + 1
        block, rest = chunk[:cut], chunk[cut:]
        line += block.count(b"\n")
        if len(rest) > _LINE_BYTES:
            wrong = "is longer than 1 MiB. Write one id a line, with LF or CRLF behind it."
            raise _Unreadable(line, f"this line {wrong}")
        if block:
            yield block
    if rest:
        yield rest + b"\n"


def _read_csv(source: ListSource, file: BinaryIO, gathering: _Gathering) -> None:
    """Read one column of RFC 4180 text. A quoted field may hold line breaks, an id may not."""
    line = 1

    def decoded(block: bytes) -> io.StringIO:
        nonlocal line
        try:
            text = block.decode()
        except UnicodeDecodeError as fault:
            at = line + block.count(b"\n", 0, fault.start)
            wrong = f"byte {block[fault.start]:#04x} is not UTF-8. Save the file as UTF-8."
            raise _Unreadable(at, wrong) from None
        line += block.count(b"\n")
        return io.StringIO(text, newline="")

    rows = csv.reader(chain.from_iterable(map(decoded, _blocks(file))), strict=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        column = _column(source, [name.strip() for name in header])
        if source.column is None:
            gathering.doubt_header(header[column].strip())
        _read_rows(rows, column, len(header), gathering)
    except csv.Error as fault:
        raise _Unreadable(rows.line_num, f"this is not CSV: {fault}. Mend the quotes.") from None


def _read_rows(rows: Any, column: int, width: int, gathering: _Gathering) -> None:
    ids: list[str] = []
    lines: list[int] = []
    for row in rows:
        if len(row) == width:
            ids.append(row[column])
            lines.append(rows.line_num)
            if len(ids) == _BLOCK_ROWS:
                _add_ids(ids, lines, gathering)
                ids, lines = [], []
        elif not row:
            gathering.blanks += 1
        else:
            wrong = f"this row has {len(row)} fields, and the header has {width}. Quote commas."
            gathering.fault(rows.line_num, wrong)
    _add_ids(ids, lines, gathering)


def _add_ids(ids: list[str], places: Sequence[int], gathering: _Gathering) -> None:
    if not ids:
        return
    block = "\n".join(ids) + "\n"
    if block.count("\n") != len(ids):
        for index, text in enumerate(ids):
            if "\n" in text.strip():
                gathering.fault(places[index], "this id holds a line break. Remove it.")
        block = "".join(text.replace("\n", " ") + "\n" for text in ids)
    gathering.add(block.encode(), places)


def _column(source: ListSource, names: list[str]) -> int:
    """Find the column that holds the ids."""
    shown = ", ".join(f'"{name}"' for name in names)
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        raise _Unreadable(1, f"the header is {shown}. Separate the columns with commas.")
    if source.column is None:
        if len(names) == 1:
            return 0
        raise _Unreadable(
            0, f"{source.file} has the columns {shown}. Write which holds the ids: `column: NAME`."
        )
    if names.count(source.column) == 1:
        return names.index(source.column)
    wrong = "two columns" if source.column in names else "no column"
    raise _Unreadable(
        0, f'{source.file} has {wrong} "{source.column}". Write one of its columns: {shown}.'
    )


def _read_parquet(source: ListSource, path: Path, gathering: _Gathering) -> None:
    with pq.ParquetFile(path) as file:
        column = file.schema_arrow.field(_column(source, file.schema_arrow.names))
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and (
            not pa.types.is_integer(kind)
        ):
            wrong = f'column "{column.name}" of {source.file} holds {kind}, and ids are text.'
            raise _Unreadable(0, f"{wrong} Write it as strings.")
        row = 1
        for batch in file.iter_batches(_BLOCK_ROWS, columns=[column.name]):
            try:
                ids = batch.column(0).cast(pa.large_string()).to_pylist()
            except UnicodeDecodeError:
                raise _Unreadable(row, "a text from here on is not UTF-8.") from None
            _add_ids([text or "" for text in ids], range(row, row + len(ids)), gathering)
            row += len(ids)


def _sort_unique(block: bytes) -> bytes:
    """Sort lines by their bytes, without duplicates, in fixed-width rows padded with NUL.

    No id holds a NUL, so that the padding sorts a shorter id first and can be told from text.
    """
    data = np.frombuffer(block, np.uint8)
    sizes = np.diff(np.flatnonzero(data == ord("\n")), prepend=-1) - 1
    width = int(sizes.max())
    padded = np.zeros((len(sizes), width), np.uint8)
    padded[np.arange(width) < sizes[:, None]] = data[data != ord("\n")]
    keys = padded.view(f"S{width}").ravel()
    keys.sort()
    unique = np.concatenate(([True], keys[1:] != keys[:-1]))
    ended = np.full((int(unique.sum()), width + 1), ord("\n"), np.uint8)
    ended[:, :width] = padded[unique]
    lines: bytes = ended[ended != 0].tobytes()
    return lines


def _merge(runs: list[bytes]) -> bytes:
    """Merge runs to one, range by range, so that only one range is there as rows at a time."""
    if len(runs) < 2:
        return b"".join(runs)
    sample = sorted(
        _line_at(run, place * len(run) // len(runs)) for run in runs for place in range(len(runs))
    )
    pivots = sample[len(runs) :: len(runs)]
    starts = [0] * len(runs)
    merged = io.BytesIO()  # gives its buffer as bytes without a copy
    for pivot in [*pivots, None]:
        ends = [len(run) if pivot is None else _find_line(run, pivot) for run in runs]
        part = b"".join(run[start:end] for run, start, end in zip(runs, starts, ends, strict=True))
        if part:
            merged.write(_sort_unique(part))
        starts = ends
    return merged.getvalue()


def _line_at(run: bytes, at: int) -> bytes:
    """Give the line that the byte at this offset belongs to."""
    return run[run.rfind(b"\n", 0, at) + 1 : run.index(b"\n", at)]


def _find_line(run: bytes, wanted: bytes) -> int:
    """Give the offset of the first line that is not below `wanted`, by bisection."""
    low, high = 0, len(run)
    while low < high:
        middle = (low + high) // 2
        start, end = run.rfind(b"\n", 0, middle) + 1, run.index(b"\n", middle)
        if run[start:end] < wanted:
            low = end + 1
        else:
            high = start
    return low
