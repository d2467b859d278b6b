"""What a client remembers over restarts, beside its packages: when to ask, and what to report.

One small JSON file. One that cannot be read is as if the client were new; one that cannot be
written costs, after a restart, a check too early or a report.
"""

import json
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from loadtest.client.answer import Offer
from loadtest.client.durable import write_durably

CHECK_AFTER = 1800
"""Seconds between checks before a gateway has said otherwise."""
FIRST_BACK_OFF = 30
MOST_REPORTS = 200
"""That are kept; of more, the oldest go."""
_MOST_REASON = 200
_SPREAD = 0.2


class Diary:
    """The file, and what stands in it.

    `due` is when to ask next (Unix seconds), `wait` how long that was away when it was set.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.due = 0.0
        self.wait = 0.0
        self.check_after = CHECK_AFTER
        self.failures = 0
        self.reports: list[dict[str, Any]] = []
        self._read()

    def _read(self) -> None:
        try:
            found = json.loads(self._file.read_bytes())
            due, wait = float(found["due"]), float(found["wait"])
            check_after, failures = int(found["check_after"]), int(found["failures"])
            reports = [report for report in found["reports"] if isinstance(report, dict)]
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return
        self.due, self.wait, self.check_after, self.failures = due, wait, check_after, failures
        self.reports = reports[-MOST_REPORTS:]

    def save(self) -> None:
        """Write it down, if the disk takes it."""
        value = {
            "due": self.due,
            "wait": self.wait,
            "check_after": self.check_after,
            "failures": self.failures,
            "reports": self.reports,
        }
        with suppress(OSError):  # it stays in memory
            write_durably(self._file, json.dumps(value).encode())

    def seconds_left(self) -> float:
        """Say how long to wait before the next check; never longer than was meant.

        So a clock that was set back does not silence a client for years.
        """
        return min(max(0.0, self.due - time.time()), self.wait)

    def answered(self, check_after: int) -> None:
        """Note that the gateway answered; it has spread `check_after` over its clients itself."""
        self.check_after, self.failures = check_after, 0
        self._ask_in(check_after)

    def unanswered(self) -> None:
        """Note that there was no good answer: 30 s, doubled each time, up to check_after.

        Spread by 20 %, or all phones that saw an outage begin come back in one second.
        """
        most = max(self.check_after, FIRST_BACK_OFF)
        wait = min(FIRST_BACK_OFF * 2 ** min(self.failures, 16), most)
        self.failures += 1
        self._ask_in(wait * random.uniform(1 - _SPREAD, 1))

    def _ask_in(self, seconds: float) -> None:
        self.due, self.wait = time.time() + seconds, seconds

    def note(
        self, app: str, event: str, before: str | None, offered: Offer, reason: str = ""
    ) -> None:
        """Keep a report until it is sent."""
        report = {
            "app": app,
            "version": offered.version,
            "from": before,
            "release": offered.release,
            "event": event,
        }
        if reason:
            report["reason"] = reason[:_MOST_REASON]
        self.reports = [*self.reports, report][-MOST_REPORTS:]
