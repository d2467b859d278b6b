"""A small load generator: so many connections, each sends one request after another."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import cast

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Measured:
    """What one round gave: answers, wrong ones, seconds, and the server's CPU seconds."""

    answers: int = 0
    wrong: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of the server's CPU an answer, user and system."""
        return self.cpu_seconds / self.answers * 1e6


def cpu_seconds(pid: int) -> float:
    """Read the CPU time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class _Asking(asyncio.Protocol):
    """One connection: sends a request, waits for the whole answer, counts it, sends the next."""

    def __init__(self, requests: Sequence[bytes], first: int, found: Measured) -> None:
        self._requests = requests
        self._next = first
        self._found = found
        self._received = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.going = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent_at = monotonic()
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._received.lower().find(b"content-length:")
        length = int(self._received[at + 15 : self._received.find(b"\r\n", at)])
        if len(self._received) < head + 4 + length:
            return
        self._found.answers += 1
        self._found.wrong += not self._received.startswith(b"HTTP/1.1 200")
        self._found.latencies.append(monotonic() - self._sent_at)
        self._received = b""
        if self.going:
            self._send()

    def close(self) -> None:
        """Ask no more, and hang up."""
        self.going = False
        if self._transport is not None:
            self._transport.close()


async def ask(
    port: int, requests: Sequence[bytes], *, pid: int, connections: int, seconds: float
) -> Measured:
    """Load a server on loopback for so many seconds, after a short warm-up."""
    loop = asyncio.get_running_loop()
    found = Measured()
    asking = []
    for number in range(connections):
        step = number * len(requests) // connections

        def make(first: int = step) -> _Asking:
            return _Asking(requests, first, found)

        _, protocol = await loop.create_connection(make, "127.0.0.1", port)
        asking.append(protocol)
    await asyncio.sleep(min(0.5, seconds / 4))
    found.answers = found.wrong = 0
    found.latencies.clear()
    start, used = monotonic(), cpu_seconds(pid)
    await asyncio.sleep(seconds)
    found.seconds, found.cpu_seconds = monotonic() - start, cpu_seconds(pid) - used
    answers = found.answers, found.wrong, list(found.latencies)
    for each in asking:
        each.close()
    found.answers, found.wrong, found.latencies = answers
    return found
