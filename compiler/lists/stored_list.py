"""Lists that live outside Git: `tidegate allowlist` keeps their ids in the store.

    lists/NAME.json   the list's record: kind and number of its ids, and the digest of their text
    blobs/…           that text, sorted, one id a line; the same blob that an epoch has of a list

A change writes a new text, then moves the record by compare-and-set, so that of two operators who
change a list at once neither loses anything silently. The text is one blob, as the data format has
it: an id more in ten million writes 150 MB, which takes a second; `gc` deletes the old one.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from compiler.lists.allowlist import ListIds
from compiler.lists.amendment import Amended
from compiler.lists.shrinking import check_shrink
from compiler.plan import ListSource
from compiler.refusal import Refused
from compiler.storage.store import Store
from gateway.errors import FormatError

_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class StoredList:
    """A list's ids in the store: their kind, how many, their digest, and since when.

    `record` is the text of the record as it was read or written.
    """

    name: str
    of: str
    count: int
    digest: bytes
    time: int
    record: bytes


def _path(name: str) -> str:
    return f"lists/{name}.json"


def write_stored_list(
    store: Store,
    ids: ListIds,
    now: int,
    before: StoredList | None = None,
    *,
    allow_shrink: bool = False,
) -> StoredList:
    """Keep a list's ids in the place of `before` (None: there is no such list yet).

    `now` is in Unix seconds.

    Raises Refused when the list would lose half of its ids or more without `allow_shrink`, and
    when it is not `before` any more; StoreError.
    """
    _check_size(ids.name, before, ids.count, allow_shrink=allow_shrink)
    written = _swap(store, before, (ids.name, ids.of), ids.text, ids.count, now)
    if written is None:
        raise Refused(
            f"Somebody else has changed the list {ids.name} meanwhile, and nothing was written. "
            f"Look at `tidegate allowlist show {ids.name}`, then import again."
        )
    return written


def amend_stored_list(
    store: Store,
    name: str,
    amend: Callable[[bytes], Amended],
    now: int,
    *,
    allow_shrink: bool = False,
) -> tuple[StoredList, Amended]:
    """Change a list by `amend`, which is given its text; `now` is in Unix seconds.

    If somebody else changes the list meanwhile, both changes count. What changes nothing writes
    nothing. Raises Refused (no such list, or half of it gone without `allow_shrink`), StoreError
    and FormatError.
    """
    for _ in range(_ROUNDS):
        before = read_stored_list(store, name)
        if before is None:
            raise _unknown(name)
        amended = amend(store.get_blob(before.digest))
        if not amended.changed:
            return before, amended
        _check_size(name, before, amended.count, allow_shrink=allow_shrink)
        written = _swap(store, before, (name, before.of), amended.text, amended.count, now)
        if written is not None:
            return written, amended
    raise Refused(
        f"Others keep changing the list {name}, and nothing was written. Run the command again."
    )


def check_amendment(
    store: Store,
    name: str,
    amend: Callable[[bytes], Amended],
    given: int,
    *,
    allow_shrink: bool = False,
) -> None:
    """Refuse what `amend_stored_list` would, before it: with so many ids given, nothing is read.

    Only a list that they may halve is looked into. Raises as `amend_stored_list` does.
    """
    before = read_stored_list(store, name)
    if before is None:
        raise _unknown(name)
    if not allow_shrink and given * 2 >= before.count:
        _check_size(name, before, amend(store.get_blob(before.digest)).count, allow_shrink=False)


def read_stored_list(store: Store, name: str) -> StoredList | None:
    """Read what is known of a list, None when there is none. Raises StoreError, FormatError."""
    text = store.get_named(_path(name))
    if text is None:
        return None
    try:
        found = json.loads(text)
        return StoredList(
            name=name,
            of=str(found["of"]),
            count=int(found["count"]),
            digest=bytes.fromhex(found["digest"]),
            time=int(found["time"]),
            record=text,
        )
    except (ValueError, KeyError, TypeError):
        raise FormatError(
            f"{_path(name)} in the store {store.name} is damaged: import the list again"
        ) from None


def replaceable_list(store: Store, name: str) -> StoredList | None:
    """Read as read_stored_list does, for an import: a damaged record counts as one of no ids."""
    try:
        return read_stored_list(store, name)
    except FormatError:
        text = store.get_named(_path(name))
        return None if text is None else StoredList(name, "", 0, b"", 0, text)


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


def stored_size(store: Store, name: str) -> int:
    """Give the size of a list's text in bytes, 0 when there is none. Raises as reading does."""
    found = read_stored_list(store, name)
    return (store.size_blob(found.digest) or 0) if found is not None else 0


def as_data(found: StoredList) -> dict[str, object]:
    """Give what is known of a list as plain data for `--json`."""
    return {
        "list": found.name,
        "of": found.of,
        "count": found.count,
        "time": found.time,
        "digest": found.digest,
    }


def _unknown(name: str) -> Refused:
    return Refused(
        f"The store has no list {name}. Run: tidegate allowlist import {name} FILE --of user"
    )


def _check_size(name: str, before: StoredList | None, count: int, *, allow_shrink: bool) -> None:
    if before is not None and not allow_shrink and check_shrink(name, before.count, count):
        raise Refused(
            f"The list {name} would shrink from {before.count:,} to {count:,} ids. "
            "Are these all that were meant? If so, say --allow-shrink."
        )


def _swap(
    store: Store,
    before: StoredList | None,
    kind: tuple[str, str],
    text: bytes,
    count: int,
    now: int,
) -> StoredList | None:
    """Write a text and move the record to it; None when the record is not `before` any more."""
    name, of = kind
    digest = store.put_blob(text)
    found = {"of": of, "count": count, "digest": digest.hex(), "time": now}
    record = json.dumps(found, sort_keys=True).encode()
    if not store.swap_named(_path(name), before.record if before is not None else None, record):
        return None
    # An old text was there already, and gc may have deleted it before it could see the record.
    if not store.has_blob(digest):
        store.put_blob(text)
    return StoredList(name, of, count, digest, now, record)
