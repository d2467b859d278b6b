"""Law 5: windows are exact while Redis keeps what it acknowledged, over any number of gateways.

Never more than N subjects are seated, exactly N if that many come in time, and the seated stay.
TIDEGATE_SOAK asks for the large form: 4 gateways of 2 workers, N = 1,000 of 20,000 subjects.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import processes
from compiler.publication.publisher_key import create_key
from compiler.publication.restore import restore
from compiler.publication.seat_records import SeatRecord, SeatRecords
from compiler.publication.windows import reopen
from gateway.breaker import THRESHOLD
from gateway.keys import Keys
from gateway.link import connect_sync, parse_url
from gateway.signing import public_line
from processes import Gateway, RedisServer
from publishing import COFFEE, WORKSPACE, Workshop, publisher_key
from windows import arrive, plan_files, push

SOAK = "TIDEGATE_SOAK" in os.environ
GATEWAYS, WORKERS = (4, 2) if SOAK else (2, 2)
FIRST, COMERS = (1_000, 20_000) if SOAK else (60, 600)
DEVICES = [f"d-{number}" for number in range(COMERS)]
LAGGING = 5
PATIENT_MS = "8000"
"""A machine with too few cores is late with everything; law 5 is not about being quick."""


class Town:
    """Gateways over one Redis that writes its append-only file."""

    def __init__(self, server: RedisServer, workshop: Workshop, gateways: list[Gateway]) -> None:
        self.server = server
        self.workshop = workshop
        self.gateways = gateways

    @property
    def ports(self) -> list[int]:
        """Where they listen."""
        return [int(each.url.rpartition(":")[2]) for each in self.gateways]

    def record(self, name: str) -> SeatRecord:
        """Read a window's record."""
        found = SeatRecords(self.workshop.mirror).read(COFFEE, name)
        assert found is not None
        return found

    def run(self, key: Path, *arguments: str, code: int) -> None:
        """Run `tidegate` with this key; hold its exit code to `code`."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
        places = {
            "TIDEGATE_REDIS": self.server.url,
            "TIDEGATE_STORE": str(self.workshop.folder),
            "TIDEGATE_WORKSPACE": WORKSPACE,
            "TIDEGATE_KEY": str(key),
        }
        done = subprocess.run(
            [sys.executable, "-m", "compiler.cli", *arguments, "--wait", "1"],
            cwd=processes.ROOT,
            env=kept | places,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, done.stdout + done.stderr

    def push(self, first: int, name: str) -> None:
        """Publish a window of this size, and wait until every gateway serves it."""
        self.serve(push(self.workshop, plan_files(first, name=name)).number)

    def asked(self) -> int:
        """Count the asks for seats: all of those before the epoch that was waited for."""
        return int(sum(_metric(each, "tidegate_seat_asked_total") for each in self.gateways))

    def serve(self, number: int) -> None:
        """Wait until every gateway serves this epoch."""
        for gateway in self.gateways:
            processes.wait_until(
                lambda gateway=gateway: gateway.served() == number, f"epoch {number} is served", 30
            )


def _metric(gateway: Gateway, name: str) -> float:
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    return float(next((line.split()[1] for line in lines if line.startswith(f"{name} ")), "0"))


def _asked_and_refused(gateway: Gateway) -> tuple[float, float]:
    names = ("tidegate_seat_asked_total", "tidegate_seat_refused_total")
    asked, refused = (_metric(gateway, name) for name in names)
    return asked, refused


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Run Redis and the gateways; the workshop publishes to them. Each test has its own window."""
    tmp_path = tmp_path_factory.mktemp("town")
    with ExitStack() as stack:
        server = stack.enter_context(processes.redis_server(tmp_path / "redis"))
        link = connect_sync(parse_url(server.url), timeout_seconds=20)
        stack.callback(link.close)
        workshop = Workshop(tmp_path / "store", link)
        link.config_set("appendonly", "yes")
        # Every second, on a slow disk, writes may wait for the sync: a kill would lose seats.
        link.config_set("appendfsync", "no")
        gateways = [
            Gateway(
                tmp_path / f"gateway{number}",
                server.url,
                WORKERS=str(WORKERS),
                NAME=f"g{number}",
                LOOKUP_TIMEOUT_MS=PATIENT_MS,
            )
            for number in range(GATEWAYS)
        ]
        for gateway in gateways:
            stack.callback(gateway.stop)
            gateway.start()
        yield Town(server, workshop, gateways)


def test_exactly_n_over_all_gateways(town: Town) -> None:
    """At once and again, frozen and raised: N sit, the same ones, and no one the conditions bar."""
    town.push(FIRST, "w1")
    others = [f"o-{number}" for number in range(200)]
    assert arrive(town.ports, others, brand="Other") == set()
    seated = arrive(town.ports, DEVICES)
    assert len(seated) == FIRST
    order = random.Random(5).sample(DEVICES, COMERS)
    assert arrive(town.ports, order) == seated
    assert town.record("w1").seated == FIRST
    town.push(FIRST, "w1")  # frozen: a list
    asked = town.asked()
    assert arrive(town.ports, order) == seated
    town.push(FIRST + 20, "w1")  # thawed
    assert town.asked() == asked
    raised = arrive(town.ports, DEVICES)
    assert seated < raised
    assert len(raised) == FIRST + 20


def test_a_slow_redis_costs_no_seat(town: Town) -> None:
    """Who may wait for eight seconds is seated, or found on a list, by an answer that took two."""
    town.push(10, "w6")
    town.workshop.link.client_pause(1_500)
    seated = arrive(town.ports, DEVICES[:10])
    assert seated == set(DEVICES[:10])
    town.push(10, "w6")  # frozen: a list
    town.workshop.link.client_pause(1_500)
    assert arrive(town.ports, DEVICES[:20]) == seated


def test_a_pause_holds_on_gateways_that_lag(town: Town, tmp_path: Path) -> None:
    """`tidegate pause`: nobody is seated by whoever goes on serving the epoch before it."""
    town.push(FIRST, "w2")
    known = town.workshop.live().number
    bob = create_key(tmp_path, "bob", None)
    # One that does not know Bob's key serves Ann's last epoch for ever.
    keys = public_line(publisher_key("ann").public)
    lagging = Gateway(
        tmp_path / "lagging",
        town.server.url,
        NAME="lagging",
        TRUSTED_KEYS=keys,
        LOOKUP_TIMEOUT_MS=PATIENT_MS,
    )
    lagging.start()
    try:
        port = [int(lagging.url.rpartition(":")[2])]
        processes.wait_until(lambda: lagging.served() == known, "it serves the epoch", 30)
        announced = Keys(WORKSPACE).gateway("lagging")
        processes.wait_until(lambda: town.workshop.link.exists(announced), "pushes wait for it")
        seated = arrive(port, DEVICES[:10])
        assert len(seated) == 10
        town.run(bob, "pause", COFFEE, "w2", code=LAGGING)
        for gateway in town.gateways:
            processes.wait_until(lambda gateway=gateway: gateway.served() > known, "paused", 30)
        assert arrive(port, DEVICES[10:]) == set()
        assert arrive(town.ports, DEVICES) == set()
        assert lagging.served() == known
        assert (town.record("w2").state, town.record("w2").seated) == ("paused", 10)
        town.run(bob, "resume", COFFEE, "w2", code=LAGGING)
        assert seated < arrive(port, DEVICES[:20])
        assert lagging.served() == known
    finally:
        lagging.stop()


def test_redis_and_gateways_killed(town: Town) -> None:
    """With the append-only file on, a kill -9 unseats nobody and frees no seat."""
    town.push(FIRST, "w3")
    killer = threading.Thread(target=_kill, args=(town,))
    killer.start()
    seated = arrive(town.ports[:1], DEVICES[: FIRST // 2], streams=4)
    killer.join()
    # Those whom nobody could ask for were told of the next release, and nothing else was.
    town.gateways[1].start()
    town.serve(town.workshop.live().number)
    # Each worker leaves Redis alone for up to a second after its failures.
    first = DEVICES[: FIRST // 2]
    processes.wait_until(lambda: seated <= arrive(town.ports, first), "those seated sit", 30)
    everybody = arrive(town.ports, DEVICES)
    assert seated <= everybody
    assert len(everybody) == FIRST == town.record("w3").seated
    assert arrive(town.ports, DEVICES) == everybody


def _kill(town: Town) -> None:
    time.sleep(0.05)
    town.gateways[1].kill()
    town.server.kill()
    time.sleep(0.3)
    town.server.start(appendonly=True)


def test_an_emptied_redis_seats_nobody(town: Town) -> None:
    """Neither a restore nor a push makes the record anew; an operator does."""
    town.push(FIRST, "w4")
    arrive(town.ports, DEVICES[:10])
    town.workshop.link.flushall()
    strangers = DEVICES[10 : 10 + 2 * FIRST]
    assert arrive(town.ports, strangers) == set()
    restore(store=town.workshop.store, link=town.workshop.link, workspace=WORKSPACE)
    assert arrive(town.ports, strangers) == set()
    town.push(FIRST - 1, "w4")
    assert arrive(town.ports, strangers) == set()
    assert sum(_metric(each, "tidegate_seat_lost_total") for each in town.gateways) > 0
    windows = town.workshop.live().tree["windows"]
    assert reopen(town.workshop.mirror, windows, f"{COFFEE}/w4") == FIRST - 1
    assert len(arrive(town.ports, strangers)) == FIRST - 1


def test_a_redis_that_hangs_costs_a_time_out_and_then_nothing(town: Town) -> None:
    """Who cannot be asked for in time gets the next release; after three failures nobody waits."""
    town.push(FIRST, "w5")
    gateway = town.gateways[0]
    gateway.stop()
    gateway.environment["TIDEGATE_LOOKUP_TIMEOUT_MS"] = "100"
    gateway.start()
    town.serve(town.workshop.live().number)
    port = town.ports[:1]
    # An answer that was too late by then seats nobody in vain: it is their seat.
    processes.wait_until(lambda: arrive(port, ["early"]) == {"early"}, "it seats")
    before = _asked_and_refused(gateway)
    town.server.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert arrive(port, DEVICES[:200], streams=1) == set()
        counted = processes.wait_until(
            lambda: (now := _asked_and_refused(gateway)) and sum(now) >= sum(before) + 200 and now,
            "all are counted",
        )
        # From then on each worker tries once a second.
        tries = WORKERS * (THRESHOLD + 1 + time.monotonic() - began)
        assert counted[0] - before[0] <= tries
        assert arrive(port, ["early"], streams=1) <= {"early"}
    finally:
        town.server.signal(signal.SIGCONT)
    processes.wait_until(lambda: arrive(port, ["late"]) == {"late"}, "it seats again", 20)
