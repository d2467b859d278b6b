"""The controller: what it does each second while it holds the lease.

    1  Redis was emptied, set back or has lost blobs: it is filled from the store
    2  a release breaks its guardrail: it is paused, by an override like an operator's; where it is
       offered to everyone, an alarm is raised instead
    3  the records of time windows do not say for SETTLE_SECONDS what the epoch does, as somebody's
       push was killed: they are made to
    4  a time window is full or over: it is frozen, and works as a list from then on

It keeps nothing that another controller would miss: what it knows stands in Redis and the store.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from compiler.control.counts import Counts
from compiler.control.guardrail import Guard, finding, is_broken, reaches_everyone
from compiler.control.guards import GuardReader
from compiler.control.lease import LeaseLostError
from compiler.overrides import What
from compiler.plan import State
from compiler.publication import windows
from compiler.publication.emergency import Wish, fulfil
from compiler.publication.epoch import Publication, mirrored_digests
from compiler.publication.freezing import freeze_due
from compiler.publication.gateways import wait_for_gateways
from compiler.publication.live import read_live, stored_pointer
from compiler.publication.mirror import Mirror
from compiler.publication.publisher import publish
from compiler.publication.publisher_key import PublisherKey
from compiler.publication.restore import restore
from compiler.storage.store import Store
from gateway.link import SyncLink
from gateway.pointer import decode_pointer

PROBED_BLOBS = 512
"""How many of the live epoch's blobs are looked for each second, in turn: a part of a Cluster may
be emptied, and leave the pointer."""

GATEWAYS_SECONDS = 5.0
"""How long a halt waits for the gateways, to say how far it has come."""

SETTLE_SECONDS = 60.0
"""How long records of windows are left to a push on its way, which writes ten million seats."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a controller works on."""

    workspace: str
    store: Store
    link: SyncLink
    key: PublisherKey


@dataclass(frozen=True, slots=True)
class _Look:
    """What was counted of a release at a second of the monotonic clock."""

    at: float
    failed: int
    reported: int


class Controller:
    """Looks once at each `turn`; between two looks it remembers only what it can read again."""

    def __init__(self, place: Workplace, counts: Counts, may_act: Callable[[], bool]) -> None:
        """`may_act` tells whether the lease is held, and is asked before whatever is changed."""
        self._place = place
        self._counts = counts
        self._may_act = may_act
        self._mirror = Mirror(place.link, place.workspace)
        self._reader = GuardReader(place.store)
        self._live: Publication | None = None
        self._blobs: list[str] = []
        self._probed = 0
        self._guards: list[Guard] = []
        self._looks: dict[Guard, _Look] = {}
        self._unsettled: tuple[float, object] = 0.0, None

    def turn(self) -> None:
        """Look at everything once, and do what is due.

        Raises LeaseLostError, StoreError, FormatError, PlanError and Refused; the next turn tries
        again.
        """
        self._keep_filled()
        self._follow()
        if self._live is not None:
            self._watch(self._live)
            self._settle(self._live)
            self._freeze(self._live)
        self._counts.last_look.set(time.time())

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
        if all(each["seats"] for each in live.tree["windows"].values()):
            return
        self._go_on()
        place = self._place
        done = freeze_due(
            store=place.store,
            link=place.link,
            key=place.key,
            workspace=place.workspace,
            now=int(time.time()),
            progress=self._go_on,
        )
        if done is not None:
            log.warning("windows were frozen", epoch=done.number)

    def _go_on(self, *_: object) -> None:
        """Stop what is being done when the lease is lost; also the `progress` of long work."""
        if not self._may_act():
            raise LeaseLostError("The lease was lost; the work is left to who holds it now.")

    def _keep_filled(self) -> None:
        """Fill Redis from the store if it has lost what it had."""
        found = self._mirror.pointer()
        if found is not None and self._live is not None and found == self._live.pointer:
            if not self._lacks_blobs() or self._mirror.pointer() != found:
                return
        elif not self._is_behind(found):
            return
        self._go_on()
        began = time.monotonic()
        done = restore(
            store=self._place.store,
            link=self._place.link,
            workspace=self._place.workspace,
            progress=self._go_on,
        )
        self._counts.refills.inc()
        log.warning(
            "redis was filled again from the store",
            epoch=done.number,
            blobs=done.blobs,
            buckets=done.buckets,
            seconds=round(time.monotonic() - began, 2),
        )

    def _is_behind(self, found: bytes | None) -> bool:
        """Tell whether Redis has no epoch, or an older one of this very store."""
        stored = stored_pointer(self._place.store)
        if found is None or stored is None:
            return stored is not None
        number, digest = decode_pointer(found)
        return number < decode_pointer(stored)[0] and self._place.store.has_blob(digest)

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
        place = self._place
        live = read_live(place.store, self._mirror, place.workspace)
        self._guards = [] if live is None else self._reader.read(live, time.time())
        self._live, self._looks, self._probed = live, {}, 0
        digests = mirrored_digests(live.contents, live.tree) if live is not None else ()
        self._blobs = [self._mirror.keys.blob(digest) for digest in sorted(digests)]

    def _watch(self, live: Publication) -> None:
        """Count what was reported; pause what breaks its guardrail, or raise an alarm."""
        self._count()
        alarms: dict[str, str] = {}
        for guard, look in self._looks.items():
            if not is_broken(guard.halt, look.failed, look.reported):
                continue
            why = finding(guard.halt, look.failed, look.reported)
            if reaches_everyone(guard.audience, int(time.time())):
                alarms[guard.name] = why
                continue
            self._halt(live, guard, why)
            return  # another epoch is live: the others are looked at in the next turn
        self._tell(alarms)

    def _count(self) -> None:
        """Count the reports of the guardrails whose turn it is."""
        now, clock = time.time(), time.monotonic()
        due = [
            guard
            for guard in self._guards
            if guard not in self._looks or clock - self._looks[guard].at >= guard.look_seconds
        ]
        groups = []
        for guard in due:
            failures, installs = (
                [
                    self._mirror.keys.guard(guard.app, guard.release, event, minute)
                    for minute in guard.minutes(now)
                ]
                for event in ("failed", "installed")
            )
            groups += [failures, failures + installs]
        counts = iter(self._mirror.together(groups))
        for guard in due:
            failed = next(counts)
            # As they are estimates, all may seem to be fewer than those that failed.
            self._looks[guard] = _Look(clock, failed, max(failed, next(counts)))

    def _halt(self, live: Publication, guard: Guard, why: str) -> None:
        """Pause a release, and say how far that has come."""
        self._go_on()
        began = time.monotonic()
        place = self._place
        wish = Wish(What.STATE, State.PAUSED.value, guard.app, guard.release)
        plan = self._reader.plan_of(live, [guard.app])
        image = fulfil(live, plan, place.store.get_blob, wish)
        if image is None:
            return
        published = publish(
            image,
            store=place.store,
            link=place.link,
            key=place.key,
            workspace=place.workspace,
            now=int(time.time()),
            note=f"halted: {why}",
            commit=live.epoch["commit"],
            force=True,
            onto=live,
            progress=self._go_on,
        )
        self._counts.halts.inc()
        told = {"app": guard.app, "release": guard.release, "why": why, "epoch": published.number}
        log.error("release halted", **told, seconds=round(time.monotonic() - began, 2))
        served = wait_for_gateways(self._mirror, published.number, timeout_seconds=GATEWAYS_SECONDS)
        report = log.error if served.laggards else log.info
        report("the halt on the gateways", epoch=published.number, served=served.message)

    def _tell(self, alarms: dict[str, str]) -> None:
        """Let Redis hold these alarms, and the log say what is new and what is over."""
        standing = self._mirror.alarms()
        self._counts.alarms.set(len(alarms))
        for name, why in alarms.items():
            if name not in standing:
                self._go_on()
                said = {"since": int(time.time()), "why": why}
                self._mirror.raise_alarm(name, json.dumps(said))
                log.error("alarm", release=name, why=why, mend="pause, withdraw or revert it")
        for name in standing.keys() - alarms.keys():
            self._go_on()
            self._mirror.end_alarm(name)
            log.warning("alarm over", release=name)
