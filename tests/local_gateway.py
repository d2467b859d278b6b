"""A gateway in this process, over a real Redis: it loads what is live, and answers checks.

What it serves is built by the gateway's own parts, and its lists and seats are Redis's: only the
sockets are missing.
"""

from typing import TYPE_CHECKING, Any

import orjson

from gateway import layout
from gateway.keys import Keys
from gateway.link import SyncLink
from gateway.loading import Loading, Mark, Rules
from gateway.pointer import decode_pointer
from gateway.request import parse_body
from gateway.seating import SCRIPT, arguments
from gateway.signing import PublicKey

if TYPE_CHECKING:
    from gateway.snapshot import Snapshot


class LocalGateway:
    """Serves one workspace's live epoch, as of when `load` was last called."""

    def __init__(self, link: SyncLink, workspace: str, trusted: list[PublicKey]) -> None:
        """Trust these publishers alone."""
        self._redis: Any = link
        self._keys = Keys(workspace)
        self._rules = Rules(workspace, trusted, None)
        self._loading: Loading | None = None
        self._buckets = {layout.EMPTY_BUCKET: b""}
        self.snapshot: Snapshot | None = None

    def load(self) -> int:
        """Take the live epoch, as the next one of what it serves; give its number."""
        number, digest = decode_pointer(self._redis.get(self._keys.live))
        if self.snapshot is None or self.snapshot.digest != digest:
            have = self._loading.blobs if self._loading is not None else {}
            loading = Loading(digest, self._rules, have)
            while missing := loading.missing():
                found = self._redis.mget([self._keys.blob(each) for each in missing])
                assert None not in found, "Redis lacks a blob of the live epoch"
                loading.feed(dict(zip(missing, found, strict=True)))
            self.snapshot, self._loading = loading.build(self.snapshot), loading
            highest = Mark(self.snapshot.number, digest)
            self._rules = Rules(self._rules.workspace, self._rules.trusted, highest)
        assert self.snapshot.number == number
        return number

    def ask(self, phone: dict[str, Any], second: int, *, dry_run: bool = True) -> Any:
        """Answer a check."""
        assert self.snapshot is not None
        check = parse_body(orjson.dumps(phone), packed=False)
        members = {}
        for hashed in self.snapshot.probes(check):
            digest = self.snapshot.bucket_of(hashed)
            if digest not in self._buckets:
                found = self._redis.get(self._keys.bucket(digest))
                assert found is not None, "Redis lacks a bucket of the live epoch"
                self._buckets[digest] = found
            members[hashed] = self.snapshot.lists_of(hashed, self._buckets[digest])
        body, _ = self.snapshot.answer(check, members, second, msgpack=False)
        if not body:
            seats = {}
            for ask in self.snapshot.asks(check, members, second):
                at = self._redis.eval(SCRIPT, *arguments(self._keys, ask, dry_run=dry_run))
                if at > 0:
                    seats[ask.app] = ask.places[at - 1].rank
            body, _ = self.snapshot.answer(check, members, second, False, seats)
        return orjson.loads(body)
