"""The watch: what a controller looks for each second while it holds the lease.

A release that breaks its guardrail is paused, by an override like an operator's; where it is
offered to everyone, an alarm is raised instead. Nothing that may take long is done here, so that no
look waits for it: that is upkeep.py, in another thread.

It keeps nothing that another controller would miss: what it knows stands in Redis and the store.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from compiler.control.counts import Counts
from compiler.control.guardrail import Guard, finding, is_broken, reaches_everyone
from compiler.control.guards import GuardReader
from compiler.control.lease import LeaseLostError
from compiler.control.workplace import Workplace
from compiler.overrides import What
from compiler.plan import State
from compiler.publication.emergency import Wish, fulfil
from compiler.publication.epoch import Publication
from compiler.publication.gateways import wait_for_gateways
from compiler.publication.live import is_behind, read_live
from compiler.publication.publisher import publish

GATEWAYS_SECONDS = 5.0
"""How long the gateways have to serve a halt, before it is said which of them do not."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Look:
    """What was counted of a release at a second of the monotonic clock."""

    at: float
    failed: int
    reported: int


class Watch:
    """Looks once at each `turn`; between two looks it remembers only what it can read again."""

    def __init__(self, place: Workplace, counts: Counts, may_act: Callable[[], bool]) -> None:
        """`may_act` tells whether the lease is held, and is asked before whatever is changed."""
        self._place = place
        self._counts = counts
        counts.alarms.set(0)
        self._may_act = may_act
        self._mirror = place.mirror
        self._reader = GuardReader(place.store)
        self._live: Publication | None = None
        self._guards: list[Guard] = []
        self._looks: dict[Guard, _Look] = {}
        self._halted: tuple[int, float] | None = None

    def turn(self) -> None:
        """Look at every guardrail whose turn it is, and do what is due.

        Raises LeaseLostError, StoreError, FormatError, PlanError and Refused; the next turn tries
        again.
        """
        pointer = self._mirror.pointer()
        if self._live is None or pointer != self._live.pointer:
            if is_behind(self._place.store, pointer):
                return  # until Redis is filled again nothing can be counted, nor published
            self._follow()
        if self._live is not None:
            self._watch(self._live)
        self._follow_up()
        self._counts.last_look.set(time.time())

    def _follow(self) -> None:
        """Read the live epoch and its guardrails."""
        place = self._place
        live = read_live(place.store, self._mirror, place.workspace)
        self._guards = [] if live is None else self._reader.read(live, time.time())
        self._live, self._looks = live, {}

    def _go_on(self, *_: object) -> None:
        """Stop what is being done when the lease is lost; also the `progress` of long work."""
        if not self._may_act():
            raise LeaseLostError

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
        """Pause a release."""
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
        self._halted = published.number, time.monotonic()

    def _follow_up(self) -> None:
        """Say how far the last halt has come: once it is everywhere, or has had its time."""
        if self._halted is None:
            return
        number, since = self._halted
        seconds = time.monotonic() - since
        served = wait_for_gateways(self._mirror, number, timeout_seconds=0)
        if served.laggards and seconds < GATEWAYS_SECONDS:
            return
        self._halted = None
        report = log.error if served.laggards else log.info
        message = replace(served, seconds=seconds).message
        report("the halt on the gateways", epoch=number, served=message)

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
