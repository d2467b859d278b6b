"""Reports under a guardrail to their counts in Redis: only of those to whom it was offered lately.

For each release with a guardrail Redis holds the subjects whom it was offered to, by day (UTC), as
their 64-bit hashes in SHARDS sets; lately is today or yesterday, as phones ask at least daily. A
set of up to SHARD_SEATS is packed, 8 bytes a subject, and takes no more of them. So a day of one
release takes 22 MB at most, for 2 million subjects (measured: 0.7 MB for 10,000, 1.5 MB for
100,000, 9.5 MB for a million), and two days are there at once. Of made-up ids one in 4 * 10^12 is
taken for a subject that is held, when all sets are full.

A script notes offers, another one counts reports; both may be repeated without harm. When Redis is
away what does not fit into the claims' bounds is forgotten, and where it has lost what it had,
nothing counts until the release was offered again: a guardrail then stops nothing, and nothing
fails.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from itertools import islice
from typing import Any

from gateway.claims import Claims, Offered
from gateway.hashing import scaled
from gateway.keys import GUARD_SECONDS, Keys
from gateway.link import RedisFault
from gateway.report import Place
from gateway.seating import seat_of

SHARDS = 4_096
SHARD_SEATS = 512
"""What Redis packs unless told otherwise (set-max-intset-entries)."""

BATCH_SUBJECTS = 250
"""Subjects in one script: Redis does nothing else meanwhile, for 0.5 to 0.8 ms."""

DAY_SECONDS = 86_400

# KEYS[1]: the day's sets, without their numbers. ARGV: when they expire, how many one may hold,
# then of each subject its set and its seat.
_NOTE = """
for at = 3, #ARGV, 2 do
  local key = KEYS[1] .. '.' .. ARGV[at]
  local size = redis.call('SCARD', key)
  if size < tonumber(ARGV[2]) then
    redis.call('SADD', key, ARGV[at + 1])
    if size == 0 then redis.call('EXPIREAT', key, ARGV[1]) end
  end
end
"""

# KEYS: the count of this minute, the sets of today and of yesterday. Gives the places of those in
# neither.
_COUNT = """
local strangers = {}
for at = 2, #ARGV, 2 do
  local number, seat = '.' .. ARGV[at], ARGV[at + 1]
  if redis.call('SISMEMBER', KEYS[2] .. number, seat) == 1
      or redis.call('SISMEMBER', KEYS[3] .. number, seat) == 1 then
    redis.call('PFADD', KEYS[1], seat)
  else
    strangers[#strangers + 1] = at / 2 - 1
  end
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return strangers
"""

Command = tuple[Any, ...]
Send = Callable[[Iterable[Command]], Awaitable[list[Any]]]


class Guarding:
    """Sends one process's claims to Redis."""

    def __init__(self, send: Send, keys: Keys, claims: Claims) -> None:
        """`send` sends commands and gives what Redis answered; it raises RedisFault."""
        self._send = send
        self._keys = keys
        self._claims = claims

    async def add(self, now: float) -> None:
        """Note the offers, then count the reports, at a moment in Unix seconds.

        Raises RedisFault; what was not sent then waits within its bounds.
        """
        offers = list(self._claims.take_offers().items())
        reports = self._claims.take_reports()
        try:
            while offers:
                await self._note(*offers[-1], int(now) // DAY_SECONDS)
                offers.pop()
            while reports:
                left, place, subjects = reports[-1]
                strangers = await self._count(place, list(subjects), int(now))
                reports.pop()
                self._claims.ask_again(left, place, strangers)
        except RedisFault:
            for release, known in offers:
                for subject in known:
                    self._claims.offer(release, subject)
            for left, place, subjects in reports:  # which was no try
                self._claims.ask_again(left + 1, place, subjects)
            raise

    async def _note(self, release: Offered, subjects: Collection[int], day: int) -> None:
        key = self._keys.offered(*release, day)
        head = ("EVAL", _NOTE, 1, key, (day + 2) * DAY_SECONDS, SHARD_SEATS)
        await self._send((*head, *_seats(some)) for some in _cut(subjects))

    async def _count(self, place: Place, subjects: list[int], now: int) -> list[int]:
        """Count subjects, and give those to whom the release was not offered."""
        day = now // DAY_SECONDS
        keys = (
            self._keys.guard(*place, now // 60),
            self._keys.offered(place.app, place.release, day),
            self._keys.offered(place.app, place.release, day - 1),
        )
        strangers: list[int] = []
        for some in _cut(subjects):
            # Empty where the key is spoiled: then none of them is counted.
            told = await self._send([("EVAL", _COUNT, 3, *keys, GUARD_SECONDS, *_seats(some))])
            strangers += [some[int(at)] for at in (told[0] if told else ())]
        return strangers


def _seats(subjects: Iterable[int]) -> Iterator[int]:
    for subject in subjects:
        yield scaled(subject, SHARDS)
        yield seat_of(subject)


def _cut(subjects: Iterable[int]) -> Iterator[list[int]]:
    source = iter(subjects)
    while some := list(islice(source, BATCH_SUBJECTS)):
        yield some
