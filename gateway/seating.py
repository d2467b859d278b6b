"""Seats of time windows: what a check may ask for, and the script that gives them. Pure.

A window's record is a hash in Redis, which a publication makes (see keys.py for the names):

    state    open; frozen or thawed: who sits stays, nobody else is seated; paused, ended: nobody
             has a seat
    first    how many subjects may be seated in all
    until    Unix seconds: nobody is seated from then on
    starts   Unix seconds where the pace is linear, else empty
    by       user or subject: whose hashes the seats are
    shards   over how many sets the seats are spread; 0: they were dropped, as the window was frozen
             and so in the epoch; one that is open again without them counts as lost
    sets     the number in the names of these sets: the microsecond when they were begun
    seated   how many seats there are

A seat is the 64-bit hash of its subject, written as a signed number, so that Redis keeps a set of
up to 512 of them as packed integers. Hash h lies in shard ((h >> 32) * shards) >> 32.

The script is atomic, and nothing of a window is decided elsewhere: not by a gateway, whose plan
may be old, nor by its clock. It makes no record: where Redis has lost one, nobody is seated.
"""

import hashlib
from typing import Any, NamedTuple

from gateway.keys import Keys

SEATS_A_SHARD = 256
"""Meant on average, so that hardly any set grows beyond the 512 that Redis packs."""

OPEN, FROZEN, THAWED = "open", "frozen", "thawed"

NOBODY = -1
"""No release's rank: the client sits in none of the windows."""

NO_SEAT, LOST = 0, -1

NOT_WRITTEN = -2

TOLD_SHARDS = 4_096
"""Of a closed window with more sets than this nothing is told: see closed_windows.py."""

# KEYS: the records of the windows, the strongest first. ARGV: of each window the seat, the high
# half of its hash, and `take`, `try` (as a dry run: without a write) or `look` (only at who sits
# there); then over how many sets a closed window may be spread to be told, 0 for none. Gives the
# place of the first window that has, or gives, the seat; or 0 when none does, -1 when besides a
# record was missing, -2 when besides Redis did not write: it is out of memory, or a replica. All
# arithmetic is on whole numbers below 2^53, of which quotients differ by more than a rounding.
#
# A window is closed when it is full, over or frozen. If one that may be told was looked at, the
# answer is a list: what else it would be, and for each such window a list of its place, its count
# of sets, and who sits in the one set where the seat would lie.
SCRIPT = """
local now = tonumber(redis.call('TIME')[1])
local most = tonumber(ARGV[3 * #KEYS + 1])
local none, told = 0, {}
local function answer(place)
  if #told == 0 then return place end
  table.insert(told, 1, place)
  return told
end
for at, key in ipairs(KEYS) do
  local found = redis.call(
    'HMGET', key, 'state', 'shards', 'first', 'seated', 'until', 'starts', 'sets')
  local state, shards = found[1], tonumber(found[2])
  if not state or (shards == 0 and (state == 'open' or state == 'thawed')) then
    none = -1
  elseif (state == 'open' or state == 'frozen' or state == 'thawed') and shards > 0 then
    local seat, half, mode = ARGV[3 * at - 2], tonumber(ARGV[3 * at - 1]), ARGV[3 * at]
    local shard = string.format('%d', math.floor(half * shards / 4294967296))
    local seats = key .. ':' .. found[7] .. '.' .. shard
    local limit, over = tonumber(found[3]), tonumber(found[5])
    local seated, starts = tonumber(found[4]), tonumber(found[6])
    if shards <= most and state ~= 'thawed'
      and (state == 'frozen' or seated >= limit or now >= over) then
      local members = redis.pcall('SMEMBERS', seats)
      if not members.err then
        table.insert(told, {at, shards, unpack(members)})
      end
    end
    if redis.call('SISMEMBER', seats, seat) == 1 then return answer(at) end
    if starts and now < over then
      local whole = limit * (now - starts + 1) + (over - starts) - 1
      limit = math.max(0, math.min(limit, math.floor(whole / (over - starts))))
    end
    if mode ~= 'look' and state == 'open' and now < over and seated < limit then
      if mode ~= 'take' then return answer(at) end
      local added = redis.pcall('SADD', seats, seat)
      if type(added) == 'number' then
        redis.call('HINCRBY', key, 'seated', 1)
        return answer(at)
      end
      none = -2
    end
  end
end
return answer(none)
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


def shard_of(hashed: int, shards: int) -> int:
    """Tell in which of so many sets a seat lies."""
    return (hashed >> 32) * shards >> 32


def arguments(keys: Keys, ask: Ask, *, dry_run: bool, told: int = 0) -> list[str | int]:
    """Give what follows EVAL SCRIPT (or EVALSHA): the count of keys, the keys, and the rest.

    Closed windows of up to `told` sets are to be told; without, the answer is a number.
    """
    found: list[str | int] = [len(ask.places)]
    found += [keys.window(ask.app, place.release) for place in ask.places]
    for place in ask.places:
        mode = "look" if not place.takes else "try" if dry_run else "take"
        found += (seat_of(place.hashed), place.hashed >> 32, mode)
    found.append(told)
    return found


def closed_in(answer: Any) -> tuple[Any, list[list[int]]]:
    """Split the script's answer: the number, and of each closed window place, sets and seats."""
    if not isinstance(answer, list):
        return answer, []
    number, *told = answer
    return number, [[*each[:2], *map(int, each[2:])] for each in told]
