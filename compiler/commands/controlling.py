"""`tidegate control`: watch over a workspace until a signal."""

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from compiler.commands.session import (
    DEFAULT_REDIS,
    KeyFile,
    RedisUrl,
    StorePlace,
    WorkspaceName,
    open_session,
)
from compiler.control.controller import Controller, Workplace
from compiler.control.counts import Counts
from compiler.control.endpoint import serve
from compiler.control.lease import Lease, LeaseLostError
from compiler.diagnostic import PlanError
from compiler.publication.publisher_key import PublisherKey, load_key
from compiler.refusal import Refused
from gateway.errors import FormatError, StoreError
from gateway.keys import Keys
from gateway.link import connect_sync

TURN_SECONDS = 1.0
LEASE_TIMEOUT_SECONDS = 1.0
STALLED_SECONDS = 120.0
"""A turn that takes longer hangs: the lease is given up, and /health/live says so."""

_LATER = (StoreError, FormatError, PlanError, Refused)

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
    place = Workplace(session.workspace, session.store, session.link, publisher)
    link = connect_sync(session.address, timeout_seconds=LEASE_TIMEOUT_SECONDS)
    lease = Lease(link, Keys(session.workspace).control)
    _log_to_stderr()
    over = _on_signal()
    watch = _Watch(place, lease, over)
    server = serve(host, port, watch.counts, watch.is_well)
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
        watch.run()
    finally:
        lease.give_back()
        server.shutdown()
    log.info("stopped")


class _Watch:
    """Turns once a second while the lease is held."""

    def __init__(self, place: Workplace, lease: Lease, over: threading.Event) -> None:
        self.counts = Counts()
        self.counts.active.set_function(lease.held)
        self._lease = lease
        self._over = over
        self._turned = time.monotonic()
        self._active = False
        self._said = ""
        self._place = place
        self._controller = self._anew()

    def is_well(self) -> bool:
        """Tell whether its turns do not hang."""
        return time.monotonic() - self._turned < STALLED_SECONDS

    def may_act(self) -> bool:
        """Tell whether it is the active one, and not told to end."""
        return self._lease.held() and not self._over.is_set()

    def run(self) -> None:
        """Turn until it is over."""
        keeper = threading.Thread(
            target=self._lease.keep_up, args=(self._over, self.is_well), daemon=True
        )
        keeper.start()
        while not self._over.is_set():
            began = self._turned = time.monotonic()
            self._notice(active=self._lease.held())
            if self._active:
                self._turn()
            self._over.wait(max(0.0, TURN_SECONDS - (time.monotonic() - began)))
        keeper.join()

    def _turn(self) -> None:
        try:
            self._controller.turn()
        except LeaseLostError:
            self._notice(active=False)
        except _LATER as fault:
            self.counts.failures.inc()
            if str(fault) != self._said:  # once, not each second
                log.exception("a look failed", why=str(fault))
            self._said = str(fault)
        else:
            if self._said:
                log.info("looks succeed again")
            self._said = ""

    def _notice(self, *, active: bool) -> None:
        """Say when this one becomes active, and when it is no longer."""
        if active == self._active:
            return
        self._active = active
        log.info("active" if active else "standing by", holder=self._lease.holder)
        if not active:
            self.counts.alarms.set(0)
            self._controller = self._anew()  # what it has read may be old when it is active again

    def _anew(self) -> Controller:
        return Controller(self._place, self.counts, self.may_act)


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
