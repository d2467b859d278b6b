"""Controllers as an operator runs them: `tidegate control`, on free ports. Ended by id, always."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from processes import ROOT, START_SECONDS, Gateway, wait_until
from publishing import COFFEE, plan_files

HALT = "halt: {failures: 2%, min_reports: 200, within: 30m}"


def guarded(audience: str = "{percent: 20}", **more: str) -> dict[str, str]:
    """Write a plan whose newest package is offered under a guardrail."""
    files = plan_files(["1", "2"])
    app = files["apps/coffee.yaml"]
    app = app.replace(
        "{id: r2, package: 2, audience: everyone}",
        f"{{id: r2, package: 2, audience: {audience}, {HALT}}}",
    )
    return files | {"apps/coffee.yaml": app} | more


class Control:
    """A controller of the workspace `demo`."""

    def __init__(self, folder: Path, redis_url: str, store: Path, key: Path) -> None:
        """Write its log into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "control.log"
        self.environment = {
            "TIDEGATE_WORKSPACE": "demo",
            "TIDEGATE_REDIS": redis_url,
            "TIDEGATE_STORE": str(store),
            "TIDEGATE_KEY": str(key),
            "TIDEGATE_CONTROL_LISTEN": "127.0.0.1:0",
        }
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "compiler.cli", "control"],
                cwd=ROOT,
                env=kept | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def meet(self) -> None:
        """Wait until it watches, active or not."""
        said = wait_until(lambda: self.events("controlling"), f"it watches; see {self.log}")
        self.url = f"http://{said[0]['admin']}"

    def events(self, sentence: str = "") -> list[dict[str, Any]]:
        """Give the logged events, or those of one sentence."""
        rows = []
        for line in self.log.read_text().splitlines():
            with suppress(ValueError):
                rows.append(json.loads(line))
        return [row for row in rows if sentence in ("", row["event"])]

    def is_active(self) -> bool:
        """Tell whether it says so."""
        said = [row["event"] for row in self.events() if row["event"] in ("active", "standing by")]
        return said[-1:] == ["active"]

    def get(self, path: str) -> str:
        """Ask its own listener."""
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return str(response.read().decode())

    def metric(self, name: str) -> float:
        """Read one of its numbers."""
        lines = self.get("/metrics").splitlines()
        return next(float(line.split()[1]) for line in lines if line.split()[0] == name)

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """Wait for its end and give its exit code."""
        assert self._process is not None
        code = self._process.wait(seconds)
        self._process = None
        return code

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self.wait()


@contextmanager
def running_controls(
    folder: Path, redis_url: str, store: Path, key: Path, number: int = 1
) -> Iterator[list[Control]]:
    """Run so many controllers, of which one is active when this gives them."""
    controls = [Control(folder / f"c{at}", redis_url, store, key) for at in range(number)]
    try:
        for control in controls:
            control.start()
        for control in controls:
            control.meet()
        wait_until(lambda: [each for each in controls if each.is_active()], "one is active")
        yield controls
    finally:
        for control in controls:
            control.stop()


def seconds_until(holds: Any, what: str) -> float:
    """Wait, and tell how long it took."""
    began = time.monotonic()
    wait_until(holds, what)
    return time.monotonic() - began


def active(controls: list[Control]) -> list[Control]:
    """Give those that say that they are active."""
    return [each for each in controls if each.is_active()]


def ask(gateway: Gateway, path: str, body: Any) -> Any:
    """Post to a gateway."""
    asked = urllib.request.Request(gateway.url + path, json.dumps(body).encode())
    with urllib.request.urlopen(asked, timeout=30) as response:
        return json.loads(response.read())


def epoch_of(gateway: Gateway) -> int:
    """Ask which epoch it serves."""
    return int(ask(gateway, "/v1/check", {"apps": {}})["epoch"])


def report(gateway: Gateway, events: dict[str, str], release: str = "r2") -> int:
    """Report events by device, as phones do; give how many were accepted."""
    accepted = 0
    for device, event in events.items():
        one = {"app": COFFEE, "release": release, "event": event, "version": "2"}
        said = ask(gateway, "/v1/report", {"device": device, "reports": [one]})
        accepted += said["accepted"]
    return accepted
