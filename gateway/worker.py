"""A worker's life: a gateway's, but for what its parent does for all workers (workers.py).

It has no admin listener, and reports to its parent instead. It serves on a socket that the parent
keeps open, and only once it is told to, so that no check is refused by a successor that has no
epoch yet. When it is told to retire, a successor accepts on the same socket already: it accepts
no more, ends each connection with its next answer, and is gone when none is left, or after
TIDEGATE_DRAIN_SECONDS. Without a parent it ends as on SIGINT.
"""

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any

import structlog

from gateway import channel
from gateway.channel import Report, Seat
from gateway.config import Config
from gateway.service import Service, signals

TURN_SECONDS = 0.1

log = structlog.get_logger()


class Parent:
    """The parent, as a worker hears it and reports to it."""

    def __init__(self, service: Service, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        """Set `stop` when told to retire, and `hurry` too when the parent is gone."""
        self.started = False
        self.retired = False
        self.accept = asyncio.Event()
        self._service = service
        self._stop = stop
        self._hurry = hurry
        self._writer: asyncio.StreamWriter
        self._obeying: asyncio.Task[None]

    async def meet(self, seat: Seat) -> None:
        """Obey from now on."""
        reader, self._writer = await asyncio.open_unix_connection(sock=seat.parent)
        self._obeying = asyncio.create_task(self._obey(reader))

    def report(self) -> None:
        """Say how it goes; to a parent that is gone, nothing."""
        if self._writer.is_closing():
            return
        counts = self._service.counts
        said = Report(self.started, counts.served(), counts.counts())
        self._writer.write(channel.encode(said))

    async def leave(self) -> None:
        """Report for the last time."""
        self._obeying.cancel()
        self.report()
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _obey(self, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while command := await reader.read(1):
                if command == channel.REPORT:
                    self.report()
                elif command == channel.ACCEPT:
                    self.accept.set()
                elif command == channel.RETIRE:
                    self.retired = True
                    self._stop.set()
        log.warning("the parent is gone")
        self._hurry.set()
        self._stop.set()


async def work(config: Config, seat: Seat) -> None:
    """Serve until a signal, or until the parent says so or is gone. Raises StoreError at the start.

    SIGTERM may come twice, from the parent and from what ends all processes of a unit: that is no
    hurry. SIGHUP, which a closed terminal sends to all, is the parent's to act on.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop, hurry = signals(again=False)
    service = Service(config, seat.clients, f"{config.name}-{seat.slot}")
    parent = Parent(service, stop, hurry)
    await parent.meet(seat)
    await service.follow()
    parent.started = True
    parent.report()
    waits: list[asyncio.Task[Any]] = [
        asyncio.create_task(each.wait()) for each in (parent.accept, stop)
    ]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if parent.accept.is_set():
        await service.clients.start()
        log.info("worker serving", pid=os.getpid())
        await stop.wait()
        if parent.retired:
            service.announcer.step_aside()
            await service.clients.stop_accepting()
            waits.append(asyncio.create_task(_hurry_when_empty(service, hurry)))
        await service.drain(hurry)
    for each in waits:
        each.cancel()
    await service.close()
    await parent.leave()
    log.info("stopped")


async def _hurry_when_empty(service: Service, hurry: asyncio.Event) -> None:
    """Nobody new comes to a retired worker: it need not wait once all have left."""
    while not service.clients.is_empty():  # noqa: ASYNC110 - a shutdown is no hot path
        await asyncio.sleep(TURN_SECONDS)
    hurry.set()
