"""Bucket look-ups in Redis: those of all checks of one moment in one round trip.

A check asks (`begin` and `finish`, or `members`); what is asked in one turn of the event loop
leaves together, as a pipeline of single-key reads (on a Cluster one a node). Nothing here waits
without bound, and no exception reaches a check: an id that could not be looked up in time is
unknown, None, which the decision core knows how to treat. A bucket that is missing or damaged is a
fault, never "not a member".
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway import layout
from gateway.breaker import Breaker
from gateway.errors import FormatError
from gateway.keys import Keys
from gateway.link import AsyncLink
from gateway.metrics import Lookups

BATCH = 500
"""Buckets in one round trip: some 600 KB."""

ROUND_TRIPS = 4
"""Round trips under way at once; while all are, what is asked gathers for the next one."""

ROUND_TRIP_SECONDS = 1.0
"""When a round trip is given up; the checks that asked have long been answered."""

CONFIRMED = 100_000
"""Ids whose membership is remembered, some 25 MB."""

LOGGED = 1_000

log = structlog.get_logger()

Answer = asyncio.Future[bytes | None]


class Buckets(Protocol):
    """What a look-up needs of a snapshot."""

    contents: layout.Contents

    def bucket_of(self, hashed: int) -> bytes:
        """Give the digest of a hash's bucket."""
        ...

    def lists_of(self, hashed: int, bucket: bytes) -> int:
        """Read the mask of lists out of the bucket. Raises FormatError."""
        ...


class Asked(NamedTuple):
    """A bucket that was asked for on behalf of an id; `answer` is its bytes, or None."""

    hashed: int
    digest: bytes
    answer: Answer


class Lookup:
    """The memberships of ids, from memory or from Redis."""

    def __init__(
        self, link: AsyncLink, keys: Keys, counts: Lookups, *, timeout_seconds: float, limit: int
    ) -> None:
        """`timeout_seconds` is the longest a check waits; `limit` bounds the buckets asked for."""
        # A connection that died while idle is worth one more try, at once; more is the breaker's.
        link.set_retry(Retry(NoBackoff(), 1))
        self._link = link
        self._keys = keys
        self._counts = counts
        self._timeout = timeout_seconds
        self._limit = limit
        self._breaker = Breaker()
        self._failed_at = 0.0
        self._failing = False
        self._waiting: dict[bytes, Answer] = {}
        self._turn: dict[bytes, Answer] = {}
        self._queue: deque[tuple[bytes, Answer]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._confirmed: dict[int, tuple[bytes, int]] = {}
        self._meaning: tuple[bytes, bytes] = (b"", b"")
        self._logged: set[bytes] = set()

    async def members(self, snapshot: Buckets, hashes: Iterable[int]) -> dict[int, int | None]:
        """Give each hash its mask of lists, or None where it could not be known in time."""
        found, asked = self.begin(snapshot, hashes)
        if asked:
            # Unlike `await answer`, this does not cancel what other checks wait for too.
            await asyncio.wait({each.answer for each in asked})
        return self.finish(snapshot, found, asked)

    def begin(
        self, snapshot: Buckets, hashes: Iterable[int]
    ) -> tuple[dict[int, int | None], list[Asked]]:
        """Give what is known at once, and what Redis was asked for; `finish` takes both."""
        meaning = _meaning(snapshot)
        if meaning != self._meaning:
            self._meaning = meaning
            self._confirmed.clear()
        found: dict[int, int | None] = {}
        asked: list[Asked] = []
        for hashed in hashes:
            digest = snapshot.bucket_of(hashed)
            known = self._confirmed.get(hashed)
            if digest == layout.EMPTY_BUCKET:
                found[hashed] = 0
            elif known is not None and known[0] == digest:
                self._counts.remembered += 1
                found[hashed] = known[1]
            elif (answer := self._ask(digest)) is None:
                found[hashed] = None
            else:
                asked.append(Asked(hashed, digest, answer))
        return found, asked

    def finish(
        self, snapshot: Buckets, found: dict[int, int | None], asked: Iterable[Asked]
    ) -> dict[int, int | None]:
        """Add to `found` what was asked for; every answer must be done."""
        for hashed, digest, answer in asked:
            bucket = answer.result()
            found[hashed] = None if bucket is None else self._read(snapshot, hashed, digest, bucket)
        return found

    async def close(self) -> None:
        """Give up what is under way and close the connections."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._link.aclose()

    def _read(self, snapshot: Buckets, hashed: int, digest: bytes, bucket: bytes) -> int | None:
        try:
            mask = snapshot.lists_of(hashed, bucket)
        except FormatError as fault:
            self._counts.damaged += 1
            self._log_once(digest, f"a bucket of ids is damaged in Redis: {fault}")
            return None
        if not mask:
            self._counts.false_positives += 1
        if _meaning(snapshot) == self._meaning:  # an epoch may have been swapped in meanwhile
            if len(self._confirmed) >= CONFIRMED:
                del self._confirmed[next(iter(self._confirmed))]
            self._confirmed[hashed] = digest, mask
        return mask

    def _ask(self, digest: bytes) -> Answer | None:
        """Ask for a bucket, or join those who did; None when it is not asked for at all."""
        answer = self._waiting.get(digest)
        if answer is not None:
            return answer
        loop = asyncio.get_running_loop()
        if len(self._waiting) >= self._limit or not (
            self._turn or self._breaker.allows(loop.time())
        ):
            self._counts.refused += 1
            return None
        if not self._turn:
            loop.call_soon(self._end_turn)
        self._waiting[digest] = self._turn[digest] = answer = loop.create_future()
        return answer

    def _end_turn(self) -> None:
        loop = asyncio.get_running_loop()
        turn, self._turn = self._turn, {}
        loop.call_later(self._timeout, self._expire, turn, loop.time())
        self._counts.buckets += len(turn)
        self._queue.extend(turn.items())
        self._send()

    def _send(self) -> None:
        while self._queue and len(self._under_way) < ROUND_TRIPS:
            batch: list[tuple[bytes, Answer]] = []
            while self._queue and len(batch) < BATCH:
                digest, answer = self._queue.popleft()
                if not answer.done():  # else it waited too long in the queue
                    batch.append((digest, answer))
            if batch:
                task = asyncio.get_running_loop().create_task(self._round_trip(batch))
                self._under_way.add(task)
                task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            self._send()

    async def _round_trip(self, batch: list[tuple[bytes, Answer]]) -> None:
        self._counts.round_trips += 1
        values: list[object]
        try:
            async with asyncio.timeout(ROUND_TRIP_SECONDS):
                pipeline = self._link.pipeline(transaction=False)
                for digest, _ in batch:
                    pipeline.get(self._keys.bucket(digest))
                values = await pipeline.execute(raise_on_error=False)
        except Exception as fault:  # noqa: BLE001 - law 9: whatever it is, no check fails of it
            values = [fault] * len(batch)
        faults = [value for value in values if isinstance(value, Exception)]
        if len(faults) == len(values):
            self._fail(str(faults[0]) or type(faults[0]).__name__)
        elif any(not answer.done() for _, answer in batch):  # it was in time for somebody
            self._succeed()
        for (digest, answer), value in zip(batch, values, strict=True):
            if self._waiting.get(digest) is answer:
                del self._waiting[digest]
            if not answer.done():
                answer.set_result(self._bucket(digest, value))

    def _bucket(self, digest: bytes, value: object) -> bytes | None:
        if isinstance(value, bytes):
            return value
        if value is None:
            self._counts.missing += 1
            self._log_once(digest, "a bucket of ids is missing in Redis; `tidegate restore` it")
        else:
            self._counts.errors += 1
        return None

    def _expire(self, turn: dict[bytes, Answer], asked_at: float) -> None:
        late = 0
        for digest, answer in turn.items():
            if not answer.done():
                late += 1
                self._waiting.pop(digest, None)
                answer.set_result(None)
        self._counts.timeouts += late
        # Turns that waited for the same stall are one failure, not as many as there were turns.
        if late and asked_at >= self._failed_at:
            self._fail(f"no answer within {self._timeout * 1000:.0f} ms")

    def _fail(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        self._failed_at = now
        self._breaker.failed(now)
        if not self._failing:
            self._failing = True
            log.warning("look-ups in Redis fail; ids not confirmed before are unknown", why=reason)

    def _succeed(self) -> None:
        self._breaker.succeeded()
        if self._failing:
            self._failing = False
            log.info("look-ups in Redis work again")

    def _log_once(self, digest: bytes, sentence: str) -> None:
        if digest not in self._logged and len(self._logged) < LOGGED:
            self._logged.add(digest)
            log.error(sentence, bucket=digest.hex())


def _meaning(snapshot: Buckets) -> tuple[bytes, bytes]:
    """Tell what a mask's bits depend on besides the bucket: the lists, and the sets of lists."""
    membership = snapshot.contents["membership"]
    return snapshot.contents["settings"], b"" if membership is None else membership["sets"]
