"""Decision tables at work: a decision is the AND of a handful of looked-up bitmaps.

Bit i of every bitmap is the release (or the row of a switch) of rank i. Each table maps what the
client sent to the releases that accept it (Lakshman and Stiliadis, SIGCOMM 1998), so the cost does
not grow with the number of releases or rules. Pure: no I/O, no clock.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from sys import intern
from typing import Any

import re2

from gateway import layout
from gateway.answer import IDENTITY, Status, status_of
from gateway.attribute import CUSTOM, VALUE_CHARS
from gateway.errors import FormatError
from gateway.hashing import percent_place
from gateway.layout import decode_bits
from gateway.remembered import Memory, Remembered
from gateway.version import VersionKey, parse_version

NO_RELEASE = -1

KEYS = 4_096
"""Versions whose keys programs share: many apps have a 1.0.0, and ask for the same hosts."""


_Row = tuple[str, dict[Any, int], Remembered, int]
"""Of an attribute: its name, what its table knows, the table, and what absence accepts."""

_NARROW = 62
"""Bitmaps of so many releases fit a machine word, compiled; wider ones are whole integers."""

_RANKS = {0: NO_RELEASE} | {1 << rank: rank for rank in range(_NARROW)}


class Tables:
    """Decision tables, bound to the bits that the lists have in this workspace."""

    __slots__ = (
        "_all_cells",
        "_anywhere",
        "_cells",
        "_hosts",
        "_narrow",
        "_nowhere",
        "_of_context",
        "_of_custom",
        "_of_sent",
        "_times",
        "lists",
    )

    def __init__(
        self,
        data: layout.Tables,
        ranks: int,
        bits: Mapping[str, int],
        memory: Memory,
        apart: int = 0,
    ) -> None:
        """Build the tables of so many ranks; `bits` gives every list's bit.

        Those in the bitmap `apart` never win. Raises FormatError on bad bounds.
        """
        self._times = data["schedule"]["bounds"]
        self._all_cells = [decode_bits(cell) for cell in data["schedule"]["cells"]]
        self._cells = [cell & ~apart for cell in self._all_cells]
        self._anywhere = anywhere = decode_bits(data["hosts"]["any"])
        self._nowhere = Remembered(lambda _: anywhere, memory)
        self._hosts = _host_table(data["hosts"], self._nowhere, memory)
        everyone = layout.all_bits(ranks)
        self._narrow = ranks <= _NARROW
        self._of_sent: list[_Row] = []
        self._of_custom: list[_Row] = []
        for name, attribute in data["attributes"].items():
            table = Remembered(_attribute(name, attribute), memory)
            rows = self._of_custom if name.startswith(CUSTOM) else self._of_sent
            absent = decode_bits(attribute["absent"])
            rows.append((name.removeprefix(CUSTOM), table.known, table, absent))
        contexts = (
            _membership(data["lists"], bits, everyone, memory),
            _percent_table(data["percents"], False, everyone, memory),
            _percent_table(data["percents"], True, everyone, memory),
        )
        self._of_context = [
            (place, table.known, table) for place, table in enumerate(contexts) if table is not None
        ]
        self.lists = frozenset(
            name for need in data["lists"] for name in (*need["lists"], *need["not_lists"])
        )

    def period(self, second: int) -> int:
        """Tell in which part of the schedule a second lies."""
        times = self._times
        return bisect_right(times, second) if times else 0

    def winner(
        self, sent: dict[str, Any], custom: dict[str, Any], context: tuple[Any, ...], second: int
    ) -> int:
        """Give the lowest rank that accepts a client and is not `apart`, or NO_RELEASE.

        `sent` is what the client says of itself, `installed` too; `context` what is known of it
        besides: the masks of the lists that surely and that possibly have it, and the percent
        buckets of subject and user, None without an id.
        """
        bits = self._cells[bisect_right(self._times, second) if self._times else 0]
        if self._narrow:
            few = bits  # compiled, these are machine words, with no object made on the way
            few = self._accepted(few, sent, custom, context)
            return _RANKS[few & -few]
        bits = self._accepted(bits, sent, custom, context)
        return (bits & -bits).bit_length() - 1

    def accepting(
        self, sent: dict[str, Any], custom: dict[str, Any], context: tuple[Any, ...], second: int
    ) -> int:
        """Give the bitmap of all ranks that accept a client; the arguments are as in `winner`."""
        bits = self._all_cells[self.period(second)]
        return self._accepted(bits, sent, custom, context)

    def _accepted(
        self,
        bits: int,
        sent: dict[str, Any],
        custom: dict[str, Any],
        context: tuple[Any, ...],
    ) -> int:
        """AND `bits` with what every table accepts.

        An attribute that is no text, or a custom one that is no scalar, counts as absent. Of every
        table the plain dict is asked first: what a client sends was mostly sent before.
        """
        value = sent.get("platform")
        hosts = self._hosts.known.get(value) if type(value) is str else self._nowhere
        if hosts is None:
            hosts = self._hosts.learn(value)
        value = sent.get("client_version")
        if type(value) is str:
            seen = hosts.known.get(value)
            found = hosts.learn(value) if seen is None else seen
        else:
            found = self._anywhere
        bits &= found
        for name, known, table, absent in self._of_sent:
            value = sent.get(name)
            if type(value) is str:
                seen = known.get(value)
                found = table.learn(value) if seen is None else seen
            else:
                found = absent
            bits &= found
        for place, known, table in self._of_context:
            value = context[place]
            seen = known.get(value)
            found = table.learn(value) if seen is None else seen
            bits &= found
        for name, known, table, absent in self._of_custom:
            value = custom.get(name)
            kind = type(value)
            if kind is str or kind is int or kind is float or kind is bool:
                # 1, 1.0 and true are one key to a dict, but not one value to a condition.
                key = value if kind is str else (kind, value)
                seen = known.get(key)
                found = table.learn(key) if seen is None else seen
            else:
                found = absent
            bits &= found
        return bits


class Program(Tables):
    """The tables of one app. Releases with an open window take no part in `winner`."""

    __slots__ = (
        "_window_bits",
        "app",
        "halts",
        "known_releases",
        "patched",
        "releases",
        "targets",
        "versions",
        "windowed",
        "windows",
        "withdrawn",
    )

    def __init__(self, data: layout.Program, bits: Mapping[str, int], memory: Memory) -> None:
        """Build the tables; `bits` gives every list's bit. Raises FormatError on bad bounds."""
        ranks = len(data["releases"])
        self.app = data["app"]
        # By rank, whether the user id alone counts.
        self.windows = {each["rank"]: each["by_user"] for each in data["windows"]}
        self.windowed = bool(self.windows)
        if any(rank >= ranks for rank in self.windows):
            raise FormatError(f"a window of {self.app} is of no release")
        self._window_bits = sum(1 << rank for rank in self.windows)
        super().__init__(data, ranks, bits, memory, self._window_bits)
        for package in data["packages"]:
            if all(form["compression"] != IDENTITY for form in package["forms"]):
                raise FormatError(f"a package of {self.app} has no form to download as it is")
        keys = [_key(package["version"]) for package in data["packages"]]
        self.targets = [keys[release["package"]] for release in data["releases"]]
        # The same few texts in all apps.
        self.releases = [intern(release["id"]) for release in data["releases"]]
        self.known_releases = tuple(map(intern, data["known_releases"]))
        self.versions = {_key(version): intern(version) for version in data["versions"]}
        patches = {
            _key(patch["installed"]) for package in data["packages"] for patch in package["patches"]
        }
        self.patched: dict[VersionKey | None, VersionKey] = {key: key for key in patches}
        self.halts = frozenset(data["halts"])
        self.withdrawn = frozenset(_key(version) for version in data["withdrawn"])

    def wanted(
        self, sent: dict[str, Any], custom: dict[str, Any], context: tuple[Any, ...], second: int
    ) -> list[tuple[int, bool]]:
        """Give the ranks of the open windows that a client may sit in, the strongest first.

        The arguments are those of `winner`, and each would win over it. With each comes whether the
        client would take a seat: not if it has the package already. Then it is told `latest`
        either way, and need not be asked for, unless it would else be told that nothing fits.
        """
        bits = self.accepting(sent, custom, context, second)
        others = bits & ~self._window_bits
        if others:
            bits &= (others & -others) - 1
        bits &= self._window_bits
        if not bits:
            return []
        text = sent.get("installed")
        installed = parse_version(text) if text is not None else None
        found = []
        for rank in sorted(self.windows):
            if bits >> rank & 1:
                status, _ = status_of(installed, self.targets[rank], self.withdrawn)
                takes = status is not Status.LATEST
                if takes or not others:
                    found.append((rank, takes))
        return found


@lru_cache(KEYS)
def _key(version: str) -> VersionKey:
    key = parse_version(version)
    if key is None:
        raise FormatError(f"a program holds {version!r}, which is no version")
    return key


def _host_table(hosts: layout.Hosts, unnamed: Remembered, memory: Memory) -> Remembered:
    anywhere = decode_bits(hosts["any"])
    named = {
        platform: Remembered(_versions(line, anywhere), memory)
        for platform, line in hosts["platforms"].items()
    }

    def of_platform(platform: Any) -> Remembered:
        return named.get(platform.casefold(), unnamed) if is_sent(platform) else unnamed

    return Remembered(of_platform, memory)


def is_sent(value: Any) -> bool:
    """Tell whether a client's value of a text or version attribute counts as sent."""
    return isinstance(value, str) and 0 < len(value) <= VALUE_CHARS


def _attribute(name: str, table: layout.Attribute) -> Callable[[Any], int]:
    absent = decode_bits(table["absent"])
    text = None if table["text"] is None else _text(table["text"])
    if name.startswith(CUSTOM):
        return _custom(table, text, absent)
    if table["versions"] is None:
        assert text is not None
        return lambda value: text(value) if is_sent(value) else absent
    versions = _versions(table["versions"], absent)
    if text is None:
        return versions
    return lambda value: versions(value) & text(value) if is_sent(value) else absent


def _versions(line: layout.Line, absent: int) -> Callable[[Any], int]:
    bounds = [_key(str(bound)) for bound in line["bounds"]]
    cells = _line_cells(bounds, line["cells"])

    def bits(value: Any) -> int:
        key = parse_version(value) if is_sent(value) else None
        return absent if key is None else cells[_cell(bounds, key)]

    return bits


def _custom(
    table: layout.Attribute, text: Callable[[str], int] | None, absent: int
) -> Callable[[Any], int]:
    """Work on a text, or on (class, value) of anything else."""
    numbers: list[Any] = [] if table["numbers"] is None else table["numbers"]["bounds"]
    cells = None if table["numbers"] is None else _line_cells(numbers, table["numbers"]["cells"])
    bools = None if table["bools"] is None else [decode_bits(cell) for cell in table["bools"]]

    def bits(value: Any) -> int:
        if isinstance(value, str):
            return text(value) if text is not None and is_sent(value) else absent
        kind, value = value
        if kind is bool:
            return absent if bools is None else bools[value]
        if kind is int or kind is float:
            return absent if cells is None else cells[_cell(numbers, value)]
        return absent

    return bits


def _line_cells(bounds: list[Any], cells: list[bytes]) -> list[int]:
    if len(cells) != 2 * len(bounds) + 1 or any(low >= high for low, high in pairwise(bounds)):
        raise FormatError("a line table's bounds do not rise, or do not fit its cells")
    return [decode_bits(cell) for cell in cells]


def _cell(bounds: list[Any], value: Any) -> int:
    at = bisect_left(bounds, value)
    return 2 * at + 1 if at < len(bounds) and bounds[at] == value else 2 * at


def _text(table: layout.Text) -> Callable[[str], int]:
    exact = {value: decode_bits(bits) for value, bits in table["exact"].items()}
    other = decode_bits(table["other"])
    globs = [(glob_matcher(each["patterns"]), decode_bits(each["bits"])) for each in table["globs"]]

    def bits(value: str) -> int:
        folded = value.casefold()
        found = exact.get(folded)
        if found is not None:
            return found
        found = other
        for matches, needed in globs:
            if found & needed and not matches(folded):
                found &= ~needed
        return found

    return bits


def glob_matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Make a test whether any pattern (`*` any text, `?` any one character) matches a whole text.

    In linear time (RE2), whatever the patterns.
    """
    expression = "|".join(
        "".join({"*": ".*", "?": "."}.get(char) or re2.escape(char) for char in pattern)
        for pattern in patterns
    )
    compiled = re2.compile(f"(?s)(?:{expression})")
    return lambda text: compiled.fullmatch(text) is not None


def _membership(
    needs: list[layout.ListNeed], bits: Mapping[str, int], everyone: int, memory: Memory
) -> Remembered | None:
    if not needs:
        return None
    try:
        masks = [
            (
                sum(1 << bits[name] for name in need["lists"]),
                sum(1 << bits[name] for name in need["not_lists"]),
                decode_bits(need["bits"]),
            )
            for need in needs
        ]
    except KeyError as missing:
        raise FormatError(f"a program names the list {missing}, which is not there") from None

    def accepted(members: tuple[int, int]) -> int:
        surely, possibly = members
        found = everyone
        for wanted, unwanted, needed in masks:
            if (wanted and not wanted & surely) or unwanted & possibly:
                found &= ~needed
        return found

    return Remembered(accepted, memory)


def _percent_table(
    percents: list[layout.Percent], by_user: bool, everyone: int, memory: Memory
) -> Remembered | None:
    chosen = [
        (each["key"], each["basis_points"], 1 << each["rank"])
        for each in percents
        if each["by_user"] is by_user
    ]
    if not chosen:
        return None
    without = everyone & ~sum(bit for _, _, bit in chosen)

    def reached(bucket: int | None) -> int:
        found = without
        if bucket is not None:
            for key, basis_points, bit in chosen:
                if percent_place(bucket, key) < basis_points:
                    found |= bit
        return found

    return Remembered(reached, memory)
