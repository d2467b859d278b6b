"""Lists that live outside Git: `tidegate allowlist import` keeps their ids in the store."""

import json
from dataclasses import dataclass

from compiler.lists.allowlist import ListIds
from compiler.plan import ListSource
from compiler.storage.store import Store
from gateway.errors import FormatError


@dataclass(frozen=True, slots=True)
class StoredList:
    """A list's ids in the store: their kind, how many, their digest, and when they came."""

    name: str
    of: str
    count: int
    digest: bytes
    time: int


def _path(name: str) -> str:
    return f"lists/{name}.json"


def write_stored_list(store: Store, ids: ListIds, now: int) -> StoredList:
    """Keep a list's ids. `now` is in Unix seconds. Raises StoreError."""
    digest = store.put_blob(ids.text)
    found = {"of": ids.of, "count": ids.count, "digest": digest.hex(), "time": now}
    store.put_named(_path(ids.name), json.dumps(found, sort_keys=True).encode())
    return StoredList(ids.name, ids.of, ids.count, digest, now)


def read_stored_list(store: Store, name: str) -> StoredList | None:
    """Read what is known of a list, None when there is none. Raises StoreError, FormatError."""
    text = store.get_named(_path(name))
    if text is None:
        return None
    try:
        found = json.loads(text)
        digest = bytes.fromhex(found["digest"])
        return StoredList(name, str(found["of"]), int(found["count"]), digest, int(found["time"]))
    except (ValueError, KeyError, TypeError):
        raise FormatError(
            f"{_path(name)} in the store {store.name} is damaged: import the list again"
        ) from None


def stored_ids(store: Store, source: ListSource) -> ListIds | str:
    """Give the ids of a list with `stored: true`, or the sentence that says why not."""
    found = read_stored_list(store, source.name)
    if found is None:
        return (
            f'The store has no list "{source.name}". '
            f"Run: tidegate allowlist import {source.name} FILE --of {source.of}"
        )
    if found.of != source.of:
        return (
            f'The stored list "{source.name}" holds {found.of} ids, the plan says {source.of}. '
            f"Write `of: {found.of}`, or import the list again."
        )
    text = store.get_blob(found.digest)
    return ListIds(source.name, source.of, found.count, 0, 0, text, ())
