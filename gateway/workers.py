"""Several workers on one port, watched by a parent that serves no client itself.

The parent binds one listening socket a slot (SO_REUSEPORT: the kernel spreads connections over
them) and keeps them open for its own life, without ever accepting. So whoever waits in a socket's
queue while its worker dies or is replaced is served by the next one. A worker is a new process of
the same command, which inherits its socket and one end of a channel (channel.py), nothing else.

A worker that ends unasked is replaced: at once, but with a growing delay while they die young.
One that answers nothing for half a minute is killed, and replaced too. On SIGHUP slot after
slot gets a successor; the old worker retires when the new one serves an epoch, and stays when it
does not within a minute. The code of the parent stays as it is until the whole is restarted.

The parent answers on the admin listener for all. Counts are asked for once a second and with each
scrape: what a worker counted after that, at most a second's, is lost if it is killed. One that
ends in order reports at its end.
"""

import asyncio
import os
import signal
import socket
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import NoReturn

import structlog

from gateway import channel, metrics
from gateway.admin import AdminServer, Ready, staleness
from gateway.config import ADMIN_LISTEN, LISTEN, Config
from gateway.lifecycle import State
from gateway.listener import Listener, bind, bind_several, shown
from gateway.metrics import Metrics, Served
from gateway.service import signals
from gateway.slot import FINISH_SECONDS, Slot, Worker

TURN_SECONDS = 1.0
SILENT_TURNS = 30
CANNOT_START = (2, 4)
"""Exit codes of a gateway whose settings or disk will not let it start."""

log = structlog.get_logger()


class Workers:
    """All slots of a gateway; `exit_code` is 0 unless they could not start at all."""

    def __init__(
        self, config: Config, sockets: Sequence[socket.socket], give_up: Callable[[], None]
    ) -> None:
        """Start a worker a socket; `give_up` is called when none can start."""
        self.counts = Metrics()
        self.counts.served = self._served
        self.counts.workers = self._serve_an_epoch
        self.exit_code = 0
        self._config = config
        self._give_up = give_up
        self._alive: set[Worker] = set()
        self._serving = False
        self._slots = [
            Slot(number, partial(self._launch, number, bound), config.drain_seconds)
            for number, bound in enumerate(sockets)
        ]
        self._tasks = [
            *(asyncio.create_task(slot.keep(self._ended)) for slot in self._slots),
            asyncio.create_task(self._watch()),
        ]
        for task in self._tasks:
            task.add_done_callback(self.failed)

    def failed(self, task: asyncio.Task[NoReturn]) -> None:
        """End all when a task of the parent's own has ended: that is a bug, and must not hide."""
        if not task.cancelled():
            log.error("watching the workers failed", exc_info=task.exception())
            self.exit_code = 1
            self._give_up()

    async def started(self) -> None:
        """Wait until every slot has had a worker that serves clients."""
        for slot in self._slots:
            await slot.admitted.wait()
        self._serving = True

    def ready(self) -> Ready | str:
        """Tell what is served by all, or which worker serves nothing."""
        for slot in self._slots:
            fault = slot.fault()
            if fault is not None:
                return fault
        served = self._served()
        assert served is not None  # every slot has a worker that serves an epoch
        fault = staleness(served.silence, self._config.max_stale)
        if fault is not None:
            return fault
        return Ready(served.number, State.LIVE if served.live else State.KEPT, served.why)

    async def refresh(self) -> None:
        """Hear from every worker how it is now."""
        await asyncio.gather(*(each.refresh() for each in self._alive))

    def processes(self) -> dict[str, int]:
        """Give the ids of the processes, by what they are called in metrics."""
        workers = {str(slot.number): slot.worker.pid for slot in self._slots}
        return {"parent": os.getpid(), **workers}

    async def renew(self, asked: asyncio.Event) -> NoReturn:
        """Whenever it is asked for, replace all workers, one after the other."""
        while True:
            await asked.wait()
            asked.clear()
            log.info("restarting the workers")
            for slot in self._slots:
                if not await slot.renew():
                    sentence = "the new worker does not serve; this one and the rest stay"
                    log.error(sentence, worker=slot.number)
                    break
            else:
                log.info("restarted the workers")

    async def end(self, hurry: asyncio.Event) -> None:
        """End all workers: first as SIGTERM does; in a hurry, or when it takes too long, sooner."""
        for task in self._tasks:
            task.cancel()
        self._signal(signal.SIGTERM)
        over = {each.over for each in self._alive}
        hurried = asyncio.create_task(hurry.wait())
        end = time.monotonic() + self._config.drain_seconds + FINISH_SECONDS
        while over and not hurried.done() and time.monotonic() < end:
            left = end - time.monotonic()
            await asyncio.wait({*over, hurried}, timeout=left, return_when=FIRST_COMPLETED)
            over = {each for each in over if not each.done()}
        hurried.cancel()
        self._signal(signal.SIGINT)
        await asyncio.gather(*(each.end(FINISH_SECONDS) for each in self._alive))

    def _signal(self, number: int) -> None:
        for worker in self._alive:
            worker.signal(number)

    def _launch(self, number: int, bound: socket.socket) -> Worker:
        worker = Worker(self._config, number, bound, self.counts)
        self._alive.add(worker)
        worker.over.add_done_callback(lambda _: self._alive.discard(worker))
        return worker

    def _ended(self, worker: Worker, delay: float) -> None:
        """Say that a worker ended unasked; give up when none could ever start."""
        code = worker.over.result()
        if code in CANNOT_START and not self._serving:
            self.exit_code = code  # it has said why
            self._give_up()
            return
        self.counts.worker_ends += 1
        why = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        where = {"worker": worker.slot, "pid": worker.pid}
        log.error("a worker ended, and is replaced", why=why, after_seconds=delay, **where)

    def _serve_an_epoch(self) -> int:
        return sum(slot.fault() is None for slot in self._slots)

    async def _watch(self) -> NoReturn:
        while True:
            for worker in self._alive:
                worker.silent += 1
                if worker.silent == SILENT_TURNS:
                    where = {"worker": worker.slot, "pid": worker.pid}
                    log.error("a worker answers nothing, and is killed", **where)
                    worker.signal(signal.SIGKILL)
                worker.tell(channel.REPORT)
            await asyncio.sleep(TURN_SECONDS)

    def _served(self) -> Served | None:
        """Give the lowest epoch of those that are served; live when all are."""
        found = [
            slot.worker.report.served
            for slot in self._slots
            if slot.worker.report.served is not None and not slot.worker.over.done()
        ]
        if not found:
            return None
        lowest = min(found, key=lambda each: each.number)
        why = next((each.why for each in found if each.why), "")
        ahead = [each.redis_ahead for each in found if each.redis_ahead is not None]
        return replace(
            lowest,
            live=all(each.live for each in found),
            why=why,
            silence=max(each.silence for each in found),
            redis_ahead=max(ahead, key=abs, default=None),
        )


async def supervise(config: Config) -> int:
    """Run workers until a signal; give the exit code. Raises ConfigError at the start."""
    with ExitStack() as stack:
        sockets = bind_several(config.listen, LISTEN, config.workers)
        for each in sockets:
            stack.enter_context(each)
        admin_socket = stack.enter_context(bind(config.admin_listen, ADMIN_LISTEN))
        stop, hurry = signals()

        def give_up() -> None:
            hurry.set()
            stop.set()

        again = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, again.set)
        workers = Workers(config, sockets, give_up)
        render = metrics.exposition_of_several(workers.counts, workers.processes)
        admin = AdminServer(workers.ready, render, workers.refresh)
        operators = Listener(admin_socket, admin.handle)
        await operators.start()
        tending = asyncio.create_task(_tend(workers, config, sockets[0], operators, again))
        tending.add_done_callback(workers.failed)
        await stop.wait()
        admin.draining = True
        tending.cancel()
        log.info("stopping", workers=config.workers)
        await workers.end(hurry)
        await operators.stop(())
        log.info("stopped")
        return workers.exit_code


async def _tend(
    workers: Workers,
    config: Config,
    bound: socket.socket,
    operators: Listener,
    again: asyncio.Event,
) -> NoReturn:
    """Say when all serve; from then on replace them when asked to."""
    await workers.started()
    ready = workers.ready()
    log.info(
        "serving",
        clients=shown(bound),
        admin=operators.address,
        workspace=config.workspace,
        redis=config.redis.shown,
        workers=config.workers,
        epoch=None if isinstance(ready, str) else ready.epoch,
    )
    await workers.renew(again)
