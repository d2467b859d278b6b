"""`python -m loadtest.lists`: allowlists by the million, from files to a Redis and a gateway.

Makes ids, publishes them into a Redis, a store and a gateway of its own (on loopback, ended at the
end), adds 1,000 ids, publishes again, and prints one table: seconds by phase, peak memory of the
publishing process, blobs and bytes written, and memory in Redis beside a plain set of such ids.

    python -m loadtest.lists                              10,000,000 ids on 200 lists
    python -m loadtest.lists --lists 1 --sources text     one list, from text files only
    python -m loadtest.lists --json                       the same for a script

Every id is on one list, every tenth on a second one. Sources: `text` and `parquet` are files of the
plan, `stored` is lists that `tidegate allowlist import` would keep in the store.
"""

import argparse
import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compiler.commands.local_redis import LocalRedis
from compiler.compilation import compile_folder
from compiler.lists.allowlist import read_ids
from compiler.lists.amendment import add_ids
from compiler.lists.stored_list import amend_stored_list, write_stored_list
from compiler.plan import ListSource
from compiler.publication.gateways import wait_for_gateways
from compiler.publication.mirror import Mirror
from compiler.publication.publisher import publish
from compiler.publication.publisher_key import PublisherKey
from compiler.storage.store import open_store
from gateway.link import connect_sync, parse_url
from gateway.signing import PublicKey
from loadtest.servers import free_port, running

WORKSPACE = "bench"
APP = "2021000000000001"
SOURCES = ("text", "parquet", "stored")
ADDED = 1_000
PLAIN_IDS = 1_000_000
SERVED_SECONDS = 60.0
_MB = 1_000_000
_REST = "rest (plan, settings, pointer)"


@dataclass(frozen=True, slots=True)
class Pushed:
    """One push: seconds by phase, CPU seconds, peak resident bytes, and what was written.

    `served` is the seconds from the last bucket in Redis to a gateway that serves the epoch.
    """

    name: str
    seconds: float
    phases: dict[str, float]
    served: float
    cpu_seconds: float
    peak: int
    stored: int
    stored_bytes: int
    redis_blobs: int
    buckets: int
    redis_bytes: int
    redis_memory: int


class Phases:
    """Seconds by phase: what passes until progress is told counts for what it tells."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}
        self.filled = 0.0
        self._last = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Hear of progress."""
        self.tell(what)
        if what.startswith("Redis: shards") and done == total and not self.filled:
            self.filled = self._last

    def tell(self, what: str) -> None:
        """Count the time since the last word for this."""
        now = time.monotonic()
        self.found[what] = self.found.get(what, 0.0) + now - self._last
        self._last = now


def id_texts(numbers: np.ndarray) -> list[str]:
    """Make ids of numbers, in no order."""
    mixed = (numbers.astype(np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)) >> np.uint64(16)
    return [f"u-{each:012x}" for each in mixed.tolist()]


def members(ids: int, lists: int) -> Iterator[tuple[str, list[str]]]:
    """Give each list's name and ids: list k has the numbers k, k + lists, … and some of k - 1."""
    for at in range(lists):
        own = np.arange(at, ids, lists)
        more = np.arange(at - 1, ids, lists * 10) if at else own[:0]
        yield f"list{at:03}", id_texts(np.concatenate([own, more]))


def write_plan(plan: Path, source: str, lists: int) -> None:
    """Write a plan of one app; each list has a release."""
    (plan / "apps").mkdir(parents=True)
    (plan / "lists").mkdir()
    (plan / "workspace.yaml").write_text(f"workspace: {WORKSPACE}\n")
    where = {
        "text": "file: lists/{}.txt",
        "parquet": "file: lists/{}.parquet, column: id",
        "stored": "stored: true",
    }[source]
    names = [f"list{at:03}" for at in range(lists)]
    entries = (f"  - {{list: {each}, of: user, {where.format(each)}}}\n" for each in names)
    (plan / "lists.yaml").write_text("lists:\n" + "".join(entries))
    releases = (
        f"  - {{id: {each}, package: 1.0, audience: {{lists: [{each}]}}}}\n" for each in names
    )
    (plan / "apps" / "app.yaml").write_text(
        f"app: {APP}\npackages: [{{version: 1.0}}]\nreleases:\n{''.join(releases)}"
    )
    sha256 = "0" * 64
    form = {
        "compression": "identity",
        "path": f"files/00/{sha256}.zip",
        "sha256": sha256,
        "size": 9,
    }
    record = {"format": 1, "forms": [form], "sha256": sha256, "signatures": [], "size": 9}
    (plan / "packages" / APP).mkdir(parents=True)
    (plan / "packages" / APP / "1.0.json").write_text(json.dumps(record))


def write_ids(plan: Path, store: Path, source: str, name: str, ids: list[str]) -> None:
    """Write a list's ids where the plan looks for them."""
    if source == "parquet":
        pq.write_table(pa.table({"id": ids}), plan / "lists" / f"{name}.parquet")
        return
    path = plan / "lists" / f"{name}.txt"
    path.write_text("\n".join(ids) + "\n")
    if source == "stored":
        found = read_ids(ListSource(name, "user", file=path.name), path.parent, ())
        write_stored_list(open_store(str(store)), found, int(time.time()))
        path.unlink()


def add(plan: Path, store: Path, source: str, ids: int) -> float:
    """Add ids to the first list; give the seconds that `allowlist add` takes, 0 for files."""
    new = id_texts(np.arange(ids, ids + ADDED))
    if source == "stored":
        start = time.monotonic()
        run = "".join(f"{each}\n" for each in sorted(new)).encode()
        amend_stored_list(
            open_store(str(store)), "list000", lambda text: add_ids(text, run), int(time.time())
        )
        return time.monotonic() - start
    if source == "parquet":
        path = plan / "lists" / "list000.parquet"
        pq.write_table(pa.table({"id": [*pq.read_table(path)["id"].to_pylist(), *new]}), path)
    else:
        with (plan / "lists" / "list000.txt").open("a") as file:
            file.write("\n".join(new) + "\n")
    return 0.0


def push(name: str, plan: Path, store: Path, url: str) -> Pushed:
    """Compile and publish, as `tidegate push` does; runs in a process of its own, for its peak."""
    place = open_store(str(store))
    link = connect_sync(parse_url(url), timeout_seconds=30)
    phases, start, used = Phases(), time.monotonic(), time.process_time()
    image, _ = compile_folder(plan, place, int(time.time()), progress=phases)
    private = Ed25519PrivateKey.generate()
    key = PublisherKey(PublicKey("bench", private.public_key().public_bytes_raw()), private)
    published = publish(
        image,
        store=place,
        link=link,
        key=key,
        workspace=WORKSPACE,
        now=int(time.time()),
        force=True,
        progress=phases,
    )
    phases.tell(_REST)
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - used
    mirror = Mirror(link, WORKSPACE)
    waited = wait_for_gateways(mirror, published.number, timeout_seconds=SERVED_SECONDS)
    if waited.laggards or not waited.total:
        raise SystemExit("the gateway does not serve the epoch: see its log")
    served = time.monotonic() - phases.filled
    told: Any = link.info("memory")
    link.close()
    return Pushed(
        name=name,
        seconds=seconds,
        phases=phases.found,
        served=served,
        cpu_seconds=cpu_seconds,
        peak=peak_memory(),
        stored=published.stored,
        stored_bytes=published.stored_bytes,
        redis_blobs=published.blobs,
        buckets=published.buckets,
        redis_bytes=published.redis_bytes,
        redis_memory=int(told["used_memory"]),
    )


def apart(work: Callable[..., Any], *arguments: object) -> Any:
    """Run a function in a fresh process, so that its peak of memory is its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(work, *arguments).result()


def peak_memory() -> int:
    """Read the most resident bytes that this process had; getrusage would count its parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def used_memory(url: str) -> int:
    """Ask a Redis how many bytes it uses."""
    link = connect_sync(parse_url(url), timeout_seconds=30)
    told: Any = link.info("memory")
    link.close()
    return int(told["used_memory"])


def measure(source: str, ids: int, lists: int, folder: Path) -> tuple[list[Pushed], dict[str, Any]]:
    """Publish lists from a source, add some ids, publish again; give both pushes and figures."""
    plan, store = folder / "plan", folder / "store"
    store.mkdir(parents=True)
    write_plan(plan, source, lists)
    print(f"{source}: making ids, publishing", file=sys.stderr)
    for name, texts in members(ids, lists):
        write_ids(plan, store, source, name, texts)
    with ExitStack() as stack:
        redis = stack.enter_context(LocalRedis(folder / "redis"))
        empty = used_memory(redis.url)
        port = free_port()
        environment = os.environ | {
            "TIDEGATE_WORKSPACE": WORKSPACE,
            "TIDEGATE_REDIS": redis.url,
            "TIDEGATE_STORE": str(store),
            "TIDEGATE_CACHE": str(folder / "cache"),
            "TIDEGATE_DRAIN_SECONDS": "0",
            "TIDEGATE_LISTEN": f"127.0.0.1:{port}",
            "TIDEGATE_ADMIN_LISTEN": f"127.0.0.1:{free_port()}",
        }
        command = [sys.executable, "-m", "gateway"]
        stack.enter_context(running(command, port, folder / "gateway.log", environment))
        first = apart(push, f"{source}, first push", plan, store, redis.url)
        adding = add(plan, store, source, ids)
        second = apart(push, f"{source}, {ADDED:,} ids more", plan, store, redis.url)
    figures = {f"{source}: Redis, bytes an id": (first.redis_memory - empty) / ids}
    if adding:
        figures[f"{source}: seconds to add {ADDED:,} ids to a stored list"] = adding
    return [first, second], figures


def plain_set(ids: int, folder: Path) -> float:
    """Put ids into a plain Redis set; give the bytes an id."""
    with LocalRedis(folder / "plain") as redis:
        before = used_memory(redis.url)
        link: Any = connect_sync(parse_url(redis.url), timeout_seconds=30)
        for start in range(0, ids, 10_000):
            link.sadd("plain", *id_texts(np.arange(start, min(ids, start + 10_000))))
        link.close()
        return (used_memory(redis.url) - before) / ids


def show(pushes: Sequence[Pushed], figures: dict[str, float]) -> None:
    """Print the table: a row a figure, a column a push."""
    phases = list(dict.fromkeys(name for each in pushes for name in each.phases))
    rows: list[tuple[str, Callable[[Pushed], str]]] = [
        *((f"  {name}, s", _seconds(name)) for name in phases),
        ("compile and publish, s", lambda each: f"{each.seconds:.1f}"),
        ("CPU of the push, s", lambda each: f"{each.cpu_seconds:.1f}"),
        ("blobs up to served, s", lambda each: f"{each.served:.1f}"),
        ("peak memory of the push, MB", lambda each: f"{each.peak / _MB:,.0f}"),
        ("blobs to the store", lambda each: f"{each.stored:,}"),
        ("MB to the store", lambda each: f"{each.stored_bytes / _MB:,.1f}"),
        ("blobs to Redis", lambda each: f"{each.redis_blobs:,}"),
        ("buckets to Redis", lambda each: f"{each.buckets:,}"),
        ("MB to Redis", lambda each: f"{each.redis_bytes / _MB:,.1f}"),
    ]
    width = max(len(each.name) for each in pushes) + 3
    print(f"{'':40}" + "".join(f"{each.name:>{width}}" for each in pushes))
    for title, of in rows:
        print(f"{title:40}" + "".join(f"{of(each):>{width}}" for each in pushes))
    for title, figure in figures.items():
        print(f"{title:60}{figure:8.2f}")


def _seconds(phase: str) -> Callable[[Pushed], str]:
    return lambda each: f"{each.phases.get(phase, 0.0):.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every source, print, and end what was started."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ids", type=int, default=10_000_000)
    parser.add_argument("--lists", type=int, default=200)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES)
    parser.add_argument("--plain-ids", type=int, default=PLAIN_IDS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp())
    pushes: list[Pushed] = []
    figures: dict[str, float] = {}
    try:
        for source in asked.sources:
            pair, found = measure(source, asked.ids, asked.lists, folder / source)
            pushes += pair
            figures |= found
            shutil.rmtree(folder / source)
        figures["a plain set, bytes an id"] = plain_set(asked.plain_ids, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if asked.json:
        print(json.dumps({"pushes": [asdict(each) for each in pushes], "figures": figures}))
        return
    print(f"{asked.ids:,} ids on {asked.lists} lists; plain set: {asked.plain_ids:,} ids")
    show(pushes, figures)


if __name__ == "__main__":
    main()
