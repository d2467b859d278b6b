"""Where a key is read: replicas, moved slots, slots on the move, servers that are lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

import fleets
import processes
from fleets import Fleet
from gateway.link import connect_async, connect_sync, parse_url
from gateway.routing import reader_of
from processes import RedisServer
from test_reader import patient, read, steady  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run what Sentinels watch, with a key on all servers."""
    with fleets.sentinel_fleet(tmp_path_factory.mktemp("sentinels")) as found:
        promote_nobody(found)
        with found.primary("k").client() as client:
            client.set("k", "v")
        found.settle()
        yield found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a Cluster of three."""
    with processes.redis_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield steady(found)


def promote_nobody(fleet: Fleet) -> None:
    """Let its Sentinels take a primary that is only slow, or was just lost, for alive."""
    for _, port in parse_url(fleet.url).nodes:
        with redis.Redis(port=port, socket_timeout=20) as sentinel:
            sentinel.sentinel_set(fleets.SERVICE, "down-after-milliseconds", 600_000)


def asked(server: RedisServer) -> int:
    """Count the MGETs that a server was sent."""
    with server.client() as client:
        told: Any = client.info("commandstats")
    return int(told.get("cmdstat_mget", {}).get("calls", 0))


async def test_replicas_are_read_first_if_told(sentinels: Fleet) -> None:
    """With `read=replicas` no read that a replica can answer reaches the primary; else all do."""
    primary = sentinels.primary("k")
    replicas = [server for server in sentinels.servers if server is not primary]
    for tail, places in (("", [primary]), ("?read=replicas", replicas)):
        before = {server.port: asked(server) for server in sentinels.servers}
        reader = reader_of(parse_url(sentinels.url + tail))
        for _ in range(6):
            assert (await read(reader, ["k"])).values == [b"v"]
        await reader.close()
        for server in sentinels.servers:
            assert (asked(server) > before[server.port]) == (server in places)


async def test_what_a_replica_lacks_is_asked_of_the_primary(sentinels: Fleet) -> None:
    """A replica that is late is no fault; only what the primary lacks is missing."""
    primary = sentinels.primary("k")
    with primary.client() as client:
        client.mset({f"k{at}": str(at) for at in range(20)})
    sentinels.settle()
    for server in sentinels.servers:
        if server is not primary:
            with server.client() as client:
                client.config_set("replica-read-only", "no")
                client.delete("k3", "k7")
    reader = reader_of(parse_url(sentinels.url + "?read=replicas"))
    found = await read(reader, [*(f"k{at}" for at in range(20)), "nothing"])
    assert found.values == [*(str(at).encode() for at in range(20)), None]
    await reader.close()


async def test_a_dead_primary_is_stood_in_for(sentinels: Fleet) -> None:
    """What a replica has is answered though nobody was promoted."""
    reader = reader_of(parse_url(sentinels.url))
    assert (await read(reader, ["k"])).values == [b"v"]
    lost = sentinels.primary("k")
    lost.kill()
    assert (await read(reader, ["k"])).values == [b"v"]
    for server in sentinels.servers:
        if server is not lost:
            with server.client() as client:
                assert client.info("replication")["role"] == "slave"
    lost.start()
    await reader.close()


async def test_moving_and_moved_slots_are_followed(cluster: str) -> None:
    """While a slot moves the other side is asked aside; once it has moved, it is asked first."""
    link: Any = connect_sync(parse_url(cluster), timeout_seconds=20)
    link.mset_nonatomic({f"k{at}": "v" for at in range(30)})
    slot = key_slot(b"k1")
    source = link.nodes_manager.get_node_from_slot(slot)
    target = next(node for node in link.get_primaries() if node.port != source.port)
    reader = reader_of(parse_url(cluster))
    assert (await read(reader, ["k1", "k2"])).values == [b"v", b"v"]

    def tell(node: Any, *words: Any) -> Any:
        return node.redis_connection.execute_command(*words)

    source_id, target_id = (tell(node, "CLUSTER", "MYID") for node in (source, target))
    tell(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    tell(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    tell(source, "MIGRATE", target.host, target.port, "k1", 0, 5_000)
    assert (await read(reader, ["k1", "k2"])).values == [b"v", b"v"]
    for node in (target, source):
        tell(node, "CLUSTER", "SETSLOT", slot, "NODE", target_id)
    assert (await read(reader, ["k1", "k2", "none"])).values == [b"v", b"v", None]
    await reader.close()
    link.close()


async def test_nobody_there_is_a_reason(tmp_path: Path) -> None:
    """Where no server answers, each value is a reason, soon; nothing hangs."""
    for url in ("redis+cluster://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/main"):
        reader = reader_of(parse_url(url))
        found = await read(reader, ["a", "b"])
        assert all(isinstance(each, Exception) for each in found.values)
        await reader.close()


async def test_a_socket_is_a_server_too(tmp_path: Path) -> None:
    """`unix://` with a user, a password and a database: links and the reader."""
    path = tmp_path / "r.sock"
    server = RedisServer(tmp_path / "redis", arguments=("--unixsocket", str(path)))
    try:
        server.start()
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "me", "on", ">p@w", "~*", "+@all", "&*")
            client.execute_command("ACL", "SETUSER", "default", "off")
        address = parse_url(f"unix://me:p%40w@{path}?db=2")
        link: Any = connect_sync(address, timeout_seconds=20)
        link.set("k", "v")
        assert link.info("keyspace").keys() == {"db2"}
        link.close()
        aware: Any = connect_async(address, timeout_seconds=20)
        assert await aware.get("k") == b"v"
        await aware.aclose()
        reader = reader_of(address)
        assert (await read(reader, ["k", "none"])).values == [b"v", None]
        await reader.close()
    finally:
        server.stop()
