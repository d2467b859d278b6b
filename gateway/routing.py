"""Buckets from several servers: each key from one that holds it; if that fails, from the next.

What is read here never changes and is verified by its digest, so that any copy is as good as
another: a replica stands in for a primary that is lost, before anybody has been promoted, and with
`read=replicas` in the URL is asked first. Only the primary's word that a key is missing counts, as
a replica may be late.

    primary ──lost, silent, loading──► replica, replica ──► ask where the key is now, begin anew
    replica ──missing──► primary ──missing──► ask who is primary now; if the same: missing

A server that failed is not asked again until it answers a PING, so that no check waits for it.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from itertools import count
from typing import Any, cast

import structlog

from gateway.errors import StoreError
from gateway.link import Address, Kind, Node, NodeLink, RedisFault, connect_node
from gateway.places import ClusterPlaces, Places, SentinelPlaces
from gateway.reader import ROUND_TRIP_SECONDS, NodeReader, Reader, Trip, Value

NODE_SECONDS = 0.5
"""When a silent server is given up: another may have the key."""

REFRESH_SECONDS = 5.0
"""While keys are read, where they are is asked so often: a replica may be back. What moved is
heard of by a failure."""

TELL_SECONDS = 0.25
"""When somebody who should tell where keys are is given up: others know it, too."""

HURRIED_SECONDS = 0.2
"""After failures it is asked at most so often."""

log = structlog.get_logger()


def patience(address: Address, wait_seconds: float) -> float:
    """Say when a round trip is given up: not while checks wait, if there is no other to turn to."""
    return max(ROUND_TRIP_SECONDS, wait_seconds if address.kind is Kind.ONE else 0.0)


def reader_of(address: Address, wait_seconds: float = 0.0) -> Reader:
    """Make the reader for one Redis, for what Sentinels watch, or for a Cluster.

    Checks wait `wait_seconds` for it.
    """
    if address.kind is Kind.ONE:
        seconds = patience(address, wait_seconds)
        return NodeReader(connect_node(address, None, timeout_seconds=seconds), seconds)
    if address.kind is Kind.SENTINEL:
        return RoutedReader(address, SentinelPlaces(address, TELL_SECONDS))
    return RoutedReader(address, ClusterPlaces(address, TELL_SECONDS))


class _Part:
    """Some keys of a round trip, on their way from server to server: a Trip to each of them."""

    __slots__ = ("_reader", "_trip", "asked", "at", "keys", "left", "missing", "sure", "to", "why")

    def __init__(
        self, reader: "RoutedReader", trip: Trip, at: list[int], keys: list[bytes]
    ) -> None:
        self._reader = reader
        self._trip = trip
        self.at = at
        self.keys = keys
        self.left = len(keys)
        self.missing: list[int] = []
        self.to: list[Node] = []
        """Servers that are still to be asked."""
        self.asked: Node | None = None
        self.sure = False
        """Whether it was asked since when the keys are where they are said to be."""
        self.why = ""

    def wanted(self) -> list[bytes]:
        """Give the keys that this server has not answered yet."""
        return self.keys[-self.left :]

    def take(self, values: Sequence[Value]) -> None:
        """Hand on what was found; remember what was missing."""
        begin = len(self.keys) - self.left
        self.left -= len(values)
        there: list[int] = []
        found: list[Value] = []
        for at, value in enumerate(values, begin):
            if value is None:
                self.missing.append(at)
            else:
                there.append(self.at[at])
                found.append(value)
        if found:
            self._trip.take_some(there, found)
        if not self.left:
            self._reader.answered(self)

    def take_some(self, places: Sequence[int], values: Sequence[Value]) -> None:
        """Never called: a server answers in order."""
        raise NotImplementedError

    def fail(self, why: str) -> None:
        """Go on to another server with what has not come."""
        self.why = why
        self._reader.failed(self, why)

    def once_more(self) -> bool:
        """Not of this server."""
        return False

    def narrow(self) -> None:
        """Keep only the keys that have not come."""
        rest = [*self.missing, *range(len(self.keys) - self.left, len(self.keys))]
        self.at = [self.at[each] for each in rest]
        self.keys = [self.keys[each] for each in rest]
        self.left = len(self.keys)
        self.missing = []

    def end(self, value: Value) -> None:
        """Say the same of all keys that have not come."""
        self._trip.take_some(self.at, [value] * len(self.at))


class _Server:
    """A server's reader, and whether it is worth asking."""

    __slots__ = ("link", "reader", "well")

    def __init__(self, link: NodeLink) -> None:
        self.link = link
        self.reader = NodeReader(link, NODE_SECONDS)
        self.well = True

    async def recover(self) -> None:
        """Wait until it answers."""
        while not self.well:
            try:
                async with asyncio.timeout(NODE_SECONDS):
                    await self.link.ping()
                self.well = True
            except (*RedisFault, TimeoutError):
                await asyncio.sleep(NODE_SECONDS)


class RoutedReader:
    """One reader a server, made when it is needed."""

    def __init__(self, address: Address, places: Places) -> None:
        self._address = address
        self._places = places
        self._servers: dict[Node, _Server] = {}
        self._turn = count()
        self._waiting: list[_Part] = []
        self._refreshed = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost = False

    def fetch(self, trip: Trip) -> None:
        """Begin a round trip."""
        if asyncio.get_running_loop().time() - self._refreshed > REFRESH_SECONDS:
            self._refresh()
        keys = trip.wanted()
        if self._places.many:
            for at, key in enumerate(keys):
                self._begin(_Part(self, trip, [at], [key]))
        else:
            self._begin(_Part(self, trip, list(range(len(keys))), keys))

    async def close(self) -> None:
        """Forget what is under way, and close."""
        self._waiting.clear()
        tasks = [*self._tasks, *([self._refreshing] if self._refreshing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in self._servers.values():
            await server.reader.close()

    def answered(self, part: _Part) -> None:
        """Go on with a part whose server has answered."""
        if part.missing:
            part.narrow()
            holders = self._places.holders(part.keys[0])
            if part.asked not in holders[:1]:
                part.to = [*holders[:1], *(node for node in part.to if node not in holders[:1])]
                self._go_on(part)
            elif part.sure:
                part.end(None)
            else:
                self._ask_where(part)

    def failed(self, part: _Part, why: str) -> None:
        """Go on with a part whose server did not answer, or pointed to another."""
        part.narrow()
        word, _, rest = why.partition(" ")
        if word in ("MOVED", "ASK"):
            node = _pointed(rest, part.asked)
            if word == "ASK":
                self._do(self._ask_aside(part, node))
                return
            part.to = [node] if node != part.asked else []
        elif part.asked in self._servers and self._servers[part.asked].well:
            self._servers[part.asked].well = False
            self._do(self._servers[part.asked].recover())
        self._refresh()
        self._go_on(part)

    def _begin(self, part: _Part) -> None:
        holders = self._places.holders(part.keys[0])
        primary, replicas = holders[:1], holders[1:]
        if len(replicas) > 1:
            turn = next(self._turn) % len(replicas)
            replicas = replicas[turn:] + replicas[:turn]
        first = self._address.replicas_first
        part.to = [*replicas, *primary] if first else [*primary, *replicas]
        self._go_on(part)

    def _go_on(self, part: _Part) -> None:
        """Ask the next server that is worth it."""
        while part.to:
            node = part.to.pop(0)
            server = self._servers.get(node)
            if server is None:
                link = connect_node(self._address, node, timeout_seconds=NODE_SECONDS)
                server = self._servers[node] = _Server(link)
            if server.well:
                part.asked = node
                server.reader.fetch(part)
                return
        if part.sure:
            part.end(StoreError(part.why or "the servers that hold it do not answer"))
        else:
            self._ask_where(part)

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _ask_where(self, part: _Part) -> None:
        self._waiting.append(part)
        self._refresh()

    def _refresh(self) -> None:
        if self._refreshing is None:
            loop = asyncio.get_running_loop()
            self._refreshing = loop.create_task(self._ask_who_holds_what())

    async def _ask_who_holds_what(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._refreshed + HURRIED_SECONDS - loop.time()))
        waiting: list[_Part] = []
        try:
            async with asyncio.timeout(ROUND_TRIP_SECONDS):
                waiting, self._waiting = self._waiting, []
                await self._places.refresh()
            self._lost = False
        except (*RedisFault, TimeoutError) as fault:
            if not self._lost:
                self._lost = True
                log.warning("nobody tells which Redis holds what", why=str(fault) or "no answer")
        except Exception:  # law 9: whatever it is, no check fails of it
            log.exception("asking which Redis holds what failed")
        self._refreshed = loop.time()
        self._refreshing = None
        for part in waiting:
            part.sure = True
            self._begin(part)
        if self._waiting:  # they came while it was being asked
            self._refresh()
        await self._forget()

    async def _forget(self) -> None:
        """Close the connections to servers that are gone."""
        nodes = self._places.nodes()
        for node in [node for node in self._servers if node not in nodes]:
            if not self._servers[node].reader.busy:
                gone = self._servers.pop(node)
                gone.well = True  # which ends its recovery
                await gone.reader.close()

    async def _ask_aside(self, part: _Part, node: Node) -> None:
        """Ask the server to which a slot is just moving, which answers only if told why."""
        link = connect_node(self._address, node, timeout_seconds=NODE_SECONDS)
        try:
            async with asyncio.timeout(ROUND_TRIP_SECONDS), link.client() as one:
                await one.execute_command("ASKING")  # type: ignore[no-untyped-call]
                value = await one.get(part.keys[0])  # on a Cluster a part has one key
            part.end(cast("bytes | None", value))
        except (*RedisFault, TimeoutError) as fault:
            part.end(StoreError(str(fault) or "no answer"))
        finally:
            await link.aclose()


def _pointed(text: str, asked: Node | None) -> Node:
    """Read `SLOT HOST:PORT`; who does not know its own host leaves it out."""
    host, _, port = text.rpartition(" ")[2].rpartition(":")
    return host or (asked[0] if asked else ""), int(port) if port.isdigit() else 0
