"""How buckets are read from one Redis: many in one round trip, each handed on as it arrives.

MGETs in a row on one connection. redis-py connects (TLS, user and password, database, socket) and
hands its socket over: to ask by itself it takes some 20 µs a bucket more. routing.py makes of such
readers one for all servers of a Cluster, or of what Sentinels watch.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, cast

from gateway.link import NodeLink
from gateway.resp import BrokenReplyError, mget, read_head, read_values

ROUND_TRIP_SECONDS = 1.0
"""When a round trip is given up, unless checks are told to wait longer."""

LOST = "the connection to Redis is lost"

Value = bytes | Exception | None


class Trip(Protocol):
    """A round trip, as who asks sees it; `left` values are still to come. No method raises."""

    left: int

    def wanted(self) -> list[bytes]:
        """Give the keys that are still to be read, one at least."""
        ...

    def take(self, values: Sequence[Value]) -> None:
        """Take the next values in the order of the keys, None for a missing one's."""
        ...

    def take_some(self, places: Sequence[int], values: Sequence[Value]) -> None:
        """Take the values of the keys at these places of what was wanted first, in any order.

        Who uses this for some uses it for all, and puts the reason in the place of a value that
        does not come.
        """
        ...

    def fail(self, why: str) -> None:
        """Hear that no more values will come."""
        ...

    def once_more(self) -> bool:
        """Tell, when the connection was lost, whether to ask again."""
        ...


class Reader(Protocol):
    """Reads the keys of round trips; each is sooner or later taken whole, or failed.

    Failed late: after the reader's patience, or twice that when it is asked again.
    """

    def fetch(self, trip: Trip) -> None:
        """Begin a round trip."""
        ...

    async def close(self) -> None:
        """Forget what is under way, and close."""
        ...


class NodeReader:
    """One connection, made when it is needed; it is the protocol of its own transport."""

    def __init__(self, link: NodeLink, patience_seconds: float) -> None:
        """Give a silent Redis up after `patience_seconds`."""
        self._link = link
        self._patience = patience_seconds
        self._under_way: deque[Trip] = deque()
        self._begun = False  # the answer to the first one: its head has come
        self._kept = b""
        self._moved = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        # redis-py's, whose stream must live as long as the transport that was taken out of it.
        self._connection: Any = None
        self._transport: asyncio.Transport | None = None

    def fetch(self, trip: Trip) -> None:
        """Begin a round trip."""
        if not self._under_way:
            self._moved = asyncio.get_running_loop().time()
        self._under_way.append(trip)
        if self._transport is None:
            self._connect()
            return
        self._transport.write(mget(trip.wanted()))
        if self._watch is None:
            self._look_in(self._patience)

    @property
    def busy(self) -> bool:
        """Whether answers are still to come."""
        return bool(self._under_way)

    async def close(self) -> None:
        """Forget what is under way, and close."""
        self._under_way.clear()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._watch is not None:
            self._watch.cancel()
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
        await self._link.aclose()

    def data_received(self, data: bytes) -> None:
        """Hand on the values that have arrived."""
        if self._kept:
            data = self._kept + data
        try:
            taken = self._read(data)
            self._kept = data[taken:]
            if taken:  # a byte now and then is no answer
                self._moved = asyncio.get_running_loop().time()
        except BrokenReplyError as fault:
            self._kept = b""
            self._give_up(str(fault))
            if self._transport is not None:
                self._transport.abort()

    def eof_received(self) -> bool:
        """Close when Redis does."""
        return False

    def pause_writing(self) -> None:
        """Go on: what is asked for is bounded by who asks."""

    def resume_writing(self) -> None:
        """Go on."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Ask again, once, for what was under way: all that is asked here is a reading."""
        del exc
        self._transport = None
        self._kept = b""
        self._begun = False
        lost, self._under_way = self._under_way, deque()
        failed: list[Trip] = []
        for trip in lost:
            (self._under_way if trip.once_more() else failed).append(trip)
        if self._under_way:
            self._connect()
        for trip in failed:
            trip.fail(LOST)

    def _read(self, data: bytes) -> int:
        """Hand on what can be read; tell where the rest begins. Raises BrokenReplyError."""
        at = 0
        while at < len(data):
            if not self._under_way:
                raise BrokenReplyError("Redis sent what nobody asked for")
            trip = self._under_way[0]
            if not self._begun:
                head, at = read_head(data, at)
                if head is None:
                    break
                if isinstance(head, str):
                    self._under_way.popleft()
                    trip.fail(head)
                    continue
                if head != trip.left:
                    raise BrokenReplyError(f"Redis answered {head} keys instead of {trip.left}")
                self._begun = True
            values, at = read_values(data, at, trip.left)
            if len(values) == trip.left:
                self._begun = False
                self._under_way.popleft()
            elif not values:
                break
            trip.take(values)
        return at

    def _connect(self) -> None:
        if self._connecting is None:
            loop = asyncio.get_running_loop()
            self._connecting = loop.create_task(self._connect_and_ask())

    async def _connect_and_ask(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                if self._connection is not None:
                    await self._connection.disconnect(nowait=True)
                pool: Any = self._link.connection_pool
                self._connection = pool.make_connection()
                await self._connection.connect()
            transport: asyncio.Transport = self._connection._writer.transport  # noqa: SLF001
        except Exception as fault:  # noqa: BLE001 - law 9: whatever it is, no check fails of it
            self._connecting = None
            self._give_up(str(fault) or type(fault).__name__)
            return
        self._connecting = None
        if transport.is_closing():
            self._give_up(LOST)
            return
        transport.set_protocol(cast("asyncio.Protocol", self))
        self._transport = transport
        self._moved = asyncio.get_running_loop().time()
        for trip in self._under_way:
            transport.write(mget(trip.wanted()))
        if self._watch is None:
            self._look_in(self._patience)

    def _give_up(self, why: str) -> None:
        self._begun = False
        lost, self._under_way = self._under_way, deque()
        for trip in lost:
            trip.fail(why)

    def _look_in(self, seconds: float) -> None:
        self._watch = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Cut off a Redis that is silent for too long. One timer serves all round trips."""
        self._watch = None
        if not self._under_way or self._transport is None:
            return
        silent = asyncio.get_running_loop().time() - self._moved
        if silent < self._patience:
            self._look_in(self._patience - silent)
        else:
            self._transport.abort()
