"""`python -m loadtest.windows`: what time windows cost a check, and what their seats take.

First checks from their bytes to those of the answer, in one process, round after round in turn:
of an app without a window, and of the same app with one above everything else, in each state that
it may be in. Then, in a Redis of its own, the memory of so many seats; and how long a controller
takes to freeze them, with the peak memory of the process that does.

    python -m loadtest.windows                     10,000,000 seats
    python -m loadtest.windows --seats 100000
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compiler.commands.local_redis import LocalRedis
from compiler.compilation import compile_folder
from compiler.publication.freezing import freeze_due
from compiler.publication.mirror import Mirror
from compiler.publication.publisher import publish
from compiler.publication.publisher_key import PublisherKey
from compiler.publication.seat_records import SeatRecords
from compiler.storage.store import open_store
from compiler.windows import freeze
from gateway.hashing import id_hash, id_seed
from gateway.link import connect_sync, parse_url
from gateway.request import parse_body
from gateway.seating import seat_of, shard_count, shard_of
from gateway.seats import Seats
from gateway.signing import PublicKey
from gateway.snapshot import Snapshot
from loadtest import plans
from loadtest.lists import apart, peak_memory, used_memory
from loadtest.micro import form, opened, whole
from loadtest.phones import Phone, as_json, phone
from loadtest.rows import REQUESTS

WORKSPACE = "bench"
RELEASE = "first"
FIRST = 100_000
"""Seats of the window whose checks are measured."""

ROUNDS = 7
_MB = 1_000_000

Case = tuple[str, Snapshot, dict[bytes, bytes], Sequence[bytes], Callable[[Seats], None]]


def app(first: int, *, window: bool = True) -> plans.App:
    """Describe an app of 12 releases, and above them one with a time window."""
    found = plans.app(plans.COFFEE, plans.RELEASES)
    audience = {"first": first, "until": "2099-01-01T00:00:00Z"}
    row = {"id": RELEASE, "package": plans.NEW, "audience": audience, "upgrade": "force"}
    return {**found, "releases": [row, *found["releases"]]} if window else found


def cases() -> Iterator[Case]:
    """Give the states of a window: what is opened, asked, and known of it."""
    strangers = [phone(number) for number in range(REQUESTS)]
    seated = [phone(number) for number in range(REQUESTS, 2 * REQUESTS)]
    seed = id_seed(WORKSPACE, "device")
    ours = [id_hash(each["device"], seed) for each in seated]
    made_up = np.random.default_rng(1).integers(0, 2**64, FIRST - len(ours), np.uint64)
    seats = np.concatenate([made_up, np.array(ours, np.uint64)])

    def full(known: Seats) -> None:
        _tell(known, snapshot, [*strangers, *seated], seats)

    def nothing(_: Seats) -> None:
        pass

    snapshot, buckets = opened(WORKSPACE, [app(0, window=False)], 0)
    yield "no window", snapshot, buckets, _requests(strangers), nothing
    frozen = {f"{plans.COFFEE}/{RELEASE}": freeze(seats)}
    snapshot, buckets = opened(WORKSPACE, [app(FIRST)], 0, frozen)
    yield "full or over, frozen: a stranger", snapshot, buckets, _requests(strangers), nothing
    yield "full or over, frozen: seated there", snapshot, buckets, _requests(seated), nothing
    snapshot, buckets = opened(WORKSPACE, [app(FIRST)], 0)
    yield "full, not yet frozen: a stranger", snapshot, buckets, _requests(strangers), full
    yield "full, not yet frozen: seated there", snapshot, buckets, _requests(seated), full


def _requests(phones: Sequence[Phone]) -> list[bytes]:
    return [as_json(each) for each in phones]


def _tell(known: Seats, snapshot: Snapshot, phones: Sequence[Phone], seats: Any) -> None:
    """Let a gateway know what the script would have told it at the first asks."""
    shards = shard_count(FIRST)
    by_shard: dict[int, list[int]] = {}
    for each in seats.tolist():
        by_shard.setdefault(shard_of(each, shards), []).append(seat_of(each))
    known.begin(snapshot.number, [], dry_run=False)
    for each in phones:
        check = parse_body(as_json(each).partition(b"\r\n\r\n")[2], packed=False)
        snapshot.probes(check)
        for ask in snapshot.asks(check, {}, int(time.time())):
            shard = shard_of(ask.places[0].hashed, shards)
            known.learn(ask, [[1, shards, *by_shard.get(shard, [])]])


async def checks() -> None:
    """Measure every case in turn, several times; print medians, and ratios of the same rounds."""
    print(f"{'a check, ' + form():44}{'ns':>10}{'ratio':>10}")
    every = list(cases())
    rounds = [[whole(*rest) for _, *rest in every] for _ in range(ROUNDS)]
    for at, (name, *_) in enumerate(every):
        found = statistics.median(each[at] for each in rounds)
        ratio = statistics.median(each[at] / each[0] for each in rounds)
        print(f"{name:44}{found:>10,.0f}{ratio:>10.2f}", flush=True)


def seats_in_redis(seats: int, folder: Path) -> None:
    """Seat so many made-up subjects, freeze them as a controller does, and print both costs."""
    with LocalRedis(folder / "redis") as redis:
        apart(_publish, redis.url, folder, seats)
        before = used_memory(redis.url)
        filling = apart(_fill, redis.url, seats)
        taken = (used_memory(redis.url) - before) / seats
        print(f"{f'{seats:,} seats in Redis, bytes a seat':44}{taken:>10.1f}")
        seconds, peak = apart(_freeze, redis.url, folder)
        print(f"{'to write them anew, as a thaw does, s':44}{filling:>10.1f}")
        print(f"{'to freeze them, s':44}{seconds:>10.1f}")
        print(f"{'peak memory of who freezes them, MB':44}{peak / _MB:>10,.0f}")


def _options(url: str, folder: Path) -> dict[str, Any]:
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    key = PublisherKey(PublicKey("bench", private.public_key().public_bytes_raw()), private)
    link = connect_sync(parse_url(url), timeout_seconds=30)
    store = open_store(str(folder / "store"), create=True)
    return {"link": link, "key": key, "store": store, "workspace": WORKSPACE}


def _publish(url: str, folder: Path, first: int) -> None:
    plans.write_plan(folder / "plan", WORKSPACE, [app(first)], 0)
    plans.write_packages(folder / "store")
    image, _ = compile_folder(folder / "plan", None, 0)
    publish(image, now=int(time.time()), **_options(url, folder))


def _fill(url: str, seats: int) -> float:
    records = SeatRecords(Mirror(connect_sync(parse_url(url), timeout_seconds=30), WORKSPACE))
    record = records.read(plans.COFFEE, RELEASE)
    assert record is not None
    hashes = np.unique(np.random.default_rng(1).integers(0, 2**64, seats, np.uint64))
    began = time.monotonic()
    records.fill(plans.COFFEE, RELEASE, hashes, record.shards, record.sets)
    records.change(plans.COFFEE, RELEASE, {"seated": seats})
    return time.monotonic() - began


def _freeze(url: str, folder: Path) -> tuple[float, int]:
    began = time.monotonic()
    if freeze_due(now=int(time.time()), **_options(url, folder)) is None:
        raise SystemExit("The full window was not frozen.")
    return time.monotonic() - began, peak_memory()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one table."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--seats", type=int, default=10_000_000, help="seats in Redis")
    options = asked.parse_args(arguments)
    asyncio.run(checks())
    with tempfile.TemporaryDirectory() as folder:
        seats_in_redis(options.seats, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
