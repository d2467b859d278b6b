"""Which servers hold a key: the primary and its replicas, as Sentinels or a Cluster tell."""

from collections.abc import Sequence
from typing import Any, Protocol

from redis.crc import key_slot

from gateway.link import Address, Node, RedisFault, connect_node, sentinels

SLOTS = 16_384

Holders = tuple[Node, ...]
"""The primary, then its replicas; none where nobody is known."""


class Places(Protocol):
    """Where keys are, as of the last time that somebody was asked."""

    many: bool
    """Whether no command may name two keys."""

    def holders(self, key: bytes) -> Holders:
        """Give the servers of a key."""
        ...

    def nodes(self) -> set[Node]:
        """Give all servers."""
        ...

    async def refresh(self) -> None:
        """Ask anew. Raises RedisFault when nobody tells; then all stays as it was."""
        ...


class SentinelPlaces:
    """One primary and its replicas hold everything."""

    many = False

    def __init__(self, address: Address, timeout_seconds: float) -> None:
        self._service = address.service
        self._sentinels = sentinels(address, timeout_seconds=timeout_seconds)
        self._holders: Holders = ()

    def holders(self, key: bytes) -> Holders:
        """Give the primary and its replicas."""
        del key
        return self._holders

    def nodes(self) -> set[Node]:
        """Give all servers."""
        return set(self._holders)

    async def refresh(self) -> None:
        """Ask the Sentinels, the first that answers; those that are down are left out."""
        try:
            primary = await self._sentinels.discover_master(self._service)
            replicas = await self._sentinels.discover_slaves(self._service)
        finally:
            await self._sentinels.aclose()
        self._holders = (_node(primary), *(_node(each) for each in replicas))


class ClusterPlaces:
    """Each slot of keys has a primary and replicas."""

    many = True

    def __init__(self, address: Address, timeout_seconds: float) -> None:
        self._address = address
        self._timeout = timeout_seconds
        self._known: list[Node] = []
        self._slots: list[Holders] = [()] * SLOTS

    def holders(self, key: bytes) -> Holders:
        """Give the primary of the key's slot, and its replicas."""
        return self._slots[key_slot(key)]

    def nodes(self) -> set[Node]:
        """Give all servers."""
        return set(self._known)  # with those of the address while nobody has told

    async def refresh(self) -> None:
        """Ask the nodes in turn, those of the address last; a replica that failed is left out."""
        last: Exception | None = None
        for node in dict.fromkeys((*self._known, *self._address.nodes)):
            # Should it be silent, the next time begins with another, even if this time is cut off.
            self._known = [each for each in self._known if each != node] + [node]
            link: Any = connect_node(self._address, node, timeout_seconds=self._timeout, once=True)
            try:
                told = await link.execute_command("CLUSTER", "SLOTS")
            except RedisFault as fault:
                last = fault
                continue
            finally:
                await link.aclose()
            self._take(node, told)
            return
        assert last is not None  # an address names a node
        raise last

    def _take(self, asked: Node, told: Sequence[Any]) -> None:
        slots: list[Holders] = [()] * SLOTS
        known: dict[Node, None] = {asked: None}
        for first, last, *servers in told:
            # A node that does not know its own address leaves it to who asked it.
            holders = tuple(_node((each[0] or asked[0], each[1])) for each in servers)
            slots[first : last + 1] = [holders] * (last + 1 - first)
            known |= dict.fromkeys(holders)
        self._slots = slots
        self._known = list(known)  # who told first, as it answers


def _node(told: Any) -> Node:
    host, port = told
    return host.decode() if isinstance(host, bytes) else str(host), int(port)
