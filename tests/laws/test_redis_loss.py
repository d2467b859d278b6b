"""Law 9: Redis lost costs no failed request; its return needs no restart; emptied, it is filled."""

import http.client
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import cdn
import processes
import workplace
from gateway.keys import Keys
from workplace import APP, Workplace

STREAMS = 4
OUTAGES = 10 if "TIDEGATE_SOAK" in os.environ else 2
PLAN = f"""app: {APP}
packages: [{{version: 1.0.0.1}}, {{version: 1.0.0.2}}]
releases:
  - {{id: staff, package: 1.0.0.2, audience: {{lists: [staff]}}}}
  - {{id: ramp, package: 1.0.0.2, audience: {{percent: %s}}}}
  - {{id: stable, package: 1.0.0.1, audience: everyone}}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[processes.RedisServer]:
    """Run a Redis."""
    with processes.redis_server(tmp_path / "redis") as found:
        yield found


@pytest.fixture
def place(tmp_path: Path, server: processes.RedisServer) -> Iterator[Workplace]:
    """Publish two versions, a list and a percentage."""
    with workplace.workplace(tmp_path, server.url) as found:
        found.write(
            "workspace.yaml", 'workspace: demo\ncdn: [{regions: ["*"], bases: ["https://c"]}]\n'
        )
        found.write("lists.yaml", "lists: [{list: staff, of: user, file: lists/staff.txt}]\n")
        found.write("lists/staff.txt", "".join(f"s-{n}\n" for n in range(1_000)))
        found.write("apps/app.yaml", PLAN % "0.01")
        for version in ("1.0.0.1", "1.0.0.2"):
            found.upload(version, found.make_bundle(version))
        found.commit("first")
        found.push()
        processes.wait_until(
            lambda: cdn.status_of(f"{found.gateway.admin_url}/health/ready") == 200, "it is served"
        )
        yield found


def announced(server: processes.RedisServer) -> bool:
    """Tell whether the gateway has announced itself, so that a push waits for it."""
    with server.client() as client:
        return client.zcard(Keys("demo").gateways) == 1


class Stream(threading.Thread):
    """A client that checks again and again on one connection, and counts what it is told."""

    def __init__(self, place: Workplace, number: int) -> None:
        super().__init__(daemon=True)
        self.statuses: Counter[str] = Counter()
        self.epochs: list[int] = []
        self._place = place
        self._number = number
        self._asked_to_stop = threading.Event()

    def run(self) -> None:
        """Ask until told to stop."""
        host = self._place.gateway.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=30)
        count = 0
        while not self._asked_to_stop.is_set():
            count += 1
            user = f"s-{(count * 7 + self._number) % 2_000}"
            try:
                body = json.dumps({"user": user, "apps": {APP: None}})
                connection.request("POST", "/v1/check", body)
                response = connection.getresponse()
                answer = json.loads(response.read())
                self.statuses[f"{response.status} {answer['apps'][0]['status']}"] += 1
                self.epochs.append(answer["epoch"])
            except (OSError, http.client.HTTPException, KeyError, ValueError) as fault:
                self.statuses[f"failed: {fault!r}"] += 1
                connection.close()
        connection.close()

    def finish(self) -> None:
        """Stop asking, and wait for the last answer."""
        self._asked_to_stop.set()
        self.join(30)
        assert not self.is_alive()


def test_redis_killed_under_a_stream_of_checks(
    place: Workplace, server: processes.RedisServer
) -> None:
    """Killed with -9, started empty, filled, pushed to: no check fails, no epoch goes back."""
    streams = [Stream(place, number) for number in range(STREAMS)]
    for stream in streams:
        stream.start()
    epoch = 1
    for outage in range(OUTAGES):
        server.kill()
        before = sum(len(stream.epochs) for stream in streams)
        processes.wait_until(
            lambda wanted=before + 300: sum(len(s.epochs) for s in streams) > wanted,
            "checks are answered without Redis",
        )
        server.start()
        place.write("apps/app.yaml", PLAN % f"0.{outage + 2:02}")
        place.commit(f"after outage {outage}")
        refused = place.push(code=3)
        assert "tidegate restore" in refused.err
        assert "Redis serves epoch" in place.run("restore").out
        processes.wait_until(lambda: announced(server), "pushes wait for the gateway")
        assert "1 of 1 in" in place.push().out
        epoch += 1
        assert place.check()["epoch"] == epoch
    processes.wait_until(
        lambda: place.app(user="s-999")["release"] == "staff", "a list is known again"
    )
    for stream in streams:
        stream.finish()
        assert set(stream.statuses) == {"200 update"}, stream.statuses
        assert stream.epochs == sorted(stream.epochs)
        assert stream.epochs[-1] == epoch
    print(f"\nlaw 9: {OUTAGES} outages, {sum(len(s.epochs) for s in streams)} checks, none failed")


def test_a_gateway_starts_without_redis(place: Workplace, server: processes.RedisServer) -> None:
    """From its own disk, or from the store: an outage of Redis is no outage of a restart."""
    server.kill()
    place.gateway.kill()
    place.gateway.start()
    assert place.app(user="nobody")["version"] == "1.0.0.1"
    fresh = processes.Gateway(
        place.folder / "second",
        server.url,
        STORE=str(place.folder / "store"),
        TRUSTED_KEYS=str(place.folder / "keys" / "ann.pub"),
    )
    try:
        fresh.start()
        second = Workplace(place.folder, server.url, fresh)
        assert second.check()["epoch"] == 1
        assert second.app(user="nobody")["version"] == "1.0.0.1"
    finally:
        fresh.stop()
