"""The apps of an epoch: each one's program, and the answers made from it so far. Pure."""

from collections.abc import Callable, Mapping

from gateway import layout
from gateway.answer import Answer, render, status_of
from gateway.errors import FormatError
from gateway.program import NO_RELEASE, Program
from gateway.remembered import Memory, Remembered
from gateway.version import parse_version


class Entry:
    """An app's program and the answers made from it so far."""

    __slots__ = ("answers", "lists", "program")

    def __init__(self, program: Program, lists: int, cdn: list[list[str]], memory: Memory) -> None:
        self.program = program
        self.lists = lists
        rendered: dict[tuple[int, int, str, bool], Answer] = {}

        def work_out(key: tuple[int, int, str | None]) -> Answer:
            rank, bases, installed = key
            offered = rank != NO_RELEASE
            release = program.releases[rank] if offered else None
            target = program.keys[release["package"]] if release else None
            version = parse_version(installed) if installed is not None else None
            status, forced = status_of(version, target, program.withdrawn)
            made = (rank, bases, status.value, forced)
            if made not in rendered:
                package = program.packages[release["package"]] if release else None
                rendered[made] = render(program.app, status, forced, release, package, cdn[bases])
            return rendered[made]

        self.answers = Remembered(work_out, memory)


class Apps(dict[str, Entry | None]):
    """The apps that were asked for so far; a program is decoded at its first check."""

    def __init__(
        self,
        programs: Mapping[str, bytes],
        settings: layout.Settings,
        bits: Mapping[str, int],
        blob: Callable[[bytes], bytes],
        memory: Memory,
        previous: "Apps | None",
    ) -> None:
        self.programs = programs
        self._blobs = {digest: blob(digest) for digest in programs.values()}
        self._bits = bits
        self._memory = memory
        self._cdn = [*(list(each["bases"]) for each in settings["cdn"]), []]
        kept = {}
        if previous is not None:
            # A program whose bytes did not change keeps its tables and all that they remember.
            kept = {
                app: entry
                for app, entry in list(previous.items())  # checks go on adding to it meanwhile
                if self.programs.get(app) == previous.programs.get(app)
            }
        super().__init__(kept)

    def __missing__(self, app: str) -> Entry | None:
        digest = self.programs.get(app)
        if digest is None:
            return None
        data: layout.Program = layout.decode(layout.Program, self._blobs[digest])
        if data["app"] != app:
            raise FormatError(f"the program of {app} is that of {data['app']}")
        program = Program(data, self._bits, self._memory)
        lists = sum(1 << self._bits[name] for name in program.lists)
        entry = self[app] = Entry(program, lists, self._cdn, self._memory)
        return entry
