"""A gateway's life: bind, take an epoch, serve, drain, stop. The parts are wired here.

On SIGTERM the gateway first says that it is not ready and ends each connection with its next
answer; after TIDEGATE_DRAIN_SECONDS it stops accepting, answers whatever has come, and goes. On
SIGINT, and on a second signal, it does not wait for balancers to notice.
"""

import asyncio
import gc
import signal
from contextlib import suppress
from functools import partial

import structlog

from gateway import metrics
from gateway.admin import AdminServer
from gateway.announce import Announcer
from gateway.config import ADMIN_LISTEN, LISTEN, Config
from gateway.follower import Follower
from gateway.keys import Keys
from gateway.link import connect_async
from gateway.listener import Listener, bind
from gateway.lookup import ROUND_TRIP_SECONDS, Lookup
from gateway.notice import listen
from gateway.quick import Quick
from gateway.server import ClientServer
from gateway.waiting import Waiting

FOLLOW_TIMEOUT_SECONDS = 2.0
GOODBYE_SECONDS = 1.0
FULL_COLLECTION_TURNS = 1_000
"""Collections of the middle generation before a full one; 10 unless told."""

log = structlog.get_logger()


async def serve(config: Config) -> None:
    """Serve until a signal. Raises ConfigError, StoreError when it cannot start."""
    client_socket = bind(config.listen, LISTEN)
    try:
        admin_socket = bind(config.admin_listen, ADMIN_LISTEN)
    except BaseException:
        client_socket.close()
        raise
    counts = metrics.Metrics()
    keys = Keys(config.workspace)
    link = connect_async(config.redis, timeout_seconds=FOLLOW_TIMEOUT_SECONDS)
    follower = Follower(config, link, keys, counts)
    lookup = Lookup(
        connect_async(config.redis, timeout_seconds=ROUND_TRIP_SECONDS),
        keys,
        counts.lookups,
        timeout_seconds=config.lookup_timeout_ms / 1000,
        limit=config.lookups,
    )
    waiting = Waiting(config.checks)
    client = ClientServer(follower, lookup, counts, waiting)
    admin = AdminServer(follower, metrics.exposition(counts))
    quick = partial(Quick, follower, lookup, counts, waiting)
    clients = Listener(client_socket, client.handle, quick)
    operators = Listener(admin_socket, admin.handle)
    announcer = Announcer(follower, link, keys, config.name)

    stop, hurry = _signals()
    await operators.start()
    await clients.start()
    await follower.start()
    # What was imported is no garbage; walking it in every full collection took 30 ms each time.
    gc.freeze()
    # The tables of 10,000 apps hold up a full collection for 200 ms, and no garbage is in them.
    # The young generations, where the cycles of a request die, are collected as before.
    gc.set_threshold(*gc.get_threshold()[:2], FULL_COLLECTION_TURNS)
    tasks = [
        asyncio.create_task(follower.run()),
        asyncio.create_task(listen(config.redis, keys.notice, follower.hear)),
        asyncio.create_task(announcer.run()),
    ]
    log.info(
        "serving",
        clients=clients.address,
        admin=operators.address,
        workspace=config.workspace,
        redis=config.redis.shown,
        epoch=follower.snapshot.number if follower.snapshot else None,
        state=follower.state.value,
    )
    await stop.wait()

    admin.draining = client.draining = True
    clients.drain()
    log.info("stopping", drain_seconds=config.drain_seconds)
    with suppress(TimeoutError):
        await asyncio.wait_for(hurry.wait(), config.drain_seconds)
    await clients.stop(client.busy)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    with suppress(TimeoutError):
        await asyncio.wait_for(announcer.withdraw(), GOODBYE_SECONDS)
    await follower.close()
    await operators.stop(())
    await lookup.close()
    await link.aclose()
    log.info("stopped")


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Give the events `stop` and `hurry`, set by SIGTERM, SIGINT and a second signal."""
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_term() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    def on_int() -> None:
        hurry.set()
        stop.set()

    loop.add_signal_handler(signal.SIGTERM, on_term)
    loop.add_signal_handler(signal.SIGINT, on_int)
    return stop, hurry
