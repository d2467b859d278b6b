"""Law 8: answers leave in request order, and every path gives the same ones.

Two servers serve one epoch, one with the quick path in front, one without. What the one answers
to any mixture of requests, pipelined and cut anywhere, the other answers too, but for the Date.
"""

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epochs import make_epoch
from gateway.hashing import id_hash, id_seed
from in_process import FixedLookup, serving, snapshot_of

EXAMPLES = 3_000 if "TIDEGATE_SOAK" in os.environ else 150
MADE = make_epoch(staff=tuple(f"u-{n}" for n in range(50)), switches=True)
APP = next(iter(snapshot_of(MADE).contents["programs"]))
MEMBERS = {id_hash(f"u-{n}", id_seed("demo", "user")): 1 for n in range(50)}


def _post(body: bytes, *lines: str, first: str = "POST /v1/check HTTP/1.1") -> bytes:
    fields = ["Host: x", *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join([first, *fields, "", ""]).encode() + body


def _flags(key: str, *lines: str, **context: Any) -> bytes:
    path = f"/ofrep/v1/evaluate/flags{key}"
    return _post(orjson.dumps({"context": context}), *lines, first=f"POST {path} HTTP/1.1")


def _check(user: str, *apps: str, **more: Any) -> dict[str, Any]:
    return {"user": user, "apps": dict.fromkeys(apps or (APP,))} | more


JSON = orjson.dumps(_check("nobody"))
REPORT = orjson.dumps({"reports": [{"app": APP, "release": "stable", "event": "failed"}, {}]})
PACKED = "Content-Type: application/msgpack"
WANTS = "Accept: application/msgpack"
CHUNKED = b"POST /v1/check HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS: dict[str, bytes] = {
    "quick": _post(JSON),
    "quick with many headers": _post(JSON, "User-Agent: y", "X-Request-Id: 7", "Cookie: a=b"),
    "member": _post(orjson.dumps(_check("u-1"))),
    "another member": _post(orjson.dumps(_check("u-49", APP, "missing"))),
    "batch": _post(orjson.dumps(_check("u", *(f"app-{n}" for n in range(20)), APP))),
    "packed": _post(msgpack.packb(_check("nobody")), PACKED, WANTS),
    "packed member": _post(msgpack.packb(_check("u-2")), PACKED, WANTS),
    "packed answer": _post(JSON, WANTS),
    "keep-alive": _post(JSON, "Connection: keep-alive"),
    "dry run": _post(orjson.dumps(_check("u-3", dry_run=True))),
    "get": f"GET /v1/check/{APP}?user=u-4 HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "report": _post(REPORT, first="POST /v1/report HTTP/1.1"),
    "packed report": _post(REPORT, WANTS, first="POST /v1/report HTTP/1.1"),
    "no report": _post(b"{}", first="POST /v1/report HTTP/1.1"),
    "openapi": b"HEAD /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n",
    "not found": b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n",
    "not allowed": b"GET /v1/check HTTP/1.1\r\nHost: x\r\n\r\n",
    "options": b"OPTIONS /v1/check HTTP/1.1\r\nHost: x\r\n\r\n",
    "not json": _post(b"{"),
    "no apps": _post(b"{}"),
    "long id": _post(orjson.dumps(_check("u" * 300))),
    "origin": _post(JSON, "Origin: https://a.example"),
    "query": _post(JSON, first="POST /v1/check?x=1 HTTP/1.1"),
    "empty": _post(b""),
    "chunked": CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(JSON), JSON),
    "check with switches": _post(orjson.dumps(_check("u-6", switches=True))),
    "switches alone": _post(orjson.dumps({"device": "d", "switches": True})),
    "switches, packed": _post(msgpack.packb(_check("u-7", switches=True)), PACKED, WANTS),
    "one switch": _flags("/new-home", targetingKey="d-1", user="nobody"),
    "one switch of a member": _flags("/new-home", user="u-8"),
    "all switches": _flags("", targetingKey="d-1"),
    "all switches of a member": _flags("", user="u-9"),
    "unchanged": _flags("", "If-None-Match: *", user="u-9"),
    "changed": _flags("", 'If-None-Match: "x", W/"y"', targetingKey="d-2"),
    "no such switch": _flags("/nothing", targetingKey="d-1"),
    "no switch's name": _flags("/%6eew-home", targetingKey="d-1"),
    "dots": _flags("/..", targetingKey="d-1"),
    "switch, close": _flags("/new-home", "Connection: close"),
    "switches, not json": _post(b"{", first="POST /ofrep/v1/evaluate/flags HTTP/1.1"),
    "switches, no context": _post(
        b'{"context":[]}', first="POST /ofrep/v1/evaluate/flags/a HTTP/1.1"
    ),
    "switches, long id": _flags("/new-home", targetingKey="d" * 300),
    "switches, options": b"OPTIONS /ofrep/v1/evaluate/flags HTTP/1.1\r\nHost: x\r\n\r\n",
    "switches, get": b"GET /ofrep/v1/evaluate/flags/a HTTP/1.1\r\nHost: x\r\n\r\n",
    "switches, elsewhere": _post(b"{}", first="POST /ofrep/v1/configuration HTTP/1.1"),
    "close": _post(JSON, "Connection: close"),
    "member, close": _post(orjson.dumps(_check("u-5")), "Connection: close"),
}
LAST = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def _ask(port: int, data: bytes, cuts: list[int]) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        at = 0
        for cut in (*sorted(cut % (len(data) + 1) for cut in cuts), len(data)):
            if cut > at:
                writer.write(data[at:cut])
                await asyncio.sleep(0.0005)
            at = cut
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b"reset"
    finally:
        writer.close()


def _undated(answers: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]*", b"", answers)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """Keep one event loop, and in it two servers, for all examples."""
    with asyncio.Runner() as found:
        yield found


@pytest.fixture(scope="module")
def servers(runner: asyncio.Runner) -> Iterator[tuple[FixedLookup, int, int]]:
    """Serve one epoch with the quick path in front and without; give the look-up and the ports."""
    lookup = FixedLookup(MEMBERS)
    snapshot = snapshot_of(MADE)
    stack = AsyncExitStack()

    async def start() -> tuple[FixedLookup, int, int]:
        quick = await stack.enter_async_context(serving(snapshot, lookup=lookup, quick=True))
        ordinary = await stack.enter_async_context(serving(snapshot, lookup=lookup))
        return lookup, quick.port, ordinary.port

    yield runner.run(start())
    runner.run(stack.aclose())


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    names=st.lists(st.sampled_from(sorted(REQUESTS)), min_size=1, max_size=7),
    cuts=st.lists(st.integers(0, 5_000), max_size=6),
    delay=st.sampled_from((0.0, 0.002)),
)
def test_every_path_answers_alike_and_in_order(
    runner: asyncio.Runner,
    servers: tuple[FixedLookup, int, int],
    names: list[str],
    cuts: list[int],
    delay: float,
) -> None:
    """Statuses, headers but Date, bodies and their order are those of the ordinary path."""
    lookup, quick, ordinary = servers
    lookup.delay_seconds = delay
    parts = []
    for request in (*(REQUESTS[name] for name in names), LAST):
        parts.append(request)
        if b"Connection: close" in request:
            break  # what follows is nobody's to answer
    data = b"".join(parts)
    one = runner.run(_ask(quick, data, cuts))
    other = runner.run(_ask(ordinary, data, []))
    assert _undated(one) == _undated(other)
    assert one.count(b"HTTP/1.1 ") >= 1


async def test_an_ordinary_check_stays_on_the_quick_path() -> None:
    """No check that phones send is handed to aiohttp, which would cost three times as much."""
    names = (
        *("quick", "member", "another member", "batch", "packed", "packed member", "dry run"),
        *("check with switches", "switches alone", "one switch", "one switch of a member"),
        *("all switches", "all switches of a member", "changed"),
    )
    lookup = FixedLookup(masks=MEMBERS)
    async with serving(snapshot_of(MADE), lookup=lookup, quick=True) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"".join(REQUESTS[name] for name in names))
        for _ in names:
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).count(b"200 OK")
        writer.close()
        assert served.metrics.handed_over == 0
