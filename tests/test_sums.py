"""The sums in Redis: exact, or lost, never doubled; bounded while Redis is away; no check waits."""

import asyncio
import http.client
import os
import re
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epochs import APP, WORKSPACE, make_epoch
from gateway import reach, sums
from gateway.hashing import id_hash
from gateway.keys import CENSUS_DAYS, REACH_DAYS, REPORTS_DAYS, Keys
from gateway.link import connect_async, parse_url
from gateway.metrics import MAX_OUTCOMES, Metrics
from gateway.report import Place
from gateway.sums import Sums
from gateway.tally import ENTRIES, Tally
from processes import Gateway, RedisServer, running_gateway, wait_until

KEYS = Keys(WORKSPACE)
SUBJECTS = 200_000 if "TIDEGATE_SOAK" in os.environ else 20_000
SPREAD = 0.0081
"""The standard error of Redis's HyperLogLog."""

PLACE = Place(APP, "stable", "installed")
OTHER_PLACE = Place(APP, "stable", "failed")


@pytest.fixture
def redis(server: RedisServer) -> Any:
    """Give a client of an empty Redis."""
    with server.client() as client:
        client.flushall()
        yield client


@asynccontextmanager
async def adding(url: str, metrics: Metrics) -> AsyncIterator[Sums]:
    """Connect a process's counts to Redis, as service.py does."""
    link = connect_async(parse_url(url), timeout_seconds=20, once=True)
    found = Sums(link, KEYS, metrics)
    try:
        yield found
    finally:
        await found.close()


def distinct(client: Any, place: Place) -> int:
    """Ask for the distinct subjects of a place."""
    return int(client.pfcount(KEYS.subjects_of(*place)))


def times(client: Any, app: str = APP) -> dict[str, int]:
    """Ask for the number of reports by release and event."""
    found = client.hgetall(KEYS.reports_of(app))
    return {name.decode(): int(number) for name, number in found.items()}


def census(client: Any, app: str = APP) -> dict[str, int]:
    """Ask for the checks by version, of all days (a test may run over midnight)."""
    found: dict[str, int] = {}
    for key in client.scan_iter(KEYS.census_of("*", app)):
        for version, checks in client.hgetall(key).items():
            found[version.decode()] = found.get(version.decode(), 0) + int(checks)
    return found


async def test_distinct_subjects_over_several_processes(server: RedisServer, redis: Any) -> None:
    """Whoever reports to several processes, again and again, is one subject, to 5 sigma."""
    processes = [Metrics() for _ in range(2)]
    chunk = ENTRIES // 4
    for start in range(0, SUBJECTS, chunk):
        some = range(start, min(start + chunk, SUBJECTS))
        for metrics in processes:
            for turn in range(2):
                for who in some:
                    metrics.report(PLACE, hash((who, "x")) & (2**64 - 1))
                    if not turn and not who % 100:
                        metrics.report(OTHER_PLACE, None)
            async with adding(server.url, metrics) as one:
                await one.add_reports()
            assert metrics.tally.held == 0
            assert metrics.reports_dropped == 0
    assert distinct(redis, PLACE) == pytest.approx(SUBJECTS, rel=5 * SPREAD)
    assert times(redis) == {"stable:installed": 4 * SUBJECTS, "stable:failed": SUBJECTS // 50}
    assert redis.smembers(KEYS.reports) == {APP.encode()}
    for key in (KEYS.reports, KEYS.reports_of(APP), KEYS.subjects_of(*PLACE)):
        assert 0 < redis.ttl(key) <= REPORTS_DAYS * 86_400
    assert not redis.exists(KEYS.subjects_of(*OTHER_PLACE))  # nobody, known by an id, said so


async def test_the_census_has_what_the_plan_has(server: RedisServer, redis: Any) -> None:
    """Checks are summed by app and version; unknown apps are in no census; it expires."""
    metrics = Metrics()
    metrics.count([(APP, "stable", "update", "1.0.0.1"), ("", "", "unknown", "")])
    metrics.count([(APP, "staff", "update", "1.0.0.1"), (APP, "", "none", "")])
    metrics.count([("tea", "", "none", "other")] * 3)
    async with adding(server.url, metrics) as one:
        await one.add_census()
        await one.add_census()  # nothing new
        metrics.count([(APP, "stable", "latest", "1.0.0.2")])
        await one.add_census()
    assert census(redis) == {"1.0.0.1": 2, "none": 1, "1.0.0.2": 1}
    assert census(redis, "tea") == {"other": 3}
    days = [key for key in redis.scan_iter(KEYS.census("*")) if key.count(b":") == 3]
    assert {app for day in days for app in redis.smembers(day)} == {APP.encode(), b"tea"}
    assert all(0 < redis.ttl(key) <= CENSUS_DAYS * 86_400 for key in redis.scan_iter("*"))


def test_outcomes_are_sorted_out_before_they_are_too_many() -> None:
    """However many distinct outcomes there are, few are held, and each is in both counts."""
    metrics = Metrics()
    many = [(f"a{at % 7}", f"r{at}", "update", f"1.{at % 3}") for at in range(2 * MAX_OUTCOMES)]
    for turn in range(2):
        for start in range(turn, len(many), 20):
            metrics.count(many[start : start + 20])
    wanted = len(many) + len(many) - 1
    answers = {key: n for key, n in metrics.counts().items() if key[0] == "answers"}
    found = metrics.tally.take_census()
    assert sum(answers.values()) == sum(found.values()) == wanted
    assert len(answers) < 1_001
    assert len(found) == 21


ACTIONS = st.lists(
    st.tuples(st.sampled_from("rrrrrrtlb"), st.integers(0, 2), st.none() | st.integers(0, 9)),
    max_size=60,
)


@given(actions=ACTIONS, limit=st.integers(1, 15))
def test_the_bound_holds_and_nothing_within_it_is_lost(actions: Any, limit: int) -> None:
    """Whatever is taken, let go and brought back: never over the limit, all that was kept is there.

    The model holds every report that was not refused; a repeat is never refused.
    """
    tally, taken = Tally(limit), None
    here: dict[Any, tuple[int, set[int]]] = {}
    away: dict[Any, tuple[int, set[int]]] = {}
    for action, place, who in actions:
        if action == "r":
            number, whose = here.get(place, (0, set()))
            kept = tally.report(Place("a", str(place), "failed"), who)
            new = (place not in here) + (who is not None and who not in whose)
            assert kept or new
            if kept:
                here[place] = number + 1, whose | ({who} - {None})
        elif action == "t" and taken is None:
            taken, away, here = tally.take_reported(), here, {}
        elif action == "l" and taken is not None:
            tally.let_go(taken)
            taken, away = None, {}
        elif action == "b" and taken is not None:
            tally.restore(taken)
            for key, (number, whose) in away.items():
                more, others = here.get(key, (0, set()))
                here[key] = number + more, whose | others
            taken, away = None, {}
        both = [*here.values(), *away.values()]
        assert tally.held == sum(1 + len(whose) for _, whose in both) <= limit
    if taken is not None:
        tally.restore(taken)
        for key, (number, whose) in away.items():
            more, others = here.get(key, (0, set()))
            here[key] = number + more, whose | others
    found = {int(place.release): (h.times, h.subjects) for place, h in tally._reported.items()}
    assert found == here


async def test_what_waits_for_redis_is_bounded_and_counted(server: RedisServer, redis: Any) -> None:
    """Beyond the bound reports are dropped and counted; those within it arrive in full."""
    metrics = Metrics()
    for who in range(ENTRIES + 500):
        metrics.report(PLACE, who)
    metrics.report(PLACE, 3)  # a repeat needs no room
    assert metrics.tally.held == ENTRIES
    assert metrics.reports_dropped == 501
    async with adding(server.url, metrics) as one:
        await one.add_reports()
    assert distinct(redis, PLACE) == pytest.approx(ENTRIES - 1, rel=5 * SPREAD)
    assert times(redis) == {"stable:installed": ENTRIES}


async def test_nothing_is_lost_while_redis_is_away(tmp_path: Path) -> None:
    """Attempts that fail cost nothing: what waited is added once Redis is back."""
    metrics, server = Metrics(), RedisServer(tmp_path / "redis")
    async with adding(server.url, metrics) as one:
        for turn in range(3):
            for who in range(100):
                metrics.report(PLACE, who + 50 * turn)
            metrics.count([(APP, "stable", "latest", "1.0")] * 10)
            await one.add_reports()
            await one.add_census()
            assert metrics.sum_failures == 2 * (turn + 1)
        assert metrics.reports_dropped == 0
        server.start()
        try:
            await one.add_reports()
            await one.add_census()
            with server.client() as client:
                assert distinct(client, PLACE) == pytest.approx(200, abs=5)
                assert times(client) == {"stable:installed": 300}
                assert census(client) == {"1.0": 30}
        finally:
            server.stop()
    assert metrics.tally.held == 0


class _Deaf:
    """Stands between: passes everything on, but loses the answers to scripts, and hangs up."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.lost = 0
        self._to = port

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen on a port of its own."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", self._to)
        sent = bytearray()
        answering = asyncio.create_task(self._answer(there, writer, sent))
        while data := await reader.read(65_536):  # a command may come in pieces
            sent += data
            here.write(data)
        here.close()
        await answering

    async def _answer(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytearray
    ) -> None:
        while answer := await there.read(65_536):
            if b"HINCRBY" in sent:
                self.lost += 1
                break
            writer.write(answer)
        writer.close()


async def test_a_number_is_never_added_twice(server: RedisServer, redis: Any) -> None:
    """When the answer is lost after Redis has added, it is not asked again."""
    metrics, deaf = Metrics(), _Deaf(server.port)
    async with deaf.listening(), adding(f"redis://127.0.0.1:{deaf.port}/0", metrics) as one:
        for turn in range(1, 3):
            metrics.report(PLACE, 1)
            metrics.count([(APP, "stable", "latest", "1.0")])
            await one.add_reports()
            await one.add_census()
            assert deaf.lost == 2 * turn
    assert times(redis) == {"stable:installed": 2}
    assert census(redis) == {"1.0": 2}
    assert distinct(redis, PLACE) == 1
    assert metrics.sum_failures == 4


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_a_link_that_sends_once_repeats_nothing(scheme: str) -> None:
    """Redis's client would repeat a whole pipeline on a Cluster; this link does not."""
    link: Any = connect_async(parse_url(f"{scheme}://127.0.0.1:1"), timeout_seconds=1, once=True)
    retry = link.retry if "cluster" in scheme else link.get_retry()
    assert retry.get_retries() == 0
    await link.aclose()


async def test_no_batch_holds_up_the_event_loop(
    server: RedisServer, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much waits, each pipeline carries a bounded part of it."""
    metrics, sizes = Metrics(), []
    for who in range(ENTRIES - 1):
        metrics.report(PLACE, who)
    for app in range(3_000):
        metrics.count([(f"a{app}", "", "none", "1.0")])
    async with adding(server.url, metrics) as one:
        make = one._link.pipeline

        def watched(**options: Any) -> Any:
            pipeline = make(**options)
            execute = pipeline.execute

            async def noting(**options: Any) -> Any:
                sizes.append(sum(len(args) for args, _ in pipeline.command_stack))
                return await execute(**options)

            pipeline.execute = noting
            return pipeline

        monkeypatch.setattr(one._link, "pipeline", watched)
        await one.add_reports()
        await one.add_census()
    assert sum(sizes) > ENTRIES
    assert max(sizes) <= 3 * sums.BATCH_ENTRIES


async def test_the_reach_of_several_processes_is_one(server: RedisServer, redis: Any) -> None:
    """Whoever was offered a release by several processes is one; what Redis has is not sent again.

    `latest` offers nothing, and a client without an id is nobody.
    """
    processes = [Metrics() for _ in range(2)]
    stable = KEYS.reach_of(APP, "stable")
    offer = [(APP, "stable", "update", "")]
    for at, metrics in enumerate(processes):
        for who in range(2_000 * at, 2_000 * at + 4_000):
            metrics.count(offer, id_hash(f"d-{who}", 1))
            metrics.count([(APP, "old", "rollback", "1.0")], id_hash(f"d-{who % 10}", 1))
            metrics.count([(APP, "seen", "latest", "2.0")], who)
        metrics.count(offer)
        async with adding(server.url, metrics) as one:
            await one.add_reach()
            before = redis.info("commandstats")["cmdstat_eval"]["calls"]
            metrics.count(offer, id_hash(f"d-{2_000 * at}", 1))
            await one.add_reach()
            assert redis.info("commandstats")["cmdstat_eval"]["calls"] == before
    assert redis.pfcount(stable) == pytest.approx(6_000, rel=5 * SPREAD)
    assert redis.pfcount(KEYS.reach_of(APP, "old")) == 10
    assert sorted(redis.scan_iter("*")) == sorted(
        KEYS.reach_of(APP, name).encode() for name in ("old", "stable")
    )
    assert 0 < redis.ttl(stable) <= REACH_DAYS * 86_400


async def test_the_reach_waits_for_redis_within_its_bound(tmp_path: Path) -> None:
    """While Redis is away nothing of the reach is lost; releases beyond the limit are counted."""
    metrics, server = Metrics(), RedisServer(tmp_path / "redis")
    for at in range(reach.LIMIT + 5):
        metrics.count([(APP, f"r{at}", "update", "")], at)
    async with adding(server.url, metrics) as one:
        await one.add_reach()
        assert metrics.sum_failures == 1
        assert metrics.reach_dropped == 5
        metrics.count([(APP, "r0", "update", "")], 7)
        server.start()
        try:
            await one.add_reach()
            with server.client() as client:
                found = {client.pfcount(KEYS.reach_of(APP, f"r{at}")) for at in range(reach.LIMIT)}
                assert found == {1, 2}
                await one.add_reach()  # which makes room
                metrics.count([(APP, f"r{reach.LIMIT}", "update", "")], 1)
                await one.add_reach()
                assert client.pfcount(KEYS.reach_of(APP, f"r{reach.LIMIT}")) == 1
        finally:
            server.stop()
    assert metrics.reach_dropped == 5


async def turns(work: Awaitable[None]) -> int:
    """Count the turns that others had in the event loop while something worked."""
    number, task = 0, asyncio.ensure_future(work)
    while not task.done():
        await asyncio.sleep(0)
        number += 1
    await task
    return number


@pytest.mark.parametrize("away", [False, True])
async def test_the_census_is_built_sent_and_brought_back_in_slices(
    server: RedisServer, redis: Any, away: bool
) -> None:
    """A hundred thousand versions hold up no check: others have a turn in every thousand."""
    metrics, pairs = Metrics(), 40_000
    for at in range(pairs):
        metrics.tally.check(f"a{at // 10}", f"1.{at % 10}", 1)
    async with adding("redis://127.0.0.1:1" if away else server.url, metrics) as one:
        others = await turns(one.add_census())
    left = metrics.tally.take_census()
    assert len(left) == (pairs if away else 0)
    assert set(left.values()) <= {1}
    assert away or census(redis, "a7") == {f"1.{at}": 1 for at in range(10)}
    assert others >= 2 * pairs // sums.BATCH_ENTRIES


async def test_reports_are_brought_back_in_slices() -> None:
    """As the census is, with all that waits in as many places as there may be."""
    metrics, places = Metrics(), ENTRIES // 2
    for at in range(places):
        metrics.tally.report(Place(f"a{at}", "r", "failed"), at)
    async with adding("redis://127.0.0.1:1", metrics) as one:
        others = await turns(one.add_reports())
    assert metrics.tally.held == ENTRIES
    assert others >= places // sums.BATCH_ENTRIES


async def test_a_spoiled_key_costs_its_own_sum_alone(server: RedisServer, redis: Any) -> None:
    """Whatever else lies under a key: what goes elsewhere is added, and each failure counted."""
    metrics = Metrics()
    bad = Place("bad", "stable", "failed")
    redis.set(KEYS.subjects_of(*bad), "x")
    redis.set(KEYS.reports_of("worse"), "x")
    redis.hset(KEYS.reports_of("odd"), "stable:failed", "many")
    async with adding(server.url, metrics) as one:
        for who in range(3):
            for place in (bad, PLACE, bad._replace(app="worse"), bad._replace(app="odd")):
                metrics.report(place, who)
            await one.add_reports()
        assert metrics.sum_failures == 9
        for key in (KEYS.reports, KEYS.subjects):
            redis.set(key, "x")
        metrics.report(PLACE, 3)
        await one.add_reports()
    assert metrics.tally.held == 0
    assert times(redis) == {"stable:installed": 4}
    assert times(redis, "bad") == {"stable:failed": 3}
    assert distinct(redis, PLACE) == distinct(redis, bad._replace(app="worse")) == 3


async def test_distinct_subjects_have_a_bound_in_redis(
    server: RedisServer, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond it a place counts by number, until one that was silent for a day gives way."""
    monkeypatch.setattr(sums, "SUBJECT_PLACES", 3)
    metrics = Metrics()
    places = [Place(APP, f"r{at}", "failed") for at in range(5)]

    async def tell(*some: Place) -> None:
        for place in some:
            metrics.report(place, 7)
        async with adding(server.url, metrics) as one:
            await one.add_reports()

    for place in places[:4]:
        await tell(place)
    await tell(*places)
    assert [distinct(redis, place) for place in places] == [1, 1, 1, 0, 0]
    now = time.time()
    redis.zadd(KEYS.subjects, {KEYS.subjects_of(*places[1]): now - sums.DAY_SECONDS - 9})
    await tell(places[4], places[3])
    assert [distinct(redis, place) for place in places] == [1, 0, 1, 0, 1]
    assert times(redis) == {f"r{at}:failed": n for at, n in enumerate((2, 2, 2, 3, 2))}
    assert 0 < redis.ttl(KEYS.subjects) <= REPORTS_DAYS * sums.DAY_SECONDS


def ask(gateway: Gateway, path: str, body: Any) -> tuple[int, Any]:
    """Ask on a new connection, so that any worker may answer."""
    connection = http.client.HTTPConnection(gateway.url.removeprefix("http://"), timeout=30)
    connection.request("POST", path, orjson.dumps(body))
    response = connection.getresponse()
    found = response.status, orjson.loads(response.read())
    connection.close()
    return found


def check(gateway: Gateway, installed: str | None) -> None:
    """Check, and hold the answer to be one."""
    status, said = ask(gateway, "/v1/check", {"apps": {APP: installed}})
    assert (status, said["apps"][0]["app"]) == (200, APP)


def tell(gateway: Gateway, device: str) -> None:
    """Report from a device, and hold the answer to be an acceptance."""
    report = {"app": APP, "release": "stable", "event": "installed"}
    said = ask(gateway, "/v1/report", {"device": device, "reports": [report]})
    assert said == (202, {"accepted": 1, "passed_over": 0})


def test_four_workers_sum_right_and_go_on_after_a_restart(
    server: RedisServer, redis: Any, tmp_path: Path
) -> None:
    """What several workers counted is one sum, exact after they ended; the next run adds to it."""
    make_epoch(1).write(redis)
    for run, workers in ((1, "4"), (2, "1")):
        with running_gateway(tmp_path / workers, server.url, WORKERS=workers) as gateway:
            for at in range(60):
                check(gateway, "8.0" if at % 3 else None)
                tell(gateway, f"d-{at}")
            ask(gateway, "/v1/check", {"apps": {APP: "1.0.0.1"}, "dry_run": True})
            wait_until(
                lambda wanted=60 * run: times(redis).get("stable:installed") == wanted,
                "reports are there",
            )
            gateway.terminate()
            assert gateway.wait() == 0
        assert census(redis) == {"other": 40 * run, "none": 20 * run}
        assert distinct(redis, PLACE) == pytest.approx(60, abs=3)


def failures(gateway: Gateway) -> float:
    """Ask how many attempts to add sums have failed."""
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=30) as answer:
        found = re.findall(rb"^tidegate_sum_failures_total (\S+)$", answer.read(), re.MULTILINE)
    return float(found[0])


def _tell_and_check(gateway: Gateway, devices: range) -> None:
    before = failures(gateway)
    for at in devices:
        check(gateway, None)
        tell(gateway, f"d-{at}")
    wait_until(lambda: failures(gateway) > before, "an attempt fails, at least")


def test_an_outage_costs_no_request_and_no_report(tmp_path: Path) -> None:
    """While Redis is killed or hangs, checks and reports are answered at once, and all arrive."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        with server.client() as client:
            make_epoch(1).write(client)
        with running_gateway(tmp_path / "gateway", server.url) as gateway:
            server.kill()
            _tell_and_check(gateway, range(200))
            server.start()
            with server.client() as client:
                wait_until(lambda: times(client).get("stable:installed") == 200, "all arrived")
                server.signal(signal.SIGSTOP)
                _tell_and_check(gateway, range(100, 300))
                server.signal(signal.SIGCONT)
                wait_until(lambda: times(client).get("stable:installed") == 400, "the rest, too")
                assert distinct(client, PLACE) == pytest.approx(300, rel=5 * SPREAD)
                gateway.terminate()
                assert gateway.wait() == 0
                assert census(client) == {"none": 400}
    finally:
        server.stop()
