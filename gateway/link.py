"""Redis by URL: one server, or a Cluster; for the gateway's event loop and for the commands.

redis://[user:password@]host:port/db   rediss://…   unix:///path/to/socket
redis+cluster://[user:password@]host:port[,host:port…]     rediss+cluster://…
"""

from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException

AsyncLink = redis.asyncio.Redis | redis.asyncio.RedisCluster
SyncLink = redis.Redis | redis.RedisCluster

RedisFault = (redis.RedisError, RedisClusterException, OSError)
"""What a call to Redis may raise when Redis is away, slow or refuses.

A Cluster none of whose nodes answers raises an exception with a root of its own.
"""


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed Redis URL; `shown` has no password and may be printed."""

    url: str
    shown: str
    cluster: bool
    nodes: tuple[tuple[str, int], ...]
    options: dict[str, Any]


def parse_url(url: str) -> Address:
    """Read a Redis URL. Raises ValueError with a sentence that says what to write."""
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    if base not in ("redis", "rediss", "unix") or kind not in ("", "cluster") or not rest:
        raise ValueError(
            f"{scheme or url!r} is no Redis URL. Write redis://HOST:PORT/0, rediss://…, "
            "unix:///PATH or redis+cluster://HOST:PORT."
        )
    credentials, _, hosts = rest.rpartition("@")
    shown = f"{scheme}://{hosts}"
    if not kind:
        return Address(url, shown, cluster=False, nodes=(), options={})
    nodes = []
    for host in hosts.split("/")[0].split(","):
        parts = urlsplit(f"//{host}")
        try:
            nodes.append((parts.hostname or "localhost", parts.port or 6379))
        except ValueError:
            raise ValueError(f"{host!r} is no HOST:PORT.") from None
    options: dict[str, Any] = {"ssl": True} if base == "rediss" else {}
    if credentials:
        user, _, password = credentials.partition(":")
        options |= {"username": unquote(user) or None, "password": unquote(password) or None}
    return Address(url, shown, cluster=True, nodes=tuple(nodes), options=options)


def connect_async(address: Address, *, timeout_seconds: float, once: bool = False) -> AsyncLink:
    """Make a client for the event loop; it connects at its first command, and reconnects.

    It repeats what was not answered, but for one that sends all `once`.
    """
    limits: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
    }
    if once:
        limits["retry"] = Retry(NoBackoff(), 0)
    if not address.cluster:
        return redis.asyncio.Redis.from_url(address.url, **limits)
    nodes = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in address.nodes]
    return redis.asyncio.RedisCluster(startup_nodes=nodes, **limits, **address.options)


def connect_sync(address: Address, *, timeout_seconds: float) -> SyncLink:
    """Make a blocking client for the commands."""
    limits: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
    }
    if not address.cluster:
        return redis.Redis.from_url(address.url, **limits)
    nodes = [
        redis.cluster.ClusterNode(host, port)  # type: ignore[no-untyped-call]
        for host, port in address.nodes
    ]
    return cast("SyncLink", redis.RedisCluster(startup_nodes=nodes, **limits, **address.options))
