"""Everything that must hold before an epoch is served, whatever it is loaded from. Pure.

loading = Loading(digest, rules, have)
while missing := loading.missing():
    loading.feed(… the blobs of those digests …)
snapshot = loading.build(previous)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway import layout, snapshot
from gateway.errors import FormatError, OtherFormatError, StoreError
from gateway.signing import PublicKey
from gateway.verify import verify_epoch


@dataclass(frozen=True, slots=True)
class Mark:
    """An epoch by number and digest of its E blob."""

    number: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """What a gateway demands of every epoch; `highest` is the highest that it has served.

    With `url_secret` it signs the CDN's URLs, where the epoch wants that.
    """

    workspace: str
    trusted: Sequence[PublicKey]
    highest: Mark | None
    url_secret: str | None = field(default=None, repr=False)


def hold_to_history(found: Mark, highest: Mark | None) -> None:
    """Refuse an epoch below the highest one served, or another one of its number. FormatError."""
    if highest is None or found == highest:
        return
    if found.number < highest.number:
        raise FormatError(
            f"epoch {found.number} is older than epoch {highest.number}, which was served here. "
            "To go back, publish the old content anew: tidegate revert"
        )
    if found.number == highest.number:
        raise FormatError(f"another epoch {found.number} was served here; numbers only grow")


class Loading:
    """One epoch on its way in; every blob is held to its digest."""

    def __init__(self, digest: bytes, rules: Rules, *have: Mapping[bytes, layout.Blob]) -> None:
        """`have` gives blobs that were verified before, by digest."""
        self.digest = digest
        self.blobs: dict[bytes, layout.Blob] = {}
        self.epoch: layout.Epoch | None = None
        self._rules = rules
        self._have = have
        self._contents: layout.Contents | None = None
        self._needed = [digest]

    def missing(self) -> list[bytes]:
        """Name the blobs to fetch next; none when all are here. Raises FormatError."""
        while True:
            for digest in self._needed:
                source = next((each for each in self._have if digest in each), None)
                if source is not None and digest not in self.blobs:
                    self.blobs[digest] = source[digest]
            missing = [digest for digest in dict.fromkeys(self._needed) if digest not in self.blobs]
            if missing or self._contents is not None:
                return missing
            self._look_further()

    def feed(self, found: Mapping[bytes, bytes]) -> None:
        """Take fetched blobs. Raises StoreError for bytes that are not those of their digest."""
        for digest, blob in found.items():
            if layout.digest_of(blob) != digest:
                raise StoreError(f"blob {digest.hex()} is damaged: its bytes have another digest")
            self.blobs[digest] = blob

    def build(
        self,
        previous: "snapshot.Snapshot | None",
        blobs: Mapping[bytes, layout.Blob] | None = None,
    ) -> "snapshot.Snapshot":
        """Build the snapshot, out of `blobs` if they are elsewhere by now. Raises FormatError."""
        assert self.epoch is not None
        assert self._contents is not None
        blob = (self.blobs if blobs is None else blobs).__getitem__
        return snapshot.build(
            self.digest, self.epoch, self._contents, blob, previous, self._rules.url_secret
        )

    def _look_further(self) -> None:
        """Read the blobs that name others: first the epoch, then its contents."""
        rules = self._rules
        if self.epoch is None:
            self.epoch = verify_epoch(
                self.blobs[self.digest],
                digest=self.digest,
                workspace=rules.workspace,
                trusted=rules.trusted,
            )
            hold_to_history(Mark(self.epoch["number"], self.digest), rules.highest)
            self._needed = [self.epoch["contents"]]
        else:
            self._contents = layout.decode(layout.Contents, self.blobs[self.epoch["contents"]])
            if self._contents["format"] not in layout.FORMATS:
                raise OtherFormatError(
                    f"epoch {self.epoch['number']} has contents in data format "
                    f"{self._contents['format']}, and {layout.FORMATS_READ}: push the plan anew "
                    "with the Tidegate before this one"
                )
            self._needed = snapshot.needed(self._contents)
