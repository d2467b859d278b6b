"""Time windows that were found full or over: who sits there, remembered for seconds. Pure.

Where nobody else can be seated, who sits there is all there is to know. So the script tells of
such a window, with its answer, everybody in the one set where the seat that was asked for would
lie, and until that is old none whose seat would lie there is asked for: neither a stranger nor
one who was seated through another gateway. A window of N seats so costs at most N / 256 asks in
CLOSED_SECONDS, however many come. For good it becomes a list, at the next publication.

What was told holds for seconds only, as Redis may be told meanwhile that more are to be seated.
"""

from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Sequence

from gateway.seating import NOBODY, Ask, seat_of, shard_of

CLOSED_SECONDS = 5.0

REMEMBERED_SETS = 4_096
"""Some 9 MB; of a million seats."""

_Name = tuple[str, str]


class ClosedWindows:
    """Sets of seats by app, release and number, the oldest first."""

    __slots__ = ("_shards", "_told")

    def __init__(self) -> None:
        self._shards: dict[_Name, int] = {}
        self._told: OrderedDict[tuple[_Name, int], tuple[float, array[int]]] = OrderedDict()

    def clear(self) -> None:
        """Forget all."""
        self._shards.clear()
        self._told.clear()

    def find(self, ask: Ask, now: float) -> int | None:
        """Give the rank of the seat, or NOBODY; None when Redis must be asked.

        `now` is in seconds of the clock that `tell` is given.
        """
        for place in ask.places:
            name = ask.app, place.release
            shards = self._shards.get(name)
            if shards is None:
                return None
            told = self._told.get((name, shard_of(place.hashed, shards)))
            if told is None or told[0] <= now:
                return None
            seats = told[1]
            seat = seat_of(place.hashed)
            at = bisect_left(seats, seat)
            if at < len(seats) and seats[at] == seat:
                return place.rank
        return NOBODY

    def tell(self, ask: Ask, told: Sequence[Sequence[int]], now: float) -> None:
        """Take what the script told of the windows of an ask; see seating.closed_in."""
        for at, shards, *seats in told:
            place = ask.places[at - 1]
            name = ask.app, place.release
            if self._shards.get(name) != shards:
                self._forget(name)
                self._shards[name] = shards
            key = name, shard_of(place.hashed, shards)
            self._told.pop(key, None)
            if len(self._told) >= REMEMBERED_SETS:
                self._told.popitem(last=False)
            self._told[key] = now + CLOSED_SECONDS, array("q", sorted(seats))

    def _forget(self, name: _Name) -> None:
        for key in [key for key in self._told if key[0] == name]:
            del self._told[key]
