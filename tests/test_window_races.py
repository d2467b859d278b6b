"""Time windows under pushes that meet one another, are killed, or come after a `gc`."""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from compiler.publication.seat_records import SeatRecord, SeatRecords
from compiler.publication.windows import collect, lost, prepare, reopen, settle
from compiler.refusal import Refused
from compiler.status.observer import window_fills
from gateway.link import connect_sync, parse_url
from gateway.seating import LOST
from processes import RedisServer
from publishing import COFFEE, KEYS, Workshop
from windows import LATE, NAME, crowd, plan_files, push, sit

DEVICES = [f"d-{number}" for number in range(300)]
FEW, MANY = 100, 9_000


@pytest.fixture(name="other")
def _other(workshop: Workshop, server: RedisServer) -> Iterator[Workshop]:
    """Give another operator's place, over the same Redis and store."""
    link = connect_sync(parse_url(server.url), timeout_seconds=20)
    yield Workshop(workshop.folder, link)
    link.close()


def record_of(workshop: Workshop) -> SeatRecord:
    """Read the window's record."""
    found = SeatRecords(workshop.mirror).read(COFFEE, "first")
    assert found is not None
    return found


def sitting(workshop: Workshop) -> set[str]:
    """Give the devices that have a seat."""
    return {each for each in DEVICES if sit(workshop, each, takes=False) == 1}


def without_window(workshop: Workshop) -> None:
    """Publish the plan with the release for everyone, so that its window is gone."""
    files = plan_files(3)
    text = files["apps/coffee.yaml"].replace(f"{{first: 3, until: '{LATE}'}}", "everyone")
    push(workshop, {**files, "apps/coffee.yaml": text})


def test_two_pushes_that_both_raise_it_lose_no_seat(
    workshop: Workshop, other: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever spreads the seats first, the other one finds that they have moved."""
    push(workshop, plan_files(FEW))
    seated = crowd(workshop, DEVICES[:90])
    base, gather, rivals = workshop.live(), SeatRecords.seats, [other]

    def interrupted(self: SeatRecords, app: str, release: str, record: SeatRecord) -> object:
        if rivals:
            push(rivals.pop(), plan_files(MANY), onto=base)
        return gather(self, app, release, record)

    monkeypatch.setattr(SeatRecords, "seats", interrupted)
    with pytest.raises(Refused, match="other seats meanwhile"):
        push(workshop, plan_files(MANY + 1_000), onto=base)
    assert sitting(workshop) == seated
    assert (record_of(workshop).state, record_of(workshop).first) == ("open", MANY)
    keys = list(workshop.mirror.scan(KEYS.windows))
    assert all(f":{record_of(workshop).sets}." in key for key in keys if "." in key[-4:])


def test_who_is_seated_while_it_is_spread_or_thawed_stays(
    workshop: Workshop, other: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command's `settle` opens the record meanwhile, or its push has won: X sits."""
    push(workshop, plan_files(FEW))
    crowd(workshop, DEVICES[:50])
    fill, rivals = SeatRecords.fill, [None]

    def interrupted(self: SeatRecords, *arguments: object) -> None:
        fill(self, *arguments)
        if rivals:
            rivals.pop()
            settle(other.mirror, other.store.get_blob)
            assert sit(other, "X") == 1

    monkeypatch.setattr(SeatRecords, "fill", interrupted)
    with pytest.raises(Refused, match="51, not 50"):
        push(workshop, plan_files(MANY))
    assert sit(workshop, "X", takes=False) == 1
    push(workshop, plan_files(MANY))
    assert (record_of(workshop).seated, sit(workshop, "X", takes=False)) == (51, 1)


def test_two_pushes_that_both_thaw_it_lose_no_seat(
    workshop: Workshop, other: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slower one does not put back the seats that were frozen."""
    push(workshop, plan_files(5))
    crowd(workshop, DEVICES)
    push(workshop, plan_files(5))
    base, fill, rivals = workshop.live(), SeatRecords.fill, [other]

    def interrupted(self: SeatRecords, *arguments: object) -> None:
        fill(self, *arguments)
        if rivals:
            push(rivals.pop(), plan_files(9), onto=base)
            assert sit(other, "X") == 1

    monkeypatch.setattr(SeatRecords, "fill", interrupted)
    with pytest.raises(Refused, match="other seats meanwhile"):
        push(workshop, plan_files(8), onto=base)
    assert (record_of(workshop).seated, sit(workshop, "X", takes=False)) == (6, 1)
    frozen = base.tree["windows"]
    thawed = {NAME: {**frozen[NAME], "seats": b"", "count": 0, "first": 8}}
    with pytest.raises(Refused, match="other seats meanwhile: 6, not 5"):
        prepare(workshop.mirror, frozen, thawed, workshop.store.get_blob)  # begun only now
    assert (record_of(workshop).seated, sit(workshop, "X", takes=False)) == (6, 1)


def test_a_paused_window_that_is_raised_stays_paused(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no moment of the push does its record say anything else."""
    push(workshop, plan_files(FEW))
    crowd(workshop, DEVICES[:50])
    fill, said = SeatRecords.fill, []

    def watched(self: SeatRecords, *arguments: object) -> None:
        said.append(record_of(workshop).state)
        fill(self, *arguments)

    monkeypatch.setattr(SeatRecords, "fill", watched)
    push(workshop, plan_files(MANY, release="\n    state: paused"))
    assert [*said, record_of(workshop).state] == ["paused", "paused"]


def test_seats_that_gc_has_dropped_are_lost_and_said_to_be(workshop: Workshop) -> None:
    """A frozen window that the plan lost, and has again: not silently dead, nor silently free."""
    push(workshop, plan_files(3))
    crowd(workshop, DEVICES)
    push(workshop, plan_files(3))
    windows = workshop.live().tree["windows"]
    assert window_fills(workshop.mirror, windows, [COFFEE]) == {(COFFEE, "first"): "3 of 3, frozen"}
    assert collect(workshop.mirror, [windows], dry_run=False) == 1
    without_window(workshop)
    push(workshop, plan_files(5))
    windows = workshop.live().tree["windows"]
    assert [sit(workshop, each) for each in DEVICES[:2]] == [LOST, LOST]
    assert list(lost(workshop.mirror, windows)) == [NAME]
    assert window_fills(workshop.mirror, windows, [COFFEE]) == {(COFFEE, "first"): "lost"}
    assert reopen(workshop.mirror, windows, NAME) == 5
    assert crowd(workshop, DEVICES) == set(DEVICES[:5])
    assert list(lost(workshop.mirror, windows)) == []


def test_a_frozen_window_is_not_lost_with_redis(workshop: Workshop) -> None:
    """Its seats are in the epoch, and status says so."""
    push(workshop, plan_files(3))
    crowd(workshop, DEVICES)
    push(workshop, plan_files(3))
    workshop.mirror.delete_many(list(workshop.mirror.scan(KEYS.windows)))
    windows = workshop.live().tree["windows"]
    assert list(lost(workshop.mirror, windows)) == []
    assert window_fills(workshop.mirror, windows, [COFFEE, "other"]) == {
        (COFFEE, "first"): "3 of 3, frozen"
    }
    assert window_fills(workshop.mirror, windows, ["other"]) == {}


@pytest.mark.parametrize("raised", [29_000, 40_000])
def test_a_raised_window_takes_no_more_memory_a_seat(workshop: Workshop, raised: int) -> None:
    """Not twelve bytes, whether its seats were spread anew or not: sets stay packed."""
    push(workshop, plan_files(20_000))
    record = record_of(workshop)
    _fill(workshop, record, 20_000)
    SeatRecords(workshop.mirror).change(COFFEE, "first", {"seated": 20_000})
    push(workshop, plan_files(raised))
    record = record_of(workshop)
    assert (record.shards == 79) is (raised == 29_000)
    _fill(workshop, record, raised)
    keys = workshop.mirror.scan(KEYS.windows)
    client = workshop.link
    taken = sum(client.execute_command("MEMORY", "USAGE", key, "SAMPLES", "0") for key in keys)
    assert taken < 12 * raised


def _fill(workshop: Workshop, record: SeatRecord, count: int) -> None:
    """Seat so many made-up hashes, the same ones first each time."""
    hashes = np.random.default_rng(7).integers(0, 2**64, 40_000, np.uint64)[:count]
    SeatRecords(workshop.mirror).fill(COFFEE, "first", hashes, record.shards, record.sets)


def test_a_push_killed_while_it_spreads_leaves_all_seats(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else is seated then, until the next publication or the controller settles it."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    push(workshop, plan_files(FEW))
    seated = crowd(workshop, DEVICES[:50])
    monkeypatch.setattr(SeatRecords, "fill", killed)
    with suppress(KeyboardInterrupt):
        push(workshop, plan_files(MANY))
    assert (record_of(workshop).state, sitting(workshop)) == ("thawed", seated)
    settle(workshop.mirror, workshop.store.get_blob)
    assert sit(workshop, "X") == 1
