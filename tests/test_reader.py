"""Reading from a real Redis: in pieces, in order, through every loss of the connection."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

import processes
from gateway.link import connect_async, parse_url
from gateway.reader import LOST, Reader, Value
from gateway.routing import reader_of
from processes import RedisServer, redis_server

PASSWORD = "s3cret"
PATIENT = 20.0


class Asked:
    """A round trip that remembers what became of it."""

    def __init__(self, keys: Sequence[str], *, again: bool = True) -> None:
        self.left = len(keys)
        self.values: list[Value] = []
        self.why: str | None = None
        self.done = asyncio.Event()
        self._keys = keys
        self._again = again

    def wanted(self) -> list[bytes]:
        """Give what is still to be read."""
        return [each.encode() for each in self._keys[-self.left :]]

    def take(self, values: Sequence[Value]) -> None:
        """Remember values."""
        self.values += values
        self.left -= len(values)
        if not self.left:
            self.done.set()

    def take_some(self, places: Sequence[int], values: Sequence[Value]) -> None:
        """Remember values at their places."""
        self.values = self.values or [None] * len(self._keys)
        for place, each in zip(places, values, strict=True):
            self.values[place] = each
        self.left -= len(values)
        if not self.left:
            self.done.set()

    def fail(self, why: str) -> None:
        """Remember the reason."""
        self.why = why
        self.done.set()

    def once_more(self) -> bool:
        """Try again once, or never."""
        again, self._again = self._again, False
        return again


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody give up a Redis that is only slow, as the test machine may be."""
    monkeypatch.setattr("gateway.reader.ROUND_TRIP_SECONDS", PATIENT)
    for name in ("ROUND_TRIP_SECONDS", "NODE_SECONDS", "TELL_SECONDS"):
        monkeypatch.setattr(f"gateway.routing.{name}", PATIENT)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a Redis with a thousand keys."""
    with redis_server(tmp_path) as running:
        fill(running)
        yield running


def fill(server: RedisServer) -> None:
    """Write the keys."""
    with server.client() as client:
        client.mset({f"k{at}": value(at) for at in range(1_000)})


def steady(url: str) -> str:
    """Let no node of a Cluster take one for dead that is only slow; give the Cluster's URL."""
    for _, port in parse_url(url).nodes:
        with redis.Redis(port=port, socket_timeout=PATIENT) as client:
            client.config_set("cluster-node-timeout", 600_000)
    return url


def value(at: int) -> bytes:
    """Give a value with line ends in it, of any length."""
    return b"%d\r\n$3\r\n" % at * (at % 300)


@pytest.fixture
async def reader(server: RedisServer) -> AsyncIterator[Reader]:
    """Read from that Redis."""
    made = reader_of(parse_url(server.url))
    yield made
    await made.close()


async def read(reader: Reader, keys: Sequence[str], *, again: bool = True) -> Asked:
    """Make a round trip, and wait until it is over."""
    asked = Asked(keys, again=again)
    reader.fetch(asked)
    await asyncio.wait_for(asked.done.wait(), 3 * PATIENT)
    return asked


async def test_values_come_in_order(reader: Reader) -> None:
    """Many round trips on one connection get their own values, None for a missing key."""
    trips = [Asked([f"k{at}", "nothing", f"k{at + 1}"]) for at in range(0, 999, 2)]
    large = Asked([f"k{at}" for at in range(1_000)])
    for each in (*trips, large):
        reader.fetch(each)
    for each in (*trips, large):
        await asyncio.wait_for(each.done.wait(), 3 * PATIENT)
    for number, each in enumerate(trips):
        assert each.values == [value(2 * number), None, value(2 * number + 1)]
    assert large.values == [value(at) for at in range(1_000)]


@pytest.mark.parametrize("pieces", [1, 7, 1_000])
async def test_an_answer_cut_anywhere_is_the_same(server: RedisServer, pieces: int) -> None:
    """However the network cuts the stream, each value comes once."""
    made: Any = reader_of(parse_url(server.url))
    received: Callable[[bytes], None] = made.data_received

    class Cutting:
        """Passes what arrives on in pieces."""

        def __getattr__(self, name: str) -> Any:
            return getattr(made, name)

        def data_received(self, data: bytes) -> None:
            """Cut."""
            for at in range(0, len(data), pieces):
                received(data[at : at + pieces])

    await read(made, ["k1"])
    made._transport.set_protocol(Cutting())
    keys = [f"k{at}" for at in range(40)]
    trips = [await read(made, keys), await read(made, ["nothing"])]
    assert trips[0].values == [value(at) for at in range(40)]
    assert trips[1].values == [None]
    await made.close()


async def test_a_refusal_fails_its_round_trip_alone(server: RedisServer) -> None:
    """Redis may say no, with a reason; the connection and what follows on it are good."""
    with server.client() as client:
        client.acl_setuser("aimed", enabled=True, passwords=[f"+{PASSWORD}"], keys=["k*"])
        client.acl_setuser("aimed", enabled=True, commands=["+mget", "+select", "+client"])
    url = server.url.replace("redis://", f"redis://aimed:{PASSWORD}@")
    made = reader_of(parse_url(url))
    refused, good = Asked(["other"]), Asked(["k7"])
    for each in (refused, good):
        made.fetch(each)
        await asyncio.wait_for(each.done.wait(), 3 * PATIENT)
    assert "NOPERM" in str(refused.why)
    assert good.values == [value(7)]
    await made.close()


async def test_a_wrong_password_is_a_failure(server: RedisServer) -> None:
    """Who may not connect is told why, and nothing hangs."""
    url = server.url.replace("redis://", "redis://nobody:wrong@")
    made = reader_of(parse_url(url))
    assert (await read(made, ["k1"])).why
    await made.close()


async def test_the_database_of_the_url_is_read(server: RedisServer) -> None:
    """What redis-py does when it connects holds for what is read behind it."""
    made = reader_of(parse_url(f"{server.url.removesuffix('/0')}/3"))
    with server.client() as client:
        client.execute_command("COPY", "k5", "moved", "DB", "3")
    assert (await read(made, ["moved", "k5"])).values == [value(5), None]
    await made.close()


async def test_a_connection_that_died_idle_costs_nothing(
    server: RedisServer, reader: Reader
) -> None:
    """The next round trip after Redis was restarted is made on a new connection."""
    assert (await read(reader, ["k1"])).values == [value(1)]
    server.kill()
    server.start()
    fill(server)
    assert (await read(reader, ["k2"])).values == [value(2)]


async def test_what_was_under_way_is_asked_again_once(server: RedisServer, reader: Reader) -> None:
    """A connection lost amid a round trip costs a second try, or the reason if none is wanted."""
    await read(reader, ["k1"])
    server.signal(signal.SIGSTOP)
    again, never = Asked(["k1"]), Asked(["k2"], again=False)
    reader.fetch(again)
    reader.fetch(never)
    server.kill()
    server.start()
    fill(server)
    for each in (again, never):
        await asyncio.wait_for(each.done.wait(), 3 * PATIENT)
    assert again.values == [value(1)]
    assert never.why == LOST


async def test_redis_away_fails_at_once(server: RedisServer, reader: Reader) -> None:
    """Nobody waits for a Redis that refuses to be connected to; back, it is asked again."""
    server.kill()
    assert (await read(reader, ["k1"])).why
    server.start()
    fill(server)
    assert (await read(reader, ["k1"])).values == [value(1)]


async def test_a_silent_redis_is_cut_off(server: RedisServer, reader: Any) -> None:
    """A round trip that gets no answer is given up, and a later one gets its own."""
    await read(reader, ["k1"])
    reader._watch.cancel()  # which would look in much later
    reader._watch, reader._patience = None, 0.2
    server.signal(signal.SIGSTOP)
    assert (await read(reader, ["k2"], again=False)).why == LOST
    reader._patience = PATIENT
    server.signal(signal.SIGCONT)
    assert (await read(reader, ["k3"])).values == [value(3)]


async def test_one_redis_is_waited_for_as_long_as_checks_wait(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up that may take longer than a round trip usually may gets its answer on one."""
    monkeypatch.setattr("gateway.routing.ROUND_TRIP_SECONDS", 0.1)
    made = reader_of(parse_url(server.url), PATIENT)
    await read(made, ["k1"])
    server.signal(signal.SIGSTOP)
    asked = Asked(["k2"], again=False)
    made.fetch(asked)
    await asyncio.sleep(0.5)
    assert not asked.done.is_set()
    server.signal(signal.SIGCONT)
    await asyncio.wait_for(asked.done.wait(), PATIENT)
    assert asked.values == [value(2)]
    await made.close()


async def test_what_nobody_asked_for_ends_the_connection(reader: Reader) -> None:
    """A stream that is out of step is not read on; the next round trip begins a new one."""
    await read(reader, ["k1"])
    raw: Any = reader
    raw._transport.write(b"*1\r\n$4\r\nPING\r\n")
    asked = await read(reader, ["k2"], again=False)
    assert asked.why is not None
    assert (await read(reader, ["k3"])).values == [value(3)]


async def test_a_cluster_is_read_from_every_node(tmp_path: Path) -> None:
    """One round trip's keys may lie on all nodes; no command names two slots."""
    with processes.redis_cluster(tmp_path) as found:
        url = steady(found)
        link: Any = connect_async(parse_url(url), timeout_seconds=PATIENT)
        for at in range(30):
            await link.set(f"k{at}", value(at))
        await link.aclose()
        made = reader_of(parse_url(url))
        asked = await read(made, [*(f"k{at}" for at in range(30)), "nothing"])
        assert asked.values == [*(value(at) for at in range(30)), None]
        await made.close()
