"""`tidegate gc`: blobs that no kept epoch needs are deleted, from the store and from Redis.

    the store keeps   the newest epochs of the chain, every epoch that a gateway says it serves,
                      the signed record of each epoch before (some 500 bytes), the lists that were
                      imported, and whatever is younger than an hour (a push may be on its way)
    Redis keeps       the live epoch, the one before it, and those that gateways say they serve

A push may still need what is deleted here: old garbage that its image happens to hold again. So
after each batch the pointer is read, and if it has moved, what the new epoch needs is put back:
into the store from memory, into Redis from the store. The push looks likewise after its pointer
has moved, so one of the two always sees the other. An imported list may take up an old text again:
its record is read, and its writer looks, in the same way.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from compiler.lists.stored_list import read_stored_list
from compiler.progress import Progress, quiet
from compiler.publication import windows
from compiler.publication.epoch import (
    Publication,
    bucket_digests,
    mirrored_digests,
    read_publication,
    stored_digests,
)
from compiler.publication.filling import Filling
from compiler.publication.gateways import NAMES_SECONDS, running_gateways
from compiler.publication.history import COLLECTED, End, Link, oldest_kept, walk
from compiler.publication.live import read_live
from compiler.publication.mirror import Mirror, batches
from compiler.refusal import Refused
from compiler.storage.store import Store, StoredBlob
from gateway.errors import FormatError, StoreError
from gateway.link import SyncLink

KEEP = 50
YOUNG_SECONDS = 3600

_BATCH_BLOBS = 64
_BATCH_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Collected:
    """What was deleted, or would be by a dry run; `oldest` is the oldest kept epoch's number."""

    epochs: int
    oldest: int
    blobs: int
    bytes: int
    redis_keys: int


def collect(
    *,
    store: Store,
    link: SyncLink,
    workspace: str,
    now: int,
    keep: int = KEEP,
    dry_run: bool = False,
    progress: Progress = quiet,
) -> Collected:
    """Delete what nobody needs. `now` is in Unix seconds, `keep` at least 1.

    Raises Refused, StoreError and FormatError; what a kept epoch needs is there after any of them.
    """
    if keep < 1:
        raise Refused("At least the live epoch is kept: write --keep 1 or more.")
    mirror = Mirror(link, workspace)
    live = read_live(store, mirror, workspace)
    if live is None:
        return Collected(0, 0, 0, 0, 0)
    collection = _Collection(store, mirror, workspace, keep, now, progress)
    return collection.run(live, dry_run=dry_run)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What one look at the pointer, the chain and the gateways says must stay."""

    live: Publication
    oldest: int
    epochs: frozenset[bytes]
    store: frozenset[bytes]
    blobs: frozenset[bytes]
    buckets: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class _Collection:
    store: Store
    mirror: Mirror
    workspace: str
    keep: int
    now: int
    progress: Progress

    def run(self, live: Publication, *, dry_run: bool) -> Collected:
        kept = self._mark(live)
        garbage = [blob for blob in self.store.list_blobs() if self._is_garbage(blob, kept)]
        keys = [
            *self._garbage_keys("blob", kept.blobs),
            *self._garbage_keys("bucket", kept.buckets),
        ]
        if dry_run:
            size = sum(blob.size for blob in garbage)
            count = len(keys) + windows.collect(self.mirror, self._windows(), dry_run=True)
            return Collected(len(kept.epochs), kept.oldest, len(garbage), size, count)
        # Said first: a chain that a killed gc has cut is told from a damaged one.
        if kept.oldest > oldest_kept(self.store):
            self.store.put_named(COLLECTED, str(kept.oldest).encode())
        blobs = size = 0
        for batch in _sized(garbage):
            kept, deleted = self._delete_blobs(batch, kept)
            blobs, size = blobs + len(deleted), size + sum(blob.size for blob in deleted)
            self.progress("store: blobs", blobs, len(garbage))
        gone = 0
        for group in batches(dict.fromkeys(keys), _BATCH_BLOBS * 8):
            kept, count = self._delete_keys(group, kept)
            gone += count
            self.progress("Redis: keys", gone, len(keys))
        gone += windows.collect(self.mirror, self._windows(), dry_run=False)
        self.mirror.forget_gateways(self.now - NAMES_SECONDS)
        return Collected(len(kept.epochs), kept.oldest, blobs, size, gone)

    def _mark(self, live: Publication) -> _Kept:
        chain: list[Link] = []
        records: set[bytes] = set()
        oldest = oldest_kept(self.store)
        for found in walk(self.store, live.digest, records=True):
            if isinstance(found, End):
                if found is End.OTHER_FORMAT and not records:  # of no use, nor known to be whole
                    oldest = max(oldest, chain[-1].number)
                break  # also where the chain is broken: that is not ours to hide
            if len(chain) < self.keep and found.number >= oldest:
                chain.append(found)
            else:
                records.add(found.digest)
                oldest = max(oldest, chain[-1].number)
        announced = {each.digest for each in running_gateways(self.mirror, self.now)} - {b""}
        epochs = {link.digest: self._read(link.digest) for link in chain}
        for digest in announced - epochs.keys():
            if (served := self._if_whole(digest)) is not None:
                epochs[digest] = served
        in_redis = {live.digest, live.epoch["previous"], *announced}
        mirrored = [found for digest, found in epochs.items() if digest in in_redis]
        blobs = {each for found in mirrored for each in self._mirrored(found)}
        buckets = {
            each for found in mirrored for each in bucket_digests(found, self.store.get_blob)
        }
        stored = {each for found in epochs.values() for each in stored_digests(found)}
        stored.update(records, self._imported_lists())
        return _Kept(
            live, oldest, frozenset(epochs), frozenset(stored), frozenset(blobs), frozenset(buckets)
        )

    def _windows(self) -> list[windows.Windows]:
        """Give the windows of the live epoch, the one before it, and those that are served."""
        live = read_live(self.store, self.mirror, self.workspace)
        assert live is not None
        others = {each.digest for each in running_gateways(self.mirror, self.now)}
        found = [self._if_whole(each) for each in {*others, live.epoch["previous"]} - {b""}]
        return [live.tree["windows"], *(each.tree["windows"] for each in found if each)]

    def _read(self, digest: bytes) -> Publication:
        return read_publication(digest, self.store.get_blob)

    def _if_whole(self, digest: bytes) -> Publication | None:
        """Read an epoch that a gateway serves; None when this store no longer has it."""
        try:
            return self._read(digest)
        except (StoreError, FormatError):
            return None

    def _mirrored(self, publication: Publication) -> set[bytes]:
        found = mirrored_digests(publication.contents, publication.tree)
        return found | {publication.digest, publication.epoch["contents"]}

    def _imported_lists(self) -> Iterator[bytes]:
        for path in self.store.list_named("lists"):
            name = path.removeprefix("lists/").removesuffix(".json")
            found = read_stored_list(self.store, name)
            if found is not None:
                yield found.digest

    def _is_garbage(self, blob: StoredBlob, kept: _Kept) -> bool:
        age = self.now - blob.last_modified.timestamp()
        return blob.digest not in kept.store and age > YOUNG_SECONDS

    def _garbage_keys(self, kind: str, kept: frozenset[bytes]) -> Iterator[str]:
        for key in self.mirror.every(kind):
            try:
                digest = self.mirror.keys.digest(key)
            except ValueError:
                continue  # not written by us
            if digest not in kept:
                yield key

    def _delete_blobs(self, batch: list[StoredBlob], kept: _Kept) -> tuple[_Kept, list[StoredBlob]]:
        """Delete a batch from the store, or what of it is still garbage."""
        kept = self._current(kept)
        needed = kept.store.union(self._imported_lists())
        batch = [blob for blob in batch if blob.digest not in needed]
        held = {}
        for blob in batch:
            try:
                held[blob.digest] = self.store.get_blob(blob.digest)
            except (StoreError, FormatError):
                continue  # damaged, or gone already: nobody could use it
        self.store.delete_blobs([blob.digest for blob in batch])
        if self.mirror.pointer() == kept.live.pointer:
            # A list may have taken up a text that was just deleted.
            lists = held.keys() & set(self._imported_lists())
            self.store.put_blobs((digest, held[digest]) for digest in lists)
            return kept, [blob for blob in batch if blob.digest not in lists]
        # Another epoch is live: it may be made of what was just deleted. All of it goes back
        # before that epoch is read, and what nobody needs is found by the next gc.
        self.store.put_blobs(held.items())
        return self._current(kept), []

    def _delete_keys(self, group: Iterable[str], kept: _Kept) -> tuple[_Kept, int]:
        kept = self._current(kept)
        digest, prefix = self.mirror.keys.digest, self.mirror.keys.blob(b"")
        count = self.mirror.delete_many(
            key
            for key in group
            if digest(key) not in (kept.blobs if key.startswith(prefix) else kept.buckets)
        )
        while self.mirror.pointer() != kept.live.pointer:
            kept = self._current(kept)
            self._refill(kept.live)
        return kept, count

    def _current(self, kept: _Kept) -> _Kept:
        """Look again if the pointer has moved."""
        if self.mirror.pointer() == kept.live.pointer:
            return kept
        live = read_live(self.store, self.mirror, self.workspace)
        if live is None:
            raise Refused(f"Redis at {self.mirror.host} was emptied. Run `tidegate restore`.")
        return self._mark(live)

    def _refill(self, live: Publication) -> None:
        Filling(
            self.mirror, self.store.get_blobs, self._mirrored(live), live.contents["membership"]
        ).run()


def _sized(blobs: Iterable[StoredBlob]) -> Iterator[list[StoredBlob]]:
    """Cut into batches that may be held in memory."""
    batch: list[StoredBlob] = []
    size = 0
    for blob in blobs:
        if batch and (len(batch) == _BATCH_BLOBS or size + blob.size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(blob)
        size += blob.size
    if batch:
        yield batch
