"""The quick path: ordinary requests are answered right where their bytes arrive.

A connection begins here. Each complete request that head.py takes is read, decided and answered
within `data_received`, as ready-made bytes, without a task, a stream or a request object. Whatever
else comes, an unreadable body too, goes to aiohttp with all its bytes, unchanged, and the
connection stays there for good: so there is one place that says no.

Order. A connection works on one request at a time. While a check waits for Redis, what follows it
is kept and not looked at (reading is paused when that grows), so answers leave in the order in
which requests came, whatever the mixture; and nothing is handed over before all is answered. A
client that ends its own side meanwhile still gets the answers to what it has sent.

Limits. A client that does not read its answers is not read from. What is not complete after
HALF_SENT_SECONDS, or idle for IDLE_SECONDS, is closed; so is a connection that was handed over
with half a head and never came to a request; and one that was closed, and whose client does not
read its last answers, is cut off. One timer a connection serves all of these; a request that
arrives whole does not touch it: when it fires, it looks how long ago the last one was.
"""

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from time import perf_counter, time
from typing import Protocol, cast

from gateway import headers, ofrep
from gateway.check import Check
from gateway.follower import Follower
from gateway.head import END, Head, Heads, may_begin
from gateway.lookup import Asked, Lookup
from gateway.metrics import QUICK_CHECK, QUICK_SWITCHES, Metrics
from gateway.problem import overloaded
from gateway.request import BODY_BYTES, parse_body
from gateway.seats import Seats, Wish
from gateway.snapshot import Snapshot
from gateway.waiting import Waiting

IDLE_SECONDS = 75.0
"""Longer than the common balancers keep a connection, so that they close it and not this side."""

HALF_SENT_SECONDS = 10.0
KEPT_BYTES = 2 * BODY_BYTES
"""What may come behind a check that waits for Redis, before reading is paused."""


class Ordinary(Protocol):
    """aiohttp's connection; `begun` tells whether it has come to a request."""

    begun: bool

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""

    def data_received(self, data: bytes) -> None:
        """Take bytes."""


class Quick:
    """What the connections of one listener share."""

    def __init__(
        self,
        follower: Follower,
        lookup: Lookup,
        seats: Seats,
        metrics: Metrics,
        waiting: Waiting,
        ordinary: Callable[[], Ordinary],
    ) -> None:
        """Share `waiting` with the ordinary path; `ordinary` makes aiohttp's protocol."""
        self.draining = False
        self.connections: set[Connection] = set()
        self.waiting = waiting
        self.follower = follower
        self.lookup = lookup
        self.seats = seats
        self.recall = seats.recall  # bound once: every check hands it on
        self.metrics = metrics
        self.ordinary = ordinary
        self.heads = Heads()
        self._second = 0
        self._origins: list[str] | None = None
        self._parts: list[tuple[bytes, bytes]] = []
        self._heads: list[dict[int, bytes]] = []
        self._flag_lines: dict[int, bytes] = {}
        self._ends: list[bytes] = []

    def __call__(self) -> asyncio.Protocol:
        """Make a connection's protocol. It has the methods of one; a compiled class has no base."""
        return cast("asyncio.Protocol", Connection(self))

    def respond(self, head: Head, body: bytes, snapshot: Snapshot, second: int) -> bytes:
        """Write a whole response. Its head is made once a second for each length of a body."""
        origins = snapshot.settings["cors"]
        if second != self._second or origins is not self._origins:
            self._renew(second, origins)
        kind = head.packed_out + 2 * (head.closes or self.draining)
        heads = self._heads[kind]
        length = len(body)
        begin = heads.get(length)
        if begin is None:
            before, after = self._parts[kind]
            begin = heads[length] = b"%b%d%b" % (before, length, after)
        return begin + body

    def respond_flags(
        self, head: Head, reply: ofrep.Reply, snapshot: Snapshot, second: int
    ) -> bytes:
        """Write a whole response about switches."""
        origins = snapshot.settings["cors"]
        if second != self._second or origins is not self._origins:
            self._renew(second, origins)
        body = reply.body
        tag = b"ETag: %b\r\n" % reply.etag.encode() if reply.etag else b""
        length = b"" if reply.status == 304 else b"Content-Length: %d" % len(body)
        end = self._ends[head.closes or self.draining]
        if not length:  # the end begins with the line break of what is not there
            end = end[2:]
        return b"".join((self._flag_lines[reply.status], tag, length, end, body))

    def refusal(self, head: Head, second: int) -> bytes:
        """Write the response of a gateway that has too much to do; it ends the connection."""
        snapshot = self.follower.snapshot
        origins = [] if snapshot is None else snapshot.settings["cors"]
        if head.kind:
            status, fields, body = ofrep.overloaded(head.key, None, origins)
        else:
            status, fields, body = overloaded(None, origins)
        fields |= {"Content-Length": str(len(body)), "Date": formatdate(second, usegmt=True)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        return f"{start}{lines}Connection: close\r\n\r\n".encode() + body

    def _renew(self, second: int, origins: list[str]) -> None:
        parts = []
        date = f"\r\nDate: {formatdate(second, usegmt=True)}\r\n"
        for end in (date + "\r\n", date + "Connection: close\r\n\r\n"):
            for content_type in (headers.JSON, headers.MSGPACK):
                fields = headers.answer_headers(content_type, None, origins)
                lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
                before = f"HTTP/1.1 200 OK\r\n{lines}Content-Length: ".encode()
                parts.append((before, end.encode()))
        self._ends = [parts[0][1], parts[2][1]]
        self._flag_lines = {}
        for status in (200, 304, 404):
            fields = ofrep.reply_headers(ofrep.Reply(status, b""), None, origins)
            lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            self._flag_lines[status] = (start + lines).encode()
        self._parts = parts
        self._heads = [{}, {}, {}, {}]
        self._second, self._origins = second, origins


class Connection:
    """One client's connection, until it ends or is handed over."""

    __slots__ = (
        "_ended",
        "_handed_to",
        "_kept",
        "_moved",
        "_paused",
        "_quick",
        "_timer",
        "_transport",
        "_waiting",
    )

    def __init__(self, quick: Quick) -> None:
        self._quick = quick
        self._kept = b""
        self._paused = False
        self._ended = False
        self._waiting: _Waiting | None = None
        self._handed_to: Ordinary | None = None
        self._moved = 0.0
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._quick.connections.add(self)
        self._moved = perf_counter()
        self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a check that still waits for Redis finds nobody to answer."""
        del exc
        self._quick.connections.discard(self)
        self._timer.cancel()
        self._kept = b""

    def data_received(self, data: bytes) -> None:
        """Answer every complete request in what has arrived."""
        if self._kept or self._waiting is not None or self._paused:
            data = self._kept + data
            if self._waiting is not None or self._paused:
                self._kept = data
                if len(data) > KEPT_BYTES:
                    self._read(False)
                return
        self._work(data)

    def eof_received(self) -> bool:
        """Answer what waits, though the client has ended its side; False closes at once."""
        self._ended = True
        return self._waiting is not None

    def _work(self, data: bytes) -> None:
        heads = self._quick.heads
        while data:
            end = data.find(END) + len(END)
            if end < len(END):
                if may_begin(data):
                    break
                self._hand_over(data)
                return
            said = data[:end]
            head = heads.known.get(said) or heads.learn(said)
            if head is None:
                self._hand_over(data)
                return
            stop = end + head.length
            if len(data) < stop:
                break
            if not self._take(head, data, stop):
                return
            data = b"" if stop == len(data) else data[stop:]
            if self._waiting is not None or self._paused:
                break
        if data and not self._kept and self._waiting is None:
            # A request has begun to arrive: it has not as long as an idle connection has.
            self._moved = perf_counter()
            self._watch(HALF_SENT_SECONDS)
        self._kept = data

    def _take(self, head: Head, data: bytes, stop: int) -> bool:  # noqa: C901, PLR0911 - many ends
        """Answer the request that ends at `stop`, or let it wait for Redis.

        False when nothing behind it is for us: `data` was handed over, or the connection closes.
        """
        quick = self._quick
        self._moved = perf_counter()
        snapshot = quick.follower.snapshot
        if snapshot is None:
            self._hand_over(data)
            return False
        if quick.waiting.late:
            return self._refuse(head)
        try:
            body = data[stop - head.length : stop]
            if head.kind:
                check = ofrep.parse_context(body, snapshot.settings["placeholders"])
            else:
                check = parse_body(body, head.packed_in)
            if snapshot.identity is not None:
                self._identify(check, head, snapshot)
            if head.kind:
                second = int(time())
                reply = ofrep.unchanged(snapshot, check, second, head.matches)
                if reply is not None:
                    return self._reply(head, reply, snapshot, second)
            probes = snapshot.probes(check)
            members: dict[int, int | None] = {}
            if probes:
                members, asked = quick.lookup.begin(snapshot, probes)
                if asked and not quick.waiting.is_full():
                    quick.waiting.now += 1
                    self._waiting = _Waiting(self, head, data[:stop], check, snapshot)
                    self._waiting.wait(quick.lookup, members, asked)
                    return True
                if asked:
                    return self._refuse(head)
        except Exception:  # noqa: BLE001 - whatever it is, the ordinary path says what is wrong
            self._hand_over(data)
            return False
        return self._answer(head, check, snapshot, members, data, stop)

    def _identify(self, check: Check, head: Head, snapshot: Snapshot) -> None:
        """Let no ids count but those of a token."""
        outcome = snapshot.identify(check, head.authorization, int(time()))
        self._quick.metrics.identify(outcome)

    def _refuse(self, head: Head) -> bool:
        """Answer that there is too much to do; always False, as the connection closes."""
        quick = self._quick
        self._transport.write(quick.refusal(head, int(time())))
        quick.metrics.overloads += 1
        place = QUICK_SWITCHES if head.kind else QUICK_CHECK
        quick.metrics.respond(place, 503, perf_counter() - self._moved)
        self.close()
        return False

    def _answer(  # noqa: PLR0911 - many ends
        self,
        head: Head,
        check: Check,
        snapshot: Snapshot,
        members: dict[int, int | None],
        data: bytes,
        stop: int,
        seats: dict[str, int] | None = None,
        asked_at: int = 0,
    ) -> bool:
        """Decide and write; False as in `_take`. `data` is what aiohttp gets if that fails.

        With `seats` the decision is of the second when they were asked for.
        """
        quick = self._quick
        second = int(time()) if seats is None else asked_at
        if head.kind:
            try:
                reply = ofrep.evaluate(snapshot, check, members, second, head.key)
            except Exception:  # noqa: BLE001 - as below
                self._hand_over(data)
                return False
            return self._reply(head, reply, snapshot, second)
        try:
            body, outcomes = snapshot.answer(
                check, members, second, head.packed_out, seats, quick.recall
            )
            if not body:
                if quick.waiting.is_full():
                    return self._refuse(head)
                asks = snapshot.asks(check, members, second)
                wish = quick.seats.begin(snapshot.number, asks, dry_run=check.dry_run)
                if not wish.done:
                    quick.waiting.now += 1
                    self._waiting = _Waiting(self, head, data[:stop], check, snapshot)
                    self._waiting.wait_for_seats(wish, members, second)
                    return True
                body, outcomes = snapshot.answer(
                    check, members, second, head.packed_out, wish.seats
                )
        except Exception:  # noqa: BLE001 - a bug: the ordinary path meets it too, and logs it
            self._hand_over(data)
            return False
        self._transport.write(quick.respond(head, body, snapshot, second))
        if not check.dry_run:
            device, user = check.device_hash, check.user_hash
            quick.metrics.count(outcomes, user if device is None else device)
        quick.metrics.respond(QUICK_CHECK, 200, perf_counter() - self._moved)
        if head.closes or quick.draining:
            self.close()
            return False
        return True

    def _reply(self, head: Head, reply: ofrep.Reply, snapshot: Snapshot, second: int) -> bool:
        """Write what switches are; False as in `_take`."""
        quick = self._quick
        self._transport.write(quick.respond_flags(head, reply, snapshot, second))
        quick.metrics.evaluate(reply.outcome)
        quick.metrics.respond(QUICK_SWITCHES, reply.status, perf_counter() - self._moved)
        if head.closes or quick.draining:
            self.close()
            return False
        return True

    def known(
        self,
        waiting: "_Waiting",
        members: dict[int, int | None],
        seats: dict[str, int] | None,
        asked_at: int,
    ) -> None:
        """Go on with a check that Redis has answered, then with what came behind it."""
        self._quick.waiting.now -= 1
        self._waiting = None
        if self._transport.is_closing():
            return
        rest, self._kept = self._kept, b""
        data, stop = waiting.request + rest, len(waiting.request)
        head, check, snapshot = waiting.head, waiting.check, waiting.snapshot
        if not self._answer(head, check, snapshot, members, data, stop, seats, asked_at):
            return
        if self._paused or self._waiting is not None:  # which now asks for its seats
            self._kept = rest
        elif rest or self._ended:  # else there is nothing to go on with, and reading goes on
            self._read(True)
            self._go_on(rest)

    def pause_writing(self) -> None:
        """Read no more from a client that does not read."""
        self._paused = True
        self._read(False)
        self._watch(HALF_SENT_SECONDS)

    def resume_writing(self) -> None:
        """Go on with what came meanwhile."""
        self._paused = False
        self._read(True)
        if self._waiting is None and (self._kept or self._ended):
            data, self._kept = self._kept, b""
            self._go_on(data)

    def _go_on(self, data: bytes) -> None:
        """Work on what came meanwhile; when that is all that will ever come, close behind it."""
        self._work(data)
        if self._ended and self._waiting is None and not self._paused and self._handed_to is None:
            self.close()

    def idle(self) -> bool:
        """Tell whether nothing is under way, so that a stop may close it."""
        return self._waiting is None and not self._kept

    def close(self) -> None:
        """Close, when what was written is sent; what came behind is not answered."""
        self._kept = b""
        self._transport.close()

    def _read(self, on: bool) -> None:
        if self._ended:
            return  # there is nothing more to read
        if not self._transport.is_closing() and self._transport.is_reading() is not on:
            if on:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _hand_over(self, data: bytes) -> None:
        """Let aiohttp go on from here, as if it had been there from the start."""
        self._quick.metrics.handed_over += 1
        self._quick.connections.discard(self)
        self._kept = b""
        self._moved = perf_counter()
        self._watch(HALF_SENT_SECONDS)
        self._read(True)
        ordinary = self._handed_to = self._quick.ordinary()
        self._transport.set_protocol(cast("asyncio.Protocol", ordinary))
        ordinary.connection_made(self._transport)
        ordinary.data_received(data)

    def _watch(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        """Close what stands still for too long, or look again when that could be."""
        if self._handed_to is not None and self._handed_to.begun:
            return  # aiohttp's own timers watch over it from here on
        closing = self._transport.is_closing()
        hurried = self._handed_to is not None or self._kept or self._paused or closing
        limit = HALF_SENT_SECONDS if hurried else IDLE_SECONDS
        now = perf_counter()
        left = limit - (now - self._moved)
        if left > 0:
            self._watch(left)
        elif self._paused or closing:
            self._transport.abort()  # what it does not read would keep a closing one open
        else:
            self._transport.close()
            self._moved = now
            self._watch(HALF_SENT_SECONDS)


class _Waiting:
    """A check that waits for Redis: what is needed to go on when the last bucket is there."""

    __slots__ = (
        "_asked",
        "_asked_at",
        "_connection",
        "_left",
        "_lookup",
        "_members",
        "_wish",
        "check",
        "head",
        "request",
        "snapshot",
    )

    def __init__(
        self, connection: Connection, head: Head, request: bytes, check: Check, snapshot: Snapshot
    ) -> None:
        self.head = head
        self.request = request
        self.check = check
        self.snapshot = snapshot
        self._connection = connection

    def wait(self, lookup: Lookup, members: dict[int, int | None], asked: list[Asked]) -> None:
        """Go on when all that was asked for is answered; it always is, within a time-out."""
        self._lookup = lookup
        self._members = members
        self._asked = asked
        self._left = len(asked)
        for _, answer in asked:
            answer.then(self._one_known)

    def wait_for_seats(self, wish: Wish, members: dict[int, int | None], second: int) -> None:
        """Go on when it is known in which windows the client sits, or cannot be in time."""
        self._members = members
        self._wish = wish
        self._asked_at = second
        wish.then(self._seats_known)

    def _one_known(self) -> None:
        self._left -= 1
        if not self._left:
            members = self._lookup.finish(self.snapshot, self._members, self._asked)
            self._connection.known(self, members, None, 0)

    def _seats_known(self) -> None:
        self._connection.known(self, self._members, self._wish.seats, self._asked_at)
