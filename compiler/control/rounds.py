"""Rounds: something takes its turn each second in a thread of its own, while the lease is held."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

import structlog
from prometheus_client import Counter

from compiler.control.lease import Lease, LeaseLostError
from compiler.diagnostic import PlanError
from compiler.publication.publisher import LostRaceError
from compiler.refusal import Refused
from gateway.errors import FormatError, StoreError

TURN_SECONDS = 1.0

_LATER = (StoreError, FormatError, PlanError, Refused)

log = structlog.get_logger()


class Turning(Protocol):
    """What takes turns; it is made anew whenever the lease was lost."""

    def turn(self) -> None:
        """Raise LeaseLostError, StoreError, FormatError, PlanError or Refused, or be done."""


class Rounds:
    """The rounds of one that turns; `began` is when its last one did, by the monotonic clock."""

    def __init__(
        self,
        name: str,
        make: Callable[[], Turning],
        lease: Lease,
        over: threading.Event,
        failures: Counter,
        notice: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`name` is for the log; `notice` hears when the lease has come, and when it is gone."""
        self._name = name
        self._make = make
        self._lease = lease
        self._over = over
        self._failures = failures
        self._notice = notice
        self._turning = make()
        self._active = False
        self._said = ""
        self.began = time.monotonic()

    def run(self) -> None:
        """Turn until it is over. An error that nobody foresaw ends the others, too."""
        try:
            while not self._over.is_set():
                self.began = time.monotonic()
                self._be(active=self._lease.held())
                if self._active:
                    self._turn()
                self._over.wait(max(0.0, TURN_SECONDS - (time.monotonic() - self.began)))
        finally:
            self._over.set()

    def _turn(self) -> None:
        try:
            self._turning.turn()
        except LeaseLostError:
            self._be(active=False)
        except LostRaceError as fault:
            why = str(fault).partition("\n")[0]
            log.info("another was faster, so it is tried again", work=self._name, why=why)
        except _LATER as fault:
            self._failures.inc()
            if str(fault) != self._said:  # once, not each second
                log.exception("a look failed", work=self._name, why=str(fault))
            self._said = str(fault)
        else:
            if self._said:
                log.info("looks succeed again", work=self._name)
            self._said = ""

    def _be(self, *, active: bool) -> None:
        """Begin afresh when the lease is gone: what was read may be old when it is held again."""
        if active == self._active:
            return
        self._active = active
        self._notice(active)
        if not active:
            self._turning = self._make()
