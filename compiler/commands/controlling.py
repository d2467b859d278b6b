"""`tidegate control`: watch over a workspace until a signal."""

import os
import signal
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from compiler.commands.session import (
    DEFAULT_REDIS,
    REDIS_TIMEOUT_SECONDS,
    KeyFile,
    RedisUrl,
    StorePlace,
    WorkspaceName,
    open_session,
)
from compiler.control.duty import Duty
from compiler.control.endpoint import serve
from compiler.control.lease import Lease
from compiler.control.workplace import Workplace
from compiler.publication.publisher_key import PublisherKey, load_key
from gateway.keys import Keys
from gateway.link import connect_sync

LEASE_TIMEOUT_SECONDS = 1.0

Listen = Annotated[
    str,
    typer.Option(
        "--listen",
        envvar="TIDEGATE_CONTROL_LISTEN",
        metavar="HOST:PORT",
        help="Where /health/live and /metrics are.",
    ),
]

log = structlog.get_logger()


def control(
    listen: Listen = "127.0.0.1:9081",
    key: KeyFile = "",
    redis: RedisUrl = DEFAULT_REDIS,
    store: StorePlace = "",
    workspace: WorkspaceName = "",
) -> None:
    """Watch over the live epoch, until it is told to end.

    Fills an emptied Redis from the store, and pauses a release that breaks its `halt`. Run as many
    as you like: one is active, and another takes over within seconds. Needs a publisher's key that
    the gateways trust; its passphrase, if any, comes from TIDEGATE_KEY_PASSPHRASE.
    """
    host, port = _endpoint(listen)
    session = open_session(redis, store, workspace)
    publisher = _open_key(key)
    watched = Workplace(session.workspace, session.store, session.link, publisher)
    second = connect_sync(session.address, timeout_seconds=REDIS_TIMEOUT_SECONDS)
    third = connect_sync(session.address, timeout_seconds=LEASE_TIMEOUT_SECONDS)
    lease = Lease(third, Keys(session.workspace).control)
    _log_to_stderr()
    over = _on_signal()
    duty = Duty(watched, replace(watched, link=second), lease, over)
    server = serve(host, port, duty.counts, duty.is_well)
    log.info(
        "controlling",
        workspace=session.workspace,
        redis=session.address.shown,
        store=session.store.name,
        author=publisher.name,
        admin=f"{host}:{server.server_address[1]}",
        holder=lease.holder,
    )
    try:
        duty.run()
    finally:
        lease.give_back()
        server.shutdown()
    log.info("stopped")


def _on_signal() -> threading.Event:
    """Give what SIGTERM and SIGINT set.

    From a thread: a handler would run in the middle of anything, also of a wait for this event.
    """
    over = threading.Event()
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno())

    def wait() -> None:
        with heard, told:
            heard.recv(1)
            over.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    threading.Thread(target=wait, daemon=True).start()
    return over


def _open_key(path: str) -> PublisherKey:
    """Open the publisher's key; nobody is asked for a passphrase."""
    if not path:
        raise typer.BadParameter(
            "What it pauses is signed, and no publisher key is named. Make one with `tidegate "
            "keygen controller`, then say --key FILE.pem or set TIDEGATE_KEY."
        )
    return load_key(Path(path).expanduser(), os.environ.get("TIDEGATE_KEY_PASSPHRASE"))


def _endpoint(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise typer.BadParameter(f"{text[:80]!r} is no HOST:PORT. Write for example 0.0.0.0:9081.")
    return host, int(port)


def _log_to_stderr() -> None:
    """Write one line of JSON an event, or colours where a person watches, as gateways do."""
    terminal = sys.stderr.isatty()
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=processors,
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
