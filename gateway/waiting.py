"""What waits here: checks for Redis, and whatever has come for its turn of the event loop.

A gateway never queues without bound. When too many checks wait for Redis, or when turns take so
long that answers come late, it is overloaded: it answers 503 at once, until that is over.
"""

import asyncio
import time

TURN_SECONDS = 0.1


class Waiting:
    """One count for the quick and the ordinary path: with one each, twice as many would wait.

    `now` of at most `limit` checks wait for Redis; `late` tells whether the event loop is late.
    """

    __slots__ = ("late", "limit", "now")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.now = 0
        self.late = False

    def is_full(self) -> bool:
        """Tell whether one more must be refused."""
        return self.now >= self.limit


async def watch(waiting: Waiting, late_seconds: float) -> None:
    """Notice for ever when the event loop is late, by so much and twice in a row.

    Once may be a hiccup of the machine, after which all is well again.
    """
    before = False
    while True:
        due = time.monotonic() + TURN_SECONDS
        await asyncio.sleep(TURN_SECONDS)
        late = time.monotonic() - due > late_seconds
        waiting.late = late and before
        before = late
