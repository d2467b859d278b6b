"""An emergency under load: what is paused, ended or withdrawn is so in a moment, and none fails."""

import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import loadtest.plans
import processes
import workplace
from workplace import APP, Workplace

V1, V2 = "1.0.0.1", "1.0.0.2"
SOAK = "TIDEGATE_SOAK" in os.environ
CLIENTS = 8 if SOAK else 2
APPS = 10_000 if SOAK else 10
"""Other apps in the same plan: they must not make an emergency slower."""

SECONDS = 30.0  # a busy machine; what it took is printed, and is under a second on an idle one
PLAN = (
    f"app: {APP}\npackages: [{{version: {V1}}}, {{version: {V2}}}]\nreleases:\n"
    f"  - {{id: next, package: {V2}, audience: everyone}}\n"
    f"  - {{id: more, package: {V2}, audience: {{percent: 100}}, state: paused}}\n"
    f"  - {{id: listed, package: {V2}, audience: {{lists: [testers]}}}}\n"
    f"  - {{id: stable, package: {V1}, audience: everyone}}\n"
)


@dataclass
class Load:
    """Clients that ask without a pause; `told` are moments with what was answered."""

    url: str
    told: list[tuple[float, int, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def first(self, number: int) -> float | None:
        """Give the moment of the first answer from an epoch."""
        return next((moment for moment, epoch, _ in self.told if epoch == number), None)

    def ask(self) -> None:
        """Ask until it is over, on one connection."""
        body = json.dumps({"apps": {APP: V1}, "device": "d-1"})
        link = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        while not self.over.is_set():
            try:
                link.request("POST", "/v1/check", body)
                answer = link.getresponse()
                said = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError) as fault:
                self.failed.append(repr(fault))
                return
            if answer.status != http.client.OK:
                self.failed.append(str(said))
                return
            self.told.append((time.monotonic(), said["epoch"], said["apps"][0]["status"]))
            time.sleep(0.001)  # the commands want a core, too
        link.close()


@pytest.fixture
def place(tmp_path: Path, server: processes.RedisServer) -> Iterator[Workplace]:
    """Publish a plan that offers version 2, with version 1 below it."""
    with workplace.workplace(tmp_path, server.url) as found:
        others = [loadtest.plans.app(f"app-{number}", 10) for number in range(APPS)]
        loadtest.plans.write_plan(found.plan, "demo", others, 0)
        loadtest.plans.write_packages(tmp_path / "store")
        found.write(
            "workspace.yaml", 'workspace: demo\ncdn: [{regions: ["*"], bases: ["https://c"]}]\n'
        )
        found.write("lists.yaml", "lists: [{list: testers, of: device, file: testers.txt}]\n")
        found.write("testers.txt", "d-0\n")
        found.write("apps/app.yaml", PLAN)
        for version in (V1, V2):
            found.upload(version, found.make_bundle(version))
        found.commit("offer v2")
        found.push()
        yield found


def test_an_emergency_fails_no_check(place: Workplace) -> None:
    """Each command is obeyed from one epoch on by every answer, and every check is answered."""
    load = Load(place.gateway.url)
    clients = [threading.Thread(target=load.ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    took: dict[str, float] = {}
    wanted = {1: "update"}
    try:
        processes.wait_until(lambda: load.first(1), "the plan is asked for")
        for number, (line, status) in enumerate(
            (
                (f"pause {APP} next", "latest"),
                (f"resume {APP} next", "update"),
                (f"end {APP} next", "latest"),
                ("allowlist add testers d-1", "update"),
                ("allowlist remove testers d-1", "latest"),
                (f"resume {APP} more", "update"),
                (f"withdraw {APP} {V2}", "latest"),
            ),
            2,
        ):
            wanted[number] = status
            started = time.monotonic()
            place.run(*line.split())
            first = processes.wait_until(lambda at=number: load.first(at), "it takes effect")
            took[line.partition(f" {APP}")[0]] = first - started
    finally:
        load.over.set()
        for client in clients:
            client.join()
    print(
        f"\nemergencies: {len(load.told)} checks, {APPS} other apps; seconds to take effect: {took}"
    )
    assert load.failed == []
    assert {epoch for _, epoch, _ in load.told} == set(wanted)
    assert all(status == wanted[epoch] for _, epoch, status in load.told)
    assert max(took.values()) < SECONDS
