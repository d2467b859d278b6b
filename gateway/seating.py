"""Seats of time windows: what a check may ask for, and the script that gives them. Pure.

A window's record is a hash in Redis, which a publication makes (see keys.py for the names):

    state    open; frozen or thawed: who sits stays, nobody else is seated; paused, ended: nobody
             has a seat
    first    how many subjects may be seated in all
    until    Unix seconds: nobody is seated from then on
    starts   Unix seconds where the pace is linear, else empty
    by       user or subject: whose hashes the seats are
    shards   over how many sets the seats are spread; 0: of a frozen window, and dropped
    sets     the number in the names of these sets: the microsecond when they were begun
    seated   how many seats there are

A seat is the 64-bit hash of its subject, written as a signed number, so that Redis keeps a set of
up to 512 of them as packed integers. Hash h lies in shard (h * shards) >> 64.

The script is atomic, and nothing of a window is decided elsewhere: not by a gateway, whose plan
may be old, nor by its clock. It makes no record: where Redis has lost one, nobody is seated.
"""

import hashlib
from typing import NamedTuple

from gateway.keys import Keys

SEATS_A_SHARD = 256
"""Meant on average, so that hardly any set grows beyond the 512 that Redis packs."""

OPEN, FROZEN, THAWED = "open", "frozen", "thawed"

NO_SEAT, LOST = 0, -1

# KEYS: the records of the windows, the strongest first. ARGV: of each window the seat, the high
# half of its hash, and `take`, `try` (as a dry run: without a write) or `look` (only at who sits
# there). Gives the place of the first window that has, or gives, the seat; 0 when none does, and -1
# when besides a record was missing. All arithmetic is on whole numbers below 2^53, of which
# quotients differ by more than a rounding.
SCRIPT = """
local now = tonumber(redis.call('TIME')[1])
local none = 0
for at, key in ipairs(KEYS) do
  local found = redis.call(
    'HMGET', key, 'state', 'shards', 'first', 'seated', 'until', 'starts', 'sets')
  local state, shards = found[1], tonumber(found[2])
  if not state then none = -1 end
  if (state == 'open' or state == 'frozen' or state == 'thawed') and shards > 0 then
    local seat, half, mode = ARGV[3 * at - 2], tonumber(ARGV[3 * at - 1]), ARGV[3 * at]
    local shard = string.format('%d', math.floor(half * shards / 4294967296))
    local seats = key .. ':' .. found[7] .. '.' .. shard
    if redis.call('SISMEMBER', seats, seat) == 1 then return at end
    local limit, over = tonumber(found[3]), tonumber(found[5])
    local starts = tonumber(found[6])
    if starts and now < over then
      local whole = limit * (now - starts + 1) + (over - starts) - 1
      limit = math.max(0, math.min(limit, math.floor(whole / (over - starts))))
    end
    if mode ~= 'look' and state == 'open' and now < over and tonumber(found[4]) < limit then
      if mode == 'take' then
        redis.call('SADD', seats, seat)
        redis.call('HINCRBY', key, 'seated', 1)
      end
      return at
    end
  end
end
return none
"""
SCRIPT_SHA1 = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Place(NamedTuple):
    """A seat that a check may have: in which release's window, its rank, and whose hash it is.

    `takes` is False for a client that has the package already: it may sit there, but takes none.
    """

    release: str
    rank: int
    hashed: int
    takes: bool


class Ask(NamedTuple):
    """The windows of one app that a check may sit in, the strongest first, at least one."""

    app: str
    places: tuple[Place, ...]


def seat_of(hashed: int) -> int:
    """Give the signed number that is the seat of a hash."""
    return hashed - (1 << 64) if hashed >> 63 else hashed


def shard_count(first: int) -> int:
    """Choose over how many sets so many seats are spread."""
    return -(-first // SEATS_A_SHARD)


def arguments(keys: Keys, ask: Ask, *, dry_run: bool) -> list[str | int]:
    """Give what follows EVAL SCRIPT (or EVALSHA): the count of keys, the keys, and the rest."""
    found: list[str | int] = [len(ask.places)]
    found += [keys.window(ask.app, place.release) for place in ask.places]
    for place in ask.places:
        mode = "look" if not place.takes else "try" if dry_run else "take"
        found += (seat_of(place.hashed), place.hashed >> 32, mode)
    return found
