"""A list's file with some ids more and some less: its other rows, columns and order stay.

What is added comes behind the rest, a row an id; a row whose id is gone goes, but where the file
holds several lists, each in its column, only the cell is emptied.
"""

import csv
import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import PurePosixPath

_BOM = "\ufeff"
_BOM_BYTES = _BOM.encode()


@dataclass(frozen=True, slots=True)
class Change:
    """Ids that one list gains and loses."""

    added: Sequence[str] = ()
    removed: Collection[str] = ()


def with_changes(path: str, data: bytes, changes: Mapping[str | None, Change]) -> bytes:
    """Write changes into a file's bytes: of all lists that it holds, by column.

    Text has the column None; so may a CSV or a Parquet file that has one column only. The file is
    one that its lists' reader takes.
    """
    suffix = PurePosixPath(path).suffix.lower()
    if suffix == ".parquet":
        return _parquet(data, changes)
    return _csv(data, changes) if suffix == ".csv" else _text(data, changes[None])


def _text(data: bytes, change: Change) -> bytes:
    gone = {text.encode() for text in change.removed}
    lines = data.splitlines(keepends=True)
    ending = b"\r\n" if lines and lines[0].endswith(b"\r\n") else b"\n"
    kept = [line for line in lines if line.removeprefix(_BOM_BYTES).strip() not in gone]
    if kept and not kept[-1].endswith(b"\n"):
        kept.append(ending)
    return b"".join([*kept, *(text.encode() + ending for text in change.added)])


def _csv(data: bytes, changes: Mapping[str | None, Change]) -> bytes:
    """Keep a row that stays as it was written; only one with an emptied cell is quoted anew."""
    text = data.decode()
    records = list(_records(text.removeprefix(_BOM)))
    header = [name.strip() for name in records[0][1]]
    places = [(0 if name is None else header.index(name), each) for name, each in changes.items()]
    ending = "\r\n" if records[0][0].endswith("\r\n") else "\n"
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=ending)
    out.write(_BOM if text.startswith(_BOM) else "")
    for raw, row in records:
        gone = {place for place, each in places if row and row[place].strip() in each.removed}
        if not gone or row is records[0][1]:
            out.write(raw if raw.endswith(("\n", "\r")) else raw + ending)
        elif len(places) > 1:
            writer.writerow(["" if at in gone else cell for at, cell in enumerate(row)])
    for place, each in places:
        for added in each.added:
            writer.writerow([added if at == place else "" for at in range(len(header))])
    return out.getvalue().encode()


def _records(text: str) -> Iterator[tuple[str, list[str]]]:
    """Give each record of a CSV as it is written, and its cells."""
    read: list[str] = []

    def lines() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            read.append(line)
            yield line

    for row in csv.reader(lines(), strict=True):
        yield "".join(read), row
        read.clear()


def _parquet(data: bytes, changes: Mapping[str | None, Change]) -> bytes:
    import pyarrow as pa  # noqa: PLC0415 - no other file needs it, and it takes its time
    import pyarrow.parquet as pq  # noqa: PLC0415

    table = pq.read_table(io.BytesIO(data))
    names = table.column_names
    places = [(0 if name is None else names.index(name), each) for name, each in changes.items()]
    columns = [column.to_pylist() for column in table.columns]
    types = [column.type for column in table.columns]
    for place, each in places:
        ids = [None if cell is None else str(cell) for cell in columns[place]]
        stays = [id_ not in each.removed for id_ in ids]
        columns[place], types[place] = ids, pa.string()
        if len(places) == 1:
            columns = [list(compress(column, stays)) for column in columns]
        else:
            columns[place] = [id_ if stay else None for id_, stay in zip(ids, stays, strict=True)]
    for place, each in places:
        none = [None] * len(each.added)
        columns = [[*c, *(each.added if at == place else none)] for at, c in enumerate(columns)]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    out = io.BytesIO()
    pq.write_table(pa.table(arrays, names=names), out)
    return out.getvalue()
