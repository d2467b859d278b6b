"""Law 5: windows are exact while Redis keeps what it acknowledged, over any number of gateways.

Never more than N subjects are seated, exactly N if that many come in time, and the seated stay.
TIDEGATE_SOAK asks for the large form: 4 gateways of 2 workers, N = 1,000 of 20,000 subjects.
"""

import os
import random
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import processes
from compiler.publication.restore import restore
from compiler.publication.seat_records import SeatRecord, SeatRecords
from compiler.publication.windows import reopen
from gateway.link import connect_sync, parse_url
from processes import Gateway, RedisServer
from publishing import COFFEE, WORKSPACE, Workshop
from windows import NAME, arrive, plan_files, push

SOAK = "TIDEGATE_SOAK" in os.environ
GATEWAYS, WORKERS = (4, 2) if SOAK else (2, 2)
FIRST, COMERS = (1_000, 20_000) if SOAK else (60, 600)
DEVICES = [f"d-{number}" for number in range(COMERS)]
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

    @property
    def record(self) -> SeatRecord:
        """The window's record."""
        found = SeatRecords(self.workshop.mirror).read(COFFEE, "first")
        assert found is not None
        return found

    def serve(self, number: int) -> None:
        """Wait until every gateway serves this epoch."""
        for gateway in self.gateways:
            processes.wait_until(
                lambda gateway=gateway: _epoch(gateway) == number, f"epoch {number} is served", 30
            )


def _epoch(gateway: Gateway) -> int:
    return int(_metric(gateway, "tidegate_epoch"))


def _metric(gateway: Gateway, name: str) -> float:
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return float(next((line.split()[1] for line in lines if line.startswith(f"{name} ")), "0"))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Run Redis and the gateways; the workshop publishes to them."""
    with ExitStack() as stack:
        server = stack.enter_context(processes.redis_server(tmp_path / "redis"))
        link = connect_sync(parse_url(server.url), timeout_seconds=20)
        stack.callback(link.close)
        workshop = Workshop(tmp_path / "store", link)
        link.config_set("appendonly", "yes")
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
    town.serve(push(town.workshop, plan_files(FIRST)).number)
    others = [f"o-{number}" for number in range(200)]
    assert arrive(town.ports, others, brand="Other") == set()
    seated = arrive(town.ports, DEVICES)
    assert len(seated) == FIRST
    order = random.Random(5).sample(DEVICES, COMERS)
    assert arrive(town.ports, order) == seated
    assert town.record.seated == FIRST
    town.serve(push(town.workshop, plan_files(FIRST)).number)  # frozen: a list
    asked = sum(_metric(each, "tidegate_seat_asked_total") for each in town.gateways)
    assert arrive(town.ports, order) == seated
    assert sum(_metric(each, "tidegate_seat_asked_total") for each in town.gateways) == asked
    town.serve(push(town.workshop, plan_files(FIRST + 20)).number)  # thawed
    raised = arrive(town.ports, DEVICES)
    assert seated < raised
    assert len(raised) == FIRST + 20


def test_a_pause_holds_on_gateways_that_lag(town: Town) -> None:
    """The record says so before any epoch does: nobody is seated by the old one."""
    town.serve(push(town.workshop, plan_files(FIRST)).number)
    seated = arrive(town.ports, DEVICES[:10])
    assert len(seated) == 10
    SeatRecords(town.workshop.mirror).change(COFFEE, "first", {"state": "paused"})
    assert arrive(town.ports, DEVICES[10:]) == set()
    assert town.record.seated == 10


def test_redis_and_gateways_killed(town: Town) -> None:
    """With the append-only file on, a kill -9 unseats nobody and frees no seat."""
    town.serve(push(town.workshop, plan_files(FIRST)).number)
    killer = threading.Thread(target=_kill, args=(town,))
    killer.start()
    seated = arrive(town.ports[:1], DEVICES[: FIRST // 2], streams=4)
    killer.join()
    # Those whom nobody could ask for were told of the next release, and nothing else was.
    town.gateways[1].start()
    town.serve(1)
    processes.wait_until(lambda: arrive(town.ports, ["last"]) == {"last"}, "seats again", 30)
    everybody = arrive(town.ports, DEVICES)
    assert seated <= everybody
    assert len(everybody | {"last"}) == FIRST == town.record.seated
    assert arrive(town.ports, DEVICES) == everybody


def _kill(town: Town) -> None:
    time.sleep(0.05)
    town.gateways[1].kill()
    town.server.kill()
    time.sleep(0.3)
    town.server.start(appendonly=True)


def test_an_emptied_redis_seats_nobody(town: Town) -> None:
    """Neither a restore nor a push makes the record anew; an operator does."""
    town.serve(push(town.workshop, plan_files(FIRST)).number)
    arrive(town.ports, DEVICES[:10])
    town.workshop.link.flushall()
    strangers = DEVICES[10:200]
    assert arrive(town.ports, strangers) == set()
    restore(store=town.workshop.store, link=town.workshop.link, workspace=WORKSPACE)
    assert arrive(town.ports, strangers) == set()
    town.serve(push(town.workshop, plan_files(FIRST - 1)).number)
    assert arrive(town.ports, strangers) == set()
    assert sum(_metric(each, "tidegate_seat_lost_total") for each in town.gateways) > 0
    windows = town.workshop.live().tree["windows"]
    assert reopen(town.workshop.mirror, windows, NAME) == FIRST - 1
    assert len(arrive(town.ports, strangers)) == FIRST - 1


def test_a_redis_that_hangs_costs_a_time_out_and_then_nothing(town: Town) -> None:
    """Who cannot be asked for in time gets the next release; after three failures nobody waits."""
    town.serve(push(town.workshop, plan_files(FIRST)).number)
    gateway = town.gateways[0]
    gateway.stop()
    gateway.environment["TIDEGATE_LOOKUP_TIMEOUT_MS"] = "100"
    gateway.start()
    town.serve(1)
    port = town.ports[:1]
    assert arrive(port, ["early"]) == {"early"}
    town.server.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert arrive(port, DEVICES[:200], streams=1) == set()
        assert time.monotonic() - began < 10
        assert arrive(port, ["early"], streams=1) <= {"early"}
        assert _metric(gateway, "tidegate_seat_timeouts_total") < 30
        assert _metric(gateway, "tidegate_seat_refused_total") > 150
    finally:
        town.server.signal(signal.SIGCONT)
    processes.wait_until(lambda: arrive(port, ["late"]) == {"late"}, "it seats again", 20)
