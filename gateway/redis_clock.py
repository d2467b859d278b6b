"""How far Redis's clock is from this machine's.

Time windows go by Redis's clock, schedules and tokens by the gateway's: where the two differ, a
release starts at another moment than its window.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from gateway.link import AsyncLink, RedisFault

EVERY_SECONDS = 10.0
DOUBTFUL_SECONDS = 1.0
"""An answer that took longer says too little: half of that is the error."""


async def compare(link: AsyncLink) -> float | None:
    """Ask for the time: by how many seconds Redis is ahead, None when the answer was too slow.

    Of a Cluster's primaries it is the one that is farthest off. Raises RedisFault.
    """
    before = time.time()
    said: Any = await link.time()
    after = time.time()
    if not 0 <= after - before <= DOUBTFUL_SECONDS:
        return None
    told = said.values() if isinstance(said, dict) else [said]
    middle = (before + after) / 2
    ahead = [int(seconds) + int(micros) / 1e6 - middle for seconds, micros in told]
    return max(ahead, key=abs, default=None)


async def watch(link: AsyncLink, tell: Callable[[float], None]) -> NoReturn:
    """Compare for ever, and tell each time that there is something to tell."""
    while True:
        with suppress(*RedisFault):
            ahead = await compare(link)
            if ahead is not None:
                tell(ahead)
        await asyncio.sleep(EVERY_SECONDS)
