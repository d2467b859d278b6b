"""A gateway's life: bind, take an epoch, serve, drain, stop. The parts are wired here.

On SIGTERM the gateway first says that it is not ready and ends each connection with its next
answer; after TIDEGATE_DRAIN_SECONDS it stops accepting, answers whatever has come, and goes. On
SIGINT, and on a second signal, it does not wait for balancers to notice.
"""

import asyncio
import gc
import signal
import socket
from contextlib import suppress
from functools import partial

import structlog

from gateway import metrics, redis_clock
from gateway.admin import AdminServer, readiness
from gateway.announce import Announcer
from gateway.config import ADMIN_LISTEN, LISTEN, Config
from gateway.follower import Follower
from gateway.keys import Keys
from gateway.link import connect_async
from gateway.listener import Listener, bind
from gateway.lookup import Lookup
from gateway.notice import listen
from gateway.quick import Quick
from gateway.routing import patience, reader_of
from gateway.seats import Seats
from gateway.server import ClientServer
from gateway.sums import Sums
from gateway.waiting import Waiting, watch

FOLLOW_TIMEOUT_SECONDS = 2.0
GOODBYE_SECONDS = 5.0
"""How long Redis is asked to take the last sums, and then the goodbye: two time-outs and more."""

CANCEL_SECONDS = 0.1
FULL_COLLECTION_TURNS = 1_000
"""Collections of the middle generation before a full one; 10 unless told."""

log = structlog.get_logger()


class Service:
    """What one process serves clients with: it follows, looks up, answers and announces itself."""

    def __init__(self, config: Config, bound: socket.socket, name: str) -> None:
        """Serve on a bound socket, under a name among all gateways."""
        self.counts = metrics.Metrics()
        keys = Keys(config.workspace)
        self._config = config
        self._keys = keys
        self._link = connect_async(config.redis, timeout_seconds=FOLLOW_TIMEOUT_SECONDS)
        self.follower = Follower(config, self._link, keys, self.counts)
        wait = config.lookup_timeout_ms / 1000
        self._lookup = Lookup(
            reader_of(config.redis, wait),
            keys,
            self.counts.lookups,
            timeout_seconds=wait,
            limit=config.lookups,
        )
        self._seats = Seats(
            connect_async(config.redis, timeout_seconds=patience(config.redis, wait)),
            keys,
            self.counts.seatings,
            timeout_seconds=wait,
            limit=config.lookups,
        )
        self._waiting = waiting = Waiting(config.checks)
        self.server = ClientServer(self.follower, self._lookup, self._seats, self.counts, waiting)
        quick = partial(Quick, self.follower, self._lookup, self._seats, self.counts, waiting)
        self.clients = Listener(bound, self.server.handle, quick)
        self.announcer = Announcer(self.follower, self._link, keys, name)
        self._sums = Sums(
            connect_async(config.redis, timeout_seconds=FOLLOW_TIMEOUT_SECONDS, once=True),
            keys,
            self.counts,
        )
        self.counts.has_guardrail = self._has_guardrail
        self._tasks: list[asyncio.Task[None]] = []

    def _has_guardrail(self, app: str, release: str) -> bool:
        """Tell whether a release of the served epoch has one."""
        snapshot = self.follower.snapshot
        entry = None if snapshot is None else snapshot.apps[app]
        return entry is not None and release in entry.program.halts

    async def follow(self) -> None:
        """Take an epoch if there is one, and follow from now on. Raises StoreError."""
        await self.follower.start()
        # What was imported is no garbage; walking it in full collections took 30 ms each time.
        gc.freeze()
        # The tables of 10,000 apps hold up a full collection for 200 ms, and no garbage is in
        # them. The young generations, where the cycles of a request die, are collected as before.
        gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION_TURNS)
        self._tasks = [
            asyncio.create_task(self.follower.run()),
            asyncio.create_task(listen(self._config.redis, self._keys.notice, self.follower.hear)),
            asyncio.create_task(self.announcer.run()),
            asyncio.create_task(watch(self._waiting, self._config.late_ms / 1000)),
            asyncio.create_task(self._sums.run()),
            asyncio.create_task(redis_clock.watch(self._link, self.follower.take_clock)),
        ]

    async def drain(self, hurry: asyncio.Event) -> None:
        """End each connection with its next answer, for a while or until there is a hurry; stop."""
        self.server.draining = True
        self.clients.drain()
        log.info("stopping", drain_seconds=self._config.drain_seconds)
        with suppress(TimeoutError):
            await asyncio.wait_for(hurry.wait(), self._config.drain_seconds)
        await self.clients.stop(self.server.busy)

    async def close(self) -> None:
        """Add what was counted last, say goodbye, and let go of Redis and the disk."""
        await self._sums.finish(GOODBYE_SECONDS)
        # Again and again: a cancellation that meets a library's own time-out may get lost.
        left = set(self._tasks)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=CANCEL_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.announcer.withdraw(), GOODBYE_SECONDS)
        await self.follower.close()
        await self._lookup.close()
        await self._seats.close()
        await self._sums.close()
        await self._link.aclose()


async def serve(config: Config) -> None:
    """Serve as the only process, until a signal. Raises ConfigError, StoreError at the start."""
    client_socket = bind(config.listen, LISTEN)
    try:
        admin_socket = bind(config.admin_listen, ADMIN_LISTEN)
    except BaseException:
        client_socket.close()
        raise
    service = Service(config, client_socket, config.name)
    ready = readiness(service.follower, config.max_stale)
    admin = AdminServer(ready, metrics.exposition(service.counts))
    operators = Listener(admin_socket, admin.handle)
    stop, hurry = signals()
    await operators.start()
    await service.follow()
    # Not before, or one that was restarted would say for a moment that it has no epoch.
    await service.clients.start()
    snapshot = service.follower.snapshot
    log.info(
        "serving",
        clients=service.clients.address,
        admin=operators.address,
        workspace=config.workspace,
        redis=config.redis.shown,
        epoch=snapshot.number if snapshot else None,
        state=service.follower.state.value,
    )
    await stop.wait()
    admin.draining = True
    await service.drain(hurry)
    await service.close()
    await operators.stop(())
    log.info("stopped")


def signals(*, again: bool = True) -> tuple[asyncio.Event, asyncio.Event]:
    """Give the events `stop` and `hurry`: set by SIGTERM and, both, by SIGINT.

    With `again`, a second SIGTERM is a hurry, too.
    """
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_term() -> None:
        if again and stop.is_set():
            hurry.set()
        stop.set()

    def on_int() -> None:
        hurry.set()
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, on_term)
    loop.add_signal_handler(signal.SIGINT, on_int)
    return stop, hurry
