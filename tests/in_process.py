"""The client and admin servers on real sockets within the test's own event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from epochs import Made
from gateway.admin import AdminServer, readiness
from gateway.config import ADMIN_LISTEN, LISTEN, Endpoint
from gateway.lifecycle import State
from gateway.listener import Listener, bind
from gateway.loading import Loading, Rules
from gateway.lookup import Answer, Asked
from gateway.metrics import Metrics, exposition
from gateway.quick import Quick
from gateway.seating import Ask
from gateway.seats import Wish
from gateway.server import ClientServer
from gateway.snapshot import Snapshot
from gateway.waiting import Waiting


def snapshot_of(made: Made) -> Snapshot:
    """Build the snapshot of a hand-made epoch."""
    loading = Loading(made.digest, Rules("demo", (), None), made.blobs)
    assert not loading.missing()
    return loading.build(None)


@dataclass
class FixedFollower:
    """Stands in for the follower: serves what it is told."""

    snapshot: Snapshot | None
    state: State = State.LIVE
    why: str = ""


@dataclass
class FixedLookup:
    """Stands in for Redis: knows `masks`, and waits until `gate` is set."""

    masks: Mapping[int, int] = field(default_factory=dict)
    gate: asyncio.Event | None = None

    delay_seconds: float = 0.0

    async def members(self, snapshot: Any, hashes: Iterable[int]) -> dict[int, int | None]:
        """Answer after the gate has opened."""
        if self.gate is not None:
            await self.gate.wait()
        return {hashed: self.masks.get(hashed) for hashed in hashes}

    def begin(
        self, snapshot: Any, hashes: Iterable[int]
    ) -> tuple[dict[int, int | None], list[Asked]]:
        """Know nothing at once, and all after a while."""
        loop = asyncio.get_running_loop()
        asked = [(hashed, Answer(b"")) for hashed in hashes]
        for _, answer in asked:
            loop.call_later(self.delay_seconds, answer.give, None)
        return {}, asked

    def finish(
        self, snapshot: Any, found: dict[int, int | None], asked: Iterable[Asked]
    ) -> dict[int, int | None]:
        """Give the masks."""
        return {hashed: self.masks.get(hashed) for hashed, _ in asked}


@dataclass
class FixedSeats:
    """Stands in for Redis: knows the ranks of `seats` by app, and tells after a while."""

    ranks: Mapping[str, int] = field(default_factory=dict)
    delay_seconds: float = 0.0

    def begin(self, epoch: int, asks: Sequence[Ask], *, dry_run: bool) -> Wish:
        """Know nothing at once, and all after a while."""
        wish = Wish(epoch, len(asks), dry_run=dry_run)
        loop = asyncio.get_running_loop()
        for ask in asks:
            loop.call_later(self.delay_seconds, wish.give, ask.app, self.ranks.get(ask.app))
        return wish

    async def seats(self, epoch: int, asks: Sequence[Ask], *, dry_run: bool) -> dict[str, int]:
        """Tell after a while."""
        del epoch, dry_run
        await asyncio.sleep(self.delay_seconds)
        return {ask.app: self.ranks[ask.app] for ask in asks if ask.app in self.ranks}


@dataclass
class Served:
    """A running pair of servers, its parts, and where they listen."""

    client: ClientServer
    admin: AdminServer
    metrics: Metrics
    listener: Listener
    follower: FixedFollower
    url: str
    admin_url: str

    @property
    def quick(self) -> Quick:
        """Give the quick path in front."""
        assert self.listener._front is not None
        return self.listener._front

    @property
    def port(self) -> int:
        """Give the client listener's port."""
        return int(self.url.rpartition(":")[2])


@asynccontextmanager
async def serving(
    snapshot: Snapshot | None,
    *,
    lookup: Any = None,
    seats: Any = None,
    max_checks: int = 10,
    quick: bool = False,
) -> AsyncIterator[Served]:
    """Serve a snapshot, or none, on free ports; with the quick path in front, or without."""
    follower: Any = FixedFollower(snapshot)
    metrics = Metrics()
    waiting = Waiting(max_checks)
    seats = seats or FixedSeats()
    client = ClientServer(follower, lookup or FixedLookup(), seats, metrics, waiting)
    admin = AdminServer(readiness(follower), exposition(metrics))
    lookup = lookup or FixedLookup()

    def front(ordinary: Any) -> Quick:
        return Quick(follower, lookup, seats, metrics, waiting, ordinary)

    free = Endpoint("127.0.0.1", 0)
    clients = Listener(bind(free, LISTEN), client.handle, front if quick else None)
    operators = Listener(bind(free, ADMIN_LISTEN), admin.handle)
    await clients.start()
    await operators.start()
    try:
        yield Served(
            client,
            admin,
            metrics,
            clients,
            follower,
            f"http://{clients.address}",
            f"http://{operators.address}",
        )
    finally:
        running = [each for each in (clients, operators) if each._spare.fileno() >= 0]
        await asyncio.gather(*(each.stop(()) for each in running))


async def until(holds: Callable[[], object], seconds: int = 20) -> None:
    """Wait until `holds()` is true, for so many seconds at most."""
    for _ in range(200 * seconds):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to hold")


async def raw(port: int, data: bytes, *, until_close: bool = True) -> bytes:
    """Send bytes as they are and give what comes back, until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        await writer.drain()
        return await asyncio.wait_for(reader.read() if until_close else reader.read(65_536), 20)
    finally:
        writer.close()
        await writer.wait_closed()
