"""The sums that all gateways keep together in Redis: reports every second, the census every ten.

It has a connection of its own, and no check waits for it. When Redis is away, reports wait within
the tally's bound, and the census in full.

Each attempt begins with what may be repeated without harm: the names of apps, and the subjects,
which a HyperLogLog counts once. While Redis is away, or short of memory, that fails and nothing is
lost. Numbers follow, which must not be added twice: they are sent once, and forgotten however that
ends. So a number is lost, never doubled, when Redis or the gateway goes away in between. (On a
Cluster, what a moved slot has refused is sent again; that is no second time.)

Of a release with a guardrail the subjects are counted by the minute, too, that of their adding.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from gateway.keys import CENSUS_DAYS, GUARD_SECONDS, REPORTS_DAYS, Keys
from gateway.link import AsyncLink, RedisFault
from gateway.metrics import Metrics
from gateway.tally import Reported

REPORTS_SECONDS = 1.0
CENSUS_TURNS = 10
BATCH_ENTRIES = 1_000
"""Subjects or numbers that one pipeline carries: the event loop packs them in 2 ms or so."""

DAY_SECONDS = 86_400

GUARDED = ("installed", "failed")
"""The events that a guardrail compares."""

_ADD = """
for at = 2, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[at], ARGV[at + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""

Command = tuple[Any, ...]


class Sums:
    """Adds what one process counts."""

    def __init__(
        self,
        link: AsyncLink,
        keys: Keys,
        metrics: Metrics,
        has_guardrail: Callable[[str, str], bool] = lambda _app, _release: False,
    ) -> None:
        """Use a link that sends everything once; ask `has_guardrail` of an app and a release."""
        self._link: Any = link  # redis-py's types leave open whether a call is awaited
        self._keys = keys
        self._metrics = metrics
        self._has_guardrail = has_guardrail
        self._over = asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Add for ever, and once more when told to finish."""
        turn = 0
        while not self._over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), REPORTS_SECONDS)
            turn += 1
            await self.add_reports()
            if turn % CENSUS_TURNS == 0 or self._over.is_set():
                await self.add_census()
        self._ended.set()

    async def finish(self, seconds: float) -> None:
        """Add what is left, within so many seconds; `run` must be under way."""
        self._over.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    async def close(self) -> None:
        """Let go of Redis."""
        await self._link.aclose()

    async def add_reports(self) -> None:
        """Add the reports that wait, or keep them while Redis is away."""
        tally = self._metrics.tally
        taken = tally.take_reported()
        if not taken:
            return
        try:
            await self._send(self._subjects(taken))
        except RedisFault:
            self._metrics.sum_failures += 1
            tally.restore(taken)
            return
        tally.let_go(taken)
        numbers: dict[str, dict[str, int]] = {}
        for (app, release, event), heard in taken.items():
            numbers.setdefault(self._keys.reports_of(app), {})[f"{release}:{event}"] = heard.times
        await self._add(numbers, REPORTS_DAYS)

    async def add_census(self) -> None:
        """Add the census that waits, or keep it while Redis is away."""
        tally = self._metrics.tally
        self._metrics.sort_out()
        taken = tally.take_census()
        if not taken:
            return
        day = time.strftime("%Y%m%d", time.gmtime())
        try:
            apps = {app for app, _ in taken}
            await self._send(_names(self._keys.census(day), apps, CENSUS_DAYS))
        except RedisFault:
            self._metrics.sum_failures += 1
            tally.restore_census(taken)
            return
        numbers: dict[str, dict[str, int]] = {}
        for (app, version), times in taken.items():
            numbers.setdefault(self._keys.census_of(day, app), {})[version] = times
        await self._add(numbers, CENSUS_DAYS)

    def _subjects(self, reported: Reported) -> Iterator[Command]:
        yield from _names(self._keys.reports, {place.app for place in reported}, REPORTS_DAYS)
        minute = int(time.time()) // 60
        for place, heard in reported.items():
            app, release, event = place
            keys = {self._keys.subjects_of(*place): REPORTS_DAYS * DAY_SECONDS}
            if event in GUARDED and self._has_guardrail(app, release):
                keys[self._keys.guard(app, release, event, minute)] = GUARD_SECONDS
            for key, seconds in keys.items() if heard.subjects else ():
                for some in _cut(heard.subjects):
                    yield ("PFADD", key, *some)
                yield ("EXPIRE", key, seconds)

    async def _add(self, numbers: dict[str, dict[str, int]], days: int) -> None:
        """Add numbers to the fields of hashes, at most once."""
        seconds = days * DAY_SECONDS
        try:
            await self._send(
                ("EVAL", _ADD, 1, key, seconds, *(part for field in some for part in field))
                for key, fields in numbers.items()
                for some in _cut(fields.items())
            )
        except RedisFault:
            self._metrics.sum_failures += 1

    async def _send(self, commands: Iterable[Command]) -> None:
        """Send commands of one key each, in pipelines of bounded size."""
        pipeline = self._link.pipeline(transaction=False)
        size = 0
        for command in commands:
            pipeline.execute_command(*command)
            size += len(command)
            if size >= BATCH_ENTRIES:
                await pipeline.execute()
                size = 0
        await pipeline.execute()


def _names(key: str, names: Iterable[str], days: int) -> Iterator[Command]:
    for some in _cut(names):
        yield ("SADD", key, *some)
    yield ("EXPIRE", key, days * DAY_SECONDS)


def _cut(items: Iterable[Any]) -> Iterator[list[Any]]:
    source = iter(items)
    while some := list(islice(source, BATCH_ENTRIES)):
        yield some
