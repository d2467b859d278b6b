"""Processes under load: each on one core while it is measured, and the CPU time that it uses."""

import http.client
import os
import random
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from compiler.child import end_child

_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 30.0
_STOP_SECONDS = 20.0
_PORTS = (10_240, 22_000)
_GIVEN_UP = re.compile(
    rb"^tidegate_lookup_(?:timeouts|errors|refused|faults)_total(?:\{[^}]*\})? ([0-9.e+]+)$",
    re.MULTILINE,
)


class Failed(Exception):  # noqa: N818 - it reads as the sentence that it is
    """A benchmark cannot go on; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port and process; `admin` is the port of a gateway's metrics."""

    port: int
    pid: int
    admin: int | None = None

    def cpu_seconds(self) -> float:
        """Read the CPU time of the process and its children, user and system."""
        return sum(map(_cpu_seconds, self.pids()))

    def pin(self, core: int) -> None:
        """Keep the process and its children on one core, with all their threads."""
        for pid in self.pids():
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})

    def given_up(self) -> int:
        """Count the gateway's look-ups that it gave up: such a check got the next release."""
        if self.admin is None:
            return 0
        url = f"http://127.0.0.1:{self.admin}/metrics"
        with urllib.request.urlopen(url, timeout=10) as said:
            return int(sum(float(found) for found in _GIVEN_UP.findall(said.read())))

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send one request on a connection of its own; give status and body. Raises Failed."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
                connection.sendall(request)
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as fault:
            raise Failed(f"The server on port {self.port} does not answer: {fault!r}") from None

    def pids(self) -> list[int]:
        """Give the process's id, then those of its children and theirs."""
        found = [self.pid]
        for pid in found:
            for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, tasks.read_text().split())
        return found


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def two_cores() -> tuple[int, int]:
    """Choose a core for the server and one for the rest. Raises Failed when there is one only."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Failed("The bench needs two cores: one for the server, one for what loads it.")
    return cores[0], cores[1]


def free_port() -> int:
    """Find a port on loopback that nobody listens on.

    Below those that the kernel hands out by itself: no connection of a load test, and no other
    gateway, comes to be there before it is used, or while a killed server is down.
    """
    while True:
        port = random.randrange(*_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def running(
    command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server until the end of the block; give it when its port is open. Raises Failed."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        end = time.monotonic() + _START_SECONDS
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > end:
                said = log.read_text(errors="replace")[-2000:]
                raise Failed(f"`{' '.join(command)}` does not start. It said:\n{said}")
            time.sleep(0.02)
        yield Server(port, process.pid)
    finally:
        end_child(process, _STOP_SECONDS)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
