"""Redis behind TLS: whom gateways and commands trust, whom they refuse, and how they are known."""

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import fleets
import processes
import tls
from gateway.errors import StoreError
from gateway.link import RedisFault, connect_async, connect_sync, parse_url
from gateway.notice import listen
from gateway.routing import reader_of
from processes import RedisServer
from test_reader import patient, read  # noqa: F401 - a fixture

NAME = "redis.test"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tls.Authority:
    """Make an authority for this file."""
    return tls.Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run a Redis with one key."""
    with processes.redis_server(tmp_path_factory.mktemp("redis")) as found:
        with found.client() as client:
            client.set("k", "v")
        yield found


async def assert_works(url: str, key: str = "k") -> None:
    """Every way to speak to Redis works by this URL: links, the reader, the listener."""
    address = parse_url(url)
    link: Any = connect_async(address, timeout_seconds=20)
    assert await link.get(key) == b"v"
    blocking: Any = await asyncio.to_thread(connect_sync, address, timeout_seconds=20)
    assert await asyncio.to_thread(blocking.get, key) == b"v"
    reader = reader_of(address)
    assert (await read(reader, [key, "nothing"])).values == [b"v", None]
    heard = asyncio.Event()
    task = asyncio.create_task(listen(address, "c", heard.set))
    await asyncio.wait_for(heard.wait(), 20)
    while not task.done():  # a cancellation that meets a library's own time-out may get lost
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    await reader.close()
    await link.aclose()
    blocking.close()


async def assert_refused(url: str, key: str = "k") -> None:
    """No way to speak to Redis works by this URL."""
    address = parse_url(url)
    link: Any = connect_async(address, timeout_seconds=20)
    with pytest.raises(RedisFault):
        await link.get(key)

    def ask() -> None:
        blocking: Any = connect_sync(address, timeout_seconds=20)
        with blocking:
            blocking.get(key)

    with pytest.raises((*RedisFault, StoreError)):
        await asyncio.to_thread(ask)
    reader = reader_of(address)
    asked = await read(reader, [key])
    assert asked.why or isinstance(asked.values[0], Exception)
    await reader.close()
    await link.aclose()


async def test_one_server_is_known_by_its_certificate(
    server: RedisServer, authority: tls.Authority
) -> None:
    """By the host in the URL, under our own authority; else nothing is asked of it."""
    other = tls.Authority(authority.folder, "other")
    with tls.front(server.port, authority.issue("address", "127.0.0.1")) as port:
        await assert_works(f"rediss://127.0.0.1:{port}/0?ca={authority.file}")
        await assert_refused(f"rediss://127.0.0.1:{port}/0?ca={other.file}")
        await assert_refused(f"rediss://127.0.0.1:{port}/0")


async def test_a_server_may_have_another_name(
    server: RedisServer, authority: tls.Authority
) -> None:
    """`server_name=` is what the certificate must say when it cannot say the host; no other."""
    with tls.front(server.port, authority.issue(NAME)) as port:
        url = f"rediss://127.0.0.1:{port}/0?ca={authority.file}"
        await assert_refused(url)
        await assert_works(f"{url}&server_name={NAME}")
        await assert_refused(f"{url}&server_name=else.test")


async def test_a_client_shows_its_certificate(
    server: RedisServer, authority: tls.Authority
) -> None:
    """Where servers ask for it, `cert=` and `key=` are what lets a client in."""
    mine = authority.issue("client")
    pair = authority.issue("address", "127.0.0.1")
    with tls.front(server.port, pair, clients=authority.file) as port:
        url = f"rediss://127.0.0.1:{port}/0?ca={authority.file}"
        await assert_refused(url)
        await assert_works(f"{url}&cert={mine.cert}&key={mine.key}")


async def test_a_cluster_behind_tls(tmp_path: Path, authority: tls.Authority) -> None:
    """Nodes that a Cluster names are known by `server_name`, too, whatever their addresses."""
    pair = authority.issue(NAME)
    with ExitStack() as stack:
        servers, fronts = [], []
        for at in range(3):
            front = processes.free_port()
            # A node that only is slow, as the test machine may be, shall not bring it all down.
            told = ("--cluster-announce-port", str(front), "--cluster-node-timeout", "60000")
            server = RedisServer(tmp_path / str(at), cluster=True, arguments=told)
            stack.callback(server.stop)
            server.start()
            fronts.append(stack.enter_context(tls.front(server.port, pair, port=front)))
            servers.append(server)
        await asyncio.to_thread(join, servers)
        hosts = ",".join(f"127.0.0.1:{port}" for port in fronts)
        url = f"rediss+cluster://{hosts}?ca={authority.file}"
        blocking: Any = connect_sync(parse_url(f"{url}&server_name={NAME}"), timeout_seconds=20)
        for at in range(6):
            blocking.set(f"k{at}", "v")
        blocking.close()
        for at in range(2):
            await assert_works(f"{url}&server_name={NAME}", f"k{at}")
        await assert_refused(url, "k0")


def join(servers: Sequence[RedisServer]) -> None:
    """Make a Cluster of servers."""
    for at, server in enumerate(servers):
        with server.client() as client:
            first, after = (processes.CLUSTER_SLOTS * each // 3 for each in (at, at + 1))
            client.execute_command("CLUSTER", "ADDSLOTS", *range(first, after))
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
            bus = servers[0].port + 10_000
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", servers[0].port, bus)
    for server in servers:
        with server.client() as client:
            processes.wait_until(
                lambda client=client: processes._cluster_is_whole(client, 3), "it is whole"
            )


def speaks_tls() -> bool:
    """Tell whether this machine's redis-server was built with TLS."""
    command = [processes.redis_server_path(), "--port", "0", "--tls-port", "0", "--dir", "/none"]
    told = subprocess.run(command, capture_output=True, check=False, timeout=120)
    return b"tls-port" not in told.stdout + told.stderr


@pytest.mark.skipif(not speaks_tls(), reason="This redis-server was built without TLS.")
@pytest.mark.parametrize("kind", ["one", "sentinel", "cluster"])
async def test_redis_itself_speaks_tls(tmp_path: Path, authority: tls.Authority, kind: str) -> None:
    """One server, what Sentinels watch, and a Cluster, each with TLS everywhere."""
    pair = authority.issue(NAME)
    files = ["--tls-cert-file", str(pair.cert), "--tls-key-file", str(pair.key)]
    files += ["--tls-ca-cert-file", str(authority.file), "--tls-auth-clients", "no"]
    files += ["--tls-replication", "yes"]
    tail = f"?ca={authority.file}&server_name={NAME}"
    with ExitStack() as stack:
        if kind == "cluster":
            maker = fleets.tls_cluster(tmp_path, files)
        elif kind == "sentinel":
            maker = fleets.tls_sentinel(tmp_path, files)
        else:
            maker = fleets.tls_one(tmp_path, files)
        url = await asyncio.to_thread(stack.enter_context, maker)
        blocking: Any = connect_sync(parse_url(url + tail), timeout_seconds=20)
        blocking.set("k", "v")
        blocking.close()
        await assert_works(url + tail)
        await assert_refused(url + f"?ca={authority.file}")  # which has another name
