"""The ids of an allowlist, read from text, CSV or Parquet to sorted unique lines.

An id is 1 to ID_BYTES bytes of UTF-8, case-sensitive, without control or invisible characters.
Blanks around it are stripped; empty lines and duplicates are dropped and counted; placeholders
(`unknown`, all-zero UUIDs, …) are dropped with a warning; what a spreadsheet makes of numbers
(`8841.0`, `8.841E+03`, `'8841`) is an error with its line.

How: the rows come in blocks of some MB. Each becomes a run of its ids (gathering.py), and in
the end the runs are merged (runs.py). So memory is little more than the size of the ids as text,
and a few blocks.
"""

import csv
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from compiler.diagnostic import Diagnostic
from compiler.lists.gathering import Gathering, Progress
from compiler.lists.runs import merge_runs
from compiler.plan import ListSource

_BLOCK_BYTES = 1 << 21
_BLOCK_ROWS = 1 << 17
_LINE_BYTES = 1 << 20  # a longer line is no id: perhaps the file has no line breaks at all
_BOM = b"\xef\xbb\xbf"


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

    `folder` is the plan's; `progress` is called now and then with the bytes read so far.
    """
    path = source.file
    assert path is not None
    return _gathered(
        source, placeholders, progress, lambda gathering: _read(source, folder / path, gathering)
    )


def read_stream(
    source: ListSource,
    stream: BinaryIO,
    placeholders: Collection[str],
    progress: Progress | None = None,
) -> ListIds:
    """Read ids from a stream of text, one a line; `source.file` is what faults call it."""
    return _gathered(
        source, placeholders, progress, lambda gathering: _read_text(stream, gathering)
    )


def read_given(source: ListSource, ids: Sequence[str], placeholders: Collection[str]) -> ListIds:
    """Read ids that were typed; a fault's line is the id's place, from 1."""
    places = range(1, len(ids) + 1)
    return _gathered(
        source, placeholders, None, lambda gathering: _add_ids(list(ids), places, gathering)
    )


def _gathered(
    source: ListSource,
    placeholders: Collection[str],
    progress: Progress | None,
    read: Callable[[Gathering], None],
) -> ListIds:
    gathering = Gathering(source, placeholders, progress)
    try:
        read(gathering)
    except _Unreadable as fault:
        gathering.fault(fault.place, str(fault))
    except OSError as fault:
        reason = fault.strerror or str(fault).splitlines()[0]
        gathering.fault(0, f"{source.file} cannot be read: {reason}. Export it again.")
    text = merge_runs(gathering.runs)
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


class _Unreadable(Exception):  # noqa: N818 - it never leaves this file
    """The rest of the file cannot be read; `place` is a line, or 0 for the whole file."""

    def __init__(self, place: int, message: str) -> None:
        super().__init__(message)
        self.place = place


def _suffix(source: ListSource) -> str:
    return Path(source.file or "").suffix.lower()


def _read(source: ListSource, path: Path, gathering: Gathering) -> None:
    suffix = _suffix(source)
    if path.is_dir():
        raise _Unreadable(0, f"{source.file} is a folder. Name a file.")
    if not path.is_file():
        raise _Unreadable(0, f"there is no file {source.file}. Correct its path.")
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
        _read_text(file, gathering)


def _read_text(file: BinaryIO, gathering: Gathering) -> None:
    line = 1
    for block in _blocks(file, gathering):
        lines = block.count(b"\n")
        gathering.add(block.replace(b"\r\n", b"\n"), range(line, line + lines))
        line += lines


def _blocks(file: BinaryIO, gathering: Gathering) -> Iterator[bytes]:
    """Cut a file into blocks of whole lines, without BOM, the last one ended too."""
    rest = file.read(len(_BOM))
    line, size = 1, len(rest)
    rest = rest.removeprefix(_BOM)
    if rest[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _Unreadable(1, "this file is UTF-16. Save it as UTF-8.")
    while chunk := file.read(_BLOCK_BYTES):
        size += len(chunk)
        gathering.tell(size)
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


def _read_csv(source: ListSource, file: BinaryIO, gathering: Gathering) -> None:
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

    rows = csv.reader(chain.from_iterable(map(decoded, _blocks(file, gathering))), strict=True)
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


def _read_rows(rows: Any, column: int, width: int, gathering: Gathering) -> None:
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


def _add_ids(ids: list[str], places: Sequence[int], gathering: Gathering) -> None:
    if not ids:
        return
    block = "\n".join(ids) + "\n"
    if block.count("\n") != len(ids):
        for index, text in enumerate(ids):
            if "\n" in text.strip():
                gathering.fault(places[index], "this id holds a line break. Remove it.")
        block = "".join(text.replace("\n", " ") + "\n" for text in ids)
    # A typed id that is not UTF-8 has surrogates for its bytes: a fault of its line.
    gathering.add(block.encode(errors="surrogateescape"), places)


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


def _read_parquet(source: ListSource, path: Path, gathering: Gathering) -> None:
    # Who adds an id to a list at once reads no such file, and has no time for this.
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        _read_batches(pa, pq, source, path, gathering)
    except pa.ArrowException as fault:
        reason = str(fault).splitlines()[0]
        wrong = f"{source.file} cannot be read: {reason}. Export it again."
        raise _Unreadable(0, wrong) from None


def _read_batches(pa: Any, pq: Any, source: ListSource, path: Path, gathering: Gathering) -> None:
    with pq.ParquetFile(path) as file:
        column = file.schema_arrow.field(_column(source, file.schema_arrow.names))
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and (
            not pa.types.is_integer(kind)
        ):
            wrong = f'column "{column.name}" of {source.file} holds {kind}, and ids are text.'
            raise _Unreadable(0, f"{wrong} Write it as strings.")
        row, rows, size = 1, file.metadata.num_rows, path.stat().st_size
        for batch in file.iter_batches(_BLOCK_ROWS, columns=[column.name]):
            try:
                ids = batch.column(0).cast(pa.large_string()).to_pylist()
            except UnicodeDecodeError:
                raise _Unreadable(row, "a text from here on is not UTF-8.") from None
            _add_ids([text or "" for text in ids], range(row, row + len(ids)), gathering)
            row += len(ids)
            gathering.tell(size * row // (rows + 1))
