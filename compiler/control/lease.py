"""The lease: of the controllers that run, Redis lets one be active.

It expires LEASE_SECONDS after it was taken or renewed last, by Redis's clock. Its holder counts
from before it asked, and stops MARGIN_SECONDS sooner, so that it has stopped acting before another
one can take the lease: also when Redis does not answer, and when it was itself stopped meanwhile.

What no lease can prevent is that the holder is stopped between its last look at the clock and what
it does then, or that a failover loses the lease. So whatever a controller does may also be done
twice or too late: an epoch is published only onto the one that it was made for.
"""

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from gateway.errors import TidegateError
from gateway.link import RedisFault, SyncLink

LEASE_SECONDS = 3.0
RENEW_SECONDS = 0.5
MARGIN_SECONDS = 0.5

# Taking and renewing are one script, so that a client which repeats an unanswered command is right.
_KEEP = """
local holder = redis.call('GET', KEYS[1])
if not holder then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
elseif holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  return 0
end
return 1
"""
_GIVE_BACK = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class LeaseLostError(TidegateError):
    """Another controller may be active by now: what was begun is left as it is."""

    def __init__(self) -> None:
        super().__init__("The lease was lost; the work is left to who holds it now.")


class Lease:
    """One controller's hold on the lease; may be kept in one thread and asked in another."""

    def __init__(
        self,
        link: SyncLink,
        key: str,
        *,
        seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link: Any = link  # redis-py's types leave open whether a call is awaited
        self._key = key
        self._seconds = seconds
        self._clock = clock
        self._until = 0.0
        self.holder = secrets.token_hex(8)

    def keep(self) -> None:
        """Take the lease or renew it, if no other has it. What Redis does not answer is no gain."""
        began = self._clock()
        try:
            kept = self._link.eval(_KEEP, 1, self._key, self.holder, int(self._seconds * 1000))
        except RedisFault:
            return
        self._until = began + self._seconds - MARGIN_SECONDS if kept else 0.0

    def held(self) -> bool:
        """Tell whether no other controller can be active now."""
        return self._clock() < self._until

    def give_back(self) -> None:
        """Let another controller take it at once."""
        self._until = 0.0
        try:
            self._link.eval(_GIVE_BACK, 1, self._key, self.holder)
        except RedisFault:
            return  # it expires

    def keep_up(self, over: threading.Event, is_well: Callable[[], bool]) -> None:
        """Keep it until `over`, while its holder is well: one that hangs must lose it."""
        while True:
            if is_well():
                self.keep()
            if over.wait(RENEW_SECONDS):
                return
