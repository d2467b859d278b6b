"""What redis-py's connections lack: a name to expect of servers, and Sentinels asked each time.

When a command fails, redis-py 8.1 connects again to the server that was, past the Sentinels.
"""

from typing import Any

import redis.asyncio.sentinel
import redis.sentinel

from gateway.redis_url import Node


class Sentinels(redis.asyncio.sentinel.Sentinel):
    """Leaves no connection to a Sentinel behind, as nobody closes it with the link."""

    async def discover_master(self, service_name: str) -> Any:
        """Ask the Sentinels in turn."""
        try:
            return await super().discover_master(service_name)
        finally:
            for each in self.sentinels:
                await each.connection_pool.disconnect(inuse_connections=False)


class SyncSentinels(redis.sentinel.Sentinel):
    """The same for the commands."""

    def discover_master(self, service_name: str) -> Any:
        """Ask the Sentinels in turn."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        finally:
            for each in self.sentinels:
                each.connection_pool.disconnect(inuse_connections=False)


def named_async(base: Any, name: str) -> Any:
    """Make connections that expect a name in the server's certificate, if it is not the host's."""
    if not name:
        return base

    class Named(base):  # type: ignore[misc]
        def _connection_arguments(self) -> dict[str, Any]:
            return {**super()._connection_arguments(), "server_hostname": name}

    return Named


def named_sync(base: Any, name: str) -> Any:
    """Do the same for the commands."""
    if not name:
        return base

    class Named(base):  # type: ignore[misc]
        host: str

        def _wrap_socket_with_ssl(self, sock: Any) -> Any:
            host, self.host = self.host, name
            try:
                return super()._wrap_socket_with_ssl(sock)
            finally:
                self.host = host

    return Named


def following_async(base: Any) -> Any:
    """Make connections that ask the Sentinels each time that they connect."""

    class Following(base):  # type: ignore[misc]
        async def connect_to(self, address: Node) -> None:
            self.host, self.port = address
            await super().connect_check_health(check_health=False, retry_socket_connect=False)

        async def connect_check_health(self, *_: bool, **__: bool) -> None:
            await self.connect()

    return Following


def following_sync(base: Any) -> Any:
    """Do the same for the commands."""

    class Following(base):  # type: ignore[misc]
        def connect_to(self, address: Node) -> None:
            self.host, self.port = address
            super().connect_check_health(check_health=False, retry_socket_connect=False)

        def connect_check_health(self, *_: bool, **__: bool) -> None:
            self.connect()

    return Following
