"""What counts under a guardrail: reports of those to whom the release was offered lately, once."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from epochs import APP, WORKSPACE
from gateway import claims, guarding
from gateway.claims import MOST_OFFERS, MOST_REPORTS, TRIES, Claims
from gateway.guarding import DAY_SECONDS, Guarding
from gateway.hashing import id_hash
from gateway.keys import Keys
from gateway.link import RedisFault, connect_async, parse_url
from gateway.metrics import Metrics
from gateway.report import Place
from gateway.sums import Sums
from processes import RedisServer

KEYS = Keys(WORKSPACE)
RELEASE = (APP, "canary")
FAILED, INSTALLED = (Place(APP, "canary", event) for event in ("failed", "installed"))
MADE_UP = 100_000
NOW = time.time()


def device(number: int) -> int:
    """Hash a device."""
    return id_hash(f"d-{number}", 1)


@pytest.fixture
def redis(server: RedisServer) -> Any:
    """Give a client of an empty Redis."""
    with server.client() as client:
        client.flushall()
        yield client


@asynccontextmanager
async def adding(url: str, told: Claims) -> AsyncIterator[Guarding]:
    """Connect a process's claims to Redis, as sums.py does."""
    link = connect_async(parse_url(url), timeout_seconds=20, once=True)
    sums = Sums(link, KEYS, Metrics())
    try:
        yield Guarding(sums._send, KEYS, told)
    finally:
        await sums.close()


def counted(client: Any, *places: Place, now: float = NOW) -> int:
    """Ask for the distinct subjects that count in the minute of a moment."""
    return int(client.pfcount(*(KEYS.guard(*place, int(now) // 60) for place in places)))


async def test_only_whom_it_was_offered_to_counts_once_a_kind(
    server: RedisServer, redis: Any
) -> None:
    """What others say counts nowhere, and who says it twice, or to two gateways, is one."""
    first, second = Claims(), Claims()
    async with adding(server.url, first) as one, adding(server.url, second) as other:
        for number in range(100):
            first.offer(RELEASE, device(number))
        first.offer((APP, "another"), device(500))
        await one.add(NOW)
        for _ in range(2):
            for told in (first, second):
                for number in (*range(50), 500, 501):
                    told.report(FAILED, device(number))
                    told.report(INSTALLED, device(number + 50))
            await one.add(NOW)
            await other.add(NOW)
        for _ in range(TRIES):
            await one.add(NOW)
            await other.add(NOW)
    assert counted(redis, FAILED) == pytest.approx(50, abs=1)
    assert counted(redis, FAILED, INSTALLED) == pytest.approx(100, abs=1)
    assert 0 < redis.ttl(KEYS.guard(*FAILED, int(NOW) // 60)) <= 86_400


async def test_made_up_ids_count_for_nothing(server: RedisServer, redis: Any) -> None:
    """However many an attacker sends while a canary is offered: not one of them."""
    told = Claims()
    async with adding(server.url, told) as one:
        for number in range(1_000):
            told.offer(RELEASE, device(number))
        for start in range(0, MADE_UP, MOST_REPORTS):
            for number in range(start, start + MOST_REPORTS):
                told.report(FAILED, id_hash(f"made-up-{number}", 1))
            await one.add(NOW)
            for left in told._again:
                left.clear()  # as if their tries were over
        for number in range(10):
            told.report(FAILED, device(number))
        await one.add(NOW)
    assert counted(redis, FAILED) == 10


async def test_a_report_may_overtake_its_offer(server: RedisServer, redis: Any) -> None:
    """Another gateway's note, a little later, is found; after some turns nobody asks again."""
    first, second = Claims(), Claims()
    async with adding(server.url, first) as one, adding(server.url, second) as other:
        second.report(FAILED, device(1))
        for _ in range(TRIES - 1):
            await other.add(NOW)
        assert counted(redis, FAILED) == 0
        first.offer(RELEASE, device(1))
        await one.add(NOW)
        await other.add(NOW)
        assert counted(redis, FAILED) == 1
        second.report(FAILED, device(2))
        for _ in range(TRIES):
            await other.add(NOW)
        assert not second.take_reports()


async def test_lately_is_today_or_yesterday(server: RedisServer, redis: Any) -> None:
    """An offer holds over midnight; at the end of the next day Redis forgets it."""
    told = Claims()
    async with adding(server.url, told) as one:
        told.offer(RELEASE, device(1))
        await one.add(NOW)
        (key,) = redis.scan_iter(KEYS.offered(*RELEASE, int(NOW) // DAY_SECONDS) + "*")
        end = (int(NOW) // DAY_SECONDS + 2) * DAY_SECONDS
        assert abs(time.time() + redis.ttl(key) - end) < 60
        for days in (1, 2):
            told.report(FAILED, device(1))
            for _ in range(TRIES):
                await one.add(NOW + days * DAY_SECONDS)
            assert counted(redis, FAILED, now=NOW + days * DAY_SECONDS) == 2 - days


async def test_a_day_has_a_bound(
    server: RedisServer, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full set takes no more, and stays packed: whoever came too late does not count."""
    monkeypatch.setattr(guarding, "SHARDS", 1)
    monkeypatch.setattr(claims, "MOST_OFFERS", 10_000)
    told = Claims()
    async with adding(server.url, told) as one:
        for number in range(2_000):
            told.offer(RELEASE, device(number))
            told.report(FAILED, device(number))
        await one.add(NOW)
    (key,) = redis.scan_iter(KEYS.offered(*RELEASE, int(NOW) // DAY_SECONDS) + "*")
    assert redis.scard(key) == guarding.SHARD_SEATS
    assert redis.object("encoding", key) == b"intset"
    assert counted(redis, FAILED) == pytest.approx(guarding.SHARD_SEATS, rel=0.05)


async def test_without_redis_nothing_fails_and_little_is_lost(tmp_path: Path) -> None:
    """While it is away claims wait within bounds; emptied, nothing counts till offered anew."""
    server, told = RedisServer(tmp_path / "redis"), Claims()
    async with adding(server.url, told) as one:
        for number in range(10):
            told.offer(RELEASE, device(number))
            told.report(FAILED, device(number))
        for _ in range(2 * TRIES):  # an outage is no try
            with pytest.raises(RedisFault):
                await one.add(NOW)
        server.start()
        try:
            await one.add(NOW)
            with server.client() as client:
                assert counted(client, FAILED) == 10
                client.flushall()
                told.report(FAILED, device(1))
                await one.add(NOW)
                assert counted(client, FAILED) == 0
                told.offer(RELEASE, device(1))
                await one.add(NOW)
                assert counted(client, FAILED) == 1
        finally:
            server.stop()


def test_claims_are_bounded() -> None:
    """However many come, and however often they are brought back: no more than said are held."""
    told = Claims()
    for number in range(MOST_REPORTS + 9):
        told.offer((APP, f"r{number % 3}"), number)
        told.report(FAILED._replace(release=f"r{number % 3}"), number)
    assert sum(map(len, told.take_offers().values())) == MOST_OFFERS
    taken = told.take_reports()
    assert sum(len(subjects) for _, _, subjects in taken) == MOST_REPORTS
    for _ in range(2):
        for left, place, subjects in taken:
            told.ask_again(left, place, subjects)
            told.ask_again(left, place._replace(app="b"), subjects)
    assert sum(len(subjects) for _, _, subjects in told.take_reports()) == MOST_REPORTS
    told.offer(RELEASE, 1)
    assert told.take_offers() == {RELEASE: {1}}


def test_only_guarded_offers_are_noted() -> None:
    """`latest`, a client without an id, and a release without guardrail note no offer."""
    metrics = Metrics()
    metrics.has_guardrail = lambda app, release: (app, release) == RELEASE
    metrics.count([(*RELEASE, "latest", "2")], 1)
    metrics.count([(*RELEASE, "update", "1")])
    metrics.count([(APP, "stable", "update", "1")], 2)
    metrics.count([(*RELEASE, "update", "1"), (*RELEASE, "rollback", "3")], 3)
    assert metrics.claims.take_offers() == {RELEASE: {3}}
    for event in ("downloaded", "failed", "rolled_back"):
        metrics.report(Place(*RELEASE, event), 3)
    metrics.report(Place(APP, "stable", "failed"), 3)
    metrics.report(FAILED, None)
    assert metrics.claims.take_reports() == [(TRIES - 1, FAILED, {3})]
