"""A folder to an image: read the plan and its lists, compile; every fault of it at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from compiler.diagnostic import Diagnostic, PlanError, error, has_errors, warning
from compiler.image import Image, build_image
from compiler.language.reading import Reading, read_folder
from compiler.lists.allowlist import ListIds, read_ids
from compiler.lists.faulty_lines import faulty_lines
from compiler.lists.stored_list import stored_ids, stored_size
from compiler.patching.catalogue import read_catalogue
from compiler.plan import ListSource, Plan
from compiler.progress import Progress, quiet
from compiler.storage.spool import Spool
from compiler.storage.store import Store
from compiler.windows import Frozen, windows_of
from gateway import layout

_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plan and its lists as read; of each list what was counted, as its ids are not kept."""

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
    loading = _Loading(folder, store, progress, read_folder(folder, now=now))
    for _ in loading.lists():
        pass
    return loading.result()


class _Loading:
    """A plan that has been read, and its lists on their way: one after another, none kept."""

    def __init__(
        self, folder: Path, store: Store | None, progress: Progress, reading: Reading
    ) -> None:
        self.reading = reading
        self._folder = folder
        self._store = store
        self._progress = progress
        self._found = list(reading.diagnostics)
        self._lists: list[ListIds] = []
        self._done = self._total = 0  # bytes

    def result(self) -> Loaded:
        """Give what is known once the lists are read."""
        known = self.reading.sources
        sources = {**known, **dict(faulty_lines(self._folder, self._found, known))}
        return Loaded(self.reading, tuple(self._lists), tuple(self._found), sources)

    def lists(self) -> Iterator[ListIds]:
        """Read the lists of ids; give each that has no error."""
        plan = self.reading.plan
        if plan is None:
            return
        sources = [source for source in plan.lists if not source.regex]
        sizes = [self._size(source) for source in sources]
        self._total, self._done = sum(sizes), 0
        for source, size in zip(sources, sizes, strict=True):
            ids = self._read(source, plan.workspace.placeholders)
            self._done += size
            self._show(0)
            if isinstance(ids, Diagnostic):
                self._found.append(ids)
                continue
            self._found.extend(ids.diagnostics)
            self._lists.append(replace(ids, text=b""))
            if not has_errors(ids.diagnostics):
                yield ids
            del ids  # before the next one is read

    def _show(self, size: int) -> None:
        """Tell that so many bytes of the list that is being read are read."""
        self._progress("lists: MB read", (self._done + size) // _MB, self._total // _MB)

    def _size(self, source: ListSource) -> int:
        """Tell how many bytes a list's reading will take, 0 if that fails: it will be told then."""
        if source.stored:
            return stored_size(self._store, source.name) if self._store is not None else 0
        with suppress(OSError):
            return (self._folder / (source.file or "")).stat().st_size
        return 0

    def _read(self, source: ListSource, placeholders: Sequence[str]) -> ListIds | Diagnostic:
        if not source.stored:
            return read_ids(source, self._folder, placeholders, self._show)
        if self._store is None:
            return warning(
                source.span,
                f'The ids of "{source.name}" lie in the store and were not looked at. '
                "Name it with --store to have them checked.",
            )
        ids = stored_ids(self._store, source)
        return error(source.span, ids) if isinstance(ids, str) else ids


def compile_folder(
    folder: Path,
    store: Store | None,
    now: int,
    overrides: Sequence[layout.Override] = (),
    progress: Progress = quiet,
    frozen: Callable[[Plan], Mapping[str, Frozen]] | None = None,
) -> tuple[Image, Loaded]:
    """Compile a plan's folder. Raises PlanError with all findings when there is any error.

    `frozen` is asked, if the plan has time windows, which of them are.
    """
    loading = _Loading(folder, store, progress, read_folder(folder, now=now))
    plan = loading.result().plan  # raises when the plan itself has errors
    for source in plan.lists if store is None else ():
        if source.stored:
            message = f'The ids of "{source.name}" lie in the store. Name it with --store.'
            raise PlanError([error(source.span, message)], loading.reading.sources)

    def usable() -> Iterator[ListIds]:
        yield from loading.lists()
        _ = loading.result().plan  # raises when a list has errors, before the tables are made

    patches = read_catalogue(store, plan) if store is not None else {}
    seats = frozen(plan) if frozen is not None and windows_of(plan.apps) else {}
    image = build_image(plan, usable(), overrides, progress, Spool(), patches, seats)
    return image, loading.result()
