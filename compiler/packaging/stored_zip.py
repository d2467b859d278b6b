"""A ZIP whose bytes follow from its entries alone: the same on any machine and any Python.

Python's zipfile promises no such thing over its versions, and cannot set the UTF-8 flag on every
entry. All numbers are little-endian (APPNOTE 6.3 of the ZIP format, version 2.0):

    each entry, in the order of `place`
      local header   PK 3 4, needs 20, flags 0x0800 (UTF-8 name), method 0 (stored),
                     time 0, date 33 (1980-01-01), CRC-32, size, size, name's length, 0
      name, data
    each entry, in the same order
      central header PK 1 2, made by Unix/20, and the same, attributes 0o100644 << 16, offset
      name
    end              PK 5 6, disk 0, number of entries twice, directory's size and offset, 0

No extra fields, comments, folders or ZIP64.

A reader takes any order; this one makes what travels small. Files of one kind side by side suit
gzip's short memory (a third less). Where one file grows, the offsets of all that follow change in
the directory, and every patch tells of each: so scripts, which change most, come last, and entries
of one length come one after another, which makes those changes regular.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

_VERSION = 20
_UTF8_NAME = 0x0800
_STORED = 0
_TIME, _DATE = 0, (1 << 5) | 1  # midnight of 1980-01-01, the format's first day
_MADE_BY = (3 << 8) | _VERSION  # Unix, so that the attributes below are a mode
_ATTRIBUTES = 0o100644 << 16
_COMMON = "HHHHHIIIHH"  # needs, flags, method, time, date, CRC, size, size, name, extra
_LOCAL = struct.Struct(f"<4s{_COMMON}")
_CENTRAL = struct.Struct(f"<4sH{_COMMON}HHHII")
_END = struct.Struct("<4sHHHHIIH")

MOST_ENTRIES = 0xFFFF - 1
MOST_BYTES = 0xFFFF_FFFF - 1

assert (_LOCAL.size, _CENTRAL.size, _END.size) == (30, 46, 22)


_SCRIPTS = (".js", ".mjs", ".cjs")


def place(name: str) -> tuple[bool, bytes, int, bytes]:
    """Give the key that entries are sorted by: scripts last, then by kind, length and bytes.

    A name's kind is what follows the first full stop of its last part: `d.ts` is one.
    """
    data = name.encode()
    kind = data.rpartition(b"/")[2].partition(b".")[2]
    return name.endswith(_SCRIPTS), kind, len(data), data


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    crc: int
    size: int
    offset: int

    def common(self) -> tuple[int, ...]:
        return (
            *(_VERSION, _UTF8_NAME, _STORED, _TIME, _DATE),
            *(self.crc, self.size, self.size, len(self.name), 0),
        )


class StoredZip:
    """Writes entries as they come: call `add` in the order of `place`, then `finish`."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._entries: list[_Entry] = []
        self._last: tuple[bool, bytes, int, bytes] | None = None
        self._offset = 0

    def add(self, name: str, data: bytes) -> None:
        """Write one entry. The places must rise, so that an order is never an accident."""
        here = place(name)
        assert self._last is None or self._last < here, "places must rise"
        self._last = here
        entry = _Entry(name.encode(), zlib.crc32(data), len(data), self._offset)
        self._entries.append(entry)
        self._put(_LOCAL.pack(b"PK\3\4", *entry.common()) + entry.name)
        self._put(data)

    def finish(self) -> int:
        """Write the directory; give the whole archive's size in bytes."""
        start, count = self._offset, len(self._entries)
        for entry in self._entries:
            fixed = (0, 0, 0, _ATTRIBUTES, entry.offset)
            header = _CENTRAL.pack(b"PK\1\2", _MADE_BY, *entry.common(), *fixed)
            self._put(header + entry.name)
        self._put(_END.pack(b"PK\5\6", 0, 0, count, count, self._offset - start, start, 0))
        return self._offset

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._offset += len(data)
        assert self._offset <= MOST_BYTES
        assert len(self._entries) <= MOST_ENTRIES
