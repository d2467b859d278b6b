"""A bad release under its guardrail: how soon every gateway halts it, and how many got it before.

Phones arrive at an even rate at all gateways in turn, and each of those that are offered the canary
reports at once, to the next gateway: every second one that it failed. All of it is real: gateways,
Redis, `tidegate control`.
"""

import http.client
import json
import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from controllers import guarded, running_controls
from gateway.signing import public_line
from processes import Gateway, RedisServer, running_gateway, wait_until
from publishing import COFFEE, Workshop, image_of, publisher_key

SOAK = "TIDEGATE_SOAK" in os.environ
GATEWAYS, WORKERS = (4, 2) if SOAK else (2, 1)
CALLERS = 4
PHONES_A_SECOND = 1_000 if SOAK else 200
LIMIT_SECONDS = 60.0


@dataclass
class Crowd:
    """Phones; `offered` and `reported` are moments, with the gateway and whether it failed."""

    gateways: list[Gateway]
    offered: list[tuple[float, int]] = field(default_factory=list)
    reported: list[tuple[float, bool]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    phones: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def arrive(self, caller: int) -> None:
        """Let phones ask one after another until it is over: every CALLERS-th of all."""
        links = [
            http.client.HTTPConnection(urlsplit(each.url).netloc, timeout=30)
            for each in self.gateways
        ]
        try:
            began, number = time.monotonic(), caller
            while not self.over.wait(max(0, began + number / PHONES_A_SECOND - time.monotonic())):
                self._phone(links, number)
                number += CALLERS
        except (OSError, http.client.HTTPException, ValueError) as fault:
            self.failed.append(repr(fault))
        finally:
            for link in links:
                link.close()

    def _phone(self, links: list[http.client.HTTPConnection], number: int) -> None:
        at, device = number % len(links), f"phone-{number}"
        asked = time.monotonic()
        found = _ask(links[at], "/v1/check", {"device": device, "apps": {COFFEE: "1"}})
        self.phones += 1
        if found["apps"][0].get("release") != "r2":
            return
        self.offered.append((asked, at))
        bad = len(self.offered) % 2 == 0
        one = {"app": COFFEE, "release": "r2", "event": "failed" if bad else "installed"}
        _ask(links[(at + 1) % len(links)], "/v1/report", {"device": device, "reports": [one]})
        self.reported.append((time.monotonic(), bad))


def _ask(link: http.client.HTTPConnection, path: str, body: object) -> dict[str, list[dict]]:
    link.request("POST", path, json.dumps(body))
    answer = link.getresponse()
    found = json.loads(answer.read())
    if answer.status not in (200, 202):
        raise ValueError(f"{answer.status}: {found}")
    return found


def test_a_bad_release_is_halted_under_way(
    server: RedisServer, tmp_path: Path, workshop: Workshop, controller_key: Path
) -> None:
    """Once every gateway serves the halt nobody is offered the release; no request ever failed."""
    workshop.push(image_of(guarded("{percent: 20}")))
    controller = controller_key.with_suffix(".pub").read_text()
    trusted = f"{public_line(publisher_key().public)}\n{controller}"
    with ExitStack() as stack:
        gateways = [
            stack.enter_context(
                running_gateway(
                    tmp_path / f"g{at}", server.url, TRUSTED_KEYS=trusted, WORKERS=str(WORKERS)
                )
            )
            for at in range(GATEWAYS)
        ]
        stack.enter_context(running_controls(tmp_path, server.url, workshop.folder, controller_key))
        for gateway in gateways:
            wait_until(lambda at=gateway: at.served() == 1, "the release is served")
        crowd = Crowd(gateways)
        callers = [threading.Thread(target=crowd.arrive, args=(at,)) for at in range(CALLERS)]
        halted: list[float] = []
        try:
            for caller in callers:
                caller.start()
            for gateway in gateways:
                wait_until(lambda at=gateway: at.served() == 2, "the halt is served", LIMIT_SECONDS)
                halted.append(time.monotonic())
            time.sleep(1)
        finally:
            crowd.over.set()
            for caller in callers:
                caller.join()
    _tell(crowd, halted)
    assert crowd.failed == []
    assert [moment for moment, _ in crowd.offered if moment > halted[-1]] == []
    live = workshop.live()
    assert live.epoch["author"] == "controller"
    assert live.epoch["note"].startswith("halted: ")


def _tell(crowd: Crowd, halted: list[float]) -> None:
    """Print the figures."""
    first = next(moment for moment, bad in sorted(crowd.reported) if bad)
    enough = sorted(crowd.reported)[199][0]  # the 200th report: before, nothing is concluded
    last = max(moment for moment, _ in crowd.offered)
    between = sum(moment > first for moment, _ in crowd.offered)
    late = sum(moment > enough for moment, _ in crowd.offered)
    print(
        f"\nhalt: {GATEWAYS} gateways of {WORKERS}, {PHONES_A_SECOND} phones a second, 20 % of "
        f"them offered, half of these failed; {crowd.phones:,} phones asked. From the first "
        f"failure {halted[-1] - first:.1f} s to the halt on every gateway, {between:,} more "
        f"devices got it; from the report that was enough {halted[-1] - enough:.1f} s and "
        f"{late:,} devices; the last offer {last - enough:.1f} s after that report"
    )


def test_the_figures_are_of_the_right_moments(capsys: pytest.CaptureFixture[str]) -> None:
    """Counted from the first failure and from the 200th report, to the last gateway's halt."""
    crowd = Crowd([])
    crowd.reported = [(at / 10, at >= 100) for at in range(300)]
    crowd.offered = [(at / 10, 0) for at in range(250)]
    _tell(crowd, [26.0, 27.0])
    said = capsys.readouterr().out
    assert "From the first failure 17.0 s to the halt on every gateway, 149 more devices" in said
    assert "from the report that was enough 7.1 s and 50 devices" in said
