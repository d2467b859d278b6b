"""A folder to an image: read the plan and its lists, compile; every fault of it at once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from compiler.diagnostic import Diagnostic, PlanError, error, has_errors, warning
from compiler.image import Image, build_image
from compiler.language.reading import Reading, read_folder
from compiler.lists.allowlist import ListIds, read_ids
from compiler.lists.stored_list import stored_ids
from compiler.plan import ListSource, Plan
from compiler.publication.filling import Progress, quiet
from compiler.storage.store import Store
from gateway import layout

_SHOWN_BYTES = 400


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plan and its lists as read; `plan` is None when it has errors."""

    reading: Reading
    lists: tuple[ListIds, ...]
    diagnostics: tuple[Diagnostic, ...]
    sources: Mapping[str, str]

    @property
    def plan(self) -> Plan:
        """The plan. Raises PlanError with every finding when it has errors."""
        if self.reading.plan is None or has_errors(self.diagnostics):
            raise PlanError(self.diagnostics, self.sources)
        return self.reading.plan

    @property
    def dropped(self) -> list[str]:
        """Say of each list what was left out without being a fault."""
        return [
            f"list {each.name}: {each.count:,} {each.of} ids; {each.duplicates:,} duplicates and "
            f"{each.blanks:,} empty lines dropped"
            for each in self.lists
            if each.duplicates or each.blanks
        ]


def load(folder: Path, store: Store | None, now: int, progress: Progress = quiet) -> Loaded:
    """Read a plan's folder and its lists. Without a store, stored lists are left aside."""
    reading = read_folder(folder, now=now)
    found = list(reading.diagnostics)
    lists: list[ListIds] = []
    if reading.plan is not None:
        placeholders = reading.plan.workspace.placeholders
        for source in reading.plan.lists:
            if source.regex:
                continue
            ids = _read_list(source, folder, placeholders, store, progress)
            if isinstance(ids, Diagnostic):
                found.append(ids)
            else:
                found.extend(ids.diagnostics)
                lists.append(ids)
    sources = {**reading.sources, **dict(_faulty_lines(folder, found, reading.sources))}
    return Loaded(reading, tuple(lists), tuple(found), sources)


def _faulty_lines(
    folder: Path, found: Iterable[Diagnostic], known: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Give of each list's file the lines that are named, blank ones for the others."""
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


def _read_list(
    source: ListSource,
    folder: Path,
    placeholders: Sequence[str],
    store: Store | None,
    progress: Progress,
) -> ListIds | Diagnostic:
    if not source.stored:
        name = f"list {source.name}: rows"
        return read_ids(source, folder, placeholders, lambda rows: progress(name, rows, 0))
    if store is None:
        return warning(
            source.span,
            f'The ids of "{source.name}" lie in the store and were not looked at. '
            "Name it with --store to have them checked.",
        )
    ids = stored_ids(store, source)
    return error(source.span, ids) if isinstance(ids, str) else ids


def compile_folder(
    folder: Path,
    store: Store | None,
    now: int,
    withdrawals: Sequence[layout.Withdrawal] = (),
    progress: Progress = quiet,
) -> tuple[Image, Loaded]:
    """Compile a plan's folder. Raises PlanError with all findings when there is any error."""
    loaded = load(folder, store, now, progress)
    for source in loaded.plan.lists if store is None else ():
        if source.stored:
            message = f'The ids of "{source.name}" lie in the store. Name it with --store.'
            raise PlanError([error(source.span, message)], loaded.sources)
    total = sum(each.count for each in loaded.lists)
    image = build_image(
        loaded.plan, loaded.lists, withdrawals, lambda ids: progress("lists: ids", ids, total)
    )
    return image, loaded
