"""The history: epochs chained by digest, walked from the newest back through the store.

    collected    the store's object with the number of the oldest epoch that `gc` has kept

What lies before that number was collected, and a chain that ends there is whole; one that ends
anywhere else is broken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from compiler.progress import Progress, quiet
from compiler.publication.difference import Difference, compare, summary
from compiler.publication.epoch import Publication, read_epoch, read_publication, stored_digests
from compiler.publication.mirror import batches
from compiler.refusal import Refused
from compiler.storage.store import Store
from gateway import layout
from gateway.errors import FormatError, OtherFormatError, StoreError
from gateway.signing import PublicKey, key_id, verify

COLLECTED = "collected"

_BLOBS_AT_ONCE = 256


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

    `difference` is None when it was not asked for, and when that epoch was collected.
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


@dataclass(frozen=True, slots=True)
class Verified:
    """What `history verify` found: how many epochs are sound, and the first break, if any."""

    epochs: int
    end: End
    fault: str | None


def oldest_kept(store: Store) -> int:
    """Give the number below which epochs were collected; 1 if none was. Raises FormatError."""
    text = store.get_named(COLLECTED)
    if text is None:
        return 1
    if not text.strip().isdigit():
        raise FormatError(f'"{COLLECTED}" in the store {store.name} holds no number.')
    return int(text)


def walk(store: Store, digest: bytes) -> Iterator[Link | End]:
    """Give the chain from the epoch of this digest back, and last why it ends.

    Raises StoreError if the first is missing, FormatError if it cannot be read.
    """
    oldest = oldest_kept(store)
    signed, epoch = read_epoch(store.get_blob(digest))
    while True:
        yield Link(digest, epoch, signed)
        digest = epoch["previous"]
        if not digest:
            yield End.FIRST
            return
        if epoch["number"] <= oldest:
            yield End.COLLECTED
            return
        if not store.has_blob(digest):
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
    store: Store, newest: bytes, *, limit: int | None = None, differences: bool = True
) -> History:
    """List the epochs from `newest` (a digest) back, at most `limit` of them.

    Raises StoreError and FormatError.
    """
    links: list[Link] = []
    end = End.LIMIT
    for found in walk(store, newest):
        if isinstance(found, End):
            end = found
        elif limit is not None and len(links) == limit:
            # The one before the last that is shown: only for that one's difference.
            links.append(found)
            break
        else:
            links.append(found)
    shown = links[:limit]
    publications = _Publications(store) if differences else None
    entries = []
    for at, link in enumerate(shown):
        before = links[at + 1] if at + 1 < len(links) else None
        told = None
        if publications is not None and (before is not None or not link.epoch["previous"]):
            told = publications.summary(before, link)
        entries.append(_entry(link, told))
    return History(tuple(entries), end)


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


def verify_history(
    store: Store,
    newest: bytes,
    workspace: str,
    *,
    trusted: Sequence[PublicKey] = (),
    progress: Progress = quiet,
) -> Verified:
    """Check the whole chain: digests of all blobs, signatures, numbers, workspace, authors.

    With `trusted` keys each epoch must be signed by one of them under its own name. The first
    break, from the newest back, ends the walk and is told in `fault`. Raises StoreError when the
    store is away.
    """
    checked: set[bytes] = set()
    sound, above = 0, None
    try:
        for found in walk(store, newest):
            if isinstance(found, End):
                broken = found in (End.LOST, End.DAMAGED)
                fault = f"Epoch {above}: {found.value}." if broken else None
                return Verified(sound, found, fault)
            fault = _link_fault(found, above, workspace, trusted)
            fault = fault or _blobs_fault(store, found, checked)
            if fault is not None:
                return Verified(sound, End.LIMIT, f"Epoch {found.number}: {fault}")
            sound, above = sound + 1, found.number
            progress("epochs", sound, sound)
    except (FormatError, StoreError) as damaged:
        where = "The newest epoch" if above is None else f"The epoch before {above}"
        return Verified(sound, End.LIMIT, f"{where}: {damaged}")
    raise AssertionError("a walk ends with its End")


def _link_fault(
    link: Link, above: int | None, workspace: str, trusted: Sequence[PublicKey]
) -> str | None:
    epoch, signed = link.epoch, link.signed
    if not verify(signed["key"], signed["signature"], layout.SIGNED_CONTEXT + signed["epoch"]):
        return "its signature does not hold."
    if epoch["workspace"] != workspace:
        return f"it is of the workspace {epoch['workspace']!r}."
    if above is not None and epoch["number"] >= above:
        return f"its number does not fall: the one after it is {above}."
    names = [key.name for key in trusted if key.raw == signed["key"]]
    if trusted and not names:
        return f"it is signed by key {key_id(signed['key'])}, which is not trusted."
    if names and names[0] != epoch["author"]:
        return f"it names {epoch['author']} as its author, but the key is that of {names[0]}."
    return None


def _blobs_fault(store: Store, link: Link, checked: set[bytes]) -> str | None:
    """Read every blob of an epoch that was not read yet; say what is missing or damaged."""
    try:
        needed = stored_digests(read_publication(link.digest, store.get_blob)) - checked
        for batch in batches(sorted(needed), _BLOBS_AT_ONCE):
            for digest, _ in store.get_blobs(batch):
                checked.add(digest)
    except (FormatError, StoreError) as fault:
        return str(fault)
    return None


class _Publications:
    """Reads each epoch's contents once while the history goes down the chain."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: Publication | None = None

    def summary(self, before: Link | None, after: Link) -> str | None:
        try:
            old = self._read(before) if before is not None else None
            new = (
                self._last
                if self._last is not None and self._last.digest == after.digest
                else self._read(after)
            )
            self._last = old
            return summary(compare(old, new, self._store.get_blob))
        except (FormatError, StoreError) as fault:
            return f"cannot be told: {fault}"

    def _read(self, link: Link) -> Publication:
        return read_publication(link.digest, self._store.get_blob)


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
