"""The records of time windows in Redis, and their seats, for the commands; see gateway/seating.py.

Every call is of one record and the sets beside it, which share a hash tag, so that one server and
a Cluster are served by the same code. Nothing here decides what a record should say: windows.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compiler.progress import Progress, quiet
from compiler.publication.mirror import Mirror, batches
from compiler.windows import SUBJECT, USER
from gateway import layout
from gateway.seating import SCRIPT, Ask, Place, arguments, shard_count

if TYPE_CHECKING:  # numpy is imported where it is used, as in compiler/windows.py
    from compiler.windows import Hashes

_RECORDS_AT_ONCE = 1_000
_SETS_AT_ONCE = 256
_SEATS_AT_ONCE = 20_000
_MICROSECONDS = 1_000_000
_YOUNG_SECONDS = 3_600
"""Sets that no record names may be those of a thaw on its way."""

_TIME = "return redis.call('TIME')"

_FIELDS = ("state", "first", "until", "starts", "by", "shards", "sets", "seated")

# Never makes a record. ARGV: what `state`, `sets` and `seated` must be (or empty), then fields and
# values. Gives how many seats there are, -1 when there is no record or one of another state or
# other sets; nothing was written unless `seated` is as wanted.
_CHANGE = """
local found = redis.call('HMGET', KEYS[1], 'state', 'sets', 'seated')
if not found[1] then return -1 end
for at = 1, 2 do
  if ARGV[at] ~= '' and found[at] ~= ARGV[at] then return -1 end
end
if ARGV[3] == '' or found[3] == ARGV[3] then
  redis.call('HSET', KEYS[1], unpack(ARGV, 4))
end
return tonumber(found[3])
"""

_MAKE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
"""


@dataclass(frozen=True, slots=True)
class SeatRecord:
    """A window's record; `now` is Redis's second just before it was read."""

    state: str
    first: int
    until: int
    starts: int | None
    by: str
    shards: int
    sets: int
    seated: int
    now: int

    @property
    def is_closed(self) -> bool:
        """Tell whether it seats nobody else: it is full or over."""
        return self.seated >= self.first or self.now >= self.until

    @property
    def has_sets(self) -> bool:
        """Tell whether its seats are in Redis: not once `gc` has dropped those of a frozen one."""
        return self.shards > 0


def limits_of(window: layout.Window) -> dict[str, str | int]:
    """Give the fields of a record that a plan says; not its state."""
    return {
        "first": window["first"],
        "until": window["until"],
        "starts": "" if window["starts"] is None else window["starts"],
        "by": USER if window["by_user"] else SUBJECT,
    }


@dataclass(frozen=True, slots=True)
class SeatRecords:
    """All windows of a workspace, by app and release. Every method raises StoreError."""

    mirror: Mirror

    def read(self, app: str, release: str) -> SeatRecord | None:
        """Read a record; None where there is none."""
        return self.read_many([(app, release)])[app, release]

    def read_many(
        self, windows: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str], SeatRecord | None]:
        """Read the records of windows by (app, release), a thousand in one round trip."""
        found: dict[tuple[str, str], SeatRecord | None] = {}
        for batch in batches(windows, _RECORDS_AT_ONCE):
            now = self.mirror.now()
            rows = self.mirror.pipeline(("HMGET", self._key(*each), *_FIELDS) for each in batch)
            found.update((each, _record(row, now)) for each, row in zip(batch, rows, strict=True))
        return found

    def make(self, app: str, release: str, window: layout.Window, state: str, seated: int) -> bool:
        """Make a record where there is none; tell whether it did."""
        fields = limits_of(window) | {
            "state": state,
            "shards": shard_count(window["first"]),
            "sets": self.fresh(),
            "seated": seated,
        }
        return bool(self.mirror.script(_MAKE, self._key(app, release), *_flat(fields)))

    def change(
        self,
        app: str,
        release: str,
        fields: dict[str, str | int],
        *,
        state: str = "",
        sets: int | None = None,
        seated: int | None = None,
    ) -> int:
        """Change fields of a record that is there; give how many seats it has, -1: none is there.

        With `state` or `sets`, a record of another state or other sets counts as none. With
        `seated`, nothing is changed if it has another number of seats.
        """
        wanted = (state, *("" if each is None else str(each) for each in (sets, seated)))
        said = self.mirror.script(_CHANGE, self._key(app, release), *wanted, *_flat(fields))
        return int(said)

    def would_sit(self, app: str, release: str, hashed: int, *, takes: bool) -> bool:
        """Tell whether a hash sits in a window, or would if it came and `takes` a seat."""
        place = Place(release, 0, hashed, takes)
        _, key, *rest = arguments(self.mirror.keys, Ask(app, (place,)), dry_run=True)
        return int(self.mirror.script(SCRIPT, str(key), *rest)) > 0

    def seats(
        self, app: str, release: str, record: SeatRecord, progress: Progress = quiet
    ) -> "Hashes":
        """Gather the seats, in pieces and in no order."""
        import numpy as np  # noqa: PLC0415

        found, count = [np.empty(0, np.uint64)], 0
        for names in batches(self._sets(app, release, record), _SETS_AT_ONCE):
            for members in self.mirror.pipeline(("SMEMBERS", name) for name in names):
                seats = np.fromiter(map(int, members), np.int64, len(members))
                found.append(seats.view(np.uint64))
                count += len(seats)
            progress("windows: seats read", count, record.seated)
        return np.concatenate(found)

    def fresh(self) -> int:
        """Give a number that no sets have yet: Redis's microsecond."""
        seconds, rest = self.mirror.script(_TIME, self.mirror.keys.live)
        return int(seconds) * _MICROSECONDS + int(rest)

    def fill(self, app: str, release: str, hashes: "Hashes", shards: int, sets: int) -> None:
        """Write seats into sets that nobody uses yet."""
        import numpy as np  # noqa: PLC0415

        half = np.uint64(32)
        places = ((hashes >> half) * np.uint64(shards)) >> half
        order = np.argsort(places, kind="stable")
        seats, places = hashes[order].view(np.int64), places[order]
        for start in range(0, len(seats), _SEATS_AT_ONCE):
            part = slice(start, start + _SEATS_AT_ONCE)
            found: dict[int, list[int]] = {}
            for place, seat in zip(places[part].tolist(), seats[part].tolist(), strict=True):
                found.setdefault(place, []).append(seat)
            name = self.mirror.keys.seats
            self.mirror.pipeline(
                ("SADD", name(app, release, sets, place), *each) for place, each in found.items()
            )

    def drop(self, app: str, release: str, record: SeatRecord) -> int:
        """Delete the sets of a record that no longer names them; give how many keys went."""
        return self.mirror.delete_many(self._sets(app, release, record))

    def forget(self, app: str, release: str) -> None:
        """Delete a record."""
        self.mirror.delete_many([self._key(app, release)])

    def every(self) -> dict[tuple[str, str], set[str]]:
        """Name all windows of which Redis has a record or seats, and their sets."""
        keys = self.mirror.keys
        found: dict[tuple[str, str], set[str]] = {}
        for key in self.mirror.scan(keys.windows):
            app, release = keys.window_of(key)
            sets = found.setdefault((app, release), set())
            if key != keys.window(app, release):
                sets.add(key)
        return found

    def drop_orphans(self, sets: set[str], record: SeatRecord | None, *, dry_run: bool) -> int:
        """Delete those of a window's sets that its record does not name, once they are old."""
        named = record.sets if record is not None else None
        oldest = self.fresh() - _YOUNG_SECONDS * _MICROSECONDS
        found = [key for key in sets if _number(key) != named and _number(key) < oldest]
        return len(found) if dry_run else self.mirror.delete_many(found)

    def _key(self, app: str, release: str) -> str:
        return self.mirror.keys.window(app, release)

    def _sets(self, app: str, release: str, record: SeatRecord) -> Iterator[str]:
        name = self.mirror.keys.seats
        return (name(app, release, record.sets, shard) for shard in range(record.shards))


def _record(row: Sequence[bytes | None], now: int) -> SeatRecord | None:
    texts = [each.decode() for each in row if each is not None]
    if len(texts) < len(row):
        return None
    state, first, until, starts, by, shards, sets, seated = texts
    return SeatRecord(
        state,
        int(first),
        int(until),
        int(starts) if starts else None,
        by,
        int(shards),
        int(sets),
        int(seated),
        now,
    )


def _number(key: str) -> int:
    """Read the number out of the name of a set; see keys.py."""
    return int(key.rpartition(":")[2].partition(".")[0])


def _flat(fields: dict[str, str | int]) -> list[str | int]:
    return [each for pair in fields.items() for each in pair]
