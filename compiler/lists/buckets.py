"""The hashed buckets of all id lists of a workspace: one exact table, and the filter before it.

Every id is hashed once. The hashes are then merged slice by slice of the hash space, which finds
for every hash the lists that it is on: its membership set. Last, shard by shard, hashes and set
numbers become buckets, digests and filter words, as gateway/layout.py says. Memory: the text of
one list, then 12 bytes for each distinct id of all lists; hashes that wait to be merged lie in a
temporary file. The result (packs and shards: some 11 bytes an id) is handed on as it is made.
"""

from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, pairwise

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from compiler.lists.hash_rows import Hashes, HashRows, firsts
from compiler.lists.runs import blocks_of
from compiler.progress import Progress, quiet
from gateway import bucket_layout, layout
from gateway.errors import FormatError
from gateway.hashing import id_seed

_SPARE = 16  # set numbers for each set, so that a new one seldom meets a taken number


@dataclass(frozen=True, slots=True)
class MembershipImage:
    """The table as blobs: sets, shards and packs by their digests; `membership` names them."""

    membership: layout.Membership
    blobs: MutableMapping[bytes, bytes]

    @property
    def buckets(self) -> Iterator[tuple[bytes, bytes]]:
        """Give each bucket that is not empty behind its short digest, for Redis."""
        for shard, pack in zip(self.membership["shards"], self.membership["packs"], strict=True):
            yield from bucket_pairs(self.blobs[shard], self.blobs[pack])


def bucket_pairs(shard: bytes, pack: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give (digest, bucket) of a shard's pack, empty ones left out.

    Raises FormatError when the pack is not the shard's.
    """
    digests, _ = layout.decode_shard(shard)
    buckets = bucket_layout.decode_pack(pack)
    size = layout.BUCKET_DIGEST_BYTES
    if len(buckets) * size != len(digests):
        raise FormatError(f"a pack of {len(buckets)} buckets is not that of its shard")
    for index, bucket in enumerate(buckets):
        wanted = digests[index * size : (index + 1) * size]
        if _digest(bucket) != wanted:
            raise FormatError("a pack holds a bucket that its shard does not name")
        if bucket:
            yield wanted, bucket


def build_membership(
    workspace: str,
    lists: Iterable[tuple[str, str, bytes]],
    progress: Progress = quiet,
    blobs: MutableMapping[bytes, bytes] | None = None,
    hashed: Iterable[tuple[str, Hashes]] = (),
) -> MembershipImage:
    """Build the table from (name, kind of id, ListIds.text) of every list, in any order.

    `hashed` are lists whose ids are known by their hashes alone: the seats of frozen windows.

    `lists` may be a generator, so that one text is in memory at a time; the table's blobs are
    put into `blobs`, if given. Raises PlanError when the ids are on more than MAX_SETS different
    combinations of lists.
    """
    rows = HashRows()
    names: list[str] = []
    for owner, (name, kind, text) in enumerate(lists):
        assert name not in names
        names.append(name)
        for block in _hash_ids(text, id_seed(workspace, kind)):
            rows.add(block, owner)
            progress("lists: ids hashed", rows.count, 0)
        del text  # before the next one is read
    for name, seats in hashed:
        rows.add(seats, len(names))
        names.append(name)
    hashes, indexes, found = rows.merge(progress)
    ordered = sorted(names)
    places = [ordered.index(name) for name in names]
    combinations = [tuple(sorted(places[owner] for owner in owners)) for owners in found]
    return _encode(ordered, hashes, indexes, combinations, {} if blobs is None else blobs, progress)


def _hash_ids(text: bytes, seed: int) -> Iterator[Hashes]:
    """Hash lines as gateway.hashing.id_hash does, but from bytes, block by block."""
    digest = partial(xxh3_64_intdigest, seed=seed)
    for block in blocks_of(text):
        ids = bytes(block[:-1]).split(b"\n")
        yield np.fromiter(map(digest, ids), np.uint64, len(ids))


def _number_bits(sets: int, buckets: int) -> int:
    """Choose the bits of a set number: 16 numbers a set, and what is left of an entry's last byte.

    So the bits change when the sets outgrow a byte of the entry (which is 256 times later), or
    when the buckets double, which changes every bucket anyway.
    """
    remainder = bucket_layout.remainder_bits(buckets)
    needed = (max(sets, 1) * _SPARE - 1).bit_length()
    return needed + -(remainder + needed) % 8


def _number_sets(sets: list[list[str]], bits: int) -> list[int]:
    """Derive each set's number from a hash of its names, so that a new set seldom moves another.

    A set whose number is taken moves on to its hash under the next seed, until one is free. Sets
    choose in the order of their names, so a number depends on the set's names and on the sets
    before it in that order, on nothing else. With 16 numbers for each set or more, a new set finds
    its number taken once in 16 times at most, or takes that of a later set, which then moves on.
    """
    keys = ["\0".join(sorted(names)).encode() for names in sets]
    taken: set[int] = set()
    chosen: dict[bytes, int] = {}
    for key in sorted(keys):
        seed = 0
        while (number := xxh3_64_intdigest(key, seed) & ((1 << bits) - 1)) in taken:
            seed += 1
        taken.add(number)
        chosen[key] = number
    return [chosen[key] for key in keys]


def _encode_sets(bits: int, names: list[str], found: dict[int, tuple[int, ...]]) -> bytes:
    """Encode the membership sets, given the indexes of the lists of each set's number."""
    numbers = sorted(found)
    rows = [found[number] for number in numbers]
    sets: layout.Sets = {
        "number_bits": bits,
        "lists": names,
        "numbers": np.array(numbers, "<u4").tobytes(),
        "ends": np.cumsum([len(row) for row in rows], dtype="<u4").tobytes(),
        "members": np.fromiter(chain.from_iterable(rows), "<u4").tobytes(),
    }
    return layout.encode(layout.Sets, sets)


def _encode(
    names: list[str],
    hashes: Hashes,
    indexes: npt.NDArray[np.int32],
    combinations: list[tuple[int, ...]],
    blobs: MutableMapping[bytes, bytes],
    progress: Progress,
) -> MembershipImage:
    buckets = bucket_layout.bucket_count(len(hashes))
    bits = _number_bits(len(combinations), buckets)
    chosen = _number_sets([[names[at] for at in row] for row in combinations], bits)
    numbers = np.array(chosen, np.uint64)
    membership: layout.Membership = {
        "buckets": buckets,
        "ids": len(hashes),
        "sets": b"",
        "shards": [],
        "packs": [],
    }

    def keep(blob: bytes) -> bytes:
        digest = layout.digest_of(blob)
        blobs[digest] = blob
        return digest

    membership["sets"] = keep(
        _encode_sets(bits, names, dict(zip(chosen, combinations, strict=True)))
    )
    borders = [*range(0, buckets, layout.SHARD_BUCKETS), buckets]
    # The first hash of each shard; see layout: bucket j begins with ceil(j * 2**64 / buckets).
    cuts = np.array([-(-(first << 64) // buckets) for first in borders[:-1]], np.uint64)
    starts = [*np.searchsorted(hashes, cuts).tolist(), len(hashes)]
    for (first, after), (start, end) in zip(pairwise(borders), pairwise(starts), strict=True):
        part, its_numbers = hashes[start:end], numbers[indexes[start:end]]
        entries = _entries(part, its_numbers, buckets, bits)
        words = _scaled(part, buckets * layout.FILTER_WORDS)
        words -= np.uint64(first * layout.FILTER_WORDS)
        shard, pack = _encode_shard(part, entries, words, after - first)
        membership["shards"].append(keep(shard))
        membership["packs"].append(keep(pack))
        progress("tables: ids packed", end, len(hashes))
    return MembershipImage(membership, blobs)


def _encode_shard(
    hashes: Hashes, entries: npt.NDArray[np.uint8], in_words: Hashes, count: int
) -> tuple[bytes, bytes]:
    """Encode `count` buckets: shard and pack.

    Each hash has its row of `entries`, and its filter word, counted from the shard's first.
    """
    in_buckets = (in_words // np.uint64(layout.FILTER_WORDS)).astype(np.int64)
    sizes = np.bincount(in_buckets, minlength=count).tolist()
    buckets = [entries[a:b].tobytes() for a, b in pairwise(accumulate(sizes, initial=0))]
    words = np.zeros(count * layout.FILTER_WORDS, "<u8")
    if len(hashes):
        starts = np.flatnonzero(firsts(in_words))
        words[in_words[starts].astype(np.int64)] = np.bitwise_or.reduceat(_patterns(hashes), starts)
    digests = b"".join(map(_digest, buckets))
    return layout.encode_shard(digests, words.tobytes()), bucket_layout.encode_pack(buckets)


def _scaled(hashes: Hashes, count: int) -> Hashes:
    """Give (hash * count) >> 64 for a count up to 2**32: the 128-bit product by halves.

    Exact, and no sum passes 64 bits: high * count <= (2**32 - 1) * 2**32, and low * count >> 32
    is below 2**32.
    """
    assert count <= 1 << 32
    half, factor = np.uint64(32), np.uint64(count)
    high, low = hashes >> half, hashes & np.uint64((1 << 32) - 1)
    return (high * factor + (low * factor >> half)) >> half


def _entries(
    hashes: Hashes, numbers: Hashes, buckets: int, number_bits: int
) -> npt.NDArray[np.uint8]:
    """Write remainder and set number of every hash as one big-endian number: a row of bytes."""
    kept = bucket_layout.remainder_bits(buckets)
    remainders = hashes & np.uint64((1 << kept) - 1)
    table = np.empty(len(hashes), [("high", ">u4"), ("low", ">u8")])
    table["high"] = remainders >> np.uint64(64 - number_bits)
    table["low"] = (remainders << np.uint64(number_bits)) | numbers
    rows = table.view(np.uint8).reshape(len(hashes), table.itemsize)
    return rows[:, table.itemsize - (kept + number_bits) // 8 :]


def _patterns(hashes: Hashes) -> Hashes:
    """Give bucket_layout.filter_pattern of every hash."""
    found = np.zeros(len(hashes), np.uint64)
    for shift in (0, 6, 12, 18):
        found |= np.uint64(1) << ((hashes >> np.uint64(shift)) & np.uint64(63))
    return found


def _digest(bucket: bytes) -> bytes:
    return layout.bucket_digest(bucket) if bucket else layout.EMPTY_BUCKET
