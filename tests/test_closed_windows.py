"""Windows that are full or over, on a gateway: a stranger costs nothing, who sits there sits."""

from itertools import islice
from typing import Any

import pytest

from gateway.closed_windows import CLOSED_SECONDS, REMEMBERED_SETS, ClosedWindows
from gateway.keys import Keys
from gateway.link import connect_async, parse_url
from gateway.metrics import Seatings
from gateway.seating import (
    NOBODY,
    SCRIPT,
    Ask,
    Place,
    arguments,
    closed_in,
    seat_of,
    shard_count,
    shard_of,
)
from gateway.seats import Seats
from processes import RedisServer
from publishing import COFFEE, WORKSPACE, Workshop
from windows import crowd, hash_of, plan_files, push, sit

EARLY = [f"d-{number}" for number in range(1_000)]
REPLICA = ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE")
LATE = [f"e-{number}" for number in range(1_000)]


def ask_for(device: str, *releases: str) -> Ask:
    """Ask for windows, by release, the strongest first."""
    places = [Place(each, rank, hash_of(device), True) for rank, each in enumerate(releases)]
    return Ask(COFFEE, tuple(places))


def told(workshop: Workshop, device: str, most: int = 100) -> tuple[int, list[list[int]]]:
    """Run the script as a gateway would."""
    client: Any = workshop.link
    rest = arguments(Keys(WORKSPACE), ask_for(device, "first"), dry_run=False, told=most)
    number, closed = closed_in(client.eval(SCRIPT, *rest))
    return number, closed


def seats_on(url: str, counts: Seatings) -> Seats:
    """Make the shell as a gateway does."""
    link = connect_async(parse_url(url), timeout_seconds=20)
    return Seats(link, Keys(WORKSPACE), counts, timeout_seconds=20, limit=10_000)


def test_the_script_tells_of_closed_windows_only(workshop: Workshop) -> None:
    """While a seat is free nothing is told; then the set of the asked seat; of a wide one not."""
    push(workshop, plan_files(300))
    assert told(workshop, EARLY[0]) == (1, [])
    assert crowd(workshop, EARLY) == set(EARLY[:300])
    shards = shard_count(300)
    for device, sits in ((EARLY[0], 1), (EARLY[300], 0)):
        number, closed = told(workshop, device)
        assert number == sits
        ((place, count, *seats),) = closed
        assert (place, count) == (1, shards)
        there = shard_of(hash_of(device), shards)
        hashes = [hash_of(each) for each in EARLY[:300]]
        assert sorted(seats) == sorted(
            seat_of(each) for each in hashes if shard_of(each, shards) == there
        )
        assert told(workshop, device, shards - 1) == (sits, [])


async def test_a_full_window_is_asked_for_once_a_set(
    workshop: Workshop, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers and those seated through another gateway are told apart without a look at Redis."""
    monkeypatch.setattr("gateway.closed_windows.CLOSED_SECONDS", 3_600.0)
    push(workshop, plan_files(300))
    crowd(workshop, EARLY)
    counts = Seatings()
    shell = seats_on(server.url, counts)
    sitting = set()
    for device in [*LATE, *EARLY]:
        found = await shell.seats(1, [ask_for(device, "first")], dry_run=False)
        if found:
            sitting.add(device)
    assert sitting == set(EARLY[:300])
    assert (counts.asked, counts.remembered) == (2, 1_998)
    await shell.seats(2, [ask_for(LATE[0], "first")], dry_run=False)
    assert counts.asked == 3  # another epoch may have raised it
    await shell.close()


async def test_one_that_opens_again_is_asked_for_again(
    workshop: Workshop, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was told is soon too old, whatever epoch this gateway serves."""
    push(workshop, plan_files(3))
    crowd(workshop, EARLY)
    monkeypatch.setattr("gateway.closed_windows.CLOSED_SECONDS", 0.0)
    shell = seats_on(server.url, Seatings())
    late = [ask_for(LATE[0], "first")]
    assert await shell.seats(1, late, dry_run=False) == {}
    push(workshop, plan_files(4))
    assert await shell.seats(1, late, dry_run=False) == {COFFEE: 0}
    await shell.close()


def test_the_strongest_known_seat_is_found_and_what_is_not_known_is_asked() -> None:
    """An ask for two windows is answered once both are known, or the seat is in the first."""
    known = ClosedWindows()
    ask = ask_for("d", "a", "b")
    seat = seat_of(hash_of("d"))
    assert known.find(ask, 0.0) is None
    known.tell(ask, [[2, 1, 5, seat, -7]], 0.0)
    assert known.find(ask, 1.0) is None  # in the stronger one there may be a seat
    assert known.find(ask_for("d", "b"), 1.0) == 0
    known.tell(ask, [[1, 1, 5]], 0.0)
    assert known.find(ask, 1.0) == 1
    assert known.find(ask_for("d", "a"), CLOSED_SECONDS) is None
    known.tell(ask, [[1, 1, seat], [2, 1]], 2.0)
    assert (known.find(ask, 3.0), known.find(ask_for("d", "b"), 3.0)) == (0, NOBODY)
    known.clear()
    assert known.find(ask, 3.0) is None


def test_what_is_remembered_is_bounded_and_of_one_count_of_sets() -> None:
    """Sets told of a window before it was spread anew are nothing any more."""
    known = ClosedWindows()
    shards = REMEMBERED_SETS + 9
    asks = {}
    for number in range(60_000):
        ask = ask_for(f"d-{number}", "a")
        asks.setdefault(shard_of(ask.places[0].hashed, shards), ask)
    assert len(asks) == shards
    for ask in asks.values():
        known.tell(ask, [[1, shards]], 0.0)
    found = [known.find(ask, 1.0) for ask in asks.values()]
    assert found == [None] * 9 + [NOBODY] * REMEMBERED_SETS
    first, second = list(asks.values())[-2:]
    known.tell(second, [[1, 2]], 0.0)
    assert (known.find(first, 1.0), known.find(second, 1.0)) != (NOBODY, None)
    one = [ask for ask in asks.values() if known.find(ask, 1.0) == NOBODY]
    half = shard_of(second.places[0].hashed, 2)
    assert one == [ask for ask in asks.values() if shard_of(ask.places[0].hashed, 2) == half]


async def test_a_redis_that_does_not_write_seats_nobody_new(
    workshop: Workshop, server: RedisServer
) -> None:
    """Out of memory or read-only, it still tells who sits, however many others it refuses."""
    push(workshop, plan_files(300))
    crowd(workshop, EARLY[:10])
    counts = Seatings()
    shell = seats_on(server.url, counts)
    client: Any = workshop.link
    numbers = iter(range(20))
    for bad, good in (("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"), REPLICA):
        client.execute_command(*bad.split())
        try:
            for number in islice(numbers, 10):
                late = [ask_for(LATE[number], "first")]
                assert await shell.seats(number, late, dry_run=False) == {}
                early = [ask_for(EARLY[number % 10], "first")]
                assert await shell.seats(number, early, dry_run=False) == {COFFEE: 0}
        finally:
            client.execute_command(*good.split())
    assert (counts.errors, counts.refused) == (20, 0)
    assert sit(workshop, LATE[0], takes=False) == 0
    await shell.close()
