"""Real Redis fleets for tests: a primary, two replicas and three Sentinels; a Cluster of six."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

import processes
from processes import CLUSTER_SLOTS, PATIENT_SECONDS, RedisServer, wait_until

SERVICE = "main"
DOWN_MS = 500
"""How long a server is silent before it is taken for dead."""


class Fleet:
    """Servers of which one may be lost; `url` is what gateways and commands are told."""

    def __init__(self, url: str, servers: Sequence[RedisServer], replicas: int = 0) -> None:
        """Each primary has so many `replicas`."""
        self.url = url
        self._replicas = replicas
        self.servers = list(servers)
        self.calm: Callable[[], bool] = lambda: True
        """Whether those who promote see nothing wrong."""

    def primary(self, key: str) -> RedisServer:
        """Give the server that holds a key now."""
        for server in self.servers:
            with server.client() as client, suppress(redis.RedisError, OSError):
                told: Any = client.execute_command("ROLE")
                if told[0] in (b"master", "master") and self._holds(client, key):
                    return server
        raise AssertionError(f"no primary holds {key}")

    def _holds(self, client: redis.Redis, key: str) -> bool:
        with suppress(redis.ResponseError):
            client.execute_command("GET", key)
            return True
        return False

    def lose(self, key: str, *, silent: bool = False) -> tuple[RedisServer, float]:
        """Kill (or stop, `silent`) a key's primary; wait for another; give it, and the seconds."""
        lost = self.primary(key)
        begin = time.monotonic()
        if silent:
            lost.signal(signal.SIGSTOP)
        else:
            lost.kill()
        others = [server for server in self.servers if server is not lost]
        standing = Fleet(self.url, others)

        def promoted() -> bool:
            with suppress(AssertionError):
                return standing.primary(key) is not None
            return False

        wait_until(promoted, "another server is promoted", 30)
        return lost, time.monotonic() - begin

    def settle(self) -> None:
        """Wait until every primary has its replicas, and each of them has all that it has.

        One that lags may be promoted: Sentinels and Clusters look at what it had seconds ago.
        """

        def settled() -> bool:
            with suppress(redis.RedisError, OSError):  # one of them is just not given its turn
                return has_all() and self.calm()
            return False

        def has_all() -> bool:
            for server in self.servers:
                with server.client() as client:
                    told: Any = client.info("replication")
                if told["role"] == "master":
                    offset = told["master_repl_offset"]
                    states = [told.get(f"slave{at}") for at in range(self._replicas)]
                    if not all(
                        each and each["state"] == "online" and each["offset"] >= offset
                        for each in states
                    ):
                        return False
            return True

        wait_until(settled, "the replicas have everything", 60)


@contextmanager
def sentinel_fleet(folder: Path, arguments: Sequence[str] = ()) -> Iterator[Fleet]:
    """Run a primary, two replicas and three Sentinels; skip where no Sentinel can be started."""
    with ExitStack() as stack:
        servers = [RedisServer(folder / str(at), arguments=arguments) for at in range(3)]
        for server in servers:
            stack.callback(server.stop)
            server.start()
        for server in servers[1:]:
            with server.client() as client:
                client.execute_command("REPLICAOF", "127.0.0.1", servers[0].port)
        ports = [_start_sentinel(stack, folder / f"s{at}", servers[0].port) for at in range(3)]

        def all_known() -> bool:
            for port in ports:
                with redis.Redis(port=port, socket_timeout=PATIENT_SECONDS) as client:
                    told: Any = client.sentinel_master(SERVICE)
                    if told["num-other-sentinels"] < 2 or told["num-slaves"] < 2:
                        return False
            return True

        wait_until(all_known, "the Sentinels know each other and the replicas", 30)
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        fleet = Fleet(f"redis+sentinel://{hosts}/{SERVICE}", servers, 2)
        fleet.calm = lambda: all(_sees_nothing_wrong(port) for port in ports)
        fleet.settle()
        yield fleet


def _sees_nothing_wrong(port: int) -> bool:
    with redis.Redis(port=port, socket_timeout=PATIENT_SECONDS) as client:
        primary: Any = client.sentinel_master(SERVICE)
        replicas: Any = client.sentinel_slaves(SERVICE)
    links = [each["master-link-status"] for each in replicas if each["flags"] == "slave"]
    return bool(primary["flags"] == "master" and links == ["ok"] * 2)


def _start_sentinel(stack: ExitStack, folder: Path, primary: int, tls: Sequence[str] = ()) -> int:
    folder.mkdir(parents=True)
    port = processes.free_port()
    config = folder / "sentinel.conf"
    ports = f"port 0\ntls-port {port}" if tls else f"port {port}"
    config.write_text(
        f"{ports}\n" + "".join(f"{line}\n" for line in tls) + f"bind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n"
        f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}\n"
        f"sentinel failover-timeout {SERVICE} 4000\n"
        f"sentinel parallel-syncs {SERVICE} 2\n"
    )
    command = [processes.redis_server_path(), str(config), "--sentinel"]
    with (folder / "sentinel.log").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    stack.callback(process.wait)
    stack.callback(process.kill)

    def answers() -> bool:
        if process.poll() is not None:
            pytest.skip(f"This redis-server starts no Sentinel: see {folder / 'sentinel.log'}.")
        plain = {} if not tls else {"ssl": True, "ssl_cert_reqs": "none"}
        with redis.Redis(port=port, **plain) as client, suppress(redis.RedisError, OSError):
            return bool(client.ping())
        return False

    wait_until(answers, f"a Sentinel answers on port {port}")
    return port


@contextmanager
def cluster_fleet(folder: Path, arguments: Sequence[str] = ()) -> Iterator[Fleet]:
    """Run a Cluster of three primaries with a replica each."""
    with ExitStack() as stack:
        timing = ["--cluster-node-timeout", str(2 * DOWN_MS), *arguments]
        timing += ["--cluster-allow-reads-when-down", "yes"]  # as deploy/README.md advises
        servers = [RedisServer(folder / str(at), cluster=True, arguments=timing) for at in range(6)]
        clients = []
        for server in servers:
            stack.callback(server.stop)
            server.start()
            clients.append(stack.enter_context(server.client()))
        for at, client in enumerate(clients):
            if at < 3:
                first, after = CLUSTER_SLOTS * at // 3, CLUSTER_SLOTS * (at + 1) // 3
                client.execute_command("CLUSTER", "ADDSLOTS", *range(first, after))
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", servers[at].port)
        wait_until(
            lambda: all(processes._cluster_is_whole(client, 6) for client in clients),
            "every node knows the whole Cluster",
            30,
        )
        for at in (3, 4, 5):
            told: Any = clients[at - 3].execute_command("CLUSTER", "MYID")
            clients[at].execute_command("CLUSTER", "REPLICATE", told)
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        fleet = Fleet(f"redis+cluster://{hosts}", servers, 1)
        fleet.settle()
        wait_until(lambda: _seen_replicas(clients[0]) == 3, "every replica is known", 30)
        yield fleet


def _seen_replicas(client: redis.Redis) -> int:
    told: Any = client.execute_command("CLUSTER", "SLOTS")
    rows = told if isinstance(told, list) else []
    return sum(len(row) - 3 for row in rows)


@contextmanager
def tls_one(folder: Path, files: Sequence[str]) -> Iterator[str]:
    """Run one server that speaks TLS, beside plain on another port; give its URL."""
    with _tls_server(folder, files) as (_, port):
        yield f"rediss://127.0.0.1:{port}/0"


@contextmanager
def tls_sentinel(folder: Path, files: Sequence[str]) -> Iterator[str]:
    """Run a server and one Sentinel that speaks nothing but TLS; give their URL."""
    with _tls_server(folder / "0", files) as (_, port), ExitStack() as stack:
        lines = [f"{name[2:]} {value}" for name, value in zip(files[::2], files[1::2], strict=True)]
        sentinel = _start_sentinel(stack, folder / "s", port, lines)
        yield f"rediss+sentinel://127.0.0.1:{sentinel}/{SERVICE}"


@contextmanager
def tls_cluster(folder: Path, files: Sequence[str]) -> Iterator[str]:
    """Run a Cluster of one that speaks TLS; give its URL."""
    with _tls_server(folder, [*files, "--tls-cluster", "yes"], cluster=True) as (server, port):
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(CLUSTER_SLOTS))
            wait_until(lambda: processes._cluster_is_whole(client, 1), "it is whole")
        yield f"rediss+cluster://127.0.0.1:{port}"


@contextmanager
def _tls_server(
    folder: Path, files: Sequence[str], *, cluster: bool = False
) -> Iterator[tuple[RedisServer, int]]:
    port = processes.free_port(10_000)
    arguments = ("--tls-port", str(port), *files)
    server = RedisServer(folder, cluster=cluster, arguments=arguments)
    try:
        server.start()
        yield server, port
    finally:
        server.stop()
