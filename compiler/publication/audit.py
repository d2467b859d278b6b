"""Checking the whole chain: that it was not altered, and what each key has signed.

Nothing in the store is believed but what a signature covers: records chained by digest, and the
blobs that they name. Two things no signature can tell, so the auditor says them: until when a key
counted that is revoked by now, and a record that was noted elsewhere (an anchor), without which
whoever holds a trusted key could offer another chain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from compiler.progress import Progress, quiet
from compiler.publication.epoch import read_publication, stored_digests
from compiler.publication.history import End, Link, oldest_kept, walk
from compiler.publication.mirror import batches
from compiler.storage.store import Store
from gateway import layout
from gateway.errors import FormatError, StoreError
from gateway.pointer import encode_pointer
from gateway.signing import PublicKey, key_id, verify

_BLOBS_AT_ONCE = 256


@dataclass(slots=True)
class Signed:
    """What one key has signed: so many epochs, from number `first` to `last`, times in seconds."""

    key_id: str
    author: str
    last: int
    last_time: int
    first: int
    first_time: int
    epochs: int = 0


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found: how many epochs are sound, and the first break, if any.

    Of so many `records` `gc` has kept nothing but the signed record. `keys` has what each key has
    signed, the latest first; `newest` the number and digest to note down as an anchor.
    """

    epochs: int
    end: End
    fault: str | None
    records: int = 0
    keys: tuple[Signed, ...] = ()
    newest: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the chain is held to. With `trusted` keys each epoch is signed by one, in its name.

    `revoked` maps names of keys to the last epoch in which each counted; `anchors` numbers of
    epochs to the digests that were noted of them.
    """

    workspace: str
    trusted: Sequence[PublicKey] = ()
    revoked: Mapping[str, int] = field(default_factory=dict)
    anchors: Mapping[int, bytes] = field(default_factory=dict)


def verify_history(
    store: Store, newest: bytes, expected: Expected, progress: Progress = quiet
) -> Verified:
    """Check the whole chain: digests of all blobs, signatures, numbers, workspace, authors.

    The first break, from the newest back, ends the walk and is told in `fault`. Raises StoreError
    when the store is away.
    """
    check = _Check(store, expected)
    try:
        for found in walk(store, newest, records=True):
            if isinstance(found, End):
                return check.verdict(found, check.fault_at(found))
            fault = check.fault_of(found)
            if fault is not None:
                return check.verdict(End.LIMIT, f"Epoch {found.number}: {fault}")
            check.count(found)
            progress("epochs", check.sound, check.sound)
    except (FormatError, StoreError) as damaged:
        above = check.above
        where = "The newest epoch" if above is None else f"The epoch before {above}"
        return check.verdict(End.LIMIT, f"{where}: {damaged}")
    raise AssertionError("a walk ends with its End")


class _Check:
    """A walk under way."""

    def __init__(self, store: Store, expected: Expected) -> None:
        self.sound = 0
        self.above: int | None = None
        self._store = store
        self._expected = expected
        self._oldest = oldest_kept(store)
        self._read: set[bytes] = set()
        self._records = 0
        self._keys: dict[bytes, Signed] = {}
        self._anchors = dict(expected.anchors)
        self._newest = ""

    def count(self, link: Link) -> None:
        """Note a sound epoch."""
        self.sound, self.above = self.sound + 1, link.number
        self._records += link.number < self._oldest
        self._newest = self._newest or encode_pointer(link.number, link.digest).decode()
        self._anchors.pop(link.number, None)
        raw, author, time = link.signed["key"], link.epoch["author"], link.epoch["time"]
        new = Signed(key_id(raw), author, link.number, time, link.number, time)
        found = self._keys.setdefault(raw, new)
        found.first, found.first_time = link.number, time
        found.epochs += 1

    def verdict(self, end: End, fault: str | None) -> Verified:
        """Sum up."""
        keys = tuple(self._keys.values())
        return Verified(self.sound, end, fault, self._records, keys, self._newest)

    def fault_at(self, end: End) -> str | None:
        """Say what is wrong with a chain that ends so."""
        if end in (End.LOST, End.DAMAGED):
            return f"Epoch {self.above}: {end.value}."
        if self._anchors:
            return f"Epoch {max(self._anchors)}: it was noted, and is not in this history."
        return None

    def fault_of(self, link: Link) -> str | None:
        """Say what is wrong with an epoch, from its record to the blobs that it names."""
        found = self._fault_of_record(link) or self._fault_of_key(link)
        return found or self._fault_of_blobs(link)

    def _fault_of_record(self, link: Link) -> str | None:
        epoch, signed, expected = link.epoch, link.signed, self._expected
        if not verify(signed["key"], signed["signature"], layout.SIGNED_CONTEXT + signed["epoch"]):
            return "its signature does not hold."
        if epoch["workspace"] != expected.workspace:
            return f"it is of the workspace {epoch['workspace']!r}."
        if self.above is not None and epoch["number"] >= self.above:
            return f"its number does not fall: the one after it is {self.above}."
        noted = self._anchors.get(link.number)
        if noted not in (None, link.digest):
            return f"its digest is {link.digest.hex()}, and another one was noted."
        return None

    def _fault_of_key(self, link: Link) -> str | None:
        epoch, signed, expected = link.epoch, link.signed, self._expected
        author = epoch["author"]
        names = [key.name for key in expected.trusted if key.raw == signed["key"]]
        if expected.trusted and not names:
            return f"it is signed by key {key_id(signed['key'])}, which is not trusted."
        if names and names[0] != author:
            return f"it names {author} as its author, but the key is that of {names[0]}."
        until = expected.revoked.get(author)
        if until is not None and link.number > until:
            return f"it is signed by the key of {author}, which was revoked after epoch {until}."
        return None

    def _fault_of_blobs(self, link: Link) -> str | None:
        """Read every blob of an epoch that was not read yet; say what is missing or damaged."""
        if link.number < self._oldest:
            return None
        try:
            found = read_publication(link.digest, self._store.get_blob)
            needed = stored_digests(found) - self._read
            for batch in batches(sorted(needed), _BLOBS_AT_ONCE):
                for digest, _ in self._store.get_blobs(batch):
                    self._read.add(digest)
        except (FormatError, StoreError) as fault:
            return str(fault)
        return None
