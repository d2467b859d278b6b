"""`tidegate restore`: an emptied, or damaged, Redis is filled from the store.

The epoch keeps its number and digest. What is there and whole is left alone, so that a restore
that was interrupted can be run again; the pointer moves last, as in a push.
"""

from contextlib import suppress
from dataclasses import dataclass

from compiler.progress import Progress, quiet
from compiler.publication import windows
from compiler.publication.epoch import mirrored_digests
from compiler.publication.filling import Filling
from compiler.publication.live import read_stored, settle
from compiler.publication.mirror import Mirror
from compiler.publication.publisher import check_redis
from compiler.refusal import Refused
from compiler.storage.store import Store
from gateway.errors import StoreError
from gateway.link import SyncLink


@dataclass(frozen=True, slots=True)
class Restored:
    """What Redis serves now, how many keys were written to it, and whether its pointer moved."""

    number: int
    digest: bytes
    blobs: int
    buckets: int
    moved: bool


def restore(
    *, store: Store, link: SyncLink, workspace: str, progress: Progress = quiet
) -> Restored:
    """Fill Redis with the newest epoch that was committed, and let its pointer name it.

    Every key is read back and compared with its digest. Raises Refused when there is nothing to
    restore, when Redis may evict keys, or serves an epoch that this store does not know;
    StoreError and FormatError.
    """
    mirror = Mirror(link, workspace)
    check_redis(mirror)
    settle(store, mirror, workspace)  # if Redis is the one that is ahead
    live = read_stored(store, workspace)
    if live is None:
        raise Refused(
            f"The store {store.name} has no epoch to restore. Is --store (TIDEGATE_STORE) right?"
        )
    old = mirror.pointer()
    digests = mirrored_digests(live.contents, live.tree)
    digests |= {live.digest, live.epoch["contents"]}
    written = Filling(
        mirror, store.get_blobs, digests, live.contents["membership"], progress, deep=True
    ).run()
    found = mirror.swap_pointer(old, live.pointer, live.number)
    if found != live.pointer:
        raise Refused(
            f"Redis at {mirror.host} says {found[:80].decode(errors='replace') or 'nothing'} where "
            f"the store {store.name} says {live.pointer.decode()}: somebody pushed meanwhile, or "
            "this is not its store. Look at `tidegate history`, then run it again."
        )
    windows.settle(mirror, store.get_blob, [live])  # their records may be older, too
    if old != live.pointer:
        with suppress(StoreError):  # a hint only: gateways poll
            mirror.give_notice(live.pointer)
    return Restored(
        live.number, live.digest, written.blobs, written.buckets, moved=old != live.pointer
    )
