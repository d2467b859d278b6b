"""A slot of a gateway with workers: a listening socket, and the process that serves on it now."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import structlog

from gateway import channel
from gateway.channel import Report
from gateway.config import NAME, Config
from gateway.metrics import Metrics

READY_SECONDS = 60.0
"""How long a successor may take to serve an epoch."""

FINISH_SECONDS = 20.0
"""How long a worker may take to end, beyond TIDEGATE_DRAIN_SECONDS, before it is killed."""

STEADY_SECONDS = 10.0
"""Who lived shorter died young: the next one waits, twice as long each time."""

FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 10.0
UNREADY_TURNS = 3
ANSWER_SECONDS = 0.5
"""How long a scrape waits for reports; a worker that is slower is counted as last heard."""

CLOSED_SECONDS = 10.0
"""How long a process may live on after it has closed its channel."""

POLL_SECONDS = 0.02

log = structlog.get_logger()


class Worker:
    """One worker process, from its start to its end; `over` is done, with its exit code, then."""

    def __init__(self, config: Config, slot: int, bound: socket.socket, counts: Metrics) -> None:
        """Start it; what it counts is added to `counts` as it is heard."""
        self.slot = slot
        self.began = time.monotonic()
        self.report = Report(started=False, served=None, counts={})
        self.silent = 0
        self.admitted = False
        self._counts = counts
        self._heard = asyncio.Event()
        ours, theirs = socket.socketpair()
        descriptors = (bound.fileno(), theirs.fileno())
        seat = {channel.VARIABLE: f"{slot}:{descriptors[0]}:{descriptors[1]}"}
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - the very command that started us
                [sys.executable, *sys.orig_argv[1:]],
                env=os.environ | {NAME.name: config.name} | seat,
                stdin=subprocess.DEVNULL,
                pass_fds=descriptors,
            )
        self.pid = self._process.pid
        self._ours = ours
        self.over = asyncio.create_task(self._attend())

    def tell(self, command: bytes) -> None:
        """Send a command; to one that has ended it says nothing."""
        with suppress(OSError):
            self._ours.send(command)

    def signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        self._process.send_signal(number)

    async def refresh(self) -> None:
        """Ask for a report, and wait for it for a moment."""
        self._heard.clear()
        self.tell(channel.REPORT)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), ANSWER_SECONDS)

    async def end(self, seconds: float) -> None:
        """Wait for its end; kill it after so long."""
        await asyncio.wait({self.over}, timeout=seconds)
        if not self.over.done():
            log.error("a worker did not end, and is killed", worker=self.slot, pid=self.pid)
            self.signal(signal.SIGKILL)
            await asyncio.wait({self.over})

    async def _attend(self) -> int:
        reader, writer = await asyncio.open_unix_connection(sock=self._ours.dup())
        while (report := await channel.read(reader)) is not None:
            self._counts.add(report.counts, self.report.counts)
            self.report = report
            self.silent = 0
            self._heard.set()
        self._heard.set()
        self._ours.close()
        writer.close()
        return await asyncio.to_thread(self._reap)

    def _reap(self) -> int:
        try:
            return self._process.wait(CLOSED_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class Slot:
    """A listening socket, and whoever serves on it."""

    def __init__(self, number: int, launch: Callable[[], Worker], drain_seconds: float) -> None:
        """Start its first worker."""
        self.number = number
        self.admitted = asyncio.Event()
        self._launch = launch
        self._end_seconds = drain_seconds + FINISH_SECONDS
        self.worker = launch()

    async def keep(self, ended: Callable[[Worker, float], None]) -> NoReturn:
        """Let there be a worker, for ever.

        `ended` hears of each that ended unasked, and after how many seconds another is started.
        """
        delay = 0.0
        while True:
            worker = self.worker
            if worker.over.done():
                fresh = self._try()
                if fresh is None:
                    await asyncio.sleep(LONGEST_DELAY_SECONDS)
                    continue
                worker = self.worker = fresh
            await self._admit(worker)
            await asyncio.wait({worker.over})
            if worker is not self.worker:
                continue  # it retired
            young = time.monotonic() - worker.began < STEADY_SECONDS
            delay = min(max(2 * delay, FIRST_DELAY_SECONDS), LONGEST_DELAY_SECONDS) if young else 0
            ended(worker, delay)
            await asyncio.sleep(delay)

    async def renew(self) -> bool:
        """Put a new worker in the place of the old; False: it does not serve, the old one stays."""
        heir = self._try()
        if heir is None:
            return False
        if not await self._admit(heir, heir=True):
            heir.signal(signal.SIGKILL)
            await asyncio.wait({heir.over})
            return False
        old, self.worker = self.worker, heir
        old.tell(channel.RETIRE)
        await old.end(self._end_seconds)
        return True

    def _try(self) -> Worker | None:
        """Start a worker; None when the system does not let us."""
        try:
            return self._launch()
        except OSError as fault:
            why = str(fault)
        log.error("a worker cannot be started", worker=self.number, why=why)
        return None

    async def _admit(self, worker: Worker, *, heir: bool = False) -> bool:
        """Let it accept once it can; an heir when it serves an epoch, unless nobody else is there.

        False when it ended before, or when an heir took too long.
        """
        while not worker.over.done():
            report = worker.report
            if report.started and (report.served or not heir or self.worker.over.done()):
                worker.tell(channel.ACCEPT)
                worker.admitted = True
                self.admitted.set()
                return True
            if heir and time.monotonic() - worker.began > READY_SECONDS:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return False

    def fault(self) -> str | None:
        """Say in a sentence why this slot does not serve an epoch, if it does not."""
        worker, number = self.worker, self.number
        if worker.over.done():
            return f"Worker {number} has ended, and is being replaced."
        if worker.report.served is None or not worker.admitted:
            return f"Worker {number} has no epoch to serve yet."
        if worker.silent >= UNREADY_TURNS:
            return f"Worker {number} has not answered its parent for {worker.silent} s."
        return None
