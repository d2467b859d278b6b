"""Seats on the quick and on the ordinary path: asked before the answer, in order, and bounded."""

import asyncio
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from compiler.image import build_image
from compiler.language.reading import read_files
from gateway import layout
from gateway.keys import Keys
from gateway.link import connect_async, parse_url
from gateway.metrics import Seatings
from gateway.seating import Ask, Place
from gateway.seats import Seats, Wish
from gateway.snapshot import Snapshot, build
from in_process import FixedSeats, serving, until
from processes import RedisServer, free_port
from publishing import COFFEE, WORKSPACE, Workshop
from windows import hash_of, plan_files, push

NOBODY = (Place("first", 0, 7, True),)


def snapshot_of(files: dict[str, str]) -> Snapshot:
    """Open a plan."""
    plan = read_files(files, now=0).plan
    assert plan is not None
    image = build_image(plan, [])
    epoch: Any = {"number": 1, "workspace": WORKSPACE}
    contents = layout.decode(layout.Contents, image.blobs[image.root])
    return build(b"", epoch, contents, image.blobs.__getitem__, None)


def request(device: str, brand: str, end: str = "") -> bytes:
    """Write a check."""
    body = orjson.dumps({"device": device, "brand": brand, "apps": {COFFEE: None}})
    head = f"POST /v1/check HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{end}\r\n"
    return head.encode() + body


async def answers(port: int, data: bytes) -> bytes:
    """Send bytes at once, and read until the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


@pytest.mark.parametrize("ranks", [{}, {COFFEE: 0}])
async def test_both_paths_wait_for_a_seat_and_keep_the_order(ranks: dict[str, int]) -> None:
    """A check that waits holds back those behind it, and both paths say the same."""
    snapshot = snapshot_of(plan_files(10))
    data = request("a", "Xiaomi") + request("b", "Other")
    data += request("c", "Xiaomi", "Connection: close\r\n")
    found = []
    for quick in (True, False):
        seats = FixedSeats(ranks, 0.05)
        async with serving(snapshot, seats=seats, quick=quick) as served:
            text = await answers(served.port, data)
        found.append(re.sub(rb"(Date|Server): [^\r]*\r\n", b"", text))
        releases = [each.decode() for each in re.findall(rb'"release":"(\w+)"', text)]
        seat = "first" if ranks else "stable"
        assert releases == [seat, "stable", seat]
    assert found[0] == found[1]


class HeldSeats(FixedSeats):
    """Does not answer by itself: `held` are the wishes that wait."""

    def __init__(self) -> None:
        """Begin with none."""
        super().__init__()
        self.held: list[Wish] = []

    def begin(self, epoch: int, asks: Sequence[Ask], *, dry_run: bool) -> Wish:
        """Know nothing at once."""
        self.held.append(Wish(epoch, len(asks), dry_run=dry_run))
        return self.held[-1]

    async def seats(self, epoch: int, asks: Sequence[Ask], *, dry_run: bool) -> dict[str, int]:
        """Know nothing until the wish is ended."""
        ended = asyncio.Event()
        self.begin(epoch, asks, dry_run=dry_run).then(ended.set)
        await ended.wait()
        return {}


async def test_what_waits_is_bounded() -> None:
    """A gateway whose checks all wait for seats refuses one more, at once."""
    snapshot = snapshot_of(plan_files(10))
    data = request("a", "Xiaomi", "Connection: close\r\n")
    for quick in (True, False):
        seats = HeldSeats()
        async with serving(snapshot, seats=seats, quick=quick, max_checks=1) as served:
            first = asyncio.create_task(answers(served.port, data))
            await until(lambda held=seats.held: held)
            second = await answers(served.port, data)
            for wish in seats.held:
                wish.give(COFFEE, None)
            both = (await first, second)
        assert [each.split(b"\r\n")[0].split()[1] for each in both] == [b"200", b"503"]


def seats_on(url: str, counts: Seatings, limit: int = 1_000, timeout: float = 20) -> Seats:
    """Make the shell as a gateway does."""
    link = connect_async(parse_url(url), timeout_seconds=20)
    return Seats(link, Keys(WORKSPACE), counts, timeout_seconds=timeout, limit=limit)


async def test_many_are_asked_in_one_round_trip(
    workshop: Workshop, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked in one turn leaves together; it is known who sits in a full window."""
    monkeypatch.setattr("gateway.closed_windows.CLOSED_SECONDS", 600.0)
    push(workshop, plan_files(60))
    counts = Seatings()
    shell = seats_on(server.url, counts)
    asks = [Ask(COFFEE, (Place("first", 3, hash_of(f"d-{n}"), True),)) for n in range(100)]
    found = await asyncio.gather(*(shell.seats(1, [each], dry_run=False) for each in asks))
    assert sum(each == {COFFEE: 3} for each in found) == 60
    assert (counts.asked, counts.round_trips) == (100, 1)
    again = await asyncio.gather(*(shell.seats(1, [each], dry_run=False) for each in asks))
    assert again == found
    assert (counts.asked, counts.remembered) == (100, 100)
    assert await shell.seats(2, asks[:1], dry_run=False) == {COFFEE: 3}
    assert (counts.asked, counts.remembered) == (101, 100)
    await shell.close()


async def test_a_redis_that_is_away_fails_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is seated, and after a few failures nobody is asked for either."""
    monkeypatch.setattr("gateway.breaker.REST_SECONDS", 600.0)
    counts = Seatings()
    shell = seats_on(f"redis://127.0.0.1:{free_port()}/0", counts)
    for _ in range(5):
        assert await shell.seats(1, [Ask(COFFEE, NOBODY)], dry_run=False) == {}
    assert counts.errors == 3
    assert counts.refused == 2
    await shell.close()


async def test_asks_are_bounded(workshop: Workshop, server: RedisServer, tmp_path: Path) -> None:
    """Beyond the limit a check is answered at once, as if it had no seat."""
    push(workshop, plan_files(60))
    counts = Seatings()
    shell = seats_on(server.url, counts, limit=10)
    asks = [Ask(COFFEE, (Place("first", 3, hash_of(f"d-{n}"), True),)) for n in range(25)]
    found = await asyncio.gather(*(shell.seats(1, [each], dry_run=False) for each in asks))
    assert sum(bool(each) for each in found) == 10
    assert counts.refused == 15
    assert await shell.seats(1, asks[20:21], dry_run=False) == {COFFEE: 3}
    await shell.close()


async def test_late_asks_end_their_check_and_wait_no_more(
    workshop: Workshop, server: RedisServer
) -> None:
    """A check whose apps all wait for a Redis that hangs is answered in time, and makes room."""
    push(workshop, plan_files(60))
    counts = Seatings()
    shell = seats_on(server.url, counts, limit=2, timeout=0.05)
    asks = [Ask(app, (Place("first", 3, hash_of(app), True),)) for app in (COFFEE, "tea", "milk")]
    server.signal(signal.SIGSTOP)
    try:
        for tries in (1, 2):
            assert await asyncio.wait_for(shell.seats(1, asks, dry_run=False), 20) == {}
            assert (counts.asked, counts.timeouts) == (2 * tries, 2 * tries)
            assert counts.refused == tries, "the third one found no room"
    finally:
        server.signal(signal.SIGCONT)
    await shell.close()
