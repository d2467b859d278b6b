"""The rows of all lists, each a hash and whose it is, merged to each hash's combination of lists.

Rows are kept by slices of the hash space, and all but a few wait in a temporary file until their
slice is merged. So memory is 12 bytes for each distinct hash, and one slice.
"""

import numpy as np
import numpy.typing as npt

from compiler.diagnostic import PlanError, error
from compiler.plan import Span
from compiler.progress import Progress
from compiler.storage.spool import Spool

MAX_SETS = 1 << 20
"""So many combinations of lists that ids are on; a gateway keeps some 20 bytes for each."""


_SLICE_BITS = 6
_BORDERS = np.arange(1, 1 << _SLICE_BITS, dtype=np.uint64) << np.uint64(64 - _SLICE_BITS)
"""Where the slices of the hash space begin, but the first."""
_WAITING_ROWS = 1 << 12

Hashes = npt.NDArray[np.uint64]
_ROW = np.dtype([("hash", np.uint64), ("owner", np.int32)])


class HashRows:
    """The rows of all lists; `count` of them so far. Raises StoreError as a spool does."""

    def __init__(self) -> None:
        spool = Spool()
        self._slices = [_Slice(spool, number) for number in range(len(_BORDERS) + 1)]
        self.count = 0

    def add(self, hashes: Hashes, owner: int) -> None:
        """Take hashes of one list, in any order; lists come one after another, by their numbers."""
        hashes.sort()
        parts = np.split(hashes, np.searchsorted(hashes, _BORDERS))
        for part, place in zip(parts, self._slices, strict=True):
            place.add(part, owner)
        self.count += len(hashes)

    def merge(
        self, progress: Progress
    ) -> tuple[Hashes, npt.NDArray[np.int32], list[tuple[int, ...]]]:
        """Give distinct hashes, each one's index into combinations of owners, and those; keep none.

        Memory is reserved for `count` hashes, and touched as they come. Raises PlanError when
        there are more than MAX_SETS combinations.
        """
        found: dict[tuple[int, ...], int] = {}
        hashes, indexes = np.empty(self.count, np.uint64), np.empty(self.count, np.int32)
        done = end = 0
        for each in self._slices:
            rows = each.take()
            if len(rows):
                unique, combined = _group(rows, found)
                start, end = end, end + len(unique)
                hashes[start:end], indexes[start:end] = unique, combined
                done += len(rows)
                progress("tables: ids merged", done, self.count)
        return hashes[:end], indexes[:end], list(found)


class _Slice:
    """The rows (a hash, and whose it is) of one slice of the hash space, in the lists' order.

    A few wait here; the others lie in the spool.
    """

    def __init__(self, spool: Spool, number: int) -> None:
        self._spool = spool
        self._number = number
        self._chunks = self._count = 0
        self._waiting: list[npt.NDArray[np.void]] = []

    def add(self, hashes: Hashes, owner: int) -> None:
        """Take hashes of one list."""
        rows = np.empty(len(hashes), _ROW)
        rows["hash"], rows["owner"] = hashes, owner
        self._waiting.append(rows)
        self._count += len(rows)
        if self._count >= _WAITING_ROWS:
            self._spool[self._key(self._chunks)] = np.concatenate(self._waiting).tobytes()
            self._waiting, self._count = [], 0
            self._chunks += 1

    def take(self) -> npt.NDArray[np.void]:
        """Give all rows, and keep none."""
        chunks = [self._spool.pop(self._key(chunk)) for chunk in range(self._chunks)]
        waiting, self._waiting = self._waiting, []
        return np.concatenate(
            [np.empty(0, _ROW), *(np.frombuffer(c, _ROW) for c in chunks), *waiting]
        )

    def _key(self, chunk: int) -> bytes:
        return b"%d.%d" % (self._number, chunk)


def firsts(values: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Mark each first of equal neighbours."""
    marks = np.ones(len(values), np.bool_)
    marks[1:] = values[1:] != values[:-1]
    return marks


def _group(
    given: npt.NDArray[np.void], found: dict[tuple[int, ...], int]
) -> tuple[Hashes, npt.NDArray[np.int32]]:
    """Find the owners of each hash; combinations not met before are added to `found`."""
    rows, owners = given["hash"].copy(), given["owner"].astype(np.int64)
    order = np.argsort(rows, kind="stable")  # stable: a hash's owners stay in ascending order
    rows, owners = rows[order], owners[order]
    once = firsts(rows) | firsts(owners)  # two ids of one list may have one hash
    rows, owners = rows[once], owners[once]
    starts = np.flatnonzero(firsts(rows))
    sizes = np.diff(starts, append=len(rows))
    # Number the sequences of owners as a trie does, one level after another, but for all hashes
    # at once: equal states of equal depth are equal sequences. This is exact, unlike a hash.
    states = owners[starts]
    for depth in range(1, int(sizes.max())):
        deeper = np.flatnonzero(sizes > depth)
        steps = (states[deeper] << 32) | owners[starts[deeper] + depth]
        states[deeper] = np.unique(steps, return_inverse=True)[1]
    _, examples, kinds = np.unique((sizes << 32) | states, return_index=True, return_inverse=True)
    indexes = []
    for start, size in zip(starts[examples].tolist(), sizes[examples].tolist(), strict=True):
        combination = tuple(owners[start : start + size].tolist())
        indexes.append(found.setdefault(combination, len(found)))
    _limit_sets(len(found))
    return rows[starts], np.array(indexes, np.int32)[kinds]


def _limit_sets(count: int) -> None:
    if count > MAX_SETS:
        message = (
            f"the ids are on more than {MAX_SETS:,} different combinations of lists. "
            "Merge lists whose members overlap at random."
        )
        raise PlanError([error(Span("lists.yaml", 0, 0), message)])
