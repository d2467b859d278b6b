"""The history: epochs chained by digest, walked from the newest back through the store.

    collected    the store's object with the number of the oldest epoch that `gc` has kept

Before that number `gc` has kept the signed records alone (the E blobs: who, when, why, with which
key), so that the chain goes back to the first epoch. Where an older `gc` took those too, a chain
that ends there is whole; one that ends anywhere else is broken.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from compiler.publication.difference import Difference, compare, summary
from compiler.publication.epoch import Publication, read_epoch, read_publication
from compiler.refusal import Refused
from compiler.storage.store import Store
from gateway import layout
from gateway.errors import FormatError, OtherFormatError, StoreError
from gateway.signing import key_id

COLLECTED = "collected"


class End(Enum):
    """Where the walk ended; the value is said to people."""

    FIRST = "that is the first epoch"
    COLLECTED = "older epochs were collected"
    LIMIT = "there are older epochs"
    OTHER_FORMAT = "the epochs before are in a data format that this Tidegate does not read"
    DAMAGED = "the epoch before is damaged"
    LOST = "the epoch before is missing from the store"


@dataclass(frozen=True, slots=True)
class Link:
    """One epoch of the chain, as its E blob says; `key` is the raw public key that signed it."""

    digest: bytes
    epoch: layout.Epoch
    signed: layout.Signed

    @property
    def number(self) -> int:
        """The epoch's number."""
        return self.epoch["number"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history; `time` in Unix seconds, `difference` against the one before it.

    `difference` is None when it was not asked for, and when either of them was collected.
    """

    number: int
    digest: str
    time: int
    author: str
    key_id: str
    note: str
    commit: str
    difference: str | None


@dataclass(frozen=True, slots=True)
class History:
    """The newest epoch first, and why there is nothing after the last."""

    entries: tuple[Entry, ...]
    end: End


def oldest_kept(store: Store) -> int:
    """Give the number below which epochs were collected; 1 if none was. Raises FormatError."""
    text = store.get_named(COLLECTED)
    if text is None:
        return 1
    if not text.strip().isdigit():
        raise FormatError(f'"{COLLECTED}" in the store {store.name} holds no number.')
    return int(text)


def walk(store: Store, digest: bytes, *, records: bool = False) -> Iterator[Link | End]:
    """Give the chain from the epoch of this digest back, and last why it ends.

    With `records`, also the epochs of which `gc` has kept nothing else. Raises StoreError if the
    first is missing, FormatError if it cannot be read.
    """
    oldest = oldest_kept(store)
    signed, epoch = read_epoch(store.get_blob(digest))
    while True:
        yield Link(digest, epoch, signed)
        digest = epoch["previous"]
        if not digest:
            yield End.FIRST
            return
        was_collected = epoch["number"] <= oldest
        if was_collected and not (records and store.has_blob(digest)):
            yield End.COLLECTED
            return
        if not was_collected and not store.has_blob(digest):
            yield End.LOST
            return
        try:
            signed, epoch = read_epoch(store.get_blob(digest))
        except OtherFormatError:
            yield End.OTHER_FORMAT
            return
        except FormatError:
            yield End.DAMAGED
            return


def read_history(
    store: Store,
    newest: bytes,
    *,
    limit: int | None = None,
    differences: bool = True,
    key: str = "",
) -> History:
    """List the epochs from `newest` (a digest) back, at most `limit` of them.

    With `key` those alone that were signed by an author of this name, or by a key whose id begins
    so. Raises StoreError and FormatError.
    """
    entries: list[Entry] = []
    summarize = _summaries(store) if differences else None
    after: Link | None = None

    def enter(link: Link, before: Link | None) -> None:
        if not _is_by(link, key):
            return
        told = None
        if summarize is not None and (before is not None or not link.epoch["previous"]):
            told = summarize(before, link)
        entries.append(_entry(link, told))

    for found in walk(store, newest, records=True):
        if isinstance(found, End):
            if after is not None:
                enter(after, None)
            return History(tuple(entries), found)
        if after is not None:
            enter(after, found)
        after = found
        if len(entries) == limit:
            break
    return History(tuple(entries), End.LIMIT)


def _is_by(link: Link, key: str) -> bool:
    return key == link.epoch["author"] or key_id(link.signed["key"]).startswith(key)


def find_record(store: Store, newest: bytes, number: int) -> Link | None:
    """Find what is recorded of epoch `number`, also where `gc` has kept nothing else of it."""
    for found in walk(store, newest, records=True):
        if isinstance(found, End) or found.number < number:
            break
        if found.number == number:
            return found
    return None


def find_epoch(store: Store, newest: bytes, number: int) -> Publication:
    """Read epoch `number` of the chain that ends in `newest`. Raises Refused if it has none."""
    latest, end = None, End.FIRST
    for found in walk(store, newest):
        if isinstance(found, End):
            end = found
            break
        latest = latest or found.number
        if found.number == number:
            return read_publication(found.digest, store.get_blob)
        if found.number < number:
            break
    if number > (latest or 0):
        raise Refused(f"There is no epoch {number} yet: the newest is {latest}.")
    kept = oldest_kept(store)
    if 0 < number < kept:
        raise Refused(f"Epoch {number} was collected; the oldest that is kept is {kept}.")
    if end in (End.OTHER_FORMAT, End.DAMAGED):
        raise Refused(f"Epoch {number} cannot be read: {end.value}. See `tidegate history`.")
    raise Refused(f"There is no epoch {number}. See `tidegate history`.")


def difference_of(store: Store, newest: bytes, first: int, second: int) -> Difference:
    """Compare two epochs of the chain, by number. Raises as `find_epoch`."""
    before, after = (find_epoch(store, newest, number) for number in (first, second))
    return compare(before, after, store.get_blob)


def _summaries(store: Store) -> Callable[[Link | None, Link], str | None]:
    """Give what tells the difference of two neighbours, for going down the chain.

    Each epoch's contents are read once. Of what was collected nothing is told.
    """
    last: list[Publication] = []
    oldest = oldest_kept(store)

    def summarize(before: Link | None, after: Link) -> str | None:
        if after.number < oldest or (before is not None and before.number < oldest):
            return None
        try:
            old = read_publication(before.digest, store.get_blob) if before is not None else None
            known = [each for each in last if each.digest == after.digest]
            new = known[0] if known else read_publication(after.digest, store.get_blob)
            last[:] = [] if old is None else [old]
            return summary(compare(old, new, store.get_blob))
        except (FormatError, StoreError) as fault:
            return f"cannot be told: {fault}"

    return summarize


def _entry(link: Link, difference: str | None) -> Entry:
    epoch = link.epoch
    return Entry(
        link.number,
        link.digest.hex(),
        epoch["time"],
        epoch["author"],
        key_id(link.signed["key"]),
        epoch["note"],
        epoch["commit"],
        difference,
    )
