"""`tidegate pull`: an epoch becomes a plan's folder again, plan files and lists.

A plan file is written as it was, with the epoch's overrides written into it, so that the next push
says the same and ends them. Of a list's file the store has the ids alone: text gets one a
line, CSV and Parquet the list's column. A list's file that holds just these ids already is left
as it is, with its other columns. Nothing is written outside the folder, and nothing that differs
is replaced unless that is forced.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from compiler.atomic_file import atomic_file
from compiler.diagnostic import has_errors
from compiler.language.reading import SWITCHES_FILE, WORKSPACE_FILE, read_files
from compiler.language.rewriting import rewritten
from compiler.lists.allowlist import ids_from_text, read_ids
from compiler.overrides import SWITCHED, laid_line, place_of, said
from compiler.plan import ListSource, Plan
from compiler.publication.epoch import Publication
from compiler.refusal import Refused
from compiler.storage.store import Store
from gateway.errors import FormatError
from gateway.layout import Override

_PLAN_FILES = ("apps/*.yaml", "packages/*/*.json", "*.yaml")
_SHOWN = 5
_COLUMN = "id"


@dataclass(frozen=True, slots=True)
class Pulled:
    """What was done: files written, files that were right already, and plan files left over.

    `extra` are plan files in the folder that the epoch does not have; a push would publish them.
    `overrides` tells, a line each, which were written into the files and which were not.
    """

    written: tuple[str, ...]
    same: tuple[str, ...]
    extra: tuple[str, ...]
    overrides: tuple[str, ...] = ()


def pull(publication: Publication, store: Store, folder: Path, *, force: bool = False) -> Pulled:
    """Write an epoch's plan into a folder, which is made if need be.

    Raises Refused, having written nothing, when files differ and not `force`, or the folder
    cannot be written; StoreError; FormatError for a path that leads outside.
    """
    files = publication.tree["files"]
    texts = {path: store.get_blob(digest) for path, digest in files.items()}
    plan = _plan(texts)
    if plan is None and publication.tree["lists"]:
        raise FormatError(
            f"The plan of epoch {publication.number} cannot be read by this tidegate, so its "
            "lists have no files. Pull it with the version that pushed it."
        )
    told = _write_overrides(texts, publication) if plan is not None else ()
    lists = _lists_by_file(plan, publication)
    try:
        targets = {path: _inside(folder, path) for path in (*texts, *lists)}
        same = {path for path, text in texts.items() if _holds(targets[path], text)}
        same |= {
            path for path in lists if _holds_lists(plan, lists[path], publication, store, folder)
        }
        differing = [path for path in targets if path not in same and targets[path].exists()]
        if differing and not force:
            _refuse(folder, differing)
        for path, target in targets.items():
            if path in same:
                continue
            with atomic_file(target) as file:
                if path in texts:
                    file.write(texts[path])
                else:
                    _write_lists(file, path, _ids(lists[path], publication, store))
        extra = tuple(sorted(_plan_files(folder) - targets.keys()))
    except OSError as fault:
        raise Refused(
            f"{fault.filename or folder} cannot be written or read: {fault.strerror}. "
            "Name a folder of yours."
        ) from fault
    return Pulled(tuple(sorted(targets.keys() - same)), tuple(sorted(same)), extra, told)


def _file_of(override: Override, apps: Mapping[str, str]) -> str | None:
    """Name the file that says what an override is laid over."""
    if override["what"] in SWITCHED:
        return SWITCHES_FILE
    return apps.get(override["app"]) if override["app"] else WORKSPACE_FILE


def _write_overrides(texts: dict[str, bytes], publication: Publication) -> tuple[str, ...]:
    """Write the overrides into the texts; a file that would not say just that stays as it was."""
    before, files = dict(texts), publication.tree["apps"]
    laid = [(each, _file_of(each, files)) for each in publication.tree["overrides"]]
    for each, path in laid:
        old = texts.get(path or "")
        text = rewritten(old.decode(), each) if old is not None else None
        if path is not None and text is not None:
            texts[path] = text.encode()
    plan = _plan(texts) if laid else None
    failed = {
        path for each, path in laid if plan is None or said(plan, place_of(each)) != each["value"]
    }
    texts.update({path: text for path, text in before.items() if path in failed})
    return tuple(
        f"laid over the plan, and not written into it: {laid_line(each)}"
        if path in failed
        else f"written into {path}, so that a push ends the override: {laid_line(each)}"
        for each, path in laid
    )


def _plan(texts: Mapping[str, bytes]) -> Plan | None:
    return read_files({path: text.decode() for path, text in texts.items()}, now=0).plan


def _lists_by_file(plan: Plan | None, publication: Publication) -> dict[str, list[ListSource]]:
    """Group the lists by their files: one CSV may hold several, each in its column."""
    found: dict[str, list[ListSource]] = {}
    for source in plan.lists if plan is not None else ():
        if source.file is not None and source.name in publication.tree["lists"]:
            found.setdefault(source.file, []).append(source)
    return found


def _inside(folder: Path, path: str) -> Path:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or any(c in path for c in "\\\0:"):
        raise FormatError(
            f"The epoch names a file {path!r}, which does not lie in a plan's folder."
        )
    target = folder.joinpath(*parts)
    # A link below the folder could still lead out of it.
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise Refused(f"{target} lies outside {folder}, by a link. Remove that link.")
    return target


def _holds(target: Path, text: bytes) -> bool:
    return target.is_file() and target.read_bytes() == text


def _holds_lists(
    plan: Plan | None,
    sources: Sequence[ListSource],
    publication: Publication,
    store: Store,
    folder: Path,
) -> bool:
    assert plan is not None
    assert sources[0].file is not None
    if not (folder / sources[0].file).is_file():
        return False
    for source in sources:
        found = read_ids(source, folder, plan.workspace.placeholders)
        entry = publication.tree["lists"][source.name]
        if has_errors(found.diagnostics) or found.text != store.get_blob(entry["digest"]):
            return False
    return True


def _ids(
    sources: Sequence[ListSource], publication: Publication, store: Store
) -> dict[str | None, bytes]:
    """Give the ids by column; two lists of one column hold the same ids."""
    return {
        source.column: store.get_blob(publication.tree["lists"][source.name]["digest"])
        for source in sources
    }


def _write_lists(file: BinaryIO, path: str, columns: Mapping[str | None, bytes]) -> None:
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


def _plan_files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for pattern in _PLAN_FILES
        for path in folder.glob(pattern)
        if not path.name.startswith(".")
    }


def _refuse(folder: Path, differing: Sequence[str]) -> None:
    more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
    raise Refused(
        f"These files in {folder} differ from the epoch's: "
        f"{', '.join(sorted(differing)[:_SHOWN])}{more}. Commit or move them, or pull with --force."
    )
