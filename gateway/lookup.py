"""Bucket look-ups in Redis: those of all checks of one moment in one round trip.

A check asks (`begin` and `finish`, or `members`); what is asked gathers (round_trips.py), and
reader.py makes the round trips. A bucket that comes goes straight to the checks that wait for it,
without a future, a task or a turn of the loop: those would cost more than deciding does.

Nothing here waits without bound, and no exception reaches a check: an id that could not be looked
up in time is unknown, None, which the decision core knows how to treat. A bucket that is missing
or damaged is a fault, never "not a member".

Of an id that Redis has told of before, while its bucket was another one, that is not forgotten: it
is what was last known, written as the complement (~) of the mask, when Redis does not answer now.
So a push that changes the lists does not make an outage behind it one for all members.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from gateway import layout
from gateway.errors import FormatError
from gateway.keys import Keys
from gateway.metrics import Lookups
from gateway.reader import Reader, Value
from gateway.round_trips import RoundTrips, all_done, called

BATCH = 500
"""Buckets in one round trip: some 600 KB."""

ROUND_TRIPS = 4
"""Round trips under way at once; while all are, what is asked gathers for the next one."""

CONFIRMED = 100_000
"""Ids whose membership is remembered, some 30 MB."""

LOGGED = 1_000
FAILING = "look-ups in Redis fail; ids not confirmed before are unknown"
WORKING = "look-ups in Redis work again"

log = structlog.get_logger()


class Answer:
    """A bucket that was asked for; once `done`, `bucket` is its bytes, or None if none came."""

    __slots__ = ("_calls", "bucket", "digest", "done")

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.bucket: bytes | None = None
        self.done = False
        self._calls: list[Callable[[], None]] = []

    def then(self, call: Callable[[], None]) -> None:
        """Call when this is done, which it is not yet."""
        self._calls.append(call)

    def give(self, bucket: bytes | None) -> None:
        """Be done, and go on with whoever waits for this; one's failure is not the next one's."""
        self.bucket = bucket
        self.done = True
        calls, self._calls = self._calls, []
        for call in calls:
            try:
                call()
            except Exception:
                log.exception("a check failed after its look-up")


class Buckets(Protocol):
    """What a look-up needs of a snapshot."""

    contents: layout.Contents
    bits: dict[str, int]

    def bucket_of(self, hashed: int) -> bytes:
        """Give the digest of a hash's bucket."""
        ...

    def lists_of(self, hashed: int, bucket: bytes) -> int:
        """Read the mask of lists out of the bucket. Raises FormatError."""
        ...


class _Meaning:
    """What the bits of a mask mean: lists by name, read by the sets of lists with this digest.

    Nothing else of an epoch does: so a new check_after makes nobody be asked about again.
    """

    __slots__ = ("bits", "sets")

    def __init__(self, sets: bytes, bits: Mapping[str, int]) -> None:
        self.sets = sets
        self.bits = bits

    def is_of(self, snapshot: Buckets) -> bool:
        """Tell whether a snapshot's masks mean the same."""
        return self.sets == _sets(snapshot.contents) and self.bits == snapshot.bits


Asked = tuple[int, Answer]
"""The hash of an id, and the bucket that was asked for on its behalf."""


class _Trip:
    """A round trip: see reader.Trip, which this is."""

    __slots__ = ("_again", "_answers", "_keys", "_lookup", "left")

    def __init__(self, lookup: "Lookup", keys: Keys, answers: list[Answer]) -> None:
        self.left = len(answers)
        self._answers = answers
        self._keys = keys
        self._lookup = lookup
        self._again = True

    def wanted(self) -> list[bytes]:
        """Give the keys that are still to be read."""
        name = self._keys.bucket
        return [name(answer.digest).encode() for answer in self._answers[-self.left :]]

    def take(self, values: Sequence[Value]) -> None:
        """Take the next values."""
        begin = len(self._answers) - self.left
        self.left -= len(values)
        self._lookup.arrived(self._answers[begin : begin + len(values)], values, not self.left)

    def take_some(self, places: Sequence[int], values: Sequence[Value]) -> None:
        """Take values in any order."""
        self.left -= len(values)
        answers = [self._answers[place] for place in places]
        self._lookup.arrived(answers, values, not self.left)

    def fail(self, why: str) -> None:
        """Give up."""
        self._lookup.failed(self._answers[-self.left :], why)

    def once_more(self) -> bool:
        """Ask again once, while somebody waits."""
        again, self._again = self._again, False
        return again and not all_done(self._answers)


class Lookup:
    """The memberships of ids, from memory or from Redis."""

    def __init__(
        self, reader: Reader, keys: Keys, counts: Lookups, *, timeout_seconds: float, limit: int
    ) -> None:
        """`timeout_seconds` is the longest a check waits; `limit` bounds the buckets asked for."""
        self._reader = reader
        self._keys = keys
        self._counts = counts
        self._limit = limit
        self._trips = RoundTrips(
            self._begin, self._give, counts, timeout_seconds, BATCH, ROUND_TRIPS, FAILING, WORKING
        )
        self._waiting: dict[bytes, Answer] = {}
        # Ordered, as the oldest of a dict is found by walking over all that were deleted.
        self._confirmed: OrderedDict[int, tuple[bytes, int, _Meaning]] = OrderedDict()
        # What a mask means by the epoch that is served.
        self._contents: layout.Contents | None = None
        self._meaning = _Meaning(b"", {})
        self._logged: set[bytes] = set()

    async def members(self, snapshot: Buckets, hashes: Iterable[int]) -> dict[int, int | None]:
        """Give each hash its mask of lists.

        Where that could not be known in time, it is the complement of what was last known, or None.
        """
        found, asked = self.begin(snapshot, hashes)
        for _, answer in asked:
            if not answer.done:
                await called(answer.then)
        return self.finish(snapshot, found, asked)

    def begin(
        self, snapshot: Buckets, hashes: Iterable[int]
    ) -> tuple[dict[int, int | None], list[Asked]]:
        """Give what is known at once, and what Redis was asked for; `finish` takes both."""
        if snapshot.contents is not self._contents:
            self._contents = snapshot.contents
            if not self._meaning.is_of(snapshot):
                before = self._meaning.bits
                bits = before if before == snapshot.bits else snapshot.bits
                self._meaning = _Meaning(_sets(snapshot.contents), bits)
        found: dict[int, int | None] = {}
        asked: list[Asked] = []
        for hashed in hashes:
            self._counts.filter_hits += 1
            digest = snapshot.bucket_of(hashed)
            known = self._confirmed.get(hashed)
            if digest == layout.EMPTY_BUCKET:
                found[hashed] = 0
            elif known is not None and known[0] == digest and known[2] is self._meaning:
                self._counts.remembered += 1
                found[hashed] = known[1]
            elif (answer := self._ask(digest)) is None:
                found[hashed] = self._last_known(snapshot, hashed)
            else:
                asked.append((hashed, answer))
        return found, asked

    def finish(
        self, snapshot: Buckets, found: dict[int, int | None], asked: Iterable[Asked]
    ) -> dict[int, int | None]:
        """Add to `found` what was asked for; every answer must be done."""
        for hashed, answer in asked:
            mask = None if answer.bucket is None else self._read(snapshot, hashed, answer)
            found[hashed] = self._last_known(snapshot, hashed) if mask is None else mask
        return found

    def _last_known(self, snapshot: Buckets, hashed: int) -> int | None:
        """Give the complement of the mask that Redis told of before; None if it told none."""
        known = self._confirmed.get(hashed)
        if known is None:
            return None
        _, mask, meaning = known
        now = snapshot.bits
        if meaning.bits is not now and meaning.bits != now:
            before, mask = mask, 0
            for name, bit in meaning.bits.items():
                if before >> bit & 1 and name in now:
                    mask |= 1 << now[name]
        return ~mask

    async def close(self) -> None:
        """Forget what is asked for, and close the connections."""
        self._trips.close()
        await self._reader.close()

    def _read(self, snapshot: Buckets, hashed: int, answer: Answer) -> int | None:
        assert answer.bucket is not None
        try:
            mask = snapshot.lists_of(hashed, answer.bucket)
        except FormatError as fault:
            self._counts.damaged += 1
            self._log_once(answer.digest, f"a bucket of ids is damaged in Redis: {fault}")
            return None
        if not mask:
            self._counts.false_positives += 1
        meaning = self._meaning
        if snapshot.contents is self._contents or meaning.is_of(snapshot):
            # Else an epoch was swapped in meanwhile, by which the mask's bits mean other lists.
            if len(self._confirmed) >= CONFIRMED:
                self._confirmed.popitem(last=False)
            self._confirmed[hashed] = answer.digest, mask, meaning
        return mask

    def _ask(self, digest: bytes) -> Answer | None:
        """Ask for a bucket, or join those who did; None when it is not asked for at all."""
        answer = self._waiting.get(digest)
        if answer is not None:
            return answer
        answer = Answer(digest)
        if len(self._waiting) >= self._limit or not self._trips.ask(answer):
            self._counts.refused += 1
            return None
        self._waiting[digest] = answer
        return answer

    def _begin(self, answers: list[Answer]) -> None:
        self._reader.fetch(_Trip(self, self._keys, answers))

    def arrived(self, answers: list[Answer], values: Sequence[Value], whole: bool) -> None:
        """Hand on what a round trip has brought; when that is all of it, begin the next first."""
        self._trips.came(answers, values)
        if whole:
            self._trips.ended()
        for answer, value in zip(answers, values, strict=True):
            self._give(answer, self._bucket(answer.digest, value))

    def failed(self, answers: list[Answer], why: str) -> None:
        """Give up a round trip."""
        self._trips.failed(why)
        self._counts.errors += len(answers)
        for answer in answers:
            self._give(answer, None)
        self._trips.ended()

    def _give(self, answer: Answer, bucket: bytes | None) -> None:
        if self._waiting.get(answer.digest) is answer:
            del self._waiting[answer.digest]
        if not answer.done:
            answer.give(bucket)

    def _bucket(self, digest: bytes, value: object) -> bytes | None:
        if isinstance(value, bytes):
            return value
        if value is None:
            self._counts.missing += 1
            self._log_once(digest, "a bucket of ids is missing in Redis; `tidegate restore` it")
        return None

    def _log_once(self, digest: bytes, sentence: str) -> None:
        if digest not in self._logged and len(self._logged) < LOGGED:
            self._logged.add(digest)
            log.error(sentence, bucket=digest.hex())


def _sets(contents: layout.Contents) -> bytes:
    """Give the digest of the sets of lists; empty when there are none."""
    membership = contents["membership"]
    return b"" if membership is None else membership["sets"]
