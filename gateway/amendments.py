"""Ids put on lists, or taken off them, in a moment: laid over what buckets and expressions say.

Nothing of a list is compiled again for one id of its millions, nothing of it is fetched, and it
holds while Redis is away. An id is known by its hash, as in a bucket. Pure.
"""

import sys
from array import array
from collections.abc import Mapping

from gateway import layout
from gateway.errors import FormatError

_HASH_BYTES = 8

Amendments = dict[int, tuple[int, int]]
"""By an id's hash: the mask of lists that it is put on, and of those that it is taken off."""


def read_amendments(
    amended: Mapping[str, layout.Amended], positions: Mapping[str, int]
) -> Amendments:
    """Read what lies over the lists; `positions` has each list's bit. Raises FormatError."""
    found: Amendments = {}
    for name, each in amended.items():
        if name not in positions:
            raise FormatError(f"ids are laid over the list {name!r}, and the settings lack it")
        bit = 1 << positions[name]
        for place, hashes in enumerate((each["added"], each["removed"])):
            for hashed in _hashes(hashes):
                on, off = found.get(hashed, (0, 0))
                found[hashed] = (on, off | bit) if place else (on | bit, off)
    return found


def _hashes(data: bytes) -> "array[int]":
    if len(data) % _HASH_BYTES:
        raise FormatError(f"{len(data)} bytes of ids laid over a list: one is cut")
    numbers = array("Q", data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
