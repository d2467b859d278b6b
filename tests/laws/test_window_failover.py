"""Law 5 on a Cluster: what a failover may cost a time window, and that it is never more.

A master acknowledges a seat before its replica has it. One that dies may so lose the seats of its
last moment: those subjects were told of the package once, and their seats are free again. So in
all at most N subjects are told, and as many more as seats were lost; the record never has more
than N.
"""

import os
import signal
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import redis

import processes
from compiler.publication.mirror import Mirror
from compiler.publication.seat_records import SeatRecord, SeatRecords
from gateway.errors import StoreError
from gateway.link import connect_sync, parse_url
from processes import Gateway
from publishing import COFFEE, KEYS, WORKSPACE, Workshop
from windows import arrive, hash_of, plan_files, push

SOAK = "TIDEGATE_SOAK" in os.environ
FIRST, COMERS = (2_000, 20_000) if SOAK else (200, 1_500)
WINDOW = KEYS.window(COFFEE, "first")


def test_a_failover_in_the_middle(tmp_path: Path) -> None:
    """The seats that were lost are those of the last moment, and only they are given again."""
    with ExitStack() as stack:
        url, _ = stack.enter_context(processes.replicated_cluster(tmp_path / "cluster"))
        link = connect_sync(parse_url(url), timeout_seconds=20)
        stack.callback(link.close)
        workshop = Workshop(tmp_path / "store", link)
        push(workshop, plan_files(FIRST))
        gateways = [
            Gateway(tmp_path / name, url, NAME=name, LOOKUP_TIMEOUT_MS="2000") for name in "ab"
        ]
        for gateway in gateways:
            stack.callback(gateway.stop)
            gateway.start()
            processes.wait_until(lambda gateway=gateway: gateway.events("serving"), "it serves")
        ports = [int(each.url.rpartition(":")[2]) for each in gateways]
        told_at: dict[str, float] = {}
        copied: list[float] = []
        killer = threading.Thread(target=_kill_when, args=(link, told_at, copied))
        killer.start()
        devices = [f"d-{number}" for number in range(COMERS)]
        before: set[str] = set()
        for start in range(0, FIRST, 20):
            for device in arrive(ports, devices[start : start + 20], streams=2):
                told_at.setdefault(device, time.monotonic())
                before.add(device)
        killer.join()
        again = connect_sync(parse_url(url), timeout_seconds=20)
        stack.callback(again.close)
        records = SeatRecords(Mirror(again, WORKSPACE))
        processes.wait_until(lambda: _is_there(records), "a replica took over", 40)
        told = set(before)

        def full() -> SeatRecord | None:
            told.update(arrive(ports, devices))
            found = records.read(COFFEE, "first")
            return found if found and found.seated >= FIRST else None

        record = processes.wait_until(full, "all seats are taken", 60)
        seats = set(records.seats(COFFEE, "first", record).tolist())
        assert record.seated == len(seats) == FIRST
        sitting = {each for each in devices if hash_of(each) in seats}
        lost = before - sitting
        print(f"\n{len(lost)} of {len(before)} seats lost, {len(told)} told in all")
        assert len(told) <= FIRST + len(lost)
        assert sitting <= told
        assert all(told_at[each] > copied[0] for each in lost)


def _is_there(records: SeatRecords) -> bool:
    with suppress(StoreError):
        return records.read(COFFEE, "first") is not None
    return False


def _kill_when(link: redis.RedisCluster, told: dict[str, float], copied: list[float]) -> None:
    """Kill the master that has the window's slot, once a quarter is seated.

    What was written by the moment in `copied`, the replica has.
    """
    while len(told) < FIRST // 4:
        time.sleep(0.005)
    node = link.get_node_from_key(WINDOW)
    with redis.Redis(port=node.port, socket_timeout=40) as client:
        pid = int(client.info("server")["process_id"])
        moment = time.monotonic()
        client.set(f"{WINDOW}:mark", "")
        if client.wait(1, 30_000) == 1:
            copied.append(moment)
    os.kill(pid, signal.SIGKILL)
