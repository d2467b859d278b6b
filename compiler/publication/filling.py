"""Redis is given what an epoch needs of it, and only what it lacks.

One way for all: a push fills from the image, `restore` and `gc` from the store.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from compiler.progress import Progress, quiet
from compiler.publication.epoch import shard_buckets
from compiler.publication.mirror import Mirror, batches
from gateway import bucket_layout, layout
from gateway.errors import FormatError, StoreError

Fetch = Callable[[Iterable[bytes]], Iterable[tuple[bytes, bytes]]]
"""Gives (digest, blob) for digests, in their order. Raises StoreError or FormatError."""

_SHARDS_AT_ONCE = 8
_BLOBS_AT_ONCE = 512
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Filled:
    """How many blobs and buckets were written to Redis, and how many bytes those have."""

    blobs: int = 0
    buckets: int = 0
    bytes: int = 0

    def __add__(self, other: "Filled") -> "Filled":
        return Filled(
            self.blobs + other.blobs, self.buckets + other.buckets, self.bytes + other.bytes
        )

    def __bool__(self) -> bool:
        return bool(self.blobs or self.buckets)


@dataclass(frozen=True, slots=True)
class Filling:
    """What Redis needs: `digests` of blobs, and the membership whose buckets are split of packs.

    With `deep`, keys that are there are read back too, and those with other bytes replaced.
    """

    mirror: Mirror
    fetch: Fetch
    digests: Collection[bytes]
    membership: layout.Membership | None
    progress: Progress = quiet
    deep: bool = False

    def run(self) -> Filled:
        """Write until nothing lacks. Raises StoreError when Redis does not keep what it is given.

        The last round writes nothing, so what was written has been seen there afterwards.
        """
        total = Filled()
        for _ in range(_ROUNDS):
            written = self._round()
            if not written:
                return total
            total += written
        raise StoreError(
            f"Redis at {self.mirror.host} loses keys that were just written. "
            "Look whether something else deletes or evicts them."
        )

    def _round(self) -> Filled:
        return self._fill_blobs() + self._fill_buckets()

    def _fill_blobs(self) -> Filled:
        written, seen = Filled(), 0
        for batch in batches(sorted(self.digests), _BLOBS_AT_ONCE):
            names = {self.mirror.keys.blob(digest): digest for digest in batch}
            lacking = [names[key] for key in self._lacking(names, layout.DIGEST_BYTES)]
            items = ((self.mirror.keys.blob(found), blob) for found, blob in self.fetch(lacking))
            count, size = self.mirror.put_many(items)
            written += Filled(blobs=count, bytes=size)
            seen += len(batch)
            self.progress("Redis: blobs", seen, len(self.digests))
        return written

    def _fill_buckets(self) -> Filled:
        written, seen = Filled(), 0
        if self.membership is None:
            return written
        pairs = list(zip(self.membership["shards"], self.membership["packs"], strict=True))
        for group in batches(pairs, _SHARDS_AT_ONCE):
            written += self._fill_shards(group)
            seen += len(group)
            self.progress("Redis: shards of buckets", seen, len(pairs))
        return written

    def _fill_shards(self, group: Collection[tuple[bytes, bytes]]) -> Filled:
        packs: dict[bytes, bytes] = {}  # bucket to the pack that holds it
        for (_, shard), (_, pack) in zip(
            self.fetch(shard for shard, _ in group), group, strict=True
        ):
            packs.update(dict.fromkeys(shard_buckets(shard), pack))
        packs.pop(layout.EMPTY_BUCKET, None)
        names = {self.mirror.keys.bucket(digest): digest for digest in packs}
        lacking = {names[key] for key in self._lacking(names, layout.BUCKET_DIGEST_BYTES)}
        needed = dict.fromkeys(packs[digest] for digest in packs if digest in lacking)
        count, size = self.mirror.put_many(self._buckets(needed, lacking))
        return Filled(buckets=count, bytes=size)

    def _buckets(self, packs: Iterable[bytes], lacking: set[bytes]) -> Iterator[tuple[str, bytes]]:
        left = set(lacking)
        for _, pack in self.fetch(packs):
            for bucket in bucket_layout.decode_pack(pack):
                digest = layout.bucket_digest(bucket)
                if digest in left:
                    left.discard(digest)
                    yield self.mirror.keys.bucket(digest), bucket
        if left:
            raise FormatError(
                f"A pack lacks {len(left)} of its shard's buckets. Push the plan again."
            )

    def _lacking(self, names: Iterable[str], digest_bytes: int) -> Iterator[str]:
        if not self.deep:
            yield from self.mirror.absent(names)
            return
        for key, value in self.mirror.get_many(names):
            digest = self.mirror.keys.digest(key)
            if value is None or hashlib.sha256(value).digest()[:digest_bytes] != digest:
                yield key
