"""Saying that this gateway is here, under a key that expires, so that a push can wait for all.

    tg:W:gateway:<name>   {"name", "version", "formats", "epoch", "digest", "since", "why"}
    tg:W:gateways         the name, scored by this machine's clock (Unix seconds)

`epoch` is 0 and `digest` empty before the first epoch; `since` is when it was taken into service
(Unix seconds); `why` says why it is not the live one, "" if it is. The first key expires after 5 s.
Each worker of a gateway announces itself, as <name>-<slot>: one that died is followed under the
same name, so that no push waits for a ghost.
"""

import asyncio
import time
from contextlib import suppress
from typing import NoReturn

import orjson

from gateway import __version__, layout
from gateway.follower import Follower
from gateway.keys import Keys
from gateway.link import AsyncLink, RedisFault

EVERY_SECONDS = 1.0
EXPIRES_SECONDS = 5
WHY_CHARS = 500


class Announcer:
    """Announces one gateway; that Redis is away is the follower's to say."""

    def __init__(self, follower: Follower, link: AsyncLink, keys: Keys, name: str) -> None:
        self._follower = follower
        self._link = link
        self._keys = keys
        self._name = name

    async def run(self) -> NoReturn:
        """Announce every second, and at once after a swap or a refusal."""
        while True:
            self._follower.swapped.clear()
            with suppress(*RedisFault):
                await self._link.set(
                    self._keys.gateway(self._name), self._says(), ex=EXPIRES_SECONDS
                )
                await self._link.zadd(self._keys.gateways, {self._name: time.time()})
            with suppress(TimeoutError):
                await asyncio.wait_for(self._follower.swapped.wait(), EVERY_SECONDS)

    def step_aside(self) -> None:
        """Leave the name to a successor: until the end, this gateway has one of its own."""
        self._name += "-leaving"
        self._follower.swapped.set()  # says so at once

    async def withdraw(self) -> None:
        """Say goodbye, so that no push waits for a gateway that has stopped."""
        with suppress(*RedisFault):
            await self._link.delete(self._keys.gateway(self._name))
            await self._link.zrem(self._keys.gateways, self._name)

    def _says(self) -> bytes:
        served = self._follower.snapshot
        return orjson.dumps(
            {
                "name": self._name,
                "version": __version__,
                "formats": list(layout.FORMATS),
                "epoch": 0 if served is None else served.number,
                "digest": "" if served is None else served.digest.hex(),
                "since": round(self._follower.activated, 3),
                "why": self._follower.why[:WHY_CHARS],
            }
        )
