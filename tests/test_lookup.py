"""Look-ups: gathered, bounded, remembered; whatever Redis does, a check is answered in time."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

import gateway.lookup
from epochs import Made, make_epoch
from gateway import layout
from gateway.breaker import REST_SECONDS, THRESHOLD, Breaker
from gateway.check import Check
from gateway.errors import FormatError
from gateway.hashing import id_hash, id_seed
from gateway.keys import Keys
from gateway.link import connect_node, parse_url
from gateway.lookup import BATCH, ROUND_TRIPS, Lookup
from gateway.metrics import Lookups
from gateway.reader import NodeReader, Trip
from gateway.request import parse_body
from gateway.snapshot import Snapshot
from in_process import snapshot_of
from processes import RedisServer, redis_server

KEYS = Keys("demo")
USERS = tuple(f"u-{at}" for at in range(100))
SEED = id_seed("demo", "user")
MEMBER = id_hash("u-1", SEED)
PATIENT = 20.0
"""Seconds that a look-up waits where none is to be late, on however slow a machine."""


class Buckets:
    """A snapshot in which each hash has a bucket of its own, of the mask's byte."""

    def __init__(self, sets: bytes = b"one", lists: str = "abc", settings: bytes = b"some") -> None:
        self.contents: Any = {"settings": settings, "membership": {"sets": sets}}
        self.bits = {list_: at for at, list_ in enumerate(lists)}

    def bucket_of(self, hashed: int) -> bytes:
        """Name the hash's own bucket."""
        return layout.EMPTY_BUCKET if hashed == 0 else hashed.to_bytes(16, "big")

    def lists_of(self, hashed: int, bucket: bytes) -> int:
        """Read the mask, which is the bucket's only byte."""
        if len(bucket) != 1:
            raise FormatError("this bucket is damaged")
        return bucket[0]


class FakeReader:
    """Answers round trips from `values` when `gate` is open; `fault` fails them."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.trips: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def fetch(self, trip: Trip) -> None:
        """Begin a round trip."""
        self.trips.append(trip.left)
        self._tasks.add(asyncio.create_task(self._answer(trip)))

    async def close(self) -> None:
        """Fail what is under way."""
        for task in self._tasks:
            task.cancel()

    async def _answer(self, trip: Trip) -> None:
        await self.gate.wait()
        if self.fault is not None:
            trip.fail(self.fault)
            return
        values = [self.values.get(key) for key in trip.wanted()]
        half = len(values) // 2  # a long answer comes in pieces
        for piece in (values[:half], values[half:]):
            if piece:
                trip.take(piece)


class Clock:
    """A clock for an event loop, put `ahead` by hand."""

    def __init__(self, real: Callable[[], float]) -> None:
        self._real = real
        self.ahead = 0.0

    def __call__(self) -> float:
        """Give the second."""
        return self._real() + self.ahead


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the event loop's clock stand still but for what it is put ahead."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    found = Clock(lambda: began)
    monkeypatch.setattr(loop, "time", found)
    return found


async def turns() -> None:
    """Let what was begun go as far as it can by itself."""
    for _ in range(10):
        await asyncio.sleep(0)


def fake_lookup(fake: FakeReader, *, timeout: float = PATIENT, limit: int = 10_000) -> Lookup:
    """Make a Lookup over a fake Redis."""
    return Lookup(fake, KEYS, Lookups(), timeout_seconds=timeout, limit=limit)


def give(fake: FakeReader, hashed: int, bucket: bytes) -> None:
    """Put a bucket into the fake Redis."""
    fake.values[KEYS.bucket(Buckets().bucket_of(hashed)).encode()] = bucket


async def test_all_checks_of_one_moment_share_a_round_trip() -> None:
    """What a thousand checks ask in one turn of the loop leaves together, each bucket once."""
    fake = FakeReader()
    for hashed in range(1, 301):
        give(fake, hashed, bytes([hashed % 7]))
    lookup = fake_lookup(fake)
    answers = await asyncio.gather(
        *(lookup.members(Buckets(), (1 + at % 300, 0)) for at in range(1_000))
    )
    assert fake.trips == [300]
    for at, answer in enumerate(answers):
        assert answer == {1 + at % 300: (1 + at % 300) % 7, 0: 0}


async def test_round_trips_are_bounded_in_size() -> None:
    """More buckets than a round trip may carry are spread over several."""
    fake = FakeReader()
    lookup = fake_lookup(fake)
    await asyncio.gather(*(lookup.members(Buckets(), (at,)) for at in range(1, 1_201)))
    assert sum(fake.trips) == 1_200
    assert max(fake.trips) == BATCH


async def test_a_confirmed_id_is_remembered_while_its_bucket_is_the_same() -> None:
    """A membership once read outlives Redis, and what it was after a push that changes lists.

    That is told apart, as the complement of the mask, by the lists' names.
    """
    fake = FakeReader()
    give(fake, 5, b"\x03")
    lookup = fake_lookup(fake)
    assert await lookup.members(Buckets(), (5,)) == {5: 3}
    fake.fault = "away"
    assert await lookup.members(Buckets(), (5,)) == {5: 3}
    assert await lookup.members(Buckets(b"other sets"), (5, 6)) == {5: ~3, 6: None}
    # a and b held it: b is the first bit now, and a is gone.
    assert await lookup.members(Buckets(b"other lists", "bcd"), (5,)) == {5: ~1}
    assert await lookup.members(Buckets(b"and others", "xyz"), (5,)) == {5: ~0}
    assert await lookup.members(Buckets(), (5,)) == {5: ~3}
    fake.fault = None
    lookup._trips._breaker.succeeded()
    assert await lookup.members(Buckets(), (5,)) == {5: 3}


async def test_a_push_that_leaves_the_lists_alone_makes_nobody_be_asked_again() -> None:
    """Whatever it does to the other settings: in an outage behind it members are as certain."""
    fake = FakeReader()
    give(fake, 5, b"\x03")
    lookup = fake_lookup(fake)
    assert await lookup.members(Buckets(), (5,)) == {5: 3}
    assert await lookup.members(Buckets(settings=b"check_after"), (5,)) == {5: 3}
    assert fake.trips == [1]
    assert await lookup.members(Buckets(lists="bcd"), (5,)) == {5: 3}
    assert fake.trips == [1, 1]


async def test_what_was_asked_under_old_lists_is_not_remembered_under_new_ones() -> None:
    """A look-up that a swap overtakes answers its own check, and is not kept for later ones."""
    fake = FakeReader()
    give(fake, 5, b"\x03")
    give(fake, 6, b"\x01")
    fake.gate.clear()
    lookup = fake_lookup(fake)
    old = asyncio.create_task(lookup.members(Buckets(b"old"), (5,)))
    await turns()
    new = asyncio.create_task(lookup.members(Buckets(b"new"), (6,)))
    await turns()
    fake.gate.set()
    assert await old == {5: 3}
    assert await new == {6: 1}
    fake.fault = "away"
    assert await lookup.members(Buckets(b"new"), (5, 6)) == {5: None, 6: 1}


async def test_a_slow_redis_makes_ids_unknown_in_time(clock: Clock) -> None:
    """After the time-out an id is unknown, and a check waits no longer than that."""
    fake = FakeReader()
    fake.gate.clear()
    lookup = fake_lookup(fake, timeout=0.02)
    asked = asyncio.create_task(lookup.members(Buckets(), (5, 6)))
    await turns()
    clock.ahead += 0.019
    await turns()
    assert not asked.done()
    clock.ahead += 0.002
    assert await asked == {5: None, 6: None}
    assert lookup._counts.timeouts == 2
    await lookup.close()


async def test_redis_is_left_alone_after_repeated_failures(clock: Clock) -> None:
    """While Redis is left alone nothing is sent and nobody waits; afterwards one try is made."""
    fake = FakeReader()
    fake.fault = "away"
    lookup = fake_lookup(fake)
    for at in range(1, 11):
        assert await lookup.members(Buckets(), (at,)) == {at: None}
    assert len(fake.trips) == THRESHOLD
    assert lookup._counts.refused == 10 - THRESHOLD
    clock.ahead += REST_SECONDS
    fake.fault = None
    give(fake, 5, b"\x01")
    assert await lookup.members(Buckets(), (5,)) == {5: 1}
    give(fake, 6, b"\x01")
    assert await lookup.members(Buckets(), (6,)) == {6: 1}


async def test_one_stall_is_one_failure(clock: Clock) -> None:
    """Many turns that wait for the same stall do not count as repeated time-outs."""
    fake = FakeReader()
    fake.gate.clear()
    lookup = fake_lookup(fake, timeout=1)  # which all turns begin within
    tasks = []
    for at in range(1, 11):
        tasks.append(asyncio.create_task(lookup.members(Buckets(), (at,))))
        await turns()
        clock.ahead += 0.002
    assert len(fake.trips) == ROUND_TRIPS
    while not all(task.done() for task in tasks):
        clock.ahead += 0.01
        await turns()
    assert lookup._trips._breaker._failures == 1
    await lookup.close()


async def test_the_queue_is_bounded() -> None:
    """Beyond the limit an id is unknown at once, instead of waiting in line."""
    fake = FakeReader()
    fake.gate.clear()
    lookup = fake_lookup(fake, limit=3)
    waiting = [asyncio.create_task(lookup.members(Buckets(), (at,))) for at in (1, 2, 3)]
    await turns()
    assert await lookup.members(Buckets(), (4,)) == {4: None}
    fake.gate.set()
    await asyncio.gather(*waiting)
    assert lookup._counts.refused == 1


async def test_who_waits_for_a_bucket_fails_alone() -> None:
    """A check that breaks when its bucket comes takes neither the others' answers nor Redis."""
    fake = FakeReader()
    give(fake, 5, b"\x01")
    lookup = fake_lookup(fake)
    snapshot = Buckets()
    _, asked = lookup.begin(snapshot, (5,))
    asked[0][1].then(lambda: {}["a bug"])
    assert await lookup.members(snapshot, (5,)) == {5: 1}
    give(fake, 6, b"\x01")
    assert await lookup.members(snapshot, (6,)) == {6: 1}


async def test_what_is_asked_meanwhile_gathers() -> None:
    """Only so many round trips are under way at once; the rest leaves with the next one."""
    fake = FakeReader()
    fake.gate.clear()
    lookup = fake_lookup(fake)
    tasks = []
    for at in range(1, 11):
        tasks.append(asyncio.create_task(lookup.members(Buckets(), (at,))))
        await turns()
    assert fake.trips == [1] * ROUND_TRIPS
    fake.gate.set()
    await asyncio.gather(*tasks)
    assert fake.trips == [1] * ROUND_TRIPS + [10 - ROUND_TRIPS]


async def test_the_oldest_confirmed_id_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: what was confirmed first is forgotten first, and asked for again."""
    monkeypatch.setattr(gateway.lookup, "CONFIRMED", 3)
    fake = FakeReader()
    lookup = fake_lookup(fake)
    for at in range(1, 6):
        give(fake, at, b"\x01")
        await lookup.members(Buckets(), (at,))
    fake.fault = "away"
    found = await lookup.members(Buckets(), range(1, 6))
    assert found == {1: None, 2: None, 3: 1, 4: 1, 5: 1}


async def test_a_missing_or_damaged_bucket_is_a_fault_and_no_stranger() -> None:
    """A bucket that must be there and is not makes its ids unknown, never "not a member"."""
    fake = FakeReader()
    give(fake, 6, b"longer than one byte")
    give(fake, 7, b"\x00")
    lookup = fake_lookup(fake)
    assert await lookup.members(Buckets(), (5, 6, 7)) == {5: None, 6: None, 7: 0}
    counts = lookup._counts
    assert (counts.missing, counts.damaged, counts.false_positives) == (1, 1, 1)


async def test_a_cancelled_check_takes_nobody_with_it() -> None:
    """A client that goes away does not spoil what others wait for in the same bucket."""
    fake = FakeReader()
    give(fake, 5, b"\x01")
    fake.gate.clear()
    lookup = fake_lookup(fake)
    gone = asyncio.create_task(lookup.members(Buckets(), (5,)))
    stays = asyncio.create_task(lookup.members(Buckets(), (5,)))
    await turns()
    gone.cancel()
    await turns()
    fake.gate.set()
    assert await stays == {5: 1}


def test_the_breaker_opens_rests_and_tries_once() -> None:
    """Closed, open, one try, open again, closed: by its own table, with the times passed in."""
    breaker = Breaker()
    for _ in range(THRESHOLD):
        assert breaker.allows(10.0)
        breaker.failed(10.0)
    assert not breaker.allows(10.0 + REST_SECONDS / 2)
    assert breaker.allows(10.0 + REST_SECONDS)
    assert not breaker.allows(10.0 + REST_SECONDS)  # the one try is under way
    breaker.failed(11.5)
    assert not breaker.allows(11.5 + REST_SECONDS / 2)
    assert breaker.allows(11.5 + REST_SECONDS)
    breaker.succeeded()
    assert breaker.allows(12.6)
    assert breaker.allows(12.6)


@pytest.fixture(scope="module")
def made() -> Made:
    """Make an epoch with a list of 100 users."""
    return make_epoch(staff=USERS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a Redis."""
    with redis_server(tmp_path) as running:
        yield running


def check_of(user: str) -> Check:
    """Make a user's check."""
    body = orjson.dumps({"user": user, "apps": {"2021000000000001": None}})
    return parse_body(body, packed=False)


async def masks(lookup: Lookup, snapshot: Snapshot, users: tuple[str, ...]) -> list[int | None]:
    """Look up users as the server does, 0 for whom the filter does not let through."""
    found = []
    for user in users:
        probes = snapshot.probes(check_of(user))
        members = await lookup.members(snapshot, probes) if probes else {}
        found.append(members.get(id_hash(user, SEED), 0))
    return found


async def test_a_real_redis_tells_members_from_strangers(server: RedisServer, made: Made) -> None:
    """Law 4: no member is missed and no stranger let in, over a real Redis."""
    with server.client() as client:
        made.write(client)
    lookup = real_lookup(server)
    snapshot = snapshot_of(made)
    strangers = tuple(f"s-{at}" for at in range(1_000))
    assert await masks(lookup, snapshot, USERS) == [1] * len(USERS)
    assert await masks(lookup, snapshot, strangers) == [0] * len(strangers)
    await lookup.close()


async def test_redis_killed_hung_emptied_and_back(
    server: RedisServer, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 9: whatever happens to Redis, look-ups answer, and recover without a restart."""
    with server.client() as client:
        made.write(client)
    lookup = real_lookup(server)
    snapshot = snapshot_of(made)

    async def known(user: str) -> None:
        async with asyncio.timeout(PATIENT):
            while await masks(lookup, snapshot, (user,)) != [1]:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.1)

    assert await masks(lookup, snapshot, ("u-1",)) == [1]
    server.kill()
    assert await masks(lookup, snapshot, ("u-1", "u-2")) == [1, None]
    server.start()  # empty
    missing = lookup._counts.missing
    async with asyncio.timeout(PATIENT):
        while lookup._counts.missing == missing:
            assert await masks(lookup, snapshot, ("u-1", "u-2")) == [1, None]
            await asyncio.sleep(0.1)
    with server.client() as client:
        made.write(client)
    await known("u-2")
    server.signal(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    clock = Clock(loop.time)
    monkeypatch.setattr(loop, "time", clock)
    asked = asyncio.create_task(masks(lookup, snapshot, ("u-1", "u-3")))
    await turns()
    clock.ahead += PATIENT
    assert await asked == [1, None]
    server.signal(signal.SIGCONT)
    await known("u-3")
    await lookup.close()


def real_lookup(server: RedisServer) -> Lookup:
    """Make a Lookup over a real Redis, which may be slow, as the test machine may."""
    link = connect_node(parse_url(server.url), None, timeout_seconds=PATIENT)
    reader = NodeReader(link, PATIENT)
    return Lookup(reader, KEYS, Lookups(), timeout_seconds=PATIENT, limit=1_000)
