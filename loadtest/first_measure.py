"""`make bench`: a first measure of speed, beside an aiohttp handler that does nothing.

Starts a Redis, a store and a plan of 12 releases with 8 conditions and 2 percentages, a gateway
on one core, and in alternation loads it and the do-nothing handler from the other core.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import uvloop

from loadtest.generator import Measured, ask

ROUNDS = 5
SECONDS = 2.0
CONNECTIONS = 32
APP = "2021000000000001"
SERVER_CORE, CLIENT_CORE = 0, 1

RELEASES = """
  - {id: staff, package: 1.0.0.2, audience: {lists: [staff]}, upgrade: force}
  - id: ramp
    package: 1.0.0.2
    audience: {percent: 12.5}
    when: [{attribute: network, in: [WIFI]}, {attribute: os_version, between: [12, 15.1]}]
  - id: second-ramp
    package: 1.0.0.2
    audience: {percent: 3, by: user}
    when: [{attribute: region, not_in: [CN-XJ]}, {attribute: brand, in: [Xiaomi, Redmi]}]
"""
CONDITIONS = (
    "{attribute: city, in: [Hangzhou]}",
    "{attribute: model, matches: ['23*', '24*']}",
    "{attribute: custom.tier, in: [gold]}",
    "{attribute: client_version, at_least: 10.3}",
)


def plan() -> str:
    """Write the app's file: 12 releases, 8 conditions, 2 percentages."""
    more = "".join(
        f"  - {{id: r{n}, package: 1.0.0.2, audience: {{lists: [staff]}}"
        + (f", when: [{CONDITIONS[n]}]" if n < len(CONDITIONS) else "")
        + "}\n"
        for n in range(8)
    )
    return (
        f"app: {APP}\npackages: [{{version: 1.0.0.1}}, {{version: 1.0.0.2}}]\n"
        f"releases:{RELEASES}{more}  - {{id: stable, package: 1.0.0.1, audience: everyone}}\n"
    )


def request(number: int) -> bytes:
    """Write one phone's request, as bytes on the wire."""
    body = json.dumps(
        {
            "user": f"u-{number}",
            "device": f"d-{number:08x}",
            "platform": "android",
            "os_version": str(10 + number % 6),
            "client_version": "10.2.3",
            "brand": "Xiaomi",
            "model": f"2304FPN{number % 90}",
            "network": "WIFI" if number % 2 else "5G",
            "city": "Hangzhou",
            "region": "CN-ZJ",
            "custom": {"tier": "gold"},
            "apps": {APP: "1.0.0.1"},
        },
        separators=(",", ":"),
    ).encode()
    head = (
        "POST /v1/check HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def free_port() -> int:
    """Find a port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(*command: str, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on one core until the end of the block."""
    started = subprocess.Popen(
        command, env=os.environ | environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        os.sched_setaffinity(started.pid, {SERVER_CORE})
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield started
    finally:
        started.terminate()
        started.wait(20)


def settings(folder: Path) -> dict[str, str]:
    """Read what `tidegate up` says of where everything is."""
    lines = (folder / "env").read_text().splitlines()
    pairs = (line.removeprefix("export ").split("=", 1) for line in lines)
    return {name: value.strip("'") for name, value in pairs}


def wait_for_epoch(port: int, epoch: int) -> bytes:
    """Ask until the gateway answers from this epoch; give that answer."""
    for _ in range(500):
        url = f"http://127.0.0.1:{port}/v1/check/{APP}?installed=1.0.0.1"
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
            body: bytes = response.read()
            if json.loads(body)["epoch"] == epoch:
                return body
        time.sleep(0.02)  # 503 before the first epoch
    raise SystemExit(f"the gateway does not serve epoch {epoch}")


def measure(contenders: Sequence[tuple[str, int, int]]) -> dict[str, list[Measured]]:
    """Load (name, port, pid) in alternation."""
    os.sched_setaffinity(0, {CLIENT_CORE})
    requests = [request(number) for number in range(2_000)]
    found: dict[str, list[Measured]] = {name: [] for name, _, _ in contenders}
    for _ in range(ROUNDS):
        for name, port, pid in contenders:
            work = ask(port, requests, pid=pid, connections=CONNECTIONS, seconds=SECONDS)
            found[name].append(uvloop.run(work))
    return found


def show(found: dict[str, list[Measured]]) -> None:
    """Print medians over the rounds, and the ratio to the do-nothing handler."""
    nothing = statistics.median(each.cpu_us for each in found["aiohttp, doing nothing"])
    print(f"{'':28}{'checks/s':>10}{'CPU µs':>9}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>8}{'wrong':>7}")
    for name, rounds in found.items():
        latencies = sorted(each for measured in rounds for each in measured.latencies)
        cpu = statistics.median(each.cpu_us for each in rounds)
        print(
            f"{name:28}{statistics.median(each.rate for each in rounds):>10,.0f}{cpu:>9.1f}"
            f"{latencies[len(latencies) // 2] * 1e3:>9.2f}"
            f"{latencies[len(latencies) * 99 // 100] * 1e3:>9.2f}"
            f"{cpu / nothing:>8.2f}{sum(each.wrong for each in rounds):>7}"
        )
    print(f"medians of {ROUNDS} rounds of {SECONDS:.0f} s in alternation; one core each;")
    print("ratio: CPU time a check against the handler that does nothing.")


def main() -> None:
    """Set everything up, measure, print, and end what was started."""
    folder = Path(tempfile.mkdtemp())
    ports = {name: free_port() for name in ("up", "admin", "files", "gateway", "admin2", "nothing")}
    tidegate = [sys.executable, "-m", "compiler.cli"]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        up = {
            "TIDEGATE_LISTEN": f"127.0.0.1:{ports['up']}",
            "TIDEGATE_ADMIN_LISTEN": f"127.0.0.1:{ports['admin']}",
            "TIDEGATE_FILES_LISTEN": f"127.0.0.1:{ports['files']}",
        }
        stack.enter_context(process(*tidegate, "up", "--dir", str(folder), port=ports["up"], **up))
        wait_for_epoch(ports["up"], 1)
        (folder / "plan" / "apps" / "coffee.yaml").write_text(plan())
        environment = os.environ | settings(folder)
        push = [*tidegate, "push", str(folder / "plan"), "--base", "1"]
        quiet = subprocess.DEVNULL
        subprocess.run(push, env=environment, check=True, stdout=quiet, stderr=quiet)
        gateway = stack.enter_context(
            process(
                *(sys.executable, "-m", "gateway"),
                port=ports["gateway"],
                **settings(folder)
                | {
                    "TIDEGATE_LISTEN": f"127.0.0.1:{ports['gateway']}",
                    "TIDEGATE_ADMIN_LISTEN": f"127.0.0.1:{ports['admin2']}",
                    "TIDEGATE_CACHE": str(folder / "second"),
                    "TIDEGATE_DRAIN_SECONDS": "0",
                },
            )
        )
        answer = folder / "answer.json"
        answer.write_bytes(wait_for_epoch(ports["gateway"], 2))
        command = (sys.executable, "-m", "loadtest.nothing", str(ports["nothing"]), str(answer))
        nothing = stack.enter_context(process(*command, port=ports["nothing"]))
        show(
            measure(
                [
                    ("aiohttp, doing nothing", ports["nothing"], nothing.pid),
                    ("tidegate, one app", ports["gateway"], gateway.pid),
                ]
            )
        )


if __name__ == "__main__":
    main()
