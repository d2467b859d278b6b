"""What a rehearsal runs on: a Redis that can be killed, a gateway of two workers, a plan, a store.

All are real processes on loopback, as an operator starts them, and are ended by their ids.
"""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from compiler.child import end_child
from compiler.commands.local_redis import redis_server
from gateway.link import RedisFault, connect_sync, parse_url
from loadtest.rehearsal import plan
from loadtest.servers import Failed, Server, free_port

WORKERS = 2
START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_TURN_SECONDS = 0.05
_ANSWERS = re.compile(
    rb'^tidegate_http_responses_total{[^}]*about="check",[^}]*class="2xx"[^}]*} ([0-9.e+]+)$',
    re.MULTILINE,
)
_EPOCH = re.compile(r"Epoch (\d+) is live")
SETTINGS = {
    # The machine that rehearses has the load on it, too: being late is no overload here, and a
    # look-up may wait for its turn. A gateway of its own keeps its defaults.
    "TIDEGATE_LATE_MS": "20000",
    "TIDEGATE_LOOKUP_TIMEOUT_MS": "10000",
    "TIDEGATE_DRAIN_SECONDS": "0",
}


class Stage:
    """Redis, gateway, plan and store in one folder; a context manager that ends what it started."""

    def __init__(self, folder: Path, seconds: float, workers: int = WORKERS) -> None:
        """Prepare a run of so many seconds in an empty folder; the gateway has so many workers."""
        self.folder = folder
        self.store = folder / "store"
        self.began = plan.now()
        self._seconds = seconds
        self._stack = ExitStack()
        self._redis_port, self._port, self._admin_port = free_port(), free_port(), free_port()
        self._redis: subprocess.Popen[bytes] | None = None
        self._gateway: subprocess.Popen[bytes] | None = None
        self._workers = workers
        self._killed: set[int] = set()
        self._edition = 0
        self._live = 0

    @property
    def url(self) -> str:
        """Where phones ask."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def redis_url(self) -> str:
        """Where the Redis is."""
        return f"redis://127.0.0.1:{self._redis_port}/0"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stack.callback(lambda: end_child(self._redis, _STOP_SECONDS))
        self._stack.callback(lambda: end_child(self._gateway, _STOP_SECONDS))
        try:
            self.start_redis()
            keys = str(self.folder / "keys")
            self.tidegate("keygen", "rehearsal", "--dir", keys, "--no-passphrase")
            plan.write_packages(self.store)
            self._gateway = self._start_gateway()
            self.push()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_redis(self) -> None:
        """Start the Redis, or start it again from its append-only file, on the same port."""
        folder = self.folder / "redis"
        folder.mkdir(exist_ok=True)
        command = [redis_server(), "--bind", "127.0.0.1", "--port", str(self._redis_port)]
        command += ["--save", "", "--appendonly", "yes", "--dir", str(folder.resolve())]
        self._redis = _start(command, folder / "redis.log")
        _wait(self._redis_answers, "Redis to answer", self._redis, folder / "redis.log")

    def kill_redis(self) -> None:
        """Kill the Redis with -9."""
        assert self._redis is not None
        self._redis.kill()
        self._redis.wait()

    def server(self) -> Server:
        """Give the gateway as the benchmarks measure it: its port and processes."""
        assert self._gateway is not None
        return Server(self._port, self._gateway.pid, self._admin_port)

    def kill_worker(self) -> None:
        """Kill one of the gateway's workers with -9."""
        worker = self.server().pids()[1]
        self._killed.add(worker)
        os.kill(worker, signal.SIGKILL)

    def wait_for_workers(self) -> None:
        """Wait until all workers serve an epoch again. Raises Failed."""
        _wait(self._is_whole, "the worker to be replaced", self._gateway, self._log)

    def answers(self) -> float:
        """Count what the gateway's workers have answered well."""
        with suppress(OSError), self._admin("/metrics") as said:
            return sum(map(float, _ANSWERS.findall(said.read())))
        return 0.0

    def push(self) -> None:
        """Push the next edition of the plan, and wait until every worker serves it."""
        base = ("--base", str(self._live)) if self._edition else ()
        self._edition += 1
        plan.write_plan(self.folder / "plan", self._edition, self.began, self._seconds)
        note = f"edition {self._edition}"
        self.tidegate("push", str(self.folder / "plan"), *base, "-m", note, "--wait", "60")

    def tidegate(self, *arguments: str) -> str:
        """Run a command as an operator does; give what it printed. Raises Failed."""
        environment = _environment() | {
            "TIDEGATE_REDIS": self.redis_url,
            "TIDEGATE_STORE": str(self.store),
            "TIDEGATE_WORKSPACE": plan.WORKSPACE,
            "TIDEGATE_KEY": str(self.folder / "keys" / "rehearsal.pem"),
        }
        command = [sys.executable, "-m", "compiler.cli", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr or done.stdout
            raise Failed(f"`tidegate {arguments[0]}` ended with {done.returncode}:\n{said}")
        live = _EPOCH.search(done.stdout)
        self._live = int(live[1]) if live else self._live
        return done.stdout

    @property
    def _log(self) -> Path:
        return self.folder / "gateway.log"

    def _start_gateway(self) -> "subprocess.Popen[bytes]":
        environment = (
            _environment()
            | SETTINGS
            | {
                "TIDEGATE_WORKSPACE": plan.WORKSPACE,
                "TIDEGATE_WORKERS": str(self._workers),
                "TIDEGATE_LISTEN": f"127.0.0.1:{self._port}",
                "TIDEGATE_ADMIN_LISTEN": f"127.0.0.1:{self._admin_port}",
                "TIDEGATE_REDIS": self.redis_url,
                "TIDEGATE_STORE": str(self.store),
                "TIDEGATE_CACHE": str(self.folder / "cache"),
                "TIDEGATE_TRUSTED_KEYS": str(self.folder / "keys" / "rehearsal.pub"),
            }
        )
        started = _start([sys.executable, "-m", "gateway"], self._log, environment)
        self._gateway = started
        _wait(self._is_there, "the gateway to serve", started, self._log)
        return started

    def _redis_answers(self) -> bool:
        link = connect_sync(parse_url(self.redis_url), timeout_seconds=5)
        with suppress(*RedisFault):
            return bool(link.ping())
        return False

    def _is_there(self) -> bool:
        return b'"serving"' in self._log.read_bytes()

    def _is_whole(self) -> bool:
        workers = set(self.server().pids()[1:])
        with suppress(OSError), self._admin("/metrics") as said:
            serving = f"\ntidegate_workers {self._workers}.0\n".encode() in said.read()
            return serving and len(workers - self._killed) == self._workers
        return False

    def _admin(self, path: str) -> Any:
        return urllib.request.urlopen(f"http://127.0.0.1:{self._admin_port}{path}", timeout=20)


def _environment() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}


def _start(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(command, env=environment, stdout=output, stderr=output)


def _wait(holds: Any, what: str, process: "subprocess.Popen[bytes] | None", log: Path) -> None:
    assert process is not None
    end = time.monotonic() + START_SECONDS
    while not holds():
        if process.poll() is not None or time.monotonic() > end:
            said = log.read_text(errors="replace")[-2000:]
            raise Failed(f"Waited {START_SECONDS:g} s in vain for {what}. {log} says:\n{said}")
        time.sleep(_TURN_SECONDS)
