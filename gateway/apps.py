"""The apps of an epoch: each one's program, and the answers made from it so far. Pure."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from weakref import ref

from gateway import layout
from gateway.answer import OTHER, Answer, Choice, Status, choose, offer, render, status_of
from gateway.cdn import Cdn
from gateway.errors import FormatError
from gateway.program import NO_RELEASE, Program
from gateway.remembered import Memory, Remembered
from gateway.version import parse_version

BIG_BYTES = 32_768
"""Programs from here on are decoded when an epoch is built; smaller ones, which take a millisecond
at most, at their first check."""

ENTRY_BYTES = 400
"""Rendered bytes that count for one entry: what any other takes at most (remembered.py)."""

_Made = tuple[Status] | tuple[Status, bool, int, int, Choice]
"""What an answer's bytes depend on: status, and of an offer also force, rank, place, choice."""


class Source:
    """A program's blob, out of which an answer is rendered.

    What only answers need (releases, packages, their signatures) is not kept decoded: it is half
    of a decoded program, and needed at the first use of each answer only.
    """

    __slots__ = ("blob",)

    def __init__(self, blob: layout.Blob) -> None:
        self.blob = blob

    def release(self, rank: int) -> tuple[layout.ReleaseEntry, layout.PackageEntry]:
        """Give the release of this rank and its package."""
        data = layout.decode_again(layout.Program, self.blob)
        release = data["releases"][rank]
        return release, data["packages"][release["package"]]


class Entry:
    """An app's program and the answers made from it so far."""

    __slots__ = ("answers", "lists", "program", "source")

    def __init__(
        self, program: Program, source: Source, lists: int, cdn: Cdn, memory: Memory
    ) -> None:
        self.program = program
        self.source = source
        self.lists = lists
        self.answers = _answers(program, source, cdn, memory)


def _answers(program: Program, source: Source, cdn: Cdn, memory: Memory) -> Remembered:
    """Map (rank, place of the CDN, installed version as sent, what the client opens) to an Answer.

    All whose answers are the same share the bytes. These are in the same table, by what they depend
    on, and so is what was chosen for whom: they count within the same bound, and go with the
    answers. All are forgotten when a period of any rule of the CDN is over.
    """
    periods: dict[int, int] = {}

    def work_out(key: tuple[int, int, str | None, int]) -> Answer:
        table = known()
        assert table is not None  # it is what asks
        rank, place, text, opened = key
        period, rule = cdn.period(place)
        if period > periods.get(rule, 0):
            periods[rule] = period
            table.forget()
        installed = parse_version(text) if text is not None else None
        target = program.targets[rank] if rank != NO_RELEASE else None
        status, forced = status_of(installed, target, program.withdrawn)
        version = "" if installed is None else program.versions.get(installed, OTHER)
        release = program.releases[rank] if rank != NO_RELEASE else ""
        outcome = (program.app, release, status.value, version)
        if status not in (Status.UPDATE, Status.ROLLBACK):
            return Answer(*rendered(table, (status,), dict), outcome)
        patched = program.patched.get(installed)
        chosen = table.known.get((rank, patched, opened))
        if chosen is None:
            chosen = choose(source.release(rank)[1], patched, opened)
            table.keep((rank, patched, opened), chosen)
        made = (status, forced, rank, place, chosen)
        urls = partial(cdn.urls, place)
        bytes_ = rendered(
            table, made, lambda: offer(*source.release(rank), urls, chosen, forced=forced)
        )
        return Answer(*bytes_, outcome)

    def rendered(
        table: Remembered, made: _Made, offered: Callable[[], dict[str, Any]]
    ) -> tuple[bytes, bytes]:
        found: tuple[bytes, bytes] | None = table.known.get(made)
        if found is None:
            found = render(program.app, made[0], offered())
            table.keep(made, found, 1 + sum(map(len, found)) // ENTRY_BYTES)
        return found

    answers = Remembered(work_out, memory)
    known = ref(answers)  # no cycle: nobody would collect it (see follower.py)
    return answers


class Apps:
    """The apps that were asked for so far, and the big ones.

    The program of any other is decoded at its first check, in the event loop; so those that were
    in use are decoded here again, in the thread that builds, if they changed.
    """

    def __init__(
        self,
        programs: Mapping[str, bytes],
        cdn: Cdn,
        bits: Mapping[str, int],
        blob: Callable[[bytes], layout.Blob],
        memory: Memory,
        previous: "Apps | None",
    ) -> None:
        self.programs = programs
        self.bits = bits
        self.cdn = cdn
        self._blob = blob
        self._memory = memory
        self.known: dict[str, Entry] = {}
        # A copy, as checks go on adding to it meanwhile.
        used = {} if previous is None else dict(previous.known)
        for app, digest in programs.items():
            entry = used.get(app)
            if entry is not None and previous is not None and self._holds(app, entry, previous):
                # What it remembers stays too. Its blob is the same, but where this epoch has it:
                # else the file of an epoch long gone would stay mapped.
                entry.source.blob = blob(digest)
                self.known[app] = entry
            elif entry is not None or len(blob(digest)) >= BIG_BYTES:
                self.learn(app)

    def __getitem__(self, app: str) -> Entry | None:
        entry = self.known.get(app)
        return self.learn(app) if entry is None else entry

    def learn(self, app: str) -> Entry | None:
        """Decode an app's program; None when there is no such app. Raises FormatError."""
        digest = self.programs.get(app)
        if digest is None:
            return None
        source = Source(self._blob(digest))
        data: layout.Program = layout.decode(layout.Program, source.blob)
        if data["app"] != app:
            raise FormatError(f"the program of {app} is that of {data['app']}")
        program = Program(data, self.bits, self._memory)
        lists = sum(1 << self.bits[name] for name in program.lists)
        entry = self.known[app] = Entry(program, source, lists, self.cdn, self._memory)
        return entry

    def _holds(self, app: str, entry: Entry, previous: "Apps") -> bool:
        """Tell whether an app's entry is what it would be if it were made anew."""
        return (
            self.programs[app] == previous.programs[app]
            and self.cdn is previous.cdn
            and all(self.bits.get(name) == previous.bits[name] for name in entry.program.lists)
        )
