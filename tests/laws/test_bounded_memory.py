"""What clients send cannot fill a worker: values without end stay within bounds and small costs."""

import gc
import os
import time
from itertools import count
from pathlib import Path

import orjson
import pytest

from gateway.loading import Loading, Rules
from gateway.remembered import WORKER_ENTRIES
from gateway.request import parse_body
from gateway.snapshot import Snapshot
from large_epochs import app_id, large_epoch

SOAK = "TIDEGATE_SOAK" in os.environ
CHECKS = 1_000_000 if SOAK else 20_000
APPS = 200 if SOAK else 20
MEBIBYTE = 1 << 20
GROWTH_BYTES = 100 * MEBIBYTE
"""A quarter million entries at 400 bytes, the worst that an entry takes."""

COST = 20
"""When all of eleven values are new to every table, a check costs at most so many known ones."""

PHONE = {
    "user": "u-1",
    "device": "d-1",
    "platform": "android",
    "os_version": "14",
    "client_version": "3.1",
    "city": "city 3",
    "model": "2304FPN6DC",
    "network": "WIFI",
    "region": "CN-ZJ",
    "custom": {"tier": "gold"},
}
# How an adversary makes each of their phones a new one.
WAYS = {
    "models": lambda n: {"model": f"model {n}"},
    "long models": lambda n: {"model": f"{n:>64}"},
    "too long models": lambda n: {"model": f"{n:>250}"},
    "emoji": lambda n: {"model": f"\N{GRINNING FACE} {n:>62}"},
    "platforms": lambda n: {"platform": f"platform {n}"},
    "client versions": lambda n: {"client_version": f"1.{n}.{n % 7}"},
    "os versions": lambda n: {"os_version": f"{n}.0"},
    "regions": lambda n: {"region": f"XX-{n}"},
    "installed versions": lambda n: {"installed": f"1.{n}"},
    "custom numbers": lambda n: {"custom": {"tier": n}},
    "everything": lambda n: {
        **dict.fromkeys(("model", "city", "network", "platform", "region"), f"value {n}"),
        "os_version": f"1.{n}",
        "client_version": f"2.{n}",
        "custom": {"tier": f"tier {n}"},
        "installed": f"1.{n}",
        "user": f"u-{n}",
        "device": f"d-{n}",
    },
    "apps": lambda n: {"app": f"no app {n}"},
}


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """Build an epoch of apps with conditions on all that is varied here."""
    made = large_epoch(1, apps=APPS)
    loading = Loading(made.digest, Rules("demo", (), None), made.blobs)
    assert not loading.missing()
    return loading.build(None)


def bodies(way: str, first: int, checks: int) -> list[bytes]:
    """Write requests ahead, so that only answering them is measured."""
    found = []
    for number in range(first, first + checks):
        sent = PHONE | WAYS[way](number)
        app = sent.pop("app", app_id(number % APPS))
        found.append(orjson.dumps(sent | {"apps": {app: sent.pop("installed", "1.0.0")}}))
    return found


def answer_all(snapshot: Snapshot, asked: list[bytes]) -> float:
    """Answer requests; give the CPU seconds of one."""
    began = time.process_time()
    for body in asked:
        check = parse_body(body, packed=False)
        snapshot.answer(check, dict.fromkeys(snapshot.probes(check)), 1_700_000_000, msgpack=False)
    return (time.process_time() - began) / len(asked)


def resident() -> int:
    """Read this process's resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("way", WAYS)
def test_values_without_end_stay_bounded(snapshot: Snapshot, way: str) -> None:
    """Whatever is new in each check, tables keep to their bound, memory too, and cost is small."""
    answer_all(snapshot, bodies("models", 0, 1) * 1_000)
    known = answer_all(snapshot, bodies("models", 0, 1) * 2_000)
    gc.collect()
    before = resident()
    costs = []
    for first in count(0, 10_000):
        if first >= CHECKS:
            break
        costs.append(answer_all(snapshot, bodies(way, first, 10_000)))
        assert snapshot.memory.used <= WORKER_ENTRIES
        assert len(snapshot.apps.known) <= APPS
    cost, growth = sum(costs) / len(costs), resident() - before
    print(
        f"{CHECKS:,} {way}: {growth / MEBIBYTE:.0f} MiB more, {snapshot.memory.used:,} entries, "
        f"{cost * 1e6:.1f} µs a check next to {known * 1e6:.1f}"
    )
    assert growth < GROWTH_BYTES
    assert cost < COST * known
