"""`python -m loadtest.footprint`: what a gateway's workers keep in memory, and how soon they serve.

For 200 and 10,000 apps of 10 releases each it publishes a plan to a Redis of its own, starts a
gateway, and reads resident (RSS) and proportional memory (PSS: a page that n processes share
counts an n-th in each) when it is ready, and again after every app was asked for once.

    python -m loadtest.footprint                     both sizes, one worker
    python -m loadtest.footprint --apps 200          one size
    python -m loadtest.footprint --ids 10000000      with so many ids on 200 lists
    python -m loadtest.footprint --workers 2         so many gateways that share one cache folder
"""

import argparse
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from loadtest.all_in_one import process, settings, wait_for_epoch
from loadtest.servers import free_port

APPS = (200, 10_000)
RELEASES = 10
LISTS = 200
ASKED_AT_ONCE = 20
READY_SECONDS = 120.0
PACKAGE = b"a package"

CONDITIONS = (
    "{attribute: city, in: [Hangzhou, Shanghai]}",
    "{attribute: model, matches: ['23*', '24*']}",
    "{attribute: custom.tier, in: [gold]}",
    "{attribute: client_version, at_least: 10.3}",
    "{attribute: network, in: [WIFI]}",
    "{attribute: os_version, between: [12, 15.1]}",
    "{attribute: region, not_in: [CN-XJ]}",
    "{attribute: brand, in: [Xiaomi, Redmi]}",
)
"""One for each of the upper eight releases; below them are a percentage and everyone."""
assert len(CONDITIONS) == RELEASES - 2

PHONE = {
    "user": "u-1",
    "device": "d-1",
    "platform": "android",
    "os_version": "14",
    "client_version": "10.2.3",
    "brand": "Xiaomi",
    "model": "2304FPN6DC",
    "network": "5G",
    "city": "Hangzhou",
    "region": "CN-ZJ",
    "custom": {"tier": "gold"},
}


@dataclass(frozen=True, slots=True)
class Memory:
    """What processes keep, in bytes, summed over them."""

    rss: int
    pss: int


def app_id(number: int) -> str:
    """Give the id of the app of this number."""
    return f"{3021000000000001 + number:016}"


def write_plan(folder: Path, apps: int, ids: int) -> None:
    """Write a plan of so many apps, and so many ids spread over 200 lists (none for 0)."""
    for name in ("apps", "packages", "lists"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
    (folder / "lists.yaml").unlink(missing_ok=True)
    if ids:
        _write_lists(folder, ids)
    for number in range(apps):
        (folder / "apps" / f"app-{number}.yaml").write_text(_app(number, LISTS if ids else 0))
        for minor in range(1, RELEASES + 1):
            _write_record(folder, app_id(number), f"1.0.0.{minor}")


def _app(number: int, lists: int) -> str:
    lines = [f"app: {app_id(number)}", "packages:"]
    lines += [f"  - {{version: 1.0.0.{minor}}}" for minor in range(1, RELEASES + 1)]
    lines.append("releases:")
    lines.append("  - {id: r1, package: 1.0.0.1, audience: everyone}")
    lines.append("  - {id: r2, package: 1.0.0.2, audience: {percent: 12.5}}")
    for minor, condition in enumerate(CONDITIONS, 3):
        listed = lists and minor == RELEASES
        audience = f"{{lists: [list-{number % lists}]}}" if listed else "everyone"
        lines.append(
            f"  - {{id: r{minor}, package: 1.0.0.{minor}, audience: {audience},"
            f" when: [{condition}]}}"
        )
    return "\n".join(lines) + "\n"


def _write_lists(folder: Path, ids: int) -> None:
    names = [f"list-{number}" for number in range(LISTS)]
    rows = "".join(f"  - {{list: {name}, of: user, file: lists/{name}.txt}}\n" for name in names)
    (folder / "lists.yaml").write_text("lists:\n" + rows)
    for number, name in enumerate(names):
        mine = range(number, ids, LISTS)
        (folder / "lists" / f"{name}.txt").write_text("".join(f"m-{each}\n" for each in mine))


def _write_record(plan: Path, app: str, version: str) -> None:
    # The store has the same bytes by every name: what a package holds is no matter here.
    sha256 = hashlib.sha256(f"{app}/{version}".encode()).hexdigest()
    size = len(PACKAGE)
    path = f"files/{sha256[:2]}/{sha256}.zip"
    form = {"compression": "identity", "path": path, "sha256": sha256, "size": size}
    text = {"format": 1, "forms": [form], "sha256": sha256, "signatures": [], "size": size}
    (plan / "packages" / app).mkdir(exist_ok=True)
    (plan / "packages" / app / f"{version}.json").write_text(json.dumps(text))
    stored = plan.parent / "store" / path
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_bytes(PACKAGE)


def memory_of(pids: Sequence[int]) -> Memory:
    """Read what these processes keep."""
    sums = {"Rss": 0, "Pss": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in sums:
                sums[name] += int(rest.split()[0]) * 1024
    return Memory(sums["Rss"], sums["Pss"])


def publish(folder: Path, apps: int, ids: int) -> None:
    """Write the plan and push it over what is live."""
    print(f"publishing {apps:,} apps and {ids:,} ids …", file=sys.stderr)
    (folder / "plan" / "rules.yaml").unlink(missing_ok=True)
    write_plan(folder / "plan", apps, ids)
    command = [sys.executable, "-m", "compiler.cli", "push", str(folder / "plan"), "--force"]
    done = subprocess.run(
        command, env=os.environ | settings(folder), check=False, capture_output=True, text=True
    )
    if done.returncode not in (0, 5):  # 5: not yet on every gateway, which is waited for here
        raise SystemExit(f"the push failed:\n{done.stderr[-2000:]}")


@dataclass(frozen=True, slots=True)
class Worker:
    """A running gateway: process, where clients ask, and how long it took to be ready."""

    pid: int
    port: int
    start_seconds: float


@contextmanager
def worker(folder: Path) -> Iterator[Worker]:
    """Run a gateway with the cache folder that all share, from its start to the block's end."""
    port, admin = free_port(), free_port()
    environment = settings(folder) | {
        "TIDEGATE_LISTEN": f"127.0.0.1:{port}",
        "TIDEGATE_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "TIDEGATE_CACHE": str(folder / "cache"),
        "TIDEGATE_DRAIN_SECONDS": "0",
    }
    began = time.monotonic()
    started = subprocess.Popen(
        [sys.executable, "-m", "gateway"],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _is_ready(admin):
            if started.poll() is not None or time.monotonic() > began + READY_SECONDS:
                raise SystemExit("the gateway does not become ready")
            time.sleep(0.01)
        yield Worker(started.pid, port, time.monotonic() - began)
    finally:
        started.terminate()
        started.wait(20)


def _is_ready(port: int) -> bool:
    url = f"http://127.0.0.1:{port}/health/ready"
    with suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
        return bool(response.status == 200)
    return False


def ask_all(port: int, apps: int) -> None:
    """Ask once for every app, as one phone."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        for first in range(0, apps, ASKED_AT_ONCE):
            some = range(first, min(first + ASKED_AT_ONCE, apps))
            body = json.dumps(PHONE | {"apps": {app_id(each): "1.0.0.1" for each in some}})
            client.request("POST", "/v1/check", body, {"Content-Type": "application/json"})
            answers = json.loads(client.getresponse().read())["apps"]
            if any(each["status"] not in ("update", "latest") for each in answers):
                raise SystemExit(f"unexpected answers: {answers[:2]}")
    finally:
        client.close()


def measure(folder: Path, apps: int, ids: int, workers: int) -> None:
    """Publish, start the workers, ask, and print a row for each of the two moments."""
    publish(folder, apps, ids)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    with ExitStack() as stack:
        running = [stack.enter_context(worker(folder)) for _ in range(workers)]
        seconds = max(each.start_seconds for each in running)
        pids = [each.pid for each in running]
        time.sleep(1.0)  # what is written after the epoch is served is written
        show(f"{apps:,} apps, {ids:,} ids: ready", memory_of(pids), workers, seconds)
        for each in running:
            ask_all(each.port, apps)
        show("  after every app was asked for", memory_of(pids), workers, None)


def show(name: str, found: Memory, workers: int, seconds: float | None) -> None:
    """Print a row: means over the workers."""
    took = "" if seconds is None else f"{seconds:.2f}"
    mean_rss, mean_pss = (each / workers / 1e6 for each in (found.rss, found.pss))
    print(f"{name:44}{mean_rss:>10.0f}{mean_pss:>10.0f}{took:>10}", flush=True)


def main() -> None:
    """Measure every size, print a table, and end what was started."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--apps", type=int, help="one number of apps (200 and 10,000 if absent)")
    asked.add_argument("--ids", type=int, default=0, help="ids over 200 lists")
    asked.add_argument("--workers", type=int, default=1, help="gateways on one cache folder")
    options = asked.parse_args()
    folder = Path(tempfile.mkdtemp())
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        addresses = {
            f"TIDEGATE_{name}": f"127.0.0.1:{free_port()}"
            for name in ("LISTEN", "ADMIN_LISTEN", "FILES_LISTEN")
        }
        up = [sys.executable, "-m", "compiler.cli", "up", "--dir", str(folder)]
        port = int(addresses["TIDEGATE_LISTEN"].rpartition(":")[2])
        stack.enter_context(process(*up, port=port, **addresses))
        wait_for_epoch(port, 1)
        print(f"{'a worker, in MB':44}{'RSS':>10}{'PSS':>10}{'start s':>10}", flush=True)
        for apps in APPS if options.apps is None else (options.apps,):
            measure(folder, apps, options.ids, options.workers)


if __name__ == "__main__":
    main()
