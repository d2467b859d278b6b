"""`make bench`: what a check costs, beside nginx returning a constant and aiohttp doing nothing.

Starts a Redis, a store, a plan of 12 releases with 8 conditions and 2 percentages, and a gateway;
then loads every contender in alternation, each on one core, from wrk on the other. All get the
same request bytes; nginx and the do-nothing handler answer a real answer's bytes. Needs wrk and
nginx (Debian: `apt-get install wrk nginx-light`); without nginx that row is left out.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgpack

from loadtest.wrk import Measured, load, write_script

ROUNDS = 5
SECONDS = 2
CONNECTIONS = 32
REQUESTS = 500
MEMBERS = 1_000
APP = "2021000000000001"
SERVER_CORE, CLIENT_CORE = 0, 1
NGINX, NOTHING = "nginx, a constant", "aiohttp, doing nothing"

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


def phone(number: int) -> dict[str, object]:
    """Make up a phone that is on no list."""
    return {
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
    }


def member(number: int) -> dict[str, object]:
    """Make up a phone whose user is on the list."""
    return phone(number) | {"user": f"m-{number % MEMBERS}"}


def batch(number: int) -> dict[str, object]:
    """Make up a phone that asks about 20 apps."""
    return phone(number) | {"apps": {APP: "1.0.0.1"} | {f"app-{n}": "1.0" for n in range(19)}}


def as_json(asked: dict[str, object], *lines: str) -> bytes:
    """Write a request as bytes on the wire."""
    body = json.dumps(asked, separators=(",", ":")).encode()
    return _with_head(body, "Content-Type: application/json", *lines)


def as_msgpack(asked: dict[str, object]) -> bytes:
    """Write a request in MessagePack, asking for the same."""
    wanted = "application/msgpack"
    return _with_head(msgpack.packb(asked), f"Content-Type: {wanted}", f"Accept: {wanted}")


def as_last(asked: dict[str, object]) -> bytes:
    """Write a request after which the connection ends."""
    return as_json(asked, "Connection: close")


def _with_head(body: bytes, *lines: str) -> bytes:
    head = "\r\n".join(
        (
            *("POST /v1/check HTTP/1.1", "Host: 127.0.0.1", *lines),
            *(f"Content-Length: {len(body)}", "", ""),
        )
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


@dataclass(frozen=True, slots=True)
class Contender:
    """A server, and the script of requests that it is loaded with."""

    name: str
    port: int
    pid: int
    script: Path


def measure(contenders: Sequence[Contender]) -> dict[str, list[Measured]]:
    """Load the contenders in alternation, several rounds."""
    os.sched_setaffinity(0, {CLIENT_CORE})
    found: dict[str, list[Measured]] = {each.name: [] for each in contenders}
    for turn in range(ROUNDS):
        for each in contenders:
            print(f"\rround {turn + 1} of {ROUNDS}: {each.name:40}", end="", file=sys.stderr)
            measured = load(
                each.port, each.script, pid=each.pid, connections=CONNECTIONS, seconds=SECONDS
            )
            found[each.name].append(measured)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    return found


def show(found: dict[str, list[Measured]]) -> None:
    """Print medians over the rounds, and the ratio to nginx, or else to doing nothing."""

    def median(name: str, of: Callable[[Measured], float]) -> float:
        return statistics.median(of(each) for each in found[name])

    base = NGINX if NGINX in found else NOTHING
    print(f"{'':34}{'checks/s':>10}{'CPU µs':>9}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>8}{'wrong':>7}")
    for name, rounds in found.items():
        cpu = median(name, lambda each: each.cpu_us)
        print(
            f"{name:34}{median(name, lambda each: each.rate):>10,.0f}{cpu:>9.1f}"
            f"{median(name, lambda each: each.p50_ms):>9.2f}"
            f"{median(name, lambda each: each.p99_ms):>9.2f}"
            f"{cpu / median(base, lambda each: each.cpu_us):>8.2f}"
            f"{sum(each.wrong for each in rounds):>7}"
        )
    print(f"medians of {ROUNDS} rounds of {SECONDS} s in alternation, {CONNECTIONS} connections;")
    print(f"one core each; ratio: CPU time a check against `{base}`.")


@contextmanager
def nginx(folder: Path, port: int, answer: bytes) -> Iterator[int]:
    """Run an nginx of one worker that returns a constant; give the worker's process id."""
    text = answer.decode().replace("\\", "\\\\").replace("'", "\\'").replace("$", "")
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        "events { worker_connections 1024; }\n"
        "http { access_log off; keepalive_requests 1000000000; keepalive_timeout 75s;\n"
        f"client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};\n"
        f"uwsgi_temp_path {folder}; scgi_temp_path {folder};\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ default_type application/json;\n"
        f"return 200 '{text}'; }} }} }}\n"
    )
    with process("nginx", "-c", str(folder / "nginx.conf"), port=port) as started:
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        worker = int(children[0])
        os.sched_setaffinity(worker, {SERVER_CORE})
        yield worker


def start_gateway(stack: ExitStack, folder: Path) -> tuple[int, int, bytes]:
    """Publish the plan and start a gateway on its core; give port, process id and an answer."""
    ports = {name: free_port() for name in ("up", "admin", "files", "gateway", "second")}
    tidegate = [sys.executable, "-m", "compiler.cli"]
    up = {
        "TIDEGATE_LISTEN": f"127.0.0.1:{ports['up']}",
        "TIDEGATE_ADMIN_LISTEN": f"127.0.0.1:{ports['admin']}",
        "TIDEGATE_FILES_LISTEN": f"127.0.0.1:{ports['files']}",
    }
    stack.enter_context(process(*tidegate, "up", "--dir", str(folder), port=ports["up"], **up))
    wait_for_epoch(ports["up"], 1)
    (folder / "plan" / "apps" / "coffee.yaml").write_text(plan())
    (folder / "plan" / "lists" / "staff.csv").write_text(
        "user_id\n" + "".join(f"m-{number}\n" for number in range(MEMBERS))
    )
    push = [*tidegate, "push", str(folder / "plan"), "--base", "1"]
    environment = os.environ | settings(folder)
    subprocess.run(push, env=environment, check=True, capture_output=True)
    gateway = process(
        *(sys.executable, "-m", "gateway"),
        port=ports["gateway"],
        **settings(folder)
        | {
            "TIDEGATE_LISTEN": f"127.0.0.1:{ports['gateway']}",
            "TIDEGATE_ADMIN_LISTEN": f"127.0.0.1:{ports['second']}",
            "TIDEGATE_CACHE": str(folder / "second"),
            "TIDEGATE_DRAIN_SECONDS": "0",
        },
    )
    started = stack.enter_context(gateway)
    return ports["gateway"], started.pid, wait_for_epoch(ports["gateway"], 2)


def main() -> None:
    """Set everything up, measure, print, and end what was started."""
    if shutil.which("wrk") is None:
        raise SystemExit("`make bench` needs wrk: apt-get install wrk nginx-light")
    folder = Path(tempfile.mkdtemp())
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        port, pid, answer = start_gateway(stack, folder)
        contenders: list[Contender] = []

        def add(name: str, port: int, pid: int, requests: Sequence[bytes]) -> None:
            script = folder / f"script-{len(contenders)}.lua"
            write_script(script, requests)
            contenders.append(Contender(name, port, pid, script))

        phones = [phone(number) for number in range(REQUESTS)]
        plain = [as_json(each) for each in phones]
        if shutil.which("nginx") is not None:
            there = free_port()
            worker = stack.enter_context(nginx(folder, there, answer))
            add(NGINX, there, worker, plain)
            add("nginx, new connection each time", there, worker, [as_last(p) for p in phones])
        (folder / "answer.json").write_bytes(answer)
        there = free_port()
        command = (sys.executable, "-m", "loadtest.nothing", str(there), f"{folder}/answer.json")
        nothing = stack.enter_context(process(*command, port=there))
        add(NOTHING, there, nothing.pid, plain)
        add("tidegate, a stranger to the list", port, pid, plain)
        add("tidegate, members", port, pid, [as_json(member(n)) for n in range(REQUESTS)])
        add("tidegate, 20 apps", port, pid, [as_json(batch(n)) for n in range(REQUESTS)])
        add("tidegate, MessagePack", port, pid, [as_msgpack(each) for each in phones])
        add("tidegate, new connection each time", port, pid, [as_last(each) for each in phones])
        show(measure(contenders))


if __name__ == "__main__":
    main()
