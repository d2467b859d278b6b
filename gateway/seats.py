"""Seats of time windows, asked in Redis: those of all checks of one moment in one round trip.

What is asked gathers (round_trips.py), a script call for each app of a check (seating.py). Who was
seated is remembered, and of a window that is full or over who is not (closed_windows.py). Nothing
here waits without bound and no exception reaches a check: where it could not be known in time
whether a client has a seat, it counts as not seated, and the next release wins. The seat may have
been taken all the same; it is the client's at its next check, and nobody else's.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from gateway.closed_windows import ClosedWindows
from gateway.keys import Keys
from gateway.link import AsyncLink
from gateway.metrics import Seatings
from gateway.reader import ROUND_TRIP_SECONDS
from gateway.round_trips import RoundTrips, called
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

FAILING = "seats of time windows cannot be asked; the next release wins"
WORKING = "seats of time windows can be asked again"

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
        if rank is not None:
            self.seats[app] = rank
        self._left -= 1
        self.done = not self._left
        if self.done and self._call is not None:
            call, self._call = self._call, None
            try:
                call()
            except Exception:
                log.exception("a check failed after its seats were asked")


@dataclass(slots=True)
class _Asked:
    """An ask that was put to Redis, and the wish that it is of; see round_trips.py."""

    wish: Wish
    ask: Ask
    done: bool = False


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
        self._limit = limit
        self._patience = max(ROUND_TRIP_SECONDS, timeout_seconds)
        self._trips = RoundTrips(
            self._begin, self._give, counts, timeout_seconds, BATCH, ROUND_TRIPS, FAILING, WORKING
        )
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
            elif self._waiting < self._limit and self._trips.ask(_Asked(wish, ask)):
                self._waiting += 1
            else:
                self._counts.refused += 1
                wish.give(ask.app, None)
        return wish

    async def seats(self, epoch: int, asks: Sequence[Ask], *, dry_run: bool) -> dict[str, int]:
        """Give the rank of the seat by app, for those that have one in time."""
        wish = self.begin(epoch, asks, dry_run=dry_run)
        if not wish.done:
            await called(wish.then)
        return wish.seats

    def learn(self, ask: Ask, told: Sequence[Sequence[int]]) -> None:
        """Remember who sits in closed windows; `told` is as seating.closed_in gives it."""
        self._closed.tell(ask, told, asyncio.get_running_loop().time())

    async def close(self) -> None:
        """Forget what is asked for, and close the connections."""
        self._trips.close()
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

    def _begin(self, batch: list[_Asked]) -> None:
        task = asyncio.get_running_loop().create_task(self._ask(batch))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _give(self, asked: _Asked, rank: int | None) -> None:
        if not asked.done:
            asked.done = True
            self._waiting -= 1
            asked.wish.give(asked.ask.app, rank)

    async def _ask(self, batch: list[_Asked]) -> None:
        values: Sequence[Any]
        try:
            async with asyncio.timeout(self._patience):
                values = await self._call("EVALSHA", SCRIPT_SHA1, batch)
                again = [at for at, each in enumerate(values) if isinstance(each, NoScriptError)]
                if again:  # the first one since this Redis started
                    told = await self._call("EVAL", SCRIPT, [batch[at] for at in again])
                    for at, value in zip(again, told, strict=True):
                        values[at] = value
        except Exception as fault:  # noqa: BLE001 - law 9: whatever it is, no check fails of it
            values = [fault] * len(batch)
        self._trips.came(batch, values)
        self._trips.ended()
        for asked, value in zip(batch, values, strict=True):
            self._give(asked, self._rank(asked.wish, asked.ask, value))

    async def _call(self, command: str, script: str, batch: Sequence[_Asked]) -> list[Any]:
        pipeline = self._link.pipeline(transaction=False)
        for each in batch:
            rest = arguments(self._keys, each.ask, dry_run=each.wish.dry_run, told=TOLD_SHARDS)
            pipeline.execute_command(command, script, *rest)
        found: list[Any] = await pipeline.execute(raise_on_error=False)
        return found

    def _rank(self, wish: Wish, ask: Ask, value: object) -> int | None:
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
            return None
        place = ask.places[value - 1]
        if not wish.dry_run and wish.epoch == self._epoch:
            if len(self._confirmed) >= CONFIRMED:
                self._confirmed.popitem(last=False)
            self._confirmed[ask.app, place.release, place.hashed] = None
        return place.rank

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
