"""A gateway with more to do than it can says so at once: 503 with Retry-After; nothing queues."""

import re
import socket
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from epochs import make_epoch
from gateway.waiting import Waiting, watch
from in_process import raw, serving, snapshot_of
from processes import RedisServer, running_gateway, wait_until

BODY = b'{"apps":{"2021000000000001":"1.0.0.1"}}'
HEAD = b"POST /v1/check HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % len(BODY)
ORDINARY = b"Proxy-Connection: keep-alive\r\n"  # which the quick path declines
MANY = b'{"apps":{%s}}' % b",".join(b'"app-%d":"1.0"' % number for number in range(100))
FLOODED = 40
FLOOD = FLOODED * (
    b"POST /v1/check HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(MANY) + MANY
)
CONNECTIONS = 30
ROUNDS = 50


async def test_both_paths_refuse_alike() -> None:
    """Law 8 holds under overload: both give the same status, headers but Date, and body."""
    async with serving(snapshot_of(make_epoch()), quick=True) as served:
        served.quick.waiting.late = True
        quick = await raw(served.port, HEAD + b"\r\n" + BODY)
        ordinary = await raw(served.port, HEAD + ORDINARY + b"\r\n" + BODY)
        assert _parts(quick) == _parts(ordinary)
        assert quick.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nRetry-After: 1\r\n" in quick
        assert served.metrics.overloads == 2
        served.quick.waiting.late = False
        answer = await raw(served.port, HEAD + b"Connection: close\r\n\r\n" + BODY)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def _parts(response: bytes) -> tuple[bytes, set[bytes], bytes]:
    head, _, body = response.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    return status, {each for each in fields if not each.startswith(b"Date:")}, body


async def test_one_late_turn_is_a_hiccup_and_two_are_overload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The event loop counts as late after two late turns in a row, until one is in time again."""
    waiting = Waiting(1)
    late_by = [0.04, 0.06, 0.04, 0.06, 0.06, 0.06, 0.04, 0.06]
    now = 0.0
    found: list[bool] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        found.append(waiting.late)
        if not late_by:
            raise TimeoutError
        now += seconds + late_by.pop(0)

    monkeypatch.setattr("gateway.waiting.asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("gateway.waiting.time", SimpleNamespace(monotonic=lambda: now))
    with pytest.raises(TimeoutError):
        await watch(waiting, 0.05)
    assert found == [False] * 5 + [True] * 2 + [False] * 2


def test_a_flooded_gateway_refuses_and_recovers(server: RedisServer, tmp_path: Path) -> None:
    """Under a flood each answer is a 200, or a 503 with Retry-After; then all is well again."""
    with server.client() as client:
        client.flushall()
        make_epoch(1).write(client)
    with running_gateway(tmp_path, server.url, LATE_MS="1") as gateway:
        port = int(gateway.url.rpartition(":")[2])
        wait_until(lambda: _status(gateway.url + "/v1/check") == 200, "the gateway is in time")
        refused = threading.Event()
        found: list[bytes] = []
        floods = [
            threading.Thread(target=_flood, args=(port, refused, found)) for _ in range(CONNECTIONS)
        ]
        for each in floods:
            each.start()
        for each in floods:
            each.join(60)
        assert refused.is_set()
        assert {re.split(rb"\r\n", each)[0] for each in found} <= {
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 503 Service Unavailable",
        }
        assert all(b"\r\nRetry-After: 1\r\n" in each for each in found if b" 503 " in each[:20])
        wait_until(lambda: _status(gateway.url + "/v1/check") == 200, "the gateway recovers")


def _flood(port: int, refused: threading.Event, found: list[bytes]) -> None:
    """Send floods, one after another, until somebody is refused; at most ROUNDS of them."""
    for _ in range(ROUNDS):
        if refused.is_set():
            return
        answers = b""
        with (
            suppress(ConnectionError),  # it closes behind a 503, with the rest unread
            socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
        ):
            connection.sendall(FLOOD)
            while answers.count(b"HTTP/1.1 ") < FLOODED or not answers.endswith(b"}"):
                data = connection.recv(1 << 16)
                if not data:
                    break
                answers += data
        for each in re.split(rb"(?=HTTP/1\.1 )", answers):
            if b"\r\n\r\n" in each:  # else the connection was reset in the midst of it
                found.append(each)
            if each.startswith(b"HTTP/1.1 503"):
                refused.set()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, BODY, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code
