"""Redis by URL: one server, Sentinel or a Cluster; for the event loop and for the commands.

redis_url.py says what URLs there are. redis-py follows what moves: through Sentinel it asks again
for the primary on every new connection, and after a READONLY answer; in a Cluster it follows MOVED
and ASK. What a gateway asks fails early, as it asks again anyway; a command has more patience.
"""

import ssl
from typing import Any, cast

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.connection
import redis.asyncio.sentinel
import redis.cluster
import redis.connection
import redis.retry
import redis.sentinel
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import RedisClusterException

from gateway.errors import StoreError
from gateway.redis_connection import (
    Sentinels,
    SyncSentinels,
    following_async,
    following_sync,
    named_async,
    named_sync,
)
from gateway.redis_url import Address, Kind, Login, Node, read_url

__all__ = [
    "Address",
    "AsyncLink",
    "Kind",
    "Node",
    "NodeLink",
    "RedisFault",
    "SyncLink",
    "connect_async",
    "connect_node",
    "connect_sync",
    "parse_url",
    "redis_failed",
    "sentinels",
]

AsyncLink = redis.asyncio.Redis | redis.asyncio.RedisCluster
NodeLink = redis.asyncio.Redis
SyncLink = redis.Redis | redis.RedisCluster

RedisFault = (redis.RedisError, RedisClusterException, OSError)
"""What a call to Redis may raise when Redis is away, slow or refuses.

A Cluster none of whose nodes answers raises an exception with a root of its own.
"""

FAILOVER_TRIES = 4
"""How often a command asks Sentinels for a primary while there is none: some 4 seconds."""


def parse_url(url: str) -> Address:
    """Read a Redis URL and look into the files that it names.

    Raises ValueError with a sentence that says what to write.
    """
    address = read_url(url)
    if address.tls is not None:
        ca, cert, key = address.tls.ca, address.tls.cert, address.tls.key
        try:
            context = ssl.create_default_context(cafile=ca or None)
        except OSError as fault:
            raise ValueError(
                f"The file ca={ca} of the Redis URL cannot be used ({fault.strerror or fault}). "
                "Name a PEM file of the certificates that are to be trusted."
            ) from None
        try:
            if cert:
                context.load_cert_chain(cert, key or None)
        except OSError as fault:
            raise ValueError(
                f"The files cert={cert} and key={key or cert} of the Redis URL cannot be used "
                f"({fault.strerror or fault}). Name PEM files of a certificate and its key."
            ) from None
    return address


def connect_async(address: Address, *, timeout_seconds: float, once: bool = False) -> AsyncLink:
    """Make a client for the event loop; it connects at its first command, and reconnects.

    It repeats once what was not answered, but for one that sends all `once`.

    It speaks to primaries only.
    """
    limits = _limits(timeout_seconds) | {"retry": Retry(NoBackoff(), 0 if once else 1)}
    if address.kind is Kind.CLUSTER:
        link = redis.asyncio.RedisCluster(
            startup_nodes=[redis.asyncio.cluster.ClusterNode(*node) for node in address.nodes],
            require_full_coverage=False,  # what lies on other nodes is as good as ever
            **limits,
            **_login(address.login),
            **_files(address, ssl=True),
        )
        if address.tls is not None and address.tls.server_name:
            name = named_async(redis.asyncio.connection.SSLConnection, address.tls.server_name)
            link.connection_kwargs["connection_class"] = name
            for node in link.startup_nodes:
                node.connection_class = name
        return link
    if address.kind is Kind.SENTINEL:
        known = sentinels(address, timeout_seconds=timeout_seconds)
        base = following_async(redis.asyncio.sentinel.SentinelManagedConnection)
        if address.tls is not None:
            base = following_async(redis.asyncio.sentinel.SentinelManagedSSLConnection)
            base = named_async(base, address.tls.server_name)
        found: AsyncLink = known.master_for(
            address.service,
            connection_class=base,
            db=address.db,
            **limits,
            **_login(address.login),
            **_files(address),
        )
        return found
    return connect_node(address, None, timeout_seconds=timeout_seconds, once=once)


def connect_node(
    address: Address,
    node: Node | None,
    *,
    timeout_seconds: float,
    of_sentinel: bool = False,
    once: bool = False,
) -> NodeLink:
    """Make a client for one server behind the address: the only one, if no node is named.

    It repeats once what was not answered, but for one that sends all `once`.
    """
    login = address.sentinel_login if of_sentinel else address.login
    settings: dict[str, Any] = _limits(timeout_seconds) | _login(login)
    settings |= {"retry": Retry(NoBackoff(), 0 if once else 1)}
    settings["db"] = 0 if of_sentinel else address.db
    if address.path:
        settings |= {
            "connection_class": redis.asyncio.UnixDomainSocketConnection,
            "path": address.path,
        }
    else:
        host, port = node or address.nodes[0]
        settings |= {"host": host, "port": port} | _files(address)
        if address.tls is not None:
            settings["connection_class"] = named_async(
                redis.asyncio.connection.SSLConnection, address.tls.server_name
            )
        if address.kind is Kind.CLUSTER:
            settings["redis_connect_func"] = _permit_reading
    return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(**settings))


def sentinels(address: Address, *, timeout_seconds: float) -> redis.asyncio.sentinel.Sentinel:
    """Make a client for the Sentinels of the address."""
    known = Sentinels([])  # type: ignore[no-untyped-call]
    known.sentinels = [
        connect_node(address, node, timeout_seconds=timeout_seconds, of_sentinel=True, once=True)
        for node in address.nodes
    ]
    return known


def connect_sync(address: Address, *, timeout_seconds: float) -> SyncLink:
    """Make a blocking client for the commands. Raises StoreError when no node of a Cluster answers.

    Any other Redis is connected to at the first command.
    """
    settings: dict[str, Any] = _limits(timeout_seconds) | _login(address.login) | _files(address)
    if address.tls is not None:
        settings["connection_class"] = named_sync(
            redis.connection.SSLConnection, address.tls.server_name
        )
    if address.kind is Kind.CLUSTER:
        return _connect_cluster(address, settings)
    settings["db"] = address.db
    if address.kind is Kind.SENTINEL:
        return _connect_sentinel(address, settings, _limits(timeout_seconds))
    if address.path:
        settings |= {"connection_class": redis.UnixDomainSocketConnection, "path": address.path}
    else:
        settings |= {"host": address.nodes[0][0], "port": address.nodes[0][1]}
    return redis.Redis.from_pool(redis.ConnectionPool(**settings))


def _connect_cluster(address: Address, settings: dict[str, Any]) -> SyncLink:
    nodes = [
        redis.cluster.ClusterNode(host, port)  # type: ignore[no-untyped-call]
        for host, port in address.nodes
    ]
    # By a URL, redis-py makes pools of the class that it is told, where it has no option for it.
    host, port = address.nodes[0]
    url = f"redis://{'[' + host + ']' if ':' in host else host}:{port}"
    try:
        link = redis.RedisCluster(
            url=url, startup_nodes=nodes, require_full_coverage=False, **settings
        )
    except RedisFault as fault:
        raise redis_failed(address.shown, fault) from fault
    return cast("SyncLink", link)


def redis_failed(host: str, fault: Exception) -> StoreError:
    """Say what an operator is told when a Redis does not do what it is asked."""
    reason = str(fault).strip().rstrip(".") or type(fault).__name__
    return StoreError(
        f"Redis at {host} failed: {reason}. "
        "Look whether it runs and whether --redis (TIDEGATE_REDIS) names it."
    )


def _connect_sentinel(
    address: Address, settings: dict[str, Any], limits: dict[str, Any]
) -> SyncLink:
    of_sentinel = limits | _login(address.sentinel_login) | _files(address)
    base = following_sync(redis.sentinel.SentinelManagedConnection)
    if address.tls is not None:
        of_sentinel["connection_class"] = settings["connection_class"]
        base = following_sync(redis.sentinel.SentinelManagedSSLConnection)
        base = named_sync(base, address.tls.server_name)
    known = SyncSentinels([])  # type: ignore[no-untyped-call]
    known.sentinels = [
        redis.Redis.from_pool(redis.ConnectionPool(host=host, port=port, **of_sentinel))
        for host, port in address.nodes
    ]
    patience = redis.retry.Retry(ExponentialWithJitterBackoff(base=0.5, cap=2), FAILOVER_TRIES)
    link = known.master_for(  # type: ignore[no-untyped-call]
        address.service, **settings | {"connection_class": base, "retry": patience}
    )
    return cast("SyncLink", link)


async def _permit_reading(connection: Any) -> None:
    """Let a replica of a Cluster answer instead of pointing to its primary."""
    await connection.on_connect()
    await connection.send_command("READONLY")
    await connection.read_response()


def _limits(timeout_seconds: float) -> dict[str, Any]:
    return {"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds}


def _login(login: Login) -> dict[str, Any]:
    return {"username": login.user, "password": login.password}


def _files(address: Address, **more: Any) -> dict[str, Any]:
    tls = address.tls
    if tls is None:
        return {}
    files = {"ssl_ca_certs": tls.ca, "ssl_certfile": tls.cert, "ssl_keyfile": tls.key}
    return {name: file or None for name, file in files.items()} | more
