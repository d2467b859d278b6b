"""Upkeep: what a controller sets right each second while it holds the lease.

    1  Redis was emptied, set back or has lost blobs: it is filled from the store
    2  the records of time windows do not say for SETTLE_SECONDS what the epoch does, as somebody's
       push was killed: they are made to
    3  a time window is full or over: it is frozen, and works as a list from then on

Each may take a minute where there are millions of ids. So it has a thread of its own, beside the
watch over guardrails (watch.py): neither knows of the other, and whatever both publish at once is
settled as between two operators, by the pointer: the slower one has lost, and is tried again.
"""

import time
from collections.abc import Callable

import structlog

from compiler.control.counts import Counts
from compiler.control.lease import LeaseLostError
from compiler.control.workplace import Workplace
from compiler.publication import windows
from compiler.publication.epoch import Publication, mirrored_digests
from compiler.publication.freezing import freeze_due
from compiler.publication.live import is_behind, read_live
from compiler.publication.restore import restore

PROBED_BLOBS = 512
"""How many of the live epoch's blobs are looked for each second, in turn: a part of a Cluster may
be emptied, and leave the pointer."""

SETTLE_SECONDS = 60.0
"""How long records of windows are left to a push on its way, which writes ten million seats."""

log = structlog.get_logger()


class Upkeep:
    """Sets right at each `turn`; between two it remembers only what it can read again."""

    def __init__(self, place: Workplace, counts: Counts, may_act: Callable[[], bool]) -> None:
        """`may_act` tells whether the lease is held, and is asked before whatever is changed."""
        self._place = place
        self._counts = counts
        self._may_act = may_act
        self._mirror = place.mirror
        self._live: Publication | None = None
        self._blobs: list[str] = []
        self._probed = 0
        self._unsettled: tuple[float, object] = 0.0, None

    def turn(self) -> None:
        """Look at everything once, and set right what is not.

        Raises LeaseLostError, StoreError, FormatError, PlanError and Refused; the next turn tries
        again.
        """
        self._keep_filled()
        self._follow()
        if self._live is not None:
            self._settle(self._live)
            self._freeze(self._live)

    def _keep_filled(self) -> None:
        """Fill Redis from the store if it has lost what it had."""
        found, place = self._mirror.pointer(), self._place
        if found is not None and self._live is not None and found == self._live.pointer:
            if not self._lacks_blobs() or self._mirror.pointer() != found:
                return
        elif not is_behind(place.store, found):
            return
        self._go_on()
        began = time.monotonic()
        log.warning("redis has lost something, and is filled from the store")
        done = restore(
            store=place.store,
            link=place.link,
            workspace=place.workspace,
            progress=self._go_on,
        )
        self._counts.refills.inc()
        log.warning(
            "redis was filled again from the store",
            epoch=done.number,
            blobs=done.blobs,
            buckets=done.buckets,
            seconds=_since(began),
        )

    def _lacks_blobs(self) -> bool:
        """Look for the next of the live epoch's blobs, round and round."""
        some = self._blobs[self._probed : self._probed + PROBED_BLOBS]
        self._probed = self._probed + PROBED_BLOBS if some else 0
        return next(self._mirror.absent(some), None) is not None

    def _follow(self) -> None:
        """Read the live epoch, if it is another one than before."""
        pointer = self._mirror.pointer()
        if self._live is not None and pointer == self._live.pointer:
            return
        self._live = live = read_live(self._place.store, self._mirror, self._place.workspace)
        digests = mirrored_digests(live.contents, live.tree) if live is not None else ()
        self._blobs = [self._mirror.keys.blob(digest) for digest in sorted(digests)]
        self._probed = 0

    def _settle(self, live: Publication) -> None:
        """Let the records of time windows follow the epoch, where nobody else is at it."""
        found = windows.unsettled(self._mirror, live.tree["windows"])
        now, state = time.monotonic(), (live.pointer, found)
        if not found or self._unsettled[1] != state:
            self._unsettled = now, state
        elif now - self._unsettled[0] >= SETTLE_SECONDS:
            self._go_on()
            windows.settle(self._mirror, self._place.store.get_blob, [live])
            log.warning("records of time windows were set right", windows=sorted(found))

    def _freeze(self, live: Publication) -> None:
        """Make lists of the time windows that are full or over, so that strangers cost nothing."""
        due = windows.due(self._mirror, live.tree["windows"])
        if not due:
            return
        self._go_on()
        log.info("windows are being frozen", seats=due)
        place, began = self._place, time.monotonic()
        done = freeze_due(
            store=place.store,
            link=place.link,
            key=place.key,
            workspace=place.workspace,
            now=int(time.time()),
            progress=self._go_on,
        )
        if done is not None:
            told = {"epoch": done.number, "seats": due, "seconds": _since(began)}
            log.warning("windows were frozen", **told)

    def _go_on(self, *_: object) -> None:
        """Stop what is being done when the lease is lost; also the `progress` of long work."""
        if not self._may_act():
            raise LeaseLostError


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)
