"""The quick path: what it takes, what it declines, and what it does with odd connections."""

import asyncio
import os
import random
import re
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from aiohttp.web import RequestPayloadError

import gateway.quick
from epochs import make_epoch
from gateway.head import END, HEAD_BYTES, HEAD_FIELDS, REMEMBERED_HEADS, Heads, read_head
from gateway.headers import is_msgpack, wants_msgpack
from gateway.lookup import Answer, Asked
from gateway.metrics import Metrics
from gateway.quick import Connection, Quick
from gateway.request import parse_body
from gateway.snapshot import Snapshot
from gateway.waiting import Waiting
from in_process import FixedFollower, FixedLookup, FixedSeats, serving, snapshot_of, until

STREAMS = 1_000_000 if "TIDEGATE_SOAK" in os.environ else 100_000
BODY = b'{"apps":{"a":null}}'
HEAD = b"POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: 19"


@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"\r\nContent-Type: application/json",
        b"\r\nX-Any: thing\r\nCookie: a=b",
        b"\r\nConnection: Keep-Alive",
        b"\r\nconnection:close",
        b"\r\nAccept: */*",
    ],
)
def test_ordinary_heads_are_taken(lines: bytes) -> None:
    """What phones and edges send is taken."""
    found = read_head(HEAD + lines + END)
    assert found is not None
    assert found.length == 19
    assert found.closes is (b"close" in lines)


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"\r\nContent-Length: 19",
        HEAD + b"\r\ncontent-length: 20",
        HEAD + b"\r\nTransfer-Encoding: chunked",
        HEAD + b"\r\ntransfer-encoding:identity",
        HEAD + b"\r\nContent-Encoding: gzip",
        HEAD + b"\r\nExpect: 100-continue",
        HEAD + b"\r\nUpgrade: h2c",
        HEAD + b"\r\nOrigin: https://a.example",
        HEAD + b"\r\nTrailer: X",
        HEAD + b"\r\nProxy-Connection: close",
        HEAD + b"\r\nSec-WebSocket-Key1: x",
        HEAD + b"".join(b"\r\nX%d: y" % number for number in range(HEAD_FIELDS)),
        HEAD + b"\r\nConnection: keep-alive, Upgrade",
        HEAD + b"\r\nConnection: close\r\nConnection: keep-alive",
        HEAD + b"\r\nHost: y",
        HEAD + b"\r\nAuthorization: a\r\nAuthorization: a",
        HEAD + b"\r\nAuthorization: a\r\nauthorization: b",
        HEAD + b"\r\nAUTHORIZATION: a",
        HEAD + b"\r\nAuthorization : a",
        HEAD + b"\r\nAuthorization: a\r\n b",
        HEAD + b"\r\nAuthorization: a\nX: b",
        HEAD + b"\r\nAuthorization: \x00",
        HEAD + b"\r\nAuthorization: " + b"a" * HEAD_BYTES,
        HEAD + b"\r\nX: y\r\nx: y",
        HEAD.replace(b"\r\nHost: x", b""),
        HEAD + b"\r\nAccept: a/b\r\nAccept: application/msgpack",
        HEAD + b"\r\nX: a\r\n folded",
        HEAD + b"\r\nX : a",
        HEAD + b"\r\n: a",
        HEAD + b"\r\nX",
        HEAD + b"\nX: a",
        HEAD + b"\rX: a",
        HEAD + b"\r\nX: \x00",
        HEAD + b"\r\nX: \x7f",
        HEAD + "\r\nX: ä".encode(),
        HEAD + b"\r\nX: " + b"y" * HEAD_BYTES,
        HEAD.replace(b" 19", b" +19"),
        HEAD.replace(b" 19", b" 0x13"),
        HEAD.replace(b" 19", b" 19, 19"),
        HEAD.replace(b" 19", b" 1 9"),
        HEAD.replace(b" 19", b" 0"),
        HEAD.replace(b" 19", b" 65537"),
        HEAD.replace(b" 19", b" 100000"),
        HEAD.replace(b"\r\nContent-Length: 19", b""),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/2.0"),
        HEAD.replace(b"/v1/check", b"http://x/v1/check"),
        HEAD.replace(b"/v1/check", b"/v1/check?a"),
        HEAD.replace(b"/v1/check", b"/v1/check/"),
        HEAD.replace(b"/v1/check", b"/v1/%63heck"),
        HEAD.replace(b"/v1/check", b"/ofrep/v1/evaluate/flags/"),
        HEAD.replace(b"/v1/check", b"/ofrep/v1/evaluate/flags/.."),
        HEAD.replace(b"/v1/check", b"/ofrep/v1/evaluate/flags/a/b"),
        HEAD.replace(b"/v1/check", b"/ofrep/v1/evaluate/flags/a%20b"),
        HEAD.replace(b"/v1/check", b"/ofrep/v1/evaluate/flags?flagConfigEtag=x"),
        HEAD.replace(b"/v1/check", b"/ofrep/v1/evaluate/flags/" + b"a" * 65),
        HEAD.replace(b"POST ", b"POST  "),
        HEAD.replace(b"POST", b"post"),
        b"\r\n" + HEAD,
        b"",
    ],
)
def test_odd_heads_are_declined(head: bytes) -> None:
    """Whatever leaves room for a second reading is left to the ordinary path."""
    assert read_head(head + END) is None


def test_remembered_heads_are_bounded() -> None:
    """A client that never sends the same head twice fills no memory."""
    heads = Heads()
    for number in range(3 * REMEMBERED_HEADS):
        assert heads.learn(HEAD + b"\r\nX: %d" % number + END) is not None
        assert len(heads.known) <= REMEMBERED_HEADS


def test_a_token_crowds_out_no_heads() -> None:
    """Heads that differ in their Authorization alone are one to remember; each keeps its own."""
    heads = Heads()
    for number in range(3 * REMEMBERED_HEADS):
        name = (b"Authorization", b"authorization")[number % 2]
        found = heads.learn(HEAD + b"\r\n%b: \tBearer %d " % (name, number) + END)
        assert found is not None
        assert found.authorization == b"Bearer %d" % number
        assert found.length == 19
    assert list(heads.known) == [HEAD + END]
    alone = heads.learn(HEAD + END)
    assert alone is not None
    assert alone.authorization is None


def test_heads_about_switches_crowd_out_no_others() -> None:
    """They are remembered apart, and those with an ETag, each client's own, not at all."""
    heads = Heads()
    start = b"POST /ofrep/v1/evaluate/flags"
    rest = b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2"
    assert heads.learn(HEAD + END) is not None
    for number in range(3 * REMEMBERED_HEADS):
        one = heads.learn(start + b"/s-%d" % number + rest + END)
        assert one is not None
        assert one.key == f"s-{number}"
        every = heads.learn(start + rest + b'\r\nIf-None-Match: "%d"' % number + END)
        assert every is not None
        assert every.matches == f'"{number}"'
        assert every.key is None
    assert list(heads.known) == [HEAD + END]


class _Transport:
    """Records what is written; always open."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.closed = False
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written.append(data)

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def is_closing(self) -> bool:
        """Tell."""
        return self.closed

    def is_reading(self) -> bool:
        """Tell that it reads."""
        return True

    def set_protocol(self, protocol: Any) -> None:
        """Note who took over."""
        self.protocol = protocol


class _Taker:
    """Stands for aiohttp: records what was handed over."""

    begun = False

    def __init__(self) -> None:
        self.data = b""

    def connection_made(self, transport: Any) -> None:
        """Take the transport."""

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self.data += data


def _feed(data: bytes, snapshot: Snapshot) -> tuple[_Taker, _Transport, int]:
    """Give data to a connection; give who took what, and how many bytes it answered."""
    taker, transport = _Taker(), _Transport()
    follower: Any = FixedFollower(snapshot)
    metrics = Metrics()
    lookup: Any = FixedLookup()
    quick = Quick(follower, lookup, FixedSeats(), metrics, Waiting(1), lambda: taker)  # type: ignore[arg-type]
    connection = Connection(quick)
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.data_received(data)
    answered = 0
    for _ in transport.written:
        end = data.index(END, answered) + len(END)
        head = read_head(data[answered:end])
        assert head is not None
        answered = end + head.length
    # Nothing is lost or taken twice: the rest is handed over, kept, or behind a last answer.
    assert transport.closed or answered + len(taker.data) + len(connection._kept) == len(data)
    connection.connection_lost(None)
    return taker, transport, answered


PIECES = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b",", b";", b"0", b"+", b"-", b"\x80", b"%"),
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Content-Length: 5\r\n",
    b"content-length:19\r\n",
    b"Content-Length: 19\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\n",
    b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"Proxy-Connection: close\r\n",
    b"Sec-WebSocket-Key1: x\r\n",
    b"Content-Type: application/msgpack\r\n",
    b"Accept: application/msgpack\r\n",
    b"Host: z\r\n",
    b" folded\r\n",
    b"X-A: b\r\n",
    b"Authorization: Bearer y\r\n",
    b"authorization:\t z \r\n",
    b"HTTP/1.0",
    b"GET / HTTP/1.1\r\n\r\n",
    HEAD + b"\r\n\r\n" + BODY,
)


def _mutate(source: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        at = source.randrange(len(changed) + 1)
        roll = source.random()
        if roll < 0.35:
            # Most often before a header line, where it means most.
            ends = [n + 2 for n in range(len(changed) - 1) if changed[n : n + 2] == b"\r\n"]
            place = source.choice(ends) if ends and source.random() < 0.7 else at
            changed[place:place] = source.choice(PIECES)
        elif roll < 0.55 and at < len(changed):
            changed[at] = source.randrange(256)
        elif roll < 0.7:
            del changed[at : at + source.randint(1, 4)]
        elif roll < 0.85 and at < len(changed):
            changed[at : at + 1] = bytes([changed[at]]).swapcase()
        else:
            changed[at:at] = changed[at : at + source.randint(1, 30)]
    return bytes(changed)


async def test_fuzzed_streams_are_declined_or_read_as_aiohttp_reads_them() -> None:
    """What the quick path takes, aiohttp's parser reads as the same requests; the rest it gets."""
    source = random.Random(8)
    loop = asyncio.get_running_loop()
    line = HEAD + b"\r\nContent-Type: application/json\r\nAccept: */*\r\nUser-Agent: t/1\r\n\r\n"
    other = line.replace(b"User-Agent: t/1", b"Authorization: Bearer x")
    snapshot = snapshot_of(make_epoch())
    taken = 0
    for _ in range(STREAMS):
        data = _mutate(source, line + BODY + other + BODY)
        taker, transport, answered = _feed(data, snapshot)
        if not transport.written:
            assert transport.closed or taker.data in (data, b"")
            continue
        taken += 1
        parser = HttpRequestParser(
            BaseProtocol(loop), loop, 2**16, payload_exception=RequestPayloadError
        )
        try:
            messages, _, _ = parser.feed_data(data[:answered])
        except HttpProcessingError as fault:
            raise AssertionError(f"taken, but aiohttp refuses it: {data!r}") from fault
        assert len(messages) >= len(transport.written), data
        at = 0
        for (message, payload), written in zip(messages, transport.written, strict=False):
            end = data.index(END, at) + len(END)
            read = read_head(data[at:end])
            assert read is not None
            at = end + read.length
            tokens = message.headers.getall("Authorization", [])
            assert [read.authorization] * len(tokens) == [each.encode() for each in tokens], data
            assert tokens or read.authorization is None
            assert (message.method, message.path) == ("POST", "/v1/check"), data
            assert (message.version.major, message.version.minor) == (1, 1)
            assert not message.chunked
            assert not message.upgrade
            assert message.compression is None
            body = b"".join(payload._buffer)
            assert payload.is_eof() or payload._eof, data
            assert not is_msgpack(message.headers.get("Content-Type"))
            check = parse_body(body, packed=False)
            assert not snapshot.probes(check)
            packed = wants_msgpack(message.headers.get("Accept"))
            expected, _ = snapshot.answer(check, {}, 0, msgpack=packed)
            head, _, said = written.partition(END)
            assert (head[:17], said) == (b"HTTP/1.1 200 OK\r\n", expected), data
        last = messages[len(transport.written) - 1][0]
        assert last.should_close is transport.closed, data
    assert taken > STREAMS // 10
    print(f"\nquick path: {STREAMS} streams, {taken} with a request taken")


async def test_half_sent_and_idle_connections_are_closed(monkeypatch: Any) -> None:
    """A head or a body half sent, slowly sent, or a client that went silent: closed in time."""
    monkeypatch.setattr(gateway.quick, "HALF_SENT_SECONDS", 0.2)
    monkeypatch.setattr(gateway.quick, "IDLE_SECONDS", 0.4)
    snapshot = snapshot_of(make_epoch())
    async with serving(snapshot, quick=True) as served:
        for data in (b"", b"POST /v1/ch", HEAD, HEAD + b"\r\n\r\n{", b"GET /v1/che"):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(data)
            for _ in range(3):  # a byte now and then gains no time
                await asyncio.sleep(0.05)
                if data == HEAD:
                    writer.write(b"x")
            with suppress(ConnectionError):  # it may be reset, if this wrote after the end
                assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()


async def test_a_client_that_does_not_read_is_not_read_from(monkeypatch: Any) -> None:
    """Its requests wait in the kernel, not here; in the end it is cut off."""
    monkeypatch.setattr(gateway.quick, "HALF_SENT_SECONDS", 0.3)
    snapshot = snapshot_of(make_epoch())
    async with serving(snapshot, quick=True) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
        request = HEAD + b"\r\n\r\n" + BODY
        writer.transport.set_write_buffer_limits(high=0)

        async def send() -> None:
            for _ in range(200):
                writer.write(request * 1_000)
                await asyncio.wait_for(writer.drain(), 3)

        with pytest.raises((ConnectionError, TimeoutError)):
            await send()
        assert sum(served.metrics._responses) < 200_000
        writer.close()
        del reader


async def test_a_check_that_waits_keeps_its_turn() -> None:
    """What comes behind a member's check is answered after it, also when it comes much later."""
    made = make_epoch(staff=("u-1",))
    app = next(iter(snapshot_of(made).contents["programs"]))
    body = orjson.dumps({"user": "u-1", "apps": {app: None}})
    member = b"POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )
    lookup = FixedLookup(delay_seconds=0.05)
    async with serving(snapshot_of(made), lookup=lookup, quick=True) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(member + HEAD + b"\r\n\r\n" + BODY)
        await asyncio.sleep(0.01)
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = (await asyncio.wait_for(reader.read(), 20)).split(b"HTTP/1.1 ")[1:]
        assert [each[:3] for each in answers] == [b"200", b"200", b"404"]
        assert app.encode() in answers[0]
        assert b'"a"' in answers[1]
        writer.close()


async def test_a_client_that_ended_its_side_gets_what_it_asked_for() -> None:
    """Half a connection is enough for the answers to a check that waits and to those behind it."""
    made = make_epoch(staff=("u-1",))
    app = next(iter(snapshot_of(made).contents["programs"]))
    body = orjson.dumps({"user": "u-1", "apps": {app: None}})
    member = HEAD.replace(b" 19", b" %d" % len(body)) + END + body
    lookup = FixedLookup(delay_seconds=0.05)
    async with serving(snapshot_of(made), lookup=lookup, quick=True) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write((member + HEAD + END + BODY) * 2)
        writer.write_eof()
        answers = await asyncio.wait_for(reader.read(), 20)
        assert answers.count(b"HTTP/1.1 200 OK") == 4
        await until(lambda: not served.quick.connections)
        assert served.quick.waiting.now == 0
        writer.close()


@pytest.mark.parametrize("line", [b"", b"\r\nConnection: close"])
async def test_a_closed_connection_does_not_wait_for_its_reader(
    monkeypatch: Any, line: bytes
) -> None:
    """Answers that nobody reads hold no connection open, neither after its last nor when idle."""
    monkeypatch.setattr(gateway.quick, "HALF_SENT_SECONDS", 0.2)
    monkeypatch.setattr(gateway.quick, "IDLE_SECONDS", 0.4)
    snapshot = snapshot_of(make_epoch(apps=100))
    body = orjson.dumps({"apps": dict.fromkeys(snapshot.contents["programs"])})
    head = HEAD.replace(b" 19", b" %d" % len(body)) + line + END
    async with serving(snapshot, quick=True) as served:
        # Handed on to what it accepts. All is sent before that, so that nothing is idle too soon.
        served.listener._spare.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2_048)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            client.connect(("127.0.0.1", served.port))
            client.sendall(head + body)
            await until(lambda: sum(served.metrics._responses))
            await until(lambda: not served.quick.connections)
            answer = b""
            with suppress(ConnectionError):
                while data := client.recv(65_536):
                    answer += data
        head, _, body = answer.partition(END)
        assert len(body) < int(head.rpartition(b"Content-Length: ")[2].split()[0])


class HeldLookup(FixedLookup):
    """Answers nobody until it lets go."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: list[Asked] = []

    def begin(
        self, snapshot: Any, hashes: Iterable[int]
    ) -> tuple[dict[int, int | None], list[Asked]]:
        """Know nothing."""
        asked = [(hashed, Answer(b"")) for hashed in hashes]
        self._asked += asked
        return {}, asked

    def let_go(self) -> None:
        """Answer all that was asked."""
        for _, answer in self._asked:
            answer.give(None)


async def test_too_many_waiting_checks_are_refused_at_once() -> None:
    """One more than may wait for Redis gets 503 with Retry-After, and the others their answers."""
    made = make_epoch(staff=("u-1",))
    app = next(iter(snapshot_of(made).contents["programs"]))
    body = orjson.dumps({"user": "u-1", "apps": {app: None}})
    member = (
        b"POST /v1/check HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    lookup = HeldLookup()
    async with serving(snapshot_of(made), lookup=lookup, max_checks=3, quick=True) as served:
        pairs = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(3)]
        for _, writer in pairs:
            writer.write(member)
        await until(lambda: served.quick.waiting.now == 3)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(member)
        refused = await asyncio.wait_for(reader.read(), 20)
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in refused
        lookup.let_go()
        for waiting, out in pairs:
            assert (await asyncio.wait_for(waiting.read(), 20)).startswith(b"HTTP/1.1 200 ")
            out.close()
        writer.close()


async def test_the_date_is_that_of_the_answer() -> None:
    """Every quick answer has one Date, in the form of RFC 9110, and it goes on with the clock."""
    async with serving(snapshot_of(make_epoch()), quick=True) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        dates = []
        for _ in range(2):
            before = int(time.time())
            writer.write(HEAD + END + BODY)
            head = await asyncio.wait_for(reader.readuntil(END), 20)
            [said] = re.findall(rb"\r\nDate: ([^\r]+)\r\n", head)
            dates.append(parsedate_to_datetime(said.decode()).timestamp())
            assert before <= dates[-1] <= time.time()
            assert said.endswith(b" GMT")
            await asyncio.sleep(1.1)
        assert dates[0] < dates[1]
        writer.close()
