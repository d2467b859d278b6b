"""The files of an epoch's lists, as `tidegate pull` writes them, overrides of ids written in.

The store has the ids alone: text gets one a line, CSV and Parquet the list's column. But a file
that holds the plan's ids already is changed only where an override says so, and one that holds
all that it should is left as it is: its other columns and its order stay.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from compiler.amendments import laid_ids
from compiler.diagnostic import has_errors
from compiler.lists.allowlist import ids_from_text, read_ids
from compiler.lists.amendment import with_ids
from compiler.lists.list_file import Change, with_changes
from compiler.overrides import What
from compiler.plan import ListSource, Plan
from compiler.publication.epoch import Publication
from compiler.storage.store import Store
from gateway.layout import Override

_COLUMN = "id"


class Held(Enum):
    """What a folder has where a list's file is to be: nothing, what it should, what it was."""

    NOTHING = auto()
    ALL = auto()
    BEFORE = auto()
    OTHER = auto()


class PulledLists:
    """The files of lists in Git, by path; `told` are the overrides of ids that they cannot say."""

    def __init__(self, plan: Plan | None, publication: Publication, store: Store) -> None:
        self._plan = plan
        self._lists = publication.tree["lists"]
        self._store = store
        self._laid = laid_ids(publication.tree["overrides"])
        self.files: dict[str, list[ListSource]] = {}
        for source in plan.lists if plan is not None else ():
            if source.file is not None and source.name in self._lists:
                self.files.setdefault(source.file, []).append(source)
        for sources in self.files.values():
            self._settle_columns(sources)
            self._keep_one(sources)

    def _settle_columns(self, sources: list[ListSource]) -> None:
        """Leave out what lies over one of two lists that share a column, and not over the other."""
        columns: dict[str | None, list[str]] = {}
        for source in sources:
            columns.setdefault(source.column, []).append(source.name)
        for names in columns.values():
            laid = [self._laid.get(name, ([], [])) for name in names]
            if any(each != laid[0] for each in laid):
                for name in names:
                    self._laid.pop(name, None)

    def _keep_one(self, sources: list[ListSource]) -> None:
        """Leave out what takes the last id off a list: no push takes a file without ids."""
        for source in sources:
            added, removed = self._change(source)
            few = not added and len(removed) >= self._lists[source.name]["count"]
            if few and not self._amended(source, self._ids(source)):
                self._laid.pop(source.name, None)

    def file_of(self, override: Override) -> str | None:
        """Name the file into which an override of an id is written, None if into none."""
        found = (
            path
            for path, sources in self.files.items()
            if any(each.name == override["app"] for each in sources)
        )
        written = override["what"] == What.MEMBER and override["app"] in self._laid
        return next(found, None) if written else None

    def held(self, path: str, folder: Path) -> Held:
        """Look what the folder has there. Raises OSError, StoreError and FormatError."""
        if not (folder / path).is_file():
            return Held.NOTHING if not (folder / path).exists() else Held.OTHER
        assert self._plan is not None
        all_there = before = True
        for source in self.files[path]:
            found = read_ids(source, folder, self._plan.workspace.placeholders)
            if has_errors(found.diagnostics):
                return Held.OTHER
            ids = self._ids(source)
            before = before and found.text == ids
            all_there = all_there and found.text == self._amended(source, ids)
        return Held.ALL if all_there else Held.BEFORE if before else Held.OTHER

    def write(self, path: str, file: BinaryIO, before: bytes | None) -> None:
        """Write a file, anew or as the changed one of `before`, which holds the plan's ids."""
        sources = self.files[path]
        if before is None:
            columns = {each.column: self._amended(each, self._ids(each)) for each in sources}
            _write(file, path, columns)
        else:
            changes = {each.column: Change(*self._change(each)) for each in sources}
            file.write(with_changes(path, before, changes))

    def _ids(self, source: ListSource) -> bytes:
        return self._store.get_blob(self._lists[source.name]["digest"])

    def _change(self, source: ListSource) -> tuple[list[str], list[str]]:
        return self._laid.get(source.name, ([], []))

    def _amended(self, source: ListSource, ids: bytes) -> bytes:
        return with_ids(ids, *self._change(source))


def _write(file: BinaryIO, path: str, columns: Mapping[str | None, bytes]) -> None:
    suffix = PurePosixPath(path).suffix.lower()
    names = [column or _COLUMN for column in columns]
    if suffix == ".parquet":
        longest = max(text.count(b"\n") for text in columns.values())
        arrays = [
            pa.array([*ids_from_text(text), *[None] * (longest - text.count(b"\n"))], pa.string())
            for text in columns.values()
        ]
        pq.write_table(pa.table(arrays, names=names), file)
    elif suffix == ".csv":
        text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(names)
        rows.writerows(_rows(columns))
        text.detach()
    else:
        file.writelines(columns.values())


def _rows(columns: Mapping[str | None, bytes]) -> Iterator[tuple[str, ...]]:
    # A shorter column ends in blanks, which a list's reader drops.
    return zip_longest(*(ids_from_text(text) for text in columns.values()), fillvalue="")
