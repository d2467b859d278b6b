"""The crew: worker processes that make patches, as many at once as memory allows.

Workers are started by `subprocess`, never by fork (see store.py), in a process group of their own,
so that Ctrl-C on a terminal reaches the command alone. Jobs are handed out in their order; the
first that waits is given out once its memory is free. A worker that dies costs its job only, and
one that takes too long is ended: sorting 10 MB of zeros, say, takes bsdiff a quarter of an hour.
Identities that open encrypted packages go to workers over their pipes: what stands on a command
line or in the environment, others on the machine may read.
"""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path

from compiler.packaging.encryption import Identity
from compiler.patching.job import Failure, Job, Outcome

MOST_SECONDS = 1800.0
"""A pair that takes longer is given up. 50 MB of ordinary files take one minute."""

_STOP_SECONDS = 10.0
_ROOT = str(Path(__file__).parents[2])


@dataclass(slots=True)
class _Worker:
    """A process, our end of its pipe, and what it works on."""

    process: "subprocess.Popen[bytes]"
    pipe: Connection
    job: Job | None = None
    since: float = 0.0  # by time.monotonic, when it got its job

    def stop(self) -> None:
        """End it, whatever it does; a put in progress leaves the object whole or not there."""
        self.pipe.close()
        if self.job is not None:
            self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def work(
    jobs: Iterable[Job],
    *,
    place: str,
    at_once: int,
    memory: int,
    seconds: float = MOST_SECONDS,
    identities: tuple[Identity, ...] = (),
) -> Iterator[tuple[Job, Outcome | None]]:
    """Do the jobs on the store at `place`; give each outcome as it comes, None when a job is done.

    At most `at_once` run together, in `memory` bytes by estimate, for `seconds` each; `identities`
    open what is encrypted. Closing the iterator ends them.
    """
    waiting, workers = deque(jobs), list[_Worker]()
    try:
        while True:
            while waiting and waiting[0].memory > memory:
                job = waiting.popleft()
                yield job, _too_large(job, memory)
                yield job, None
            _hand_out(waiting, workers, partial(_start, place, identities), at_once, memory)
            busy = {worker.pipe: worker for worker in workers if worker.job is not None}
            if not busy:
                return
            oldest = time.monotonic() - min(worker.since for worker in busy.values())
            heard = wait(list(busy), max(0.0, seconds - oldest))
            for pipe, worker in busy.items():
                if pipe in heard:
                    yield from _hear(worker, workers)
                elif time.monotonic() - worker.since >= seconds:
                    yield from _give_up(worker, workers, seconds)
    finally:
        for worker in workers:
            worker.stop()


def _hand_out(
    waiting: "deque[Job]",
    workers: list[_Worker],
    start: Callable[[], _Worker],
    at_once: int,
    memory: int,
) -> None:
    free = memory - sum(worker.job.memory for worker in workers if worker.job is not None)
    while waiting and waiting[0].memory <= free:
        worker = next((each for each in workers if each.job is None), None)
        if worker is None:
            if len(workers) == at_once:
                return
            worker = start()
            workers.append(worker)
        worker.job, worker.since = waiting.popleft(), time.monotonic()
        free -= worker.job.memory
        with suppress(ConnectionError):  # one that died idle: its silence will be heard
            worker.pipe.send(worker.job)


def _hear(worker: _Worker, workers: list[_Worker]) -> Iterator[tuple[Job, Outcome | None]]:
    """Give what a worker says, or what became of it."""
    job = worker.job
    assert job is not None
    try:
        outcome: Outcome | None = worker.pipe.recv()
    except (EOFError, ConnectionError):
        workers.remove(worker)
        worker.pipe.close()
        yield job, _death(job, worker.process.wait())
        outcome = None
    if outcome is None:
        worker.job = None
    yield job, outcome


def _give_up(
    worker: _Worker, workers: list[_Worker], seconds: float
) -> Iterator[tuple[Job, Outcome | None]]:
    job = worker.job
    assert job is not None
    workers.remove(worker)
    worker.stop()
    sentence = (
        f"Patching {job.name} took longer than {seconds:,.0f} s and was given up: files with long "
        "runs of one byte do that. Clients take the full package, or the other format."
    )
    yield job, Failure(sentence)
    yield job, None


def _start(place: str, identities: tuple[Identity, ...]) -> _Worker:
    ours, theirs = Pipe()
    path = os.environ.get("PYTHONPATH")
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own module
            # -P: a folder named `compiler` where the command runs is none of ours
            [sys.executable, "-P", "-m", "compiler.patching.worker", str(theirs.fileno()), place],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([_ROOT, path]) if path else _ROOT},
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            process_group=0,
        )
    with suppress(ConnectionError):  # one that died at once: its silence will be heard
        ours.send(identities)
    return _Worker(process, ours)


def _too_large(job: Job, memory: int) -> Failure:
    return Failure(
        f"Patching {job.name} takes {job.memory / 1e6:,.0f} MB, and --memory allows "
        f"{memory / 1e6:,.0f}. Allow more, or run it on a larger machine."
    )


def _death(job: Job, code: int) -> Failure:
    how = f"was killed by signal {-code}" if code < 0 else f"ended by itself with code {code}"
    why = ", most likely by the kernel for want of memory" if code == -9 else ""
    return Failure(
        f"The process that patched {job.name} {how}{why}; {job.memory / 1e6:,.0f} MB were reckoned "
        "for it. Run the same command again, with fewer --jobs, for what is missing."
    )
