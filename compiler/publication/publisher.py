"""Publication: blobs first, then one pointer, by compare-and-set.

    1  refuse what may not be published (freshness.py, versions.py, gateways.py)
    2  the image's blobs and the signed epoch to the store, those that the live epoch lacks
    3  the same to Redis, with the buckets; then look that everything is there
    4  make the records of new time windows, and hold in those that are to seat fewer (windows.py)
    5  move Redis's pointer, if it still is the one that was read before 1: the commit point
    6  look again, as a `gc` may have run; the ledger and the store's `live`; the windows that are
       to seat more; a notice

Killed before 5, a push leaves the old epoch served and only some blobs that gc will find; killed
after 5, the next command does what is left of 6 (live.py; windows: the next push).
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from compiler.image import Image
from compiler.progress import Progress, quiet
from compiler.publication import windows
from compiler.publication.checkout import Checkout
from compiler.publication.difference import compare, shown
from compiler.publication.epoch import (
    Publication,
    described,
    mirrored_digests,
    published_digests,
    read_publication,
    stored_digests,
)
from compiler.publication.filling import Filled, Filling
from compiler.publication.freshness import check_base, check_overrides, check_shrink
from compiler.publication.gateways import check_formats, running_gateways
from compiler.publication.live import (
    UnreadableError,
    newest_pointer,
    read_live,
    settle,
    stored_pointer,
)
from compiler.publication.mirror import Mirror
from compiler.publication.publisher_key import PublisherKey
from compiler.publication.versions import check_versions, packages_of
from compiler.refusal import Refused
from compiler.storage.store import Store
from gateway import layout
from gateway.errors import FormatError, StoreError
from gateway.link import SyncLink
from gateway.pointer import decode_pointer, encode_pointer

_STORE_ROUNDS = 3
_LAST_NUMBER = 1 << 50  # what a gateway says above this is nonsense, and would end the numbers


_Written = tuple[tuple[int, int], Filled]  # blobs to the store and their bytes; to Redis


@dataclass(frozen=True, slots=True)
class Published:
    """The live epoch after a push. `already`: it published the same before, nothing is new.

    `stored` counts the blobs that were written to the store, `blobs` and `buckets` what was
    written to Redis; `stored_bytes` and `redis_bytes` are their sizes.
    """

    number: int
    digest: bytes
    already: bool
    stored: int
    blobs: int
    buckets: int
    stored_bytes: int
    redis_bytes: int


class LostRaceError(Refused):
    """Somebody else's epoch became live during the push; `winner` is what they published."""

    def __init__(self, message: str, winner: Publication | None) -> None:
        super().__init__(message)
        self.winner = winner


def publish(
    image: Image,
    *,
    store: Store,
    link: SyncLink,
    key: PublisherKey,
    workspace: str,
    now: int,
    note: str = "",
    checkout: Checkout | None = None,
    commit: str | None = None,
    base: int | None = None,
    force: bool = False,
    allow_shrink: bool = False,
    again: bool = False,
    onto: Publication | None = None,
    progress: Progress = quiet,
) -> Published:
    """Publish an image as the next epoch; see the module's text for the order of things.

    `now` is in Unix seconds. `commit` is noted in the epoch; by default that of `checkout`. What
    is live already becomes a new epoch only with `again`, as for another key. Over a live epoch
    that cannot be read `force` starts over: without its overrides, on its number. `onto` is the
    live epoch for which the image was made, its overrides settled: if another is live meanwhile,
    that one has won, even over `force`. Of an image that was relaid from it, only what is new is
    written and looked at. Raises Refused (LostRaceError if another push won), StoreError and
    FormatError; after none of them but a StoreError that says so has the epoch become live.
    """
    mirror = Mirror(link, workspace)
    check_redis(mirror)
    live, over, replaced = onto, None, mirror.pointer()
    if onto is None or not mirror.pointer() == stored_pointer(store) == onto.pointer:
        try:
            live = read_live(store, mirror, workspace)
        except UnreadableError:
            if onto is not None or not force:
                raise
            over = newest_pointer(store, mirror)
    gateways = running_gateways(mirror, now)
    check_formats(gateways)
    push = _Push(image, store, mirror, workspace, live, progress, replaced)
    if onto is not None and live is not None and live.digest != onto.digest:
        raise replace(push, live=onto).lost(live.pointer)
    if live is not None and live.epoch["contents"] == image.root and not again:
        written = push.write(live.digest)
        windows.settle(mirror, store.get_blob)
        return _published(live.number, live.digest, written, already=True)
    check_base(live, checkout, base, force=force)
    check_shrink(live, image.tree, allow_shrink=allow_shrink)
    if onto is None:
        check_overrides(live, image.tree)
    known = live.tree if live is not None else None
    check_versions(store, packages_of(image.tree, image.blobs.__getitem__, known))
    # A gateway never goes below what it has served, even if Redis lost that pointer meanwhile.
    served = (each.epoch for each in gateways if each.epoch < _LAST_NUMBER)
    last, previous = decode_pointer(over) if over is not None else (0, b"")
    if live is not None:
        last, previous = live.number, live.digest
    epoch: layout.Epoch = {
        "format": layout.FORMAT,
        "workspace": workspace,
        "number": max([last, *served]) + 1,
        "previous": previous,
        "contents": image.root,
        "author": key.name,
        "time": now,
        "note": note,
        "commit": commit if commit is not None else checkout.commit if checkout else "",
    }
    return push.commit(epoch, sign(epoch, key))


def sign(epoch: layout.Epoch, key: PublisherKey) -> bytes:
    """Make the E blob of an epoch."""
    text = layout.pack_map(epoch)
    signed: layout.Signed = {
        "epoch": text,
        "key": key.raw,
        "signature": key.sign(layout.SIGNED_CONTEXT + text),
    }
    return layout.encode(layout.Signed, signed)


def check_redis(mirror: Mirror) -> None:
    """Raise Refused for a Redis that may evict keys: a bucket gone is no "not a member"."""
    evicting = mirror.evicting_policies()
    if evicting:
        raise Refused(
            f"Redis at {mirror.host} may delete keys when its memory is full (maxmemory-policy "
            f"{', '.join(evicting)}). Type: redis-cli CONFIG SET maxmemory-policy noeviction, "
            "and write `maxmemory-policy noeviction` into its redis.conf."
        )


@dataclass(frozen=True, slots=True)
class _Push:
    """One push on its way; `live` is the epoch that it wants to follow, None if there is none."""

    image: Image
    store: Store
    mirror: Mirror
    workspace: str
    live: Publication | None
    progress: Progress
    replaced: bytes | None
    """Redis's pointer, where no live epoch can be read."""

    def __post_init__(self) -> None:
        settings = layout.decode(layout.Settings, self.image.blobs[self.image.contents["settings"]])
        if settings["workspace"] != self.workspace:
            raise Refused(
                f"This plan is of the workspace {settings['workspace']!r}, not of "
                f"{self.workspace!r}. Look at workspace.yaml and --workspace."
            )

    def commit(self, epoch: layout.Epoch, blob: bytes) -> Published:
        """Write, look, and move the pointer."""
        digest = layout.digest_of(blob)
        written = self.write(digest, blob)
        old = self.live.pointer if self.live is not None else self.replaced
        new = encode_pointer(epoch["number"], digest)
        before = self.live.tree["windows"] if self.live is not None else {}
        try:
            windows.prepare(self.mirror, before, self.image.tree["windows"], self.store.get_blob)
            found = self.mirror.swap_pointer(old, new, epoch["number"])
            if found != new:
                raise self.lost(found)
        except Refused:
            with suppress(StoreError, FormatError):  # else the next publication does it
                windows.settle(self.mirror, self.store.get_blob)
            raise
        try:
            self.write(digest, blob)
            ours = Publication(digest, epoch, self.image.contents, self.image.tree)
            known = [ours] if self.live is None else [self.live, ours]
            settle(self.store, self.mirror, self.workspace, known)
            windows.settle(self.mirror, self.store.get_blob, known)
        except (StoreError, FormatError) as fault:
            raise StoreError(
                f"Epoch {epoch['number']} is live, but not all of the work after that is done: "
                f"{fault} Then push again: nothing new is published, and the rest is done."
            ) from fault
        with suppress(StoreError):  # gateways poll
            self.mirror.give_notice(new)
        return _published(epoch["number"], digest, written, already=False)

    def write(self, digest: bytes, blob: bytes | None = None) -> _Written:
        """Give store and Redis what they lack, until nothing lacks; count what was written.

        `digest` and `blob` are the epoch's; without `blob` the epoch is live already, and its
        blob comes from the store.
        """
        stored = self._store_blobs({} if blob is None else {digest: blob})

        def fetch(digests: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
            for each in digests:
                if each == digest:
                    yield each, blob if blob is not None else self.store.get_blob(each)
                else:
                    yield each, self.image.blobs[each]

        needed = mirrored_digests(self.image.contents, self.image.tree)
        # What a relaid image has not made is the live epoch's, and gc keeps it.
        needed &= self.image.blobs.keys()
        needed |= {digest, self.image.root}
        membership = self.image.contents["membership"]
        if membership is not None and membership["sets"] not in self.image.blobs:
            membership = None
        filling = Filling(self.mirror, fetch, needed, membership, self.progress)
        return stored, filling.run()

    def _store_blobs(self, extra: dict[bytes, bytes]) -> tuple[int, int]:
        # What the live epoch needs is there by construction, and gc keeps it.
        kept = stored_digests(self.live) if self.live is not None else set()
        if self.live is not None and self.live.epoch["contents"] == self.image.root:
            kept = set()  # said again: the moment to find out what got lost
        ours = {self.image.root, *published_digests(self.image.contents, self.image.tree)} - kept
        lacking = (ours & self.image.blobs.keys()) | extra.keys()
        total, done, written, written_bytes = len(lacking), 0, 0, 0

        def count(size: int) -> None:
            nonlocal done, written_bytes
            done += 1
            written_bytes += size
            self.progress("store: blobs", min(done, total), total)

        for _ in range(_STORE_ROUNDS):
            blobs = ((each, extra.get(each) or self.image.blobs[each]) for each in lacking)
            written += self.store.put_blobs(blobs, count)
            lacking = lacking - self.store.has_blobs(lacking)
            if not lacking:
                return written, written_bytes
        raise StoreError(
            f"The store {self.store.name} loses blobs that were just written. "
            "Look whether something else deletes them."
        )

    def lost(self, found: bytes) -> LostRaceError:
        """Tell who was faster and what they changed."""
        if not found:
            return LostRaceError(
                f"Redis at {self.mirror.host} was emptied during this push. "
                "Run `tidegate restore`, then push again.",
                None,
            )
        try:
            number, digest = decode_pointer(found)
            winner = read_publication(digest, self.store.get_blob)
        except (FormatError, StoreError):
            return LostRaceError(
                f"Another push was faster: the pointer is now {found[:80].decode(errors='replace')}"
                ". Run `tidegate diff`, then push again.",
                None,
            )
        changes = shown(compare(self.live, winner, self.store.get_blob))
        return LostRaceError(
            f"Another push was faster: {described(winner.epoch)} is live now. It changed:\n"
            f"{changes}\nNothing of yours is published. Take it into your plan, look at "
            f"`tidegate diff`, then push again (with --base {number} outside Git).",
            winner,
        )


def _published(number: int, digest: bytes, written: _Written, *, already: bool) -> Published:
    (stored, stored_bytes), filled = written
    return Published(
        number,
        digest,
        already,
        stored,
        filled.blobs,
        filled.buckets,
        stored_bytes,
        filled.bytes,
    )
