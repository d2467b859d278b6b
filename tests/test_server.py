"""The client and admin listeners: headers, notations, order, limits, and a stop under load."""

import asyncio
import re
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import orjson
import pytest

from epochs import APP, make_epoch
from gateway import listener, server
from gateway.headers import wants_msgpack
from gateway.metrics import MAX_SERIES, OTHER, Metrics
from in_process import FixedLookup, raw, serving, snapshot_of, until
from processes import redis_server, running_gateway

POST = "/v1/check"
QUESTION = orjson.dumps({"apps": {APP: None}})
SLOW = b"POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
STAFF = orjson.dumps({"apps": {APP: None}, "user": "u-1"})


async def test_an_answer_has_exactly_the_ruled_headers() -> None:
    """An answer is JSON, is stored by no cache, and does not tell which software made it."""
    async with serving(snapshot_of(make_epoch())) as served:
        async with aiohttp.ClientSession(served.url) as session:
            response = await session.post(POST, data=QUESTION)
            said = await response.json()
        headers = {name: text for name, text in response.headers.items() if name != "Date"}
    assert said["epoch"] == 1
    assert said["apps"][0]["version"] == "1.0.0.1"
    assert headers == {
        "Content-Type": "application/json",
        "Cache-Control": "no-store",
        "Server": "tidegate",
        "Content-Length": response.headers["Content-Length"],
    }


async def test_both_notations_go_in_and_out() -> None:
    """Content-Type chooses how a body is read, Accept how it is answered; the answers agree."""
    packed = {"Content-Type": "application/msgpack"}
    answers = []
    async with (
        serving(snapshot_of(make_epoch())) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        for body, headers in (
            (QUESTION, {}),
            (QUESTION, {"Content-Type": "text/plain"}),
            (msgpack.packb(orjson.loads(QUESTION)), packed),
            (QUESTION, {"Accept": "application/msgpack"}),
            (msgpack.packb(orjson.loads(QUESTION)), packed | {"Accept": "application/msgpack"}),
        ):
            response = await session.post(POST, data=body, headers=headers)
            read = await response.read()
            kind = response.headers["Content-Type"]
            assert kind == headers.get("Accept", "application/json")
            answers.append(orjson.loads(read) if "json" in kind else msgpack.unpackb(read))
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    ("accept", "packed"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/msgpack", True),
        ("Application/MsgPack; q=0.5", True),
        ("application/msgpack;q=0", False),
        ("application/json;q=0.5, application/msgpack", True),
        ("application/json, application/msgpack;q=0.9", False),
        ("application/msgpack;q=x", False),
        ("text/html, application/msgpack, */*;q=0.1", True),
    ],
)
def test_accept_is_negotiated(accept: str | None, packed: bool) -> None:
    """MessagePack goes out where it is named and no less liked than JSON."""
    assert wants_msgpack(accept) is packed


async def test_get_asks_the_same_as_post() -> None:
    """GET of one app has the body that POST of that app has; HEAD has its headers alone."""
    async with (
        serving(snapshot_of(make_epoch())) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        body = orjson.dumps({"apps": {APP: "1.0.0.0"}, "user": "u"})
        posted = await (await session.post(POST, data=body)).read()
        got = await session.get(f"{POST}/{APP}?installed=1.0.0.0&user=u")
        head = await session.head(f"{POST}/{APP}?installed=1.0.0.0&user=u")
        assert await got.read() == posted
        assert await head.read() == b""
        assert head.headers["Content-Length"] == str(len(posted))
        strange = await (await session.get(f"{POST}/a%2Fb")).json()
        unknown = await (await session.get(f"{POST}/nobody")).json()
    assert strange["apps"][0]["status"] == "invalid"
    assert unknown["apps"][0] == {"app": "nobody", "status": "unknown"}


async def test_cross_origin_requests_need_the_workspace_to_name_their_origin() -> None:
    """An origin that `cors` names may read answers, errors too; others may not."""
    ours, other = {"Origin": "https://ours.example"}, {"Origin": "https://other.example"}
    allow = "Access-Control-Allow-Origin"
    async with serving(snapshot_of(make_epoch(cors=("https://ours.example",)))) as served:
        async with aiohttp.ClientSession(served.url) as session:
            answer = await session.post(POST, data=QUESTION, headers=ours)
            fault = await session.post(POST, data=b"x", headers=ours)
            refused = await session.post(POST, data=QUESTION, headers=other)
            asked = {"Access-Control-Request-Method": "POST"}
            preflight = await session.options(POST, headers=ours | asked)
            denied = await session.options(POST, headers=other | asked)
        served.follower.snapshot = snapshot_of(make_epoch(2, cors=("*",)))
        async with aiohttp.ClientSession(served.url) as session:
            anyone = await session.post(POST, data=QUESTION, headers=other)
    assert answer.headers[allow] == fault.headers[allow] == "https://ours.example"
    assert answer.headers["Vary"] == refused.headers["Vary"] == "Origin"
    assert allow not in refused.headers
    assert (preflight.status, preflight.headers[allow]) == (204, "https://ours.example")
    assert preflight.headers["Access-Control-Allow-Methods"] == "POST, OPTIONS"
    assert "Content-Type" in preflight.headers["Access-Control-Allow-Headers"]
    assert allow not in denied.headers
    assert denied.headers["Allow"] == "POST, OPTIONS"
    assert anyone.headers[allow] == "*"


async def test_answers_leave_in_request_order_whatever_the_split() -> None:
    """Law 8, ordinary path: pipelined requests, cut at any byte, are answered in their order."""
    requests = []
    for at in range(6):
        body = orjson.dumps({"apps": {f"app-{at}": None}})
        if at % 3 == 2:
            requests.append(b"GET /v1/check/app-%d HTTP/1.1\r\nHost: x\r\n\r\n" % at)
        else:
            head = b"POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
            requests.append(head + body)
    stream = b"".join(requests)
    async with serving(snapshot_of(make_epoch())) as served:
        for size in (1, 2, 7, 50, 101, len(stream)):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            for start in range(0, len(stream), size):
                writer.write(stream[start : start + size])
                await asyncio.sleep(0)
            seen: list[bytes] = []
            answers = b""
            while len(seen) < len(requests):
                answers += await asyncio.wait_for(reader.read(65_536), 20)
                seen = re.findall(rb'"app":"app-(\d)"', answers)
            assert seen == [b"%d" % at for at in range(len(requests))], size
            writer.close()
            await writer.wait_closed()


async def test_before_the_first_epoch_nobody_waits() -> None:
    """Without an epoch a check gets 503 with Retry-After at once, and the gateway is not ready."""
    async with serving(None) as served, aiohttp.ClientSession() as session:
        check = await session.post(served.url + POST, data=QUESTION)
        ready = await session.get(served.admin_url + "/health/ready")
        live = await session.get(served.admin_url + "/health/live")
        said = await check.json(content_type="application/problem+json")
        assert (check.status, check.headers["Retry-After"]) == (503, "5")
        assert said["detail"].startswith("This gateway has no epoch to serve yet.")
        assert (ready.status, live.status) == (503, 200)
        served.follower.snapshot = snapshot_of(make_epoch(7))
        ready = await session.get(served.admin_url + "/health/ready")
        assert orjson.loads(await ready.read()) == {"ready": True, "epoch": 7, "state": "live"}


async def test_a_gateway_never_queues_without_bound() -> None:
    """When `max_checks` wait for Redis, one more gets 503 at once; those that wait are answered."""
    gate = asyncio.Event()
    snapshot = snapshot_of(make_epoch(staff=("u-1",)))
    lookup = FixedLookup(gate=gate)
    async with (
        serving(snapshot, lookup=lookup, max_checks=3) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        waiting = [asyncio.create_task(session.post(POST, data=STAFF)) for _ in range(3)]
        await until(lambda: served.client._waiting.now == 3)
        refused = await session.post(POST, data=STAFF)
        stranger = await session.post(POST, data=QUESTION)
        gate.set()
        answered = await asyncio.gather(*waiting)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert stranger.status == 200  # who needs no look-up does not queue at all
    assert [each.status for each in answered] == [200, 200, 200]
    assert served.metrics.overloads == 1


async def test_one_answer_comes_from_one_epoch() -> None:
    """Law 7: a check that waits over a swap is answered from the epoch that it began with."""
    gate = asyncio.Event()
    lookup = FixedLookup(gate=gate)
    async with (
        serving(snapshot_of(make_epoch(1, staff=("u-1",))), lookup=lookup) as served,
        aiohttp.ClientSession(served.url) as session,
    ):
        waiting = asyncio.create_task(session.post(POST, data=STAFF))
        await until(lambda: served.client._waiting.now)
        served.follower.snapshot = snapshot_of(make_epoch(2))
        gate.set()
        said = await (await waiting).json()
    assert (said["epoch"], said["apps"][0]["version"]) == (1, "1.0.0.1")


async def test_a_dry_run_leaves_no_count() -> None:
    """A dry run has the same answer and is counted for no release."""
    async with serving(snapshot_of(make_epoch())) as served, aiohttp.ClientSession() as session:
        dry = await session.post(
            served.url + POST, data=QUESTION.replace(b"{", b'{"dry_run":true,', 1)
        )
        before = await (await session.get(served.admin_url + "/metrics")).text()
        wet = await session.post(served.url + POST, data=QUESTION)
        after = await (await session.get(served.admin_url + "/metrics")).text()
        assert await dry.read() == await wet.read()
    line = f'tidegate_app_answers_total{{app="{APP}",release="stable",status="update"}} 1.0'
    assert "tidegate_app_answers_total{" not in before
    assert line in after


async def test_no_label_value_comes_from_a_request() -> None:
    """Apps that no epoch has are counted under an empty name, however many are asked for."""
    async with serving(snapshot_of(make_epoch())) as served, aiohttp.ClientSession() as session:
        for at in range(20):
            await session.get(f"{served.url}{POST}/secret-{at}?custom.secret=secret")
        text = await (await session.get(served.admin_url + "/metrics")).text()
    assert "secret" not in text
    assert 'tidegate_app_answers_total{app="",release="",status="unknown"} 20.0' in text


def test_series_are_bounded() -> None:
    """However many releases there are, the series stay bounded, and no answer goes uncounted."""
    metrics = Metrics()
    for at in range(5_000):
        metrics.count([("app", f"r{at}", "update", ""), ("app", f"r{at}", "latest", "1.0")])
    metrics.count([("app", "r0", "update", "1.0")])
    family = next(metric for metric in metrics.collect() if metric.name == "tidegate_app_answers")
    assert len(family.samples) <= MAX_SERIES
    assert sum(sample.value for sample in family.samples) == 10_001
    others = [sample for sample in family.samples if sample.labels["release"] == OTHER]
    assert {sample.labels["app"] for sample in others} == {OTHER}
    first = [s for s in family.samples if s.labels["release"] == "r0"]
    assert {s.labels["status"]: s.value for s in first} == {"update": 2.0, "latest": 1.0}


async def test_admin_paths_answer_only_what_they_are_for() -> None:
    """The admin listener knows its three paths; it serves no checks, and clients no metrics."""
    async with serving(snapshot_of(make_epoch())) as served, aiohttp.ClientSession() as session:
        missing = await session.get(served.admin_url + POST)
        posted = await session.post(served.admin_url + "/metrics")
        leaked = await session.get(served.url + "/metrics")
        head = await session.head(served.admin_url + "/health/live")
        assert (missing.status, posted.status, leaked.status, head.status) == (404, 405, 404, 200)
        assert posted.headers["Allow"] == "GET, HEAD"
        assert "problem+json" in missing.headers["Content-Type"]


async def test_a_client_that_expects_100_continue_gets_it() -> None:
    """A client that waits for leave to send its body is told to go on."""
    head = (
        b"POST /v1/check HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    )
    async with serving(snapshot_of(make_epoch())) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(head % len(QUESTION))
        first = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        writer.write(QUESTION)
        second = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        writer.close()
        await writer.wait_closed()
    assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert second.startswith(b"HTTP/1.1 200 OK")


async def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a head and then nothing gets 408, and holds no connection for ever."""
    monkeypatch.setattr(server, "BODY_SECONDS", 0.05)
    monkeypatch.setattr("gateway.listener.LINGER_SECONDS", 0.05)
    async with serving(snapshot_of(make_epoch())) as served:
        answer = await raw(served.port, SLOW)
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_stop_lets_a_slow_body_arrive() -> None:
    """A request whose body is still on its way when the gateway stops is answered in full."""
    head = b"POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(QUESTION)
    async with serving(snapshot_of(make_epoch())) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(head + QUESTION[:5])
        await until(lambda: served.client.busy)
        served.client.draining = True
        stopping = asyncio.create_task(served.listener.stop(served.client.busy))
        await asyncio.sleep(0.5)
        assert not stopping.done()
        writer.write(QUESTION[5:])
        answer = await asyncio.wait_for(reader.read(), 20)
        await stopping
        writer.close()
        await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in answer


def test_sigterm_under_load_loses_no_request(tmp_path: Path) -> None:
    """Every request that was sent is answered; a client only ever sees a refused connection.

    Half of the clients keep their connections, half open a new one each time.
    """
    with redis_server(tmp_path / "redis") as redis:
        with redis.client() as client:
            make_epoch(staff=("u-1",)).write(client)
        with running_gateway(tmp_path / "gateway", redis.url, DRAIN_SECONDS="60") as gateway:
            counted = asyncio.run(_load_until_refused(gateway))
            assert gateway.wait() == 0
    assert counted["lost"] == []


async def _load_until_refused(gateway: Any) -> dict[str, Any]:
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    counted: dict[str, Any] = {"answered": 0, "lost": []}
    head = b"POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"

    async def run(*, keep: bool) -> None:
        stream: Any = None
        while True:
            if stream is None:
                try:
                    stream = await asyncio.open_connection(host, int(port))
                except ConnectionRefusedError:
                    return
            reader, writer = stream
            try:
                writer.write(head % len(STAFF) + STAFF)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = int(re.findall(rb"Content-Length: (\d+)", answer)[0])
                await reader.readexactly(length)
                assert answer.startswith(b"HTTP/1.1 200 OK")
            except (OSError, asyncio.IncompleteReadError, AssertionError) as fault:
                counted["lost"].append(repr(fault))
                return
            counted["answered"] += 1
            if not keep or b"Connection: close" in answer:
                writer.close()
                stream = None

    runs = [asyncio.create_task(run(keep=at % 2 == 0)) for at in range(16)]
    await until(lambda: counted["answered"] > 100)
    gateway.terminate()
    status = 200
    async with aiohttp.ClientSession() as session:
        while status == 200:
            status = (await session.get(gateway.admin_url + "/health/ready")).status
    assert status == 503
    unready = counted["answered"]
    await until(lambda: counted["answered"] > unready + 100)
    gateway.terminate()  # the second time it does not wait for balancers
    await asyncio.wait_for(asyncio.gather(*runs), 30)
    return counted


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's time-out is Linux's")
async def test_a_client_that_reads_no_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that nobody reads hold no connection open on the ordinary path either."""
    monkeypatch.setattr(listener, "UNREAD_SECONDS", 1)
    snapshot = snapshot_of(make_epoch(apps=100))
    body = orjson.dumps({"apps": dict.fromkeys(snapshot.contents["programs"])})
    head = b"POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(snapshot) as served:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            client.connect(("127.0.0.1", served.port))
            await until(lambda: served.listener._http.connections)
            client.sendall((head + body) * 100)
            await until(lambda: served.metrics.latency.total)
            await until(lambda: not served.listener._http.connections)
