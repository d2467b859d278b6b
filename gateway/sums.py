"""The sums that all gateways keep together in Redis: reports every second, others every ten.

It has a connection of its own, and no check waits for it. When Redis is away, reports wait within
the tally's bound, and the census in full.

Each attempt begins with what may be repeated without harm: the names of apps, and the subjects,
which a HyperLogLog counts once. While Redis is away, or short of memory, that fails and nothing is
lost. Numbers follow, which must not be added twice: they are sent once, and forgotten however that
ends. So a number is lost, never doubled, when Redis or the gateway goes away in between. (On a
Cluster, what a moved slot has refused is sent again; that is no second time.)

The others are the census, and the reach: whom each release was offered to, as HyperLogLogs that
Redis merges (sketch.py), as there are too many subjects in a storm to send each of them.

A key that holds something else costs the sums of that key, and no other. Distinct subjects are
counted of SUBJECT_PLACES places at once: one that was told of before goes on; a new one, when there
are so many, takes the place of the one that was silent longest, if that is a day or more, and else
counts by number alone.

Of a release with a guardrail some are counted apart, by the minute of their adding (guarding.py).
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import structlog

from gateway.guarding import Guarding
from gateway.keys import CENSUS_DAYS, REACH_DAYS, REPORTS_DAYS, Keys
from gateway.link import AsyncLink, RedisFault
from gateway.metrics import Metrics
from gateway.report import Place
from gateway.sketch import Sketch
from gateway.tally import Heard

REPORTS_SECONDS = 1.0
OTHER_TURNS = 10
BATCH_ENTRIES = 1_000
"""Subjects or numbers that one pipeline carries: the event loop packs them in 2 ms or so."""

BATCH_SKETCHES = 16
"""Sketches in one pipeline, of 12 KB: 2 ms for the event loop, and as much for Redis."""

DAY_SECONDS = 86_400

SUBJECT_PLACES = 10_000
"""Triples of app, release and event whose distinct subjects are counted: in Redis 14 KiB each."""

PLACES_AT_ONCE = 200
"""Places that one script looks after: Redis does nothing else meanwhile, for some 0.5 ms."""

NAMED = 100
"""Spoiled keys that are named in the log, once each."""

_SPOILED = ("WRONGTYPE", "INVALIDOBJ", "not an integer", "would overflow")
"""What Redis says when a key does not hold what it should; all else holds for every key."""

_ADMIT = """
local key, now, limit, idle = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local refused, gone = {}, {}
for at = 5, #ARGV do
    local place = ARGV[at]
    if not redis.call('ZSCORE', key, place) and redis.call('ZCARD', key) >= limit then
        local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
        if tonumber(oldest[2]) > now - idle then
            refused[#refused + 1] = place
            place = nil
        else
            redis.call('ZREM', key, oldest[1])
            gone[#gone + 1] = oldest[1]
        end
    end
    if place then redis.call('ZADD', key, now, place) end
end
redis.call('EXPIRE', key, ARGV[4])
return {refused, gone}
"""

_ADD = """
for at = 2, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[at], ARGV[at + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""

_MERGE = """
redis.call('SET', KEYS[2], ARGV[2])
redis.call('PFMERGE', KEYS[1], KEYS[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
"""

Command = tuple[Any, ...]

log = structlog.get_logger()


class Sums:
    """Adds what one process counts."""

    def __init__(self, link: AsyncLink, keys: Keys, metrics: Metrics) -> None:
        """Use a link that sends everything once."""
        self._link: Any = link  # redis-py's types leave open whether a call is awaited
        self._keys = keys
        self._metrics = metrics
        self._named: set[str] = set()
        self._guarding = Guarding(self._send, keys, metrics.claims)
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
            await self.add_claims()
            if turn % OTHER_TURNS == 0 or self._over.is_set():
                await self.add_census()
                await self.add_reach()
        self._ended.set()

    async def finish(self, seconds: float) -> None:
        """Add what is left, within so many seconds; `run` must be under way."""
        failures = self._metrics.sum_failures
        self._over.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)
        if not self._ended.is_set() or self._metrics.sum_failures > failures:
            log.warning("Redis did not take what was counted last")

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
            await self._send(_names(self._keys.reports, {each.app for each in taken}, REPORTS_DAYS))
            for some in _cut(taken.items(), PLACES_AT_ONCE):
                await self._send(await self._subjects(some))
        except RedisFault:
            self._metrics.sum_failures += 1
            for some in _cut(taken.items()):
                tally.restore(dict(some))
                await asyncio.sleep(0)
            return
        numbers: dict[str, dict[str, int]] = {}
        for some in _cut(taken.items()):
            tally.let_go(dict(some))
            for (app, release, event), heard in some:
                fields = numbers.setdefault(self._keys.reports_of(app), {})
                fields[f"{release}:{event}"] = heard.times
            await asyncio.sleep(0)
        await self._add(numbers, REPORTS_DAYS)

    async def add_claims(self) -> None:
        """Count what was reported under guardrails, after noting what was offered."""
        try:
            await self._guarding.add(time.time())
        except RedisFault:
            self._metrics.sum_failures += 1

    async def add_census(self) -> None:
        """Add the census that waits, or keep it while Redis is away."""
        tally = self._metrics.tally
        self._metrics.sort_out()
        taken = tally.take_census()
        if not taken:
            return
        day = time.strftime("%Y%m%d", time.gmtime())
        numbers: dict[str, dict[str, int]] = {}
        for some in _cut(taken.items()):
            for (app, version), times in some:
                numbers.setdefault(self._keys.census_of(day, app), {})[version] = times
            await asyncio.sleep(0)
        apps = (key.rpartition(":")[2] for key in numbers)
        try:
            await self._send(_names(self._keys.census(day), apps, CENSUS_DAYS))
        except RedisFault:
            self._metrics.sum_failures += 1
            for some in _cut(taken.items()):
                tally.restore_census(dict(some))
                await asyncio.sleep(0)
            return
        finally:
            await _clear(taken)
        await self._add(numbers, CENSUS_DAYS)

    async def add_reach(self) -> None:
        """Merge the sketches that changed; those that Redis did not take stay changed."""
        self._metrics.sort_out()  # after which nobody adds to what the reach lets go
        for some in _cut(self._metrics.reach.take(), BATCH_SKETCHES):
            commands = [self._merge(*each) for each in some]
            for _, _, sketch in some:
                sketch.changed = False  # before Redis has it: checks go on meanwhile
            try:
                await self._send(commands)
            except RedisFault:
                self._metrics.sum_failures += 1
                for _, _, sketch in some:
                    sketch.changed = True
                return

    def _merge(self, app: str, release: str, sketch: Sketch) -> Command:
        key = self._keys.reach_of(app, release)
        return "EVAL", _MERGE, 2, key, f"{key}:new", REACH_DAYS * DAY_SECONDS, sketch.redis()

    async def _subjects(self, some: list[tuple[Place, Heard]]) -> list[Command]:
        """Write what adds the subjects of some places; of places beyond SUBJECT_PLACES, nothing."""
        heard = {self._keys.subjects_of(*place): each.subjects for place, each in some}
        wanted = [key for key, subjects in heard.items() if subjects]
        if not wanted:
            return []
        now = int(time.time())
        command = ("EVAL", _ADMIT, 1, self._keys.subjects, now, SUBJECT_PLACES, DAY_SECONDS)
        seconds = REPORTS_DAYS * DAY_SECONDS
        found = await self._send([(*command, seconds, *wanted)])
        if not found:
            return []
        refused, gone = ({key.decode() for key in keys} for keys in found[0])
        commands: list[Command] = [("UNLINK", key) for key in gone]
        for key in wanted:
            if key not in refused:
                commands += (("PFADD", key, *few) for few in _cut(heard[key]))
                commands.append(("EXPIRE", key, seconds))
        return commands

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
        await _clear(numbers)

    async def _send(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands of one key each, in pipelines of bounded size; give what Redis answered.

        A command whose key holds something else is counted, and has no answer. Raises RedisFault.
        """
        answers: list[Any] = []
        batch: list[Command] = []
        size = 0
        for command in commands:
            batch.append(command)
            size += len(command)
            if size >= BATCH_ENTRIES:
                answers += await self._execute(batch)
                batch, size = [], 0
        return answers + await self._execute(batch)

    async def _execute(self, batch: list[Command]) -> list[Any]:
        pipeline = self._link.pipeline(transaction=False)
        for command in batch:
            pipeline.execute_command(*command)
        told = await pipeline.execute(raise_on_error=False) if batch else []
        await asyncio.sleep(0)
        answers = []
        for command, answer in zip(batch, told, strict=True):
            if not isinstance(answer, Exception):
                answers.append(answer)
            elif any(mark in str(answer) for mark in _SPOILED):
                self._pass_over(command[3 if command[0] == "EVAL" else 1], str(answer))
            else:
                raise answer
        return answers

    def _pass_over(self, key: str, why: str) -> None:
        """Count a key that nothing can be added to, and name it once."""
        self._metrics.sum_failures += 1
        if key not in self._named and len(self._named) < NAMED:
            self._named.add(key)
            log.error("a sum in Redis is spoiled; delete its key", key=key, why=why)


async def _clear(counts: dict[Any, Any]) -> None:
    """Let go of counts: to free a hundred thousand at once takes milliseconds."""
    while counts:
        for _ in range(min(len(counts), BATCH_ENTRIES)):
            counts.popitem()
        await asyncio.sleep(0)


def _names(key: str, names: Iterable[str], days: int) -> Iterator[Command]:
    for some in _cut(names):
        yield ("SADD", key, *some)
    yield ("EXPIRE", key, days * DAY_SECONDS)


def _cut(items: Iterable[Any], size: int = BATCH_ENTRIES) -> Iterator[list[Any]]:
    source = iter(items)
    while some := list(islice(source, size)):
        yield some
