"""Upkeep beside the watch: while a window is being frozen, a bad release is halted all the same."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog

from compiler.control.counts import Counts
from compiler.control.duty import Duty
from compiler.control.lease import Lease, LeaseLostError
from compiler.control.upkeep import Upkeep
from compiler.control.watch import Watch
from compiler.control.workplace import Workplace
from compiler.publication.freezing import freeze_due
from compiler.publication.history import walk
from compiler.publication.seat_records import SeatRecords
from compiler.windows import Frozen
from controllers import HALT, running_controls
from gateway.link import connect_sync, parse_url
from interruption import SteppedStore, Steps
from processes import RedisServer, wait_until
from publishing import COFFEE, KEYS, WORKSPACE, Workshop, assert_served, publisher_key
from windows import LATE, NAME, plan_files, push

SEATS = 5_000
CANARY = plan_files(SEATS, release=f"\n    {HALT}")
LOOKED = "tidegate_control_last_look_timestamp_seconds"
FAILURES = "tidegate_control_failures_total"


def fill(workshop: Workshop) -> set[int]:
    """Let the window be full; give the seats."""
    push(workshop, CANARY)
    records = SeatRecords(workshop.mirror)
    record = records.read(COFFEE, "first")
    assert record is not None
    seats = np.unique(np.random.default_rng(1).integers(0, 2**64, SEATS, np.uint64))
    records.fill(COFFEE, "first", seats, record.shards, record.sets)
    records.change(COFFEE, "first", {"seated": len(seats)})
    return set(seats.tolist())


def fail(workshop: Workshop, release: str = "first") -> None:
    """Let a release break its guardrail, by reports as gateways count them."""
    link: Any = workshop.link
    key = KEYS.guard(COFFEE, release, "failed", int(link.time()[0]) // 60)
    link.pfadd(key, *range(300))


def notes(workshop: Workshop) -> list[str]:
    """Give what history says of each epoch, the oldest first."""
    found: list[Any] = list(walk(workshop.store, workshop.live().digest))
    return [each.epoch["note"] for each in found if hasattr(each, "epoch")][::-1]


class Held:
    """Holds the first to reach a step in the store, until it is let go."""

    def __init__(self, at: int = 1) -> None:
        """Hold at the step of that number."""
        self.reached, self.free = threading.Event(), threading.Event()
        self.steps = Steps(at, self._hold)

    def _hold(self) -> None:
        self.reached.set()
        assert self.free.wait(60)


@contextmanager
def on_duty(workshop: Workshop, url: str, *, watched: Any, kept: Any) -> Iterator[Any]:
    """Run a controller's duty over two stores; give it, and what ends it."""
    links = [connect_sync(parse_url(url), timeout_seconds=20) for _ in range(3)]
    key = publisher_key()
    places = [
        Workplace(WORKSPACE, store, link, key)
        for store, link in zip((watched, kept), links[1:], strict=True)
    ]
    over = threading.Event()
    duty = Duty(*places, Lease(links[0], KEYS.control), over)
    thread = threading.Thread(target=duty.run)
    thread.start()
    try:
        yield duty, over, thread
    finally:
        over.set()
        thread.join()
        for link in links:
            link.close()


def metric(duty: Duty, name: str) -> float:
    """Read one of its numbers."""
    lines = duty.counts.render().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name))


def looks_on(duty: Duty) -> None:
    """Wait until guardrails are looked at once more."""
    before = metric(duty, LOOKED)
    wait_until(lambda: metric(duty, LOOKED) > before, "it looks")


def assert_both_done(workshop: Workshop, seats: set[int], order: list[str]) -> None:
    """Find the canary paused, its window frozen with exactly these seats, and both in history."""
    live = workshop.live()
    said = [note.partition(":")[0] for note in notes(workshop)]
    assert said == ["", *order]
    assert [each["value"] for each in live.tree["overrides"]] == ["paused"]
    frozen = live.tree["windows"][NAME]
    assert frozen["count"] == len(seats)
    assert set(Frozen(workshop.store.get_blob(frozen["seats"])).hashes.tolist()) == seats
    record = SeatRecords(workshop.mirror).read(COFFEE, "first")
    assert record is not None
    assert (record.state, record.seated) == ("paused", len(seats))
    assert_served(workshop.link, 3)


def test_a_freeze_holds_up_no_halt(workshop: Workshop, server: RedisServer) -> None:
    """A canary is paused while its window is being frozen; the freeze loses, and then succeeds."""
    seats, held = fill(workshop), Held()
    stores = {"watched": workshop.store, "kept": SteppedStore(workshop.store, held.steps)}
    with on_duty(workshop, server.url, **stores) as (duty, _, _):
        assert held.reached.wait(30)
        looks_on(duty)
        fail(workshop)
        wait_until(lambda: workshop.live().number == 2, "the canary is halted")
        assert not workshop.live().tree["windows"][NAME]["seats"]
        looks_on(duty)
        assert duty.is_well()
        held.free.set()
        wait_until(lambda: workshop.live().tree["windows"][NAME]["seats"], "it is frozen")
    assert_both_done(workshop, seats, ["halted", "full or over"])
    assert metric(duty, FAILURES) == 0


def test_a_halt_that_comes_second_is_tried_again(workshop: Workshop, server: RedisServer) -> None:
    """A halt that loses against a freeze is made anew, upon the frozen window."""
    seats, held = fill(workshop), Held()
    fail(workshop)
    stores = {"watched": SteppedStore(workshop.store, held.steps), "kept": workshop.store}
    with on_duty(workshop, server.url, **stores) as (duty, _, _):
        assert held.reached.wait(30)
        wait_until(lambda: workshop.live().number == 2, "the window is frozen")
        held.free.set()
        wait_until(lambda: workshop.live().number == 3, "the canary is halted")
    assert_both_done(workshop, seats, ["full or over", "halted"])
    assert metric(duty, FAILURES) == 0


def test_an_end_ends_a_freeze(workshop: Workshop, server: RedisServer) -> None:
    """Told to end, it leaves what it has begun, publishes nothing, and only then has ended."""
    seats, held = fill(workshop), Held()
    stores = {"watched": workshop.store, "kept": SteppedStore(workshop.store, held.steps)}
    with on_duty(workshop, server.url, **stores) as (_, over, thread):
        assert held.reached.wait(30)
        over.set()
        thread.join(0.5)
        assert thread.is_alive()  # so nobody else is given the lease meanwhile
        held.free.set()
    assert workshop.live().number == 1
    records = SeatRecords(workshop.mirror)
    record = records.read(COFFEE, "first")
    assert record is not None
    assert record.state == "open"
    assert set(records.seats(COFFEE, "first", record).tolist()) == seats


def test_a_lost_lease_ends_a_freeze(workshop: Workshop) -> None:
    """Whenever it is lost, all is as before or all is done, and another one can do it."""
    seats = fill(workshop)
    place = Workplace(WORKSPACE, workshop.store, workshop.link, publisher_key())
    for steps in range(100):
        left = iter(range(steps))
        one = Upkeep(place, Counts(), lambda left=left: next(left, None) is not None)
        try:
            one.turn()
        except LeaseLostError:
            if workshop.live().number == 2:
                break
            record = SeatRecords(workshop.mirror).read(COFFEE, "first")
            assert record is not None
            assert record.seated == len(seats)
            assert workshop.mirror.pointer() == workshop.live().pointer
        else:
            break
    assert steps > 3
    one = Upkeep(place, Counts(), lambda: True)
    one.turn()
    assert workshop.live().number == 2
    assert workshop.live().tree["windows"][NAME]["count"] == len(seats)


def test_a_freeze_tells_of_the_seats_that_it_reads(workshop: Workshop) -> None:
    """It tells of progress from its first piece on, so that it can be ended there, too."""
    seats, told = fill(workshop), list[tuple[str, int, int]]()
    options: Any = {"store": workshop.store, "link": workshop.link, "workspace": WORKSPACE}
    freeze_due(
        key=publisher_key(), now=workshop.now, progress=lambda *each: told.append(each), **options
    )
    assert told[0] == ("windows: seats read", len(seats), len(seats))


def test_what_is_frozen_is_not_read_again(workshop: Workshop) -> None:
    """Beside a window that is open, a frozen one costs no turn its seats."""
    fill(workshop)
    upkeep = Upkeep(
        Workplace(WORKSPACE, workshop.store, workshop.link, publisher_key()), Counts(), lambda: True
    )
    upkeep.turn()
    second = f"\n  - {{id: second, package: 1.0.0.2, audience: {{first: 9, until: '{LATE}'}}}}"
    push(workshop, plan_files(SEATS, release=second))
    windows = workshop.live().tree["windows"]
    assert [bool(each["seats"]) for _, each in sorted(windows.items())] == [True, False]
    workshop.store.delete_blobs([windows[NAME]["seats"]])
    upkeep.turn()
    assert workshop.live().number == 3


def test_a_halt_waits_for_no_gateway(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one lags, the next bad release is halted at the next look; then it is named."""
    second = f"\n  - {{id: second, package: 1.0.0.2, audience: {{percent: 9}}, {HALT}}}"
    push(workshop, plan_files(SEATS, release=f"\n    {HALT}{second}"))
    for release in ("first", "second"):
        fail(workshop, release)
    workshop.announce("slow", 1)
    place = Workplace(WORKSPACE, workshop.store, workshop.link, publisher_key())
    watch, said = Watch(place, Counts(), lambda: True), "the halt on the gateways"
    monkeypatch.setattr("compiler.control.watch.GATEWAYS_SECONDS", 60.0)
    with structlog.testing.capture_logs() as logs:
        watch.turn()
        watch.turn()
        assert [each["value"] for each in workshop.live().tree["overrides"]] == ["paused"] * 2
        assert said not in [each["event"] for each in logs]
        monkeypatch.setattr("compiler.control.watch.GATEWAYS_SECONDS", 0.0)
        workshop.announce("slow", 1)
        watch.turn()
    (told,) = (each for each in logs if each["event"] == said)
    assert (told["epoch"], told["log_level"]) == (3, "error")
    assert told["served"].endswith("not yet: slow")


def test_a_bug_in_one_ends_the_other(
    workshop: Workshop, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No half of the work goes on alone as if all were well."""

    def burst(*_: object) -> None:
        raise ZeroDivisionError

    push(workshop, CANARY)
    monkeypatch.setattr(Upkeep, "turn", burst)
    links = [connect_sync(parse_url(server.url), timeout_seconds=20) for _ in range(3)]
    places = [Workplace(WORKSPACE, workshop.store, each, publisher_key()) for each in links[1:]]
    duty = Duty(*places, Lease(links[0], KEYS.control), threading.Event())
    with pytest.raises(ZeroDivisionError):
        duty.run()


def test_it_says_what_it_is_doing(
    workshop: Workshop, server: RedisServer, tmp_path: Path, controller_key: Path
) -> None:
    """`tidegate control` logs when a freeze begins and ends, with seats and seconds."""
    seats = fill(workshop)
    with running_controls(tmp_path, server.url, workshop.folder, controller_key) as (control,):
        (ended,) = wait_until(lambda: control.events("windows were frozen"), "it is frozen")
        (began,) = control.events("windows are being frozen")
        assert began["seats"] == ended["seats"] == {NAME: len(seats)}
        assert ended["epoch"] == 2
        assert ended["seconds"] >= 0
        wait_until(lambda: control.metric(LOOKED), "it looks")
    assert notes(workshop)[1] == f"full or over: {NAME}"
