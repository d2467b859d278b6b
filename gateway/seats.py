"""Seats of time windows, asked in Redis: those of all checks of one moment in one round trip.

What is asked in one turn of the event loop leaves together, a script call for each app of a check
(seating.py), and what is asked while enough is under way gathers for the next round trip. Who was
seated is remembered, and of a window that is full or over who is not (closed_windows.py). Nothing
here waits without bound and no exception reaches a check: where it could not be known in time
whether a client has a seat, it counts as not seated, and the next release wins. The seat may have
been taken all the same; it is the client's at its next check, and nobody else's.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from gateway.breaker import Breaker
from gateway.closed_windows import ClosedWindows
from gateway.keys import Keys
from gateway.link import AsyncLink
from gateway.metrics import Seatings
from gateway.reader import ROUND_TRIP_SECONDS
from gateway.seating import (
    LOST,
    NOBODY,
    NOT_WRITTEN,
    SCRIPT,
    SCRIPT_SHA1,
    TOLD_SHARDS,
    Ask,
    arguments,
    closed_in,
)

BATCH = 200
"""Script calls in one round trip: some five milliseconds of Redis's time."""

ROUND_TRIPS = 2
"""Round trips under way at once; while all are, what is asked gathers for the next one."""

CONFIRMED = 100_000
"""Seats that are remembered, some 20 MB; of one epoch, as another may have ended the release."""

log = structlog.get_logger()


class Wish:
    """What one check has asked for; once `done`, `seats` gives the rank of its seat by app."""

    __slots__ = ("_call", "_left", "done", "dry_run", "epoch", "seats")

    def __init__(self, epoch: int, asks: int, *, dry_run: bool) -> None:
        self.epoch = epoch
        self.dry_run = dry_run
        self.seats: dict[str, int] = {}
        self._left = asks
        self.done = not asks
        self._call: Callable[[], None] | None = None

    def then(self, call: Callable[[], None]) -> None:
        """Call when this is done, which it is not yet."""
        self._call = call

    def give(self, app: str, rank: int | None) -> None:
        """Take what became of one app; be done with the last."""
        if self.done:
            return
        if rank is not None:
            self.seats[app] = rank
        self._left -= 1
        if not self._left:
            self.end()

    def end(self) -> None:
        """Be done, with the seats that are known by now."""
        self.done = True
        call, self._call = self._call, None
        if call is not None:
            try:
                call()
            except Exception:
                log.exception("a check failed after its seats were asked")


_Entry = tuple[Wish, Ask]


class Seats:
    """Who sits where, from memory or from Redis."""

    def __init__(
        self, link: AsyncLink, keys: Keys, counts: Seatings, *, timeout_seconds: float, limit: int
    ) -> None:
        """`timeout_seconds` is the longest a check waits; `limit` bounds the asks that wait."""
        # A connection that died while idle is worth one more try; to ask twice seats nobody twice.
        link.set_retry(Retry(NoBackoff(), 1))
        self._link = link
        self._keys = keys
        self._counts = counts
        self._timeout = timeout_seconds
        self._limit = limit
        self._breaker = Breaker()
        self._failing = False
        self._failed_at = 0.0
        self._turn: list[_Entry] = []
        # What was asked in each of the last turns, and when; one timer serves them all.
        self._turns: deque[tuple[float, list[_Entry]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._queue: deque[_Entry] = deque()
        self._waiting = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self._epoch = 0
        self._confirmed: OrderedDict[tuple[str, str, int], None] = OrderedDict()
        self._closed = ClosedWindows()
        self._lost: set[str] = set()
        self._unwritten = False

    def begin(self, epoch: int, asks: Sequence[Ask], *, dry_run: bool) -> Wish:
        """Ask for the seats of one check, by the tables of this epoch; never None, maybe done."""
        if epoch > self._epoch:
            self._epoch = epoch
            self._confirmed.clear()
            self._closed.clear()
            self._lost.clear()
        wish = Wish(epoch, len(asks), dry_run=dry_run)
        for ask in asks:
            rank = self.recall(epoch, ask)
            if rank is not None:
                wish.give(ask.app, None if rank == NOBODY else rank)
            elif not self._enter(wish, ask):
                self._counts.refused += 1
                wish.give(ask.app, None)
        return wish

    async def seats(self, epoch: int, asks: Sequence[Ask], *, dry_run: bool) -> dict[str, int]:
        """Give the rank of the seat by app, for those that have one in time."""
        wish = self.begin(epoch, asks, dry_run=dry_run)
        if not wish.done:
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            wish.then(partial(_wake, woken))
            await woken
        return wish.seats

    def learn(self, ask: Ask, told: Sequence[Sequence[int]]) -> None:
        """Remember who sits in closed windows; `told` is as seating.closed_in gives it."""
        self._closed.tell(ask, told, asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Forget what is asked for, and close the connections."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._link.aclose()

    def recall(self, epoch: int, ask: Ask) -> int | None:
        """Give the rank of a seat, or NOBODY, if that is known by the tables of this epoch."""
        if epoch != self._epoch:
            return None
        first = ask.places[0]
        rank: int | None = first.rank
        if (ask.app, first.release, first.hashed) not in self._confirmed:
            rank = self._closed.find(ask, asyncio.get_running_loop().time())
        if rank is not None:
            self._counts.remembered += 1
        return rank

    def _enter(self, wish: Wish, ask: Ask) -> bool:
        """Put an ask into the next round trip; False when it is not asked at all."""
        loop = asyncio.get_running_loop()
        if self._waiting >= self._limit or not (self._turn or self._breaker.allows(loop.time())):
            return False
        if not self._turn:
            loop.call_soon(self._end_turn)
        self._waiting += 1
        self._turn.append((wish, ask))
        return True

    def _end_turn(self) -> None:
        loop = asyncio.get_running_loop()
        turn, self._turn = self._turn, []
        while self._turns and _all_done(self._turns[0][1]):
            self._turns.popleft()
        self._turns.append((loop.time(), turn))
        if self._timer is None:
            self._timer = loop.call_later(self._timeout, self._expire)
        self._counts.asked += len(turn)
        self._queue.extend(turn)
        self._send()

    def _send(self) -> None:
        while self._queue and len(self._under_way) < ROUND_TRIPS:
            batch: list[_Entry] = []
            while self._queue and len(batch) < BATCH:
                entry = self._queue.popleft()
                if entry[0].done:  # it waited too long in the queue
                    self._waiting -= 1
                else:
                    batch.append(entry)
            if batch:
                self._counts.round_trips += 1
                task = asyncio.get_running_loop().create_task(self._ask(batch))
                self._under_way.add(task)
                task.add_done_callback(self._next)

    def _next(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            self._send()

    async def _ask(self, batch: list[_Entry]) -> None:
        values: Sequence[Any]
        try:
            async with asyncio.timeout(max(ROUND_TRIP_SECONDS, self._timeout)):
                values = await self._call("EVALSHA", SCRIPT_SHA1, batch)
                again = [at for at, each in enumerate(values) if isinstance(each, NoScriptError)]
                if again:  # the first one since this Redis started
                    told = await self._call("EVAL", SCRIPT, [batch[at] for at in again])
                    for at, value in zip(again, told, strict=True):
                        values[at] = value
        except Exception as fault:  # noqa: BLE001 - law 9: whatever it is, no check fails of it
            values = [fault] * len(batch)
        self._waiting -= len(batch)
        faults = [value for value in values if isinstance(value, Exception)]
        self._counts.errors += len(faults)
        if len(faults) == len(values):
            self._fail(str(faults[0]) or type(faults[0]).__name__)
        elif any(not wish.done for wish, _ in batch):  # it was in time for somebody
            self._succeed()
        for (wish, ask), value in zip(batch, values, strict=True):
            self._take(wish, ask, value)

    async def _call(self, command: str, script: str, batch: Sequence[_Entry]) -> list[Any]:
        pipeline = self._link.pipeline(transaction=False)
        for wish, ask in batch:
            rest = arguments(self._keys, ask, dry_run=wish.dry_run, told=TOLD_SHARDS)
            pipeline.execute_command(command, script, *rest)
        found: list[Any] = await pipeline.execute(raise_on_error=False)
        return found

    def _take(self, wish: Wish, ask: Ask, value: object) -> None:
        value, told = closed_in(value)
        if told and wish.epoch == self._epoch:
            self.learn(ask, told)
        if value == LOST:
            self._counts.lost += 1
            self._log_lost(ask)
        elif value == NOT_WRITTEN:
            self._counts.errors += 1
            self._log_unwritten()
        if not isinstance(value, int) or value <= 0:
            wish.give(ask.app, None)
            return
        place = ask.places[value - 1]
        if not wish.dry_run and wish.epoch == self._epoch:
            if len(self._confirmed) >= CONFIRMED:
                self._confirmed.popitem(last=False)
            self._confirmed[ask.app, place.release, place.hashed] = None
        wish.give(ask.app, place.rank)

    def _expire(self) -> None:
        """Answer those that have waited too long, and see when to look again."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        late: list[Wish] = []
        # Turns that waited for the same stall are one failure, not as many as there were turns.
        stalled = False
        while self._turns and self._turns[0][0] + self._timeout <= now:
            asked_at, turn = self._turns.popleft()
            waiting = [wish for wish, _ in turn if not wish.done]
            stalled = stalled or bool(waiting and asked_at >= self._failed_at)
            late += waiting
        self._timer = None
        if self._turns:
            left = self._turns[0][0] + self._timeout - now
            self._timer = loop.call_later(left, self._expire)
        self._counts.timeouts += len(late)
        if stalled:
            self._fail(f"no answer within {self._timeout * 1000:.0f} ms")
        for wish in late:
            if not wish.done:  # one wish may have several asks
                wish.end()

    def _fail(self, reason: str) -> None:
        self._failed_at = asyncio.get_running_loop().time()
        self._breaker.failed(self._failed_at)
        if not self._failing:
            self._failing = True
            log.warning("seats of time windows cannot be asked; the next release wins", why=reason)

    def _succeed(self) -> None:
        self._breaker.succeeded()
        if self._failing:
            self._failing = False
            log.info("seats of time windows can be asked again")

    def _log_unwritten(self) -> None:
        if not self._unwritten:
            self._unwritten = True
            log.error("Redis writes no seats: out of memory, or no master; nobody new is seated")

    def _log_lost(self, ask: Ask) -> None:
        if ask.app not in self._lost:
            self._lost.add(ask.app)
            log.error(
                "Redis has lost the record of a time window; see `tidegate window reopen`",
                app=ask.app,
                releases=[place.release for place in ask.places],
            )


def _all_done(turn: list[_Entry]) -> bool:
    for wish, _ in turn:  # noqa: SIM110 - compiled, a loop is no generator
        if not wish.done:
            return False
    return True


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():  # else its check was cancelled
        woken.set_result(None)
