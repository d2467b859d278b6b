"""The live epoch: Redis's pointer decides, and the store's `live` follows it.

A push commits by moving Redis's pointer; the store's `live` is moved after it. A push that was
killed in between leaves the store behind, and whoever reads the live epoch next heals that. The
other way round, a store ahead of Redis says that Redis has lost what it acknowledged.
"""

from collections.abc import Sequence
from contextlib import suppress

from compiler.publication.epoch import Publication, read_publication
from compiler.publication.mirror import Mirror
from compiler.publication.versions import note_versions, packages_of
from compiler.refusal import Refused
from compiler.storage.store import Store
from gateway.errors import FormatError
from gateway.pointer import decode_pointer

LIVE = "live"
"""The store's object that holds the pointer of the newest epoch known to be committed."""


class UnreadableError(FormatError):
    """The live epoch is damaged, or of another data format: only a forced push goes on from it."""


def stored_pointer(store: Store) -> bytes | None:
    """Read the store's pointer. Raises StoreError."""
    return store.get_named(LIVE)


def read_stored(store: Store, workspace: str) -> Publication | None:
    """Read the newest epoch that the store knows; None before the first.

    Raises StoreError and FormatError, and Refused for another workspace's store.
    """
    pointer = stored_pointer(store)
    return None if pointer is None else _read(store, pointer, workspace)


def read_live(store: Store, mirror: Mirror, workspace: str) -> Publication | None:
    """Read the live epoch, None before the first; a store that is behind is healed.

    Raises StoreError and FormatError; Refused when Redis has lost the epoch that the store knows,
    or when the store is not that of Redis's epoch.
    """
    for _ in range(8):
        stored, live = stored_pointer(store), mirror.pointer()
        if live is None or stored == live:
            break
        if stored is not None and decode_pointer(stored)[0] >= decode_pointer(live)[0]:
            break
        settle(store, mirror, workspace)
    if stored is None and live is None:
        return None
    if live is None or (stored is not None and _number(stored) > _number(live)):
        assert stored is not None
        _read(store, stored, workspace)  # refuses another workspace's store in its own words
        raise Refused(
            f"Redis at {mirror.host} {_shown(live)}, but the store {store.name} knows epoch "
            f"{_number(stored)}: Redis was emptied or set back. Run `tidegate restore` first."
        )
    if stored != live:
        raise _foreign_store(store, mirror, live)
    return _read(store, live, workspace)


def peek_live(store: Store, mirror: Mirror, workspace: str) -> Publication | None:
    """Read the live epoch as `read_live` does, but write nothing: a store may stay behind."""
    live, stored = mirror.pointer(), stored_pointer(store)
    if live is None and stored is None:
        return None
    if live is None:
        assert stored is not None
        known = _read(
            store, stored, workspace
        )  # refuses another workspace's store in its own words
        raise Refused(
            f"Redis at {mirror.host} has no epoch, but the store {store.name} knows epoch "
            f"{known.number}: Redis was emptied. Run `tidegate restore` first."
        )
    if not store.has_blob(decode_pointer(live)[1]):
        raise _foreign_store(store, mirror, live)
    return _read(store, live, workspace)


def newest_pointer(store: Store, mirror: Mirror) -> bytes | None:
    """Give the pointer with the highest number, of store and Redis. Raises as `read_live`."""
    found = [each for each in (stored_pointer(store), mirror.pointer()) if each is not None]
    return max(found, key=_number, default=None)


def is_behind(store: Store, pointer: bytes | None) -> bool:
    """Tell whether Redis, by its pointer, has no epoch or an older one of this very store."""
    stored = stored_pointer(store)
    if pointer is None or stored is None:
        return stored is not None
    number, digest = decode_pointer(pointer)
    return number < _number(stored) and store.has_blob(digest)


def settle(store: Store, mirror: Mirror, workspace: str, known: Sequence[Publication] = ()) -> None:
    """Let the store's ledger and `live` follow Redis's pointer, if that is ahead.

    Looked at again after writing: of two commands that write at once the slower one may have
    written an older pointer over a newer. `known` need not be read again, and what was there
    before need not be readable. Raises as `read_live`.
    """
    read = {each.pointer: each for each in known}
    while True:
        live, stored = mirror.pointer(), stored_pointer(store)
        if live is None or (stored is not None and _number(stored) >= _number(live)):
            return
        if not store.has_blob(decode_pointer(live)[1]):
            raise _foreign_store(store, mirror, live)
        now = read.get(live) or _read(store, live, workspace)
        before = None
        if stored is not None:
            with suppress(UnreadableError):
                before = (read.get(stored) or _read(store, stored, workspace)).tree
        note_versions(store, packages_of(now.tree, store.get_blob, before))
        store.put_named(LIVE, live)


def _read(store: Store, pointer: bytes, workspace: str) -> Publication:
    number, digest = decode_pointer(pointer)
    try:
        found = read_publication(digest, store.get_blob)
    except FormatError as fault:
        raise UnreadableError(
            f"Epoch {number} cannot be read: {fault}. Use the Tidegate that published it; or push "
            "the plan with --force, which starts over without its overrides."
        ) from fault
    if found.epoch["workspace"] != workspace:
        raise Refused(
            f"The store {store.name} holds the workspace {found.epoch['workspace']!r}, not "
            f"{workspace!r}. Name its own store with --store (TIDEGATE_STORE)."
        )
    if found.number != number:
        raise FormatError(f"The pointer says epoch {number}, but its epoch says {found.number}.")
    return found


def _number(pointer: bytes) -> int:
    return decode_pointer(pointer)[0]


def _shown(pointer: bytes | None) -> str:
    return "has no epoch" if pointer is None else f"is at epoch {_number(pointer)}"


def _foreign_store(store: Store, mirror: Mirror, live: bytes) -> Refused:
    return Refused(
        f"Redis at {mirror.host} is at epoch {_number(live)} ({decode_pointer(live)[1].hex()[:12]}"
        f"…), which the store {store.name} does not know. Is it the store of this Redis? "
        "Look at --store (TIDEGATE_STORE) and --redis (TIDEGATE_REDIS)."
    )
