"""Which lists an id is on: the filter, then the one bucket that tells; and regular expressions.

    mask = 0
    if table.may_hold(hashed):                      # no round trip for who is on no list
        wanted = table.bucket_of(hashed)          # the bucket's digest, and so its key in Redis
        mask = table.lists_of(hashed, fetched)    # exact; raises rather than guess
    mask |= expressions.mask("user", user)

A mask has a bit for each list, as `positions` says, for the whole workspace. Nothing here does
I/O. "Exact" has one stated residue: two ids with one 64-bit hash are one to the table, so that
among n ids a stranger is let in with a chance of n in 2**64 (10 million ids: once in 10**12).
"""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from operator import lt

import re2

from gateway import bucket_layout, layout
from gateway.errors import FormatError
from gateway.hashing import filter_pattern, scaled

_CHUNK = 1 << 12  # entries that one call looks at, so that none holds up an event loop
_SHARD_WORDS = layout.SHARD_BUCKETS * layout.FILTER_WORDS

assert (array("I").itemsize, array("Q").itemsize) == (4, 8)


class MembershipTable:
    """The hashed buckets of all id lists of an epoch, but for the buckets themselves.

    Made from the decoded Membership and Sets, the shards' blobs in order, and each list's bit.
    Raises FormatError when these do not fit one another. Shards are not copied: those of a mapped
    file stay there. Sets stay packed columns (8 bytes a set and 4 a list on it); no call on the
    way holds the GIL for longer than copying one takes.
    """

    __slots__ = (
        "_buckets",
        "_digests",
        "_ends",
        "_entry",
        "_mask",
        "_members",
        "_number_bits",
        "_numbers",
        "_positions",
        "_prefix",
        "_word_count",
        "_words",
    )

    def __init__(
        self,
        membership: layout.Membership,
        sets: layout.Sets,
        shards: Sequence[layout.Blob],
        positions: Mapping[str, int],
    ) -> None:
        buckets = membership["buckets"]  # apart: compiled, the attribute is an unsigned word
        if not 0 < buckets <= layout.MAX_BUCKETS:
            raise FormatError(f"a membership table of {buckets} buckets cannot be")
        self._buckets = buckets
        self._word_count = self._buckets * layout.FILTER_WORDS
        self._load_shards(shards)
        self._number_bits = sets["number_bits"]
        remainder_bits = bucket_layout.remainder_bits(self._buckets)
        self._entry, rest = divmod(remainder_bits + self._number_bits, 8)
        if not 0 < self._number_bits <= layout.MAX_NUMBER_BITS or rest:
            raise FormatError(
                f"set numbers of {self._number_bits} bits do not fit {self._buckets} buckets"
            )
        self._mask = (1 << remainder_bits) - 1
        self._prefix = remainder_bits // 8
        self._load_sets(sets, positions)

    def _load_shards(self, shards: Sequence[layout.Blob]) -> None:
        self._digests: list[memoryview] = []
        self._words: list[memoryview] = []  # of words; a look-up takes as long as in an array
        left = self._buckets
        for shard in shards:
            digests, words = layout.view_shard(shard)
            wanted = min(left, layout.SHARD_BUCKETS)
            if len(digests) != wanted * layout.BUCKET_DIGEST_BYTES:
                raise FormatError(f"a shard does not hold {wanted} buckets")
            left -= wanted
            self._digests.append(digests)
            self._words.append(_words(words))
        if left:
            raise FormatError(f"{len(shards)} shards do not hold all {self._buckets} buckets")

    def _load_sets(self, sets: layout.Sets, positions: Mapping[str, int]) -> None:
        try:
            self._positions = [positions[name] for name in sets["lists"]]
        except KeyError as missing:
            raise FormatError(f"the list {missing} has ids, and the settings lack it") from None
        self._numbers = _column("numbers", sets["numbers"])
        self._ends = _column("ends", sets["ends"])
        self._members = _column("members", sets["members"])
        if len(self._numbers) != len(self._ends):
            raise FormatError(
                f"{len(self._numbers)} membership sets have {len(self._ends)} ends of members"
            )
        if not _ascends(self._numbers) or (
            self._numbers and self._numbers[-1] >> self._number_bits
        ):
            raise FormatError("the numbers of the membership sets cannot be: not ascending or wide")
        last = self._ends[-1] if self._ends else 0
        if not _ascends(self._ends) or last != len(self._members) or 0 in self._ends[:1]:
            raise FormatError("the members of the membership sets do not end where they should")
        for start in range(0, len(self._members), _CHUNK):
            if max(self._members[start : start + _CHUNK]) >= len(self._positions):
                raise FormatError("a membership set names no known list")

    def may_hold(self, hashed: int) -> bool:
        """Tell whether the id of this hash may be on a list; False is certain."""
        place = scaled(hashed, self._word_count)
        pattern = filter_pattern(hashed)
        word = self._words[place // _SHARD_WORDS][place % _SHARD_WORDS]
        return word & pattern == pattern

    def bucket_of(self, hashed: int) -> bytes:
        """Give the digest of the hash's bucket; layout.EMPTY_BUCKET: there is none, nor members."""
        bucket = scaled(hashed, self._buckets)
        shard, place = divmod(bucket, layout.SHARD_BUCKETS)
        start = place * layout.BUCKET_DIGEST_BYTES
        return bytes(self._digests[shard][start : start + layout.BUCKET_DIGEST_BYTES])

    def lists_of(self, hashed: int, bucket: bytes) -> int:
        """Give the mask of the lists that the id of this hash is on, 0 for none.

        `bucket` is what the store holds under `bucket_of(hashed)`. Raises FormatError when it is
        not exactly that bucket, or one that cannot be read.
        """
        wanted = self.bucket_of(hashed)
        if wanted == layout.EMPTY_BUCKET:
            return 0
        if layout.bucket_digest(bucket) != wanted:
            raise FormatError(f"the bucket {wanted.hex()} is damaged: it has another digest")
        size, number_bits = self._entry, self._number_bits
        if len(bucket) % size:
            raise FormatError(f"the bucket {wanted.hex()} of {len(bucket)} bytes holds no whole id")
        remainder = hashed & self._mask
        prefix = (remainder << number_bits).to_bytes(size, "big")[: self._prefix]
        at = bucket.find(prefix)
        while at >= 0:
            if at % size == 0:  # else found across the border of two
                entry = int.from_bytes(bucket[at : at + size], "big")
                if entry >> number_bits == remainder:
                    return self._mask_of(entry & ((1 << number_bits) - 1))
            at = bucket.find(prefix, at + 1)
        return 0

    def _mask_of(self, number: int) -> int:
        index = bisect_left(self._numbers, number)
        if index == len(self._numbers) or self._numbers[index] != number:
            raise FormatError(f"a bucket names the membership set {number}, which is not there")
        mask = 0
        start = self._ends[index - 1] if index else 0
        for member in self._members[start : self._ends[index]]:
            mask |= 1 << self._positions[member]
        return mask


def _column(name: str, data: bytes) -> "array[int]":
    """Read a column of little-endian 32-bit numbers. Raises FormatError."""
    if len(data) % 4:
        raise FormatError(f"the column `{name}` of the sets has {len(data)} bytes: one is cut")
    return _numbers("I", data)


def _words(data: memoryview) -> memoryview:
    """See little-endian 64-bit numbers where they lie, if this machine's are like that."""
    return data.cast("Q") if sys.byteorder == "little" else memoryview(_numbers("Q", data))


def _numbers(code: str, data: layout.Blob) -> "array[int]":
    """Read little-endian numbers as an array of this type code."""
    numbers = array(code, data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _ascends(column: "array[int]") -> bool:
    """Tell whether each number is above the one before it."""
    for start in range(0, len(column), _CHUNK):
        part = column[start : start + _CHUNK + 1]  # and the next one's first
        if not all(map(lt, part, part[1:])):
            return False
    return True


class ExpressionLists:
    """The lists of regular expressions: each is searched in the id as written, in linear time.

    All expressions of one kind of id are matched in one pass (RE2::Set), about a microsecond.
    A set refuses to compile when its automaton would outgrow the 8 MiB that each is allowed; it is
    then split in two, so that a match never runs out of memory and calls that "no match".
    False when there is no such list at all. Raises FormatError for an expression that RE2 cannot
    take. Matching is safe from several threads.
    """

    __slots__ = ("_passes",)

    def __init__(self, lists: Mapping[str, layout.ListEntry], positions: Mapping[str, int]) -> None:
        expressions: dict[str, list[tuple[str, int]]] = {}
        for name, entry in lists.items():
            for expression in entry["regex"]:
                pair = (expression, 1 << positions[name])
                expressions.setdefault(entry["of"], []).append(pair)
        self._passes = {kind: _compile(pairs) for kind, pairs in expressions.items()}

    def __bool__(self) -> bool:
        return bool(self._passes)

    def mask(self, kind: str, text: str) -> int:
        """Give the mask of the lists of this kind of which an expression is found in the id."""
        mask = 0
        for matcher, bits in self._passes.get(kind, ()):
            for index in matcher.Match(text) or ():
                mask |= bits[index]
        return mask


def _compile(pairs: Sequence[tuple[str, int]]) -> list[tuple[re2.Set, list[int]]]:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    matcher = re2.Set.SearchSet(options)
    for expression, _ in pairs:
        try:
            matcher.Add(expression)
        except re2.error:
            raise FormatError(f"RE2 does not take the expression {expression!r}") from None
    try:
        matcher.Compile()
    except re2.error:
        if len(pairs) == 1:
            raise FormatError(f"the expression {pairs[0][0]!r} needs over 8 MiB") from None
        half = len(pairs) // 2
        return _compile(pairs[:half]) + _compile(pairs[half:])
    return [(matcher, [bit for _, bit in pairs])]
