"""Who is on the lists of an epoch or an image, by the plan alone: read from the store's packs.

Of millions of ids only the buckets are read that may hold those that are asked about.
"""

import struct
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from compiler.overrides import Place, What
from compiler.plan import Plan
from compiler.publication.epoch import Reader
from gateway import layout
from gateway.bucket_layout import decode_pack, remainder_bits
from gateway.errors import FormatError
from gateway.hashing import id_hash, id_seed, scaled
from gateway.membership import ExpressionLists

_NUMBER = struct.Struct("<I")


def enrolled(
    contents: layout.Contents, plan: Plan, blob: Reader, ids: Mapping[str, Collection[str]]
) -> set[Place]:
    """Give those of the ids, by list, that the plan's own lists have; exact as a gateway is.

    Lists that the plan does not have have nobody. Raises what `blob` raises, and FormatError.
    """
    workspace = plan.workspace.name
    hashed: list[tuple[int, str, str]] = []
    found: set[Place] = set()
    for source in plan.lists:
        texts = ids.get(source.name, ())
        if source.regex:
            entry: layout.ListEntry = {"of": source.of, "regex": list(source.regex)}
            expressions = ExpressionLists({source.name: entry}, {source.name: 0})
            on = (text for text in texts if expressions.mask(source.of, text))
            found.update(Place(What.MEMBER, source.name, text) for text in on)
        else:
            seed = id_seed(workspace, source.of)
            hashed += ((id_hash(text, seed), source.name, text) for text in texts)
    if hashed and contents["membership"] is not None:
        table = _table(contents["membership"], blob)
        hashed.sort()
        lists = table.lists_of(each for each, _, _ in hashed)
        for (_, name, text), on_lists in zip(hashed, lists, strict=True):
            if name in on_lists:
                found.add(Place(What.MEMBER, name, text))
    return found


def _table(membership: layout.Membership, blob: Reader) -> "_Table":
    sets: layout.Sets = layout.decode(layout.Sets, blob(membership["sets"]))
    numbers, ends, members = (_column(sets[name]) for name in ("numbers", "ends", "members"))
    return _Table(membership, sets, numbers, ends, members, blob)


def _column(data: bytes) -> list[int]:
    return [number for (number,) in _NUMBER.iter_unpack(data)]


@dataclass(frozen=True, slots=True)
class _Table:
    """The hashed buckets, as they lie in packs."""

    membership: layout.Membership
    sets: layout.Sets
    numbers: list[int]
    ends: list[int]
    members: list[int]
    blob: Reader

    def lists_of(self, hashes: Iterable[int]) -> Iterator[frozenset[str]]:
        """Give the lists of each hash; in ascending order every pack is read once."""
        at, buckets = -1, list[bytes]()
        for hashed in hashes:
            bucket = scaled(hashed, self.membership["buckets"])
            shard, place = divmod(bucket, layout.SHARD_BUCKETS)
            if shard != at:
                at, buckets = shard, decode_pack(self.blob(self.membership["packs"][shard]))
            yield self._in_bucket(hashed, buckets[place])

    def _in_bucket(self, hashed: int, bucket: bytes) -> frozenset[str]:
        """Look through a bucket's entries, as layout.py has them."""
        kept, number_bits = remainder_bits(self.membership["buckets"]), self.sets["number_bits"]
        size = (kept + number_bits) // 8
        wanted = hashed & ((1 << kept) - 1)
        for start in range(0, len(bucket), size):
            entry = int.from_bytes(bucket[start : start + size], "big")
            if entry >> number_bits == wanted:
                return self._named(entry & ((1 << number_bits) - 1))
        return frozenset()

    def _named(self, number: int) -> frozenset[str]:
        at = bisect_left(self.numbers, number)
        if at == len(self.numbers) or self.numbers[at] != number:
            raise FormatError(f"a bucket names the membership set {number}, which is not there")
        start = self.ends[at - 1] if at else 0
        return frozenset(self.sets["lists"][each] for each in self.members[start : self.ends[at]])
