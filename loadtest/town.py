"""One Locust process's part of a load test: its streets, what it counts, and who judges.

Locust's greenlets call it; between them nothing is shared but this. Other processes' parts have
other phones: a street's number says which worker it is of.
"""

import time
from collections import deque
from collections.abc import Mapping
from heapq import heappop, heappush
from math import ceil
from typing import Any, NamedTuple

import gevent
from gevent.event import Event

from gateway.errors import TidegateError
from loadtest.clerk import Clerk
from loadtest.histogram import bucket_of
from loadtest.levels import UNJUDGED
from loadtest.options import Settings
from loadtest.population import Population
from loadtest.referee import Outcome, judge, windows_won
from loadtest.rules import Rules
from loadtest.street import Due, Street
from loadtest.timeline import Timeline
from loadtest.tokens import Signer

PHONES = 1 << 36
"""How many phones there are to draw from: enough for any number of streets and workers."""

MOST_WORKERS = 1_000
MOST_WAITING = 20_000
"""Answers that wait for their judge, at most: while an epoch's plan is read, some do."""

INSTALLS = 0.8
"""The share of those told to update that have the new version when they ask next."""

TICK_SECONDS = 0.05
_PAUSE_SECONDS = 0.002
_OFFER = {"app": str, "version": str, "release": str, "package": dict}
_LEAST_WAIT_SECONDS = 0.1


class Asked(NamedTuple):
    """A check with its answer, for the judge."""

    phone: int
    check: Mapping[str, Any]
    answer: Any
    began: float
    ended: float
    vouched: bool = False
    """Whether the phone sent a token with its ids."""


class Town:
    """The phones of one process. `index` is the worker's, from 0."""

    def __init__(
        self,
        settings: Settings,
        clerk: Clerk,
        rules: Rules,
        index: int = 0,
        signer: Signer | None = None,
    ) -> None:
        """`rules` are of the epoch that is served now; with a `signer` phones send tokens."""
        self.settings = settings
        self.timeline = Timeline()
        self.over = False
        self.under_way = 0
        self._clerk = clerk
        self._signer = signer
        self._rules = rules
        self._population = Population(
            settings.seed, PHONES, rules.plan, rules.members(), member_share=settings.members
        )
        self._check_after = float(rules.plan.workspace.check_after)
        self._index = index
        self._free: list[int] = []
        self._streets: dict[int, Street] = {}
        self._woken = Event()
        self._installed: dict[int, dict[str, str | None]] = {}
        self._won: dict[int, set[tuple[str, str]]] = {}
        self._turn = 0
        self._waiting: deque[Asked] = deque()
        self._asked: Asked | None = None

    def enter(self) -> Street:
        """Open a street; its phones are as those of a town that has long been there."""
        serial = heappop(self._free) if self._free else len(self._streets)
        before = self._streets.get(serial)
        number = serial * MOST_WORKERS + self._index
        size = self.settings.street
        self._streets[serial] = street = Street(
            self.settings.seed,
            number * size,
            size,
            began=time.time(),
            spread_seconds=self.wait_of(self._check_after),
        )
        if before is not None:
            street.resume(before)
        return street

    def leave(self, street: Street) -> None:
        """Close a street; the next one that is opened has its phones."""
        serial = street.first // street.size // MOST_WORKERS
        if self._streets.get(serial) is street:
            heappush(self._free, serial)

    def wait_of(self, check_after: float) -> float:
        """Give the seconds that a phone waits which was told `check_after`."""
        return max(_LEAST_WAIT_SECONDS, check_after / self.settings.hurry)

    def rest(self, street: Street) -> None:
        """Wait until a phone of a street is due, or everyone is woken."""
        woken = self._woken
        woken.wait(max(0.0, street.next_moment - time.time()))

    def check(self, due: Due) -> tuple[dict[str, Any], bool]:
        """Give what a phone asks now, and whether in MessagePack."""
        late = 1000 * (time.time() - due.moment)
        second = self.timeline.at(time.time())
        second.late_ms = max(second.late_ms, late)
        body = self._population.phone(due.phone)
        body["apps"].update(self._installed.get(due.phone, {}))
        if not self.settings.live:
            body["dry_run"] = True
        return body, self._population.packed(due.phone)

    def token(self, check: Mapping[str, Any]) -> dict[str, str]:
        """Give the header fields by which a phone proves who it is; nothing if it cannot."""
        return {} if self._signer is None else self._signer.headers(check, time.time())

    def answered(self, street: Street, asked: Asked) -> list[dict[str, Any]]:
        """Count a good answer; give what is installed by it, as the apps of the answer.

        Every so many-th answer is judged, the first one, too. An answer that is none of ours has
        ValueError raised.
        """
        try:
            apps = asked.answer["apps"]
            epoch, check_after = int(asked.answer["epoch"]), float(asked.answer["check_after"])
            statuses = [str(app["status"]) for app in apps]
        except (TypeError, KeyError, ValueError, OverflowError) as fault:
            raise ValueError("the answer is not one of a gateway") from fault
        milliseconds = 1000 * (asked.ended - asked.began)
        self.timeline.answered(asked.ended, milliseconds, statuses)
        self.notice(epoch, asked.ended)
        share, self._turn = self.settings.sample, self._turn + 1
        if ceil(share * self._turn) > ceil(share * (self._turn - 1)):
            self._submit(asked)
        street.answered(asked.phone, asked.ended, self.wait_of(check_after))
        return self._install(street, asked.phone, apps)

    def failed(self, street: Street, phone: int, why: str) -> None:
        """Count a check that got no good answer; its phone backs off."""
        now = time.time()
        self.timeline.at(now).failed[why] += 1
        street.failed(phone, now, hurry=self.settings.hurry, most_seconds=self._check_after)

    def notice(self, epoch: int, moment: float) -> None:
        """Note which epoch is served; in a storm everyone wakes when it is a new one."""
        first = not self.timeline.epochs
        if not self.timeline.served(epoch, moment) or first or self.settings.shape != "storm":
            return
        now = time.time()
        for street in self._streets.values():
            street.wake(now, self.settings.wake_seconds)
        woken, self._woken = self._woken, Event()
        woken.set()

    def keep_time(self) -> None:
        """Note how late this process's clock is, and each second how busy; without end."""
        began, used = time.monotonic(), time.process_time()
        while True:
            slept = time.monotonic()
            gevent.sleep(TICK_SECONDS)
            now = time.monotonic()
            second = self.timeline.at(time.time())
            second.delays[bucket_of(1000 * (now - slept - TICK_SECONDS))] += 1
            if now - began >= 1:
                busy = (time.process_time() - used) / (now - began)
                second.busy = max(second.busy, busy)
                began, used = now, time.process_time()

    def judge_all(self) -> None:
        """Judge what waits; without end. An epoch is read in a thread, so that checks go on."""
        while True:
            if not self._waiting:
                gevent.sleep(0.05)
                continue
            self._asked = asked = self._waiting.popleft()
            number = asked.answer["epoch"]
            try:
                if number != self._rules.number:
                    self._rules = self._clerk.rules(number)
                self._judge(asked)
            except Exception as fault:  # noqa: BLE001 - whatever it is, the run goes on
                why = str(fault) if isinstance(fault, TidegateError) else repr(fault)
                self._unjudged(asked, why)
                if number != self._rules.number:
                    self._give_up(number, why)
            self._asked = None
            gevent.sleep(_PAUSE_SECONDS)

    def finish(self, seconds: float) -> None:
        """Ask no more; wait until what is under way is answered and judged.

        What is not by then counts: as failed, or as not judged.
        """
        self.over = True
        with gevent.Timeout(seconds, False):
            while self.under_way or self._waiting or self._asked:
                gevent.sleep(0.05)
        if self.under_way:
            failed = self.timeline.at(time.time()).failed
            failed["under way when the run was over"] += self.under_way
        for asked in (*([self._asked] if self._asked else []), *self._waiting):
            self._unjudged(asked, "the run was over before its judge came to it: lower --sample")
        self._waiting.clear()

    def close(self) -> None:
        """Let the reading of books come to its end."""
        self._clerk.close()

    def _give_up(self, epoch: int, why: str) -> None:
        """Judge no answer of an epoch that waits: each has waited for its plan as long."""
        waiting, self._waiting = self._waiting, deque()
        for asked in waiting:
            if asked.answer["epoch"] == epoch:
                self._unjudged(asked, why)
            else:
                self._waiting.append(asked)

    def _submit(self, asked: Asked) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(asked)
        else:
            self._unjudged(asked, "too many answers wait for their judge: lower --sample")

    def _judge(self, asked: Asked) -> None:
        held = self._won.get(asked.phone, set())
        verdict = judge(
            *(self._rules, asked.check, asked.answer, asked.began, asked.ended, held),
            vouched=asked.vouched,
        )
        self.timeline.at(asked.ended).judged[verdict.outcome.value] += 1
        if verdict.outcome is not Outcome.RIGHT:
            self._show(asked, verdict.outcome, verdict.sentence)
        elif self.settings.live:
            self._won.setdefault(asked.phone, set()).update(windows_won(self._rules, asked.answer))

    def _unjudged(self, asked: Asked, why: str) -> None:
        self.timeline.at(asked.ended).judged[UNJUDGED] += 1
        self._show(asked, UNJUDGED, why)

    def _show(self, asked: Asked, outcome: str, sentence: str) -> None:
        self.timeline.show(
            {
                "outcome": str(outcome),
                "sentence": sentence,
                "seed": self.settings.seed,
                "phone": asked.phone,
                "at": asked.ended,
                "check": dict(asked.check),
                "answer": asked.answer,
            }
        )

    def _install(
        self, street: Street, phone: int, apps: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Let some of those that were told to change do so before they ask next."""
        done = []
        for app in apps:
            if _is_change(app) and street.chance(INSTALLS):
                self._installed.setdefault(phone, {})[app["app"]] = app["version"]
                done.append(app)
        return done


def _is_change(told: dict[str, Any]) -> bool:
    """Tell whether a phone can do what it is told of an app: the rest is for the judge."""
    return told["status"] in ("update", "rollback") and all(
        isinstance(told.get(name), kind) for name, kind in _OFFER.items()
    )
