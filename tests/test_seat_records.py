"""Time windows in Redis and at publications: who is seated, what freezes, what thaws."""

import time

import numpy as np
import pytest

from compiler.image import build_image
from compiler.language.reading import read_files
from compiler.publication.epoch import stored_digests
from compiler.publication.freezing import freeze_due
from compiler.publication.publisher import LostRaceError
from compiler.publication.seat_records import SeatRecord, SeatRecords
from compiler.publication.windows import carry_over, collect, reopen, settle
from compiler.reference import seats_open
from compiler.refusal import Refused
from gateway.seating import LOST, NO_SEAT, seat_of
from processes import wait_until
from publishing import COFFEE, KEYS, WORKSPACE, Workshop, assert_served, publisher_key
from windows import LATE, NAME, crowd, hash_of, plan_files, push, sit

DEVICES = [f"d-{number}" for number in range(1_000)]


def record_of(workshop: Workshop) -> SeatRecord:
    """Read the window's record."""
    found = SeatRecords(workshop.mirror).read(COFFEE, "first")
    assert found is not None
    return found


def test_the_first_are_seated_and_stay(workshop: Workshop) -> None:
    """Exactly the first N sit, each time; a dry run says the same and takes nothing."""
    push(workshop, plan_files(300))
    assert sit(workshop, "x", dry_run=True) == 1
    assert record_of(workshop).seated == 0
    assert sit(workshop, "x", takes=False) == NO_SEAT
    assert crowd(workshop, DEVICES) == set(DEVICES[:300])
    assert crowd(workshop, reversed(DEVICES)) == set(DEVICES[:300])
    assert sit(workshop, DEVICES[0], takes=False) == 1
    assert sit(workshop, DEVICES[300], dry_run=True) == NO_SEAT
    assert record_of(workshop).seated == 300


def test_nobody_is_seated_from_its_end_on(workshop: Workshop) -> None:
    """Redis's clock says when; who has a seat keeps it."""
    push(workshop, plan_files(300))
    assert sit(workshop, "early") == 1
    end = workshop.mirror.now() + 2
    SeatRecords(workshop.mirror).change(COFFEE, "first", {"until": end})
    wait_until(lambda: workshop.mirror.now() >= end, "it is over")
    assert sit(workshop, "late") == NO_SEAT
    assert sit(workshop, "early") == 1


def _when(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def test_a_linear_pace_opens_seats_by_the_second(workshop: Workshop) -> None:
    """At every moment as many sit as the formula has opened by then, if so many came."""
    now = workshop.mirror.now()
    starts, until, first = now - 10, now + 270, 7_770
    pace = f"\n    starts: '{_when(starts)}'"
    push(workshop, plan_files(first, _when(until), ", pace: linear", pace))
    number = 0
    for _ in range(3):
        before = workshop.mirror.now()
        while sit(workshop, f"d-{number}") == 1:
            number += 1
        after = workshop.mirror.now()
        lowest, highest = (seats_open(first, starts, until, each) for each in (before, after))
        assert lowest <= record_of(workshop).seated <= highest
        time.sleep(1)


def test_a_pause_unseats_and_a_lost_record_seats_nobody(workshop: Workshop) -> None:
    """The record says who may be seated; where it is lost, only `reopen` makes it anew."""
    push(workshop, plan_files(10))
    assert sit(workshop, "a") == 1
    push(workshop, plan_files(10, release="\n    state: paused"))
    assert sit(workshop, "a") == NO_SEAT
    assert sit(workshop, "b") == NO_SEAT
    push(workshop, plan_files(10))
    assert sit(workshop, "a") == 1
    with pytest.raises(Refused, match="nothing was lost"):
        reopen(workshop.mirror, workshop.live().tree["windows"], NAME)
    for key in workshop.mirror.scan(KEYS.windows):
        workshop.mirror.delete_many([key])
    assert sit(workshop, "c") == LOST
    push(workshop, plan_files(11))
    assert sit(workshop, "c") == LOST
    assert reopen(workshop.mirror, workshop.live().tree["windows"], NAME) == 11
    assert crowd(workshop, DEVICES) == set(DEVICES[:11])


def test_a_full_window_freezes_and_thaws(workshop: Workshop) -> None:
    """The next publication makes a list of it; raising N opens it again with all its seats."""
    push(workshop, plan_files(300))
    crowd(workshop, DEVICES)
    said = freeze_due(
        store=workshop.store,
        link=workshop.link,
        key=publisher_key(),
        workspace=WORKSPACE,
        now=workshop.now,
    )
    assert said is not None
    assert_served(workshop.link, said.number)
    window = workshop.live().tree["windows"][NAME]
    seats = np.frombuffer(workshop.store.get_blob(window["seats"]), ">u8").tolist()
    assert seats == sorted(map(hash_of, DEVICES[:300]))
    assert window["seats"] in stored_digests(workshop.live())
    assert record_of(workshop).state == "frozen"
    assert crowd(workshop, DEVICES) == set(DEVICES[:300])  # whom a lagging gateway asks for
    push(workshop, plan_files(300))
    assert workshop.live().tree["windows"][NAME] == window
    push(workshop, plan_files(200))  # unseats nobody
    assert workshop.live().tree["windows"][NAME]["count"] == 300
    assert collect(workshop.mirror, [workshop.live().tree["windows"]], dry_run=False) == 2
    assert sit(workshop, DEVICES[0]) == NO_SEAT
    push(workshop, plan_files(1_000))
    assert workshop.live().tree["windows"][NAME]["seats"] == b""
    assert record_of(workshop).state == "open"
    assert crowd(workshop, [*DEVICES[:300], *(f"e-{n}" for n in range(900))]) == {
        *DEVICES[:300],
        *(f"e-{n}" for n in range(700)),
    }


def test_a_thaw_needs_nothing_of_redis(workshop: Workshop) -> None:
    """The seats of a frozen window come from the store, even into an emptied Redis."""
    push(workshop, plan_files(5))
    crowd(workshop, DEVICES)
    push(workshop, plan_files(5))
    assert workshop.live().tree["windows"][NAME]["count"] == 5
    for key in workshop.mirror.scan(KEYS.windows):
        workshop.mirror.delete_many([key])
    push(workshop, plan_files(7))
    assert crowd(workshop, reversed(DEVICES)) == {*DEVICES[:5], *DEVICES[-2:]}


def test_a_raised_window_is_spread_over_more_sets(workshop: Workshop) -> None:
    """Raising N keeps who sits, and sets stay small enough to be packed."""
    push(workshop, plan_files(400))
    crowd(workshop, DEVICES[:399])
    push(workshop, plan_files(5_000))
    assert record_of(workshop).shards == 20
    assert crowd(workshop, DEVICES[:399]) == set(DEVICES[:399])
    assert record_of(workshop).seated == 399
    keys = [key for key in workshop.mirror.scan(KEYS.windows) if "." in key.rpartition(":")[2]]
    client = workshop.link
    assert {client.execute_command("OBJECT", "ENCODING", key) for key in keys} == {b"intset"}


def test_whoever_loses_the_race_has_opened_nothing(workshop: Workshop) -> None:
    """What a lost push would have raised or paused is as the winner says."""
    push(workshop, plan_files(3))
    base = workshop.live()
    push(workshop, plan_files(4))
    for files in (plan_files(9), plan_files(9, release="\n    state: paused")):
        with pytest.raises(LostRaceError):
            push(workshop, files, onto=base)
        assert crowd(workshop, DEVICES) == set(DEVICES[:4])
    settle(workshop.mirror, workshop.store.get_blob)
    assert record_of(workshop).first == 4


def test_a_seat_taken_meanwhile_refuses_the_freeze(workshop: Workshop) -> None:
    """An image whose frozen seats are not all of them is not published."""
    push(workshop, plan_files(3))
    crowd(workshop, DEVICES)
    live = workshop.live().tree["windows"]
    found = carry_over(workshop.mirror, live, live, workshop.store.get_blob)
    SeatRecords(workshop.mirror).change(COFFEE, "first", {"first": 4})
    assert sit(workshop, DEVICES[3]) == 1

    plan = read_files(plan_files(3), now=0).plan
    assert plan is not None
    with pytest.raises(Refused, match="other seats meanwhile: 4, not 3"):
        workshop.push(build_image(plan, [], frozen=found))


def test_whose_seats_they_are_cannot_change(workshop: Workshop) -> None:
    """`by` of a window with seats is refused, before anything is written."""
    push(workshop, plan_files(3))
    sit(workshop, "a")
    with pytest.raises(Refused, match="so `by` cannot change"):
        push(workshop, plan_files(3, more=", by: user"))


def test_a_window_that_went_is_collected_and_never_reused(workshop: Workshop) -> None:
    """Once no kept epoch has it, Redis forgets it; while one has, its seats come back with it."""
    push(workshop, plan_files(3))
    crowd(workshop, DEVICES)
    without = plan_files(3)
    without["apps/coffee.yaml"] = without["apps/coffee.yaml"].replace(
        f"{{first: 3, until: '{LATE}'}}", "everyone"
    )
    push(workshop, without)
    assert record_of(workshop).state == "ended"
    push(workshop, plan_files(3))
    assert crowd(workshop, DEVICES) == set(DEVICES[:3])
    push(workshop, without)
    assert collect(workshop.mirror, [workshop.live().tree["windows"]], dry_run=False) == 2
    assert list(workshop.mirror.scan(KEYS.windows)) == []


@pytest.mark.parametrize("hashed", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_seat_is_a_signed_number(hashed: int) -> None:
    """Every hash has a seat of its own within 64 bits, with a sign."""
    assert -(2**63) <= seat_of(hashed) < 2**63
    assert seat_of(hashed) % 2**64 == hashed


def test_an_image_with_older_seats_is_refused(workshop: Workshop) -> None:
    """Nobody who was seated since an image was made loses the seat to it."""
    plan = read_files(plan_files(3), now=0).plan
    assert plan is not None
    push(workshop, plan_files(2))
    crowd(workshop, DEVICES)
    live = workshop.live().tree["windows"]
    older = carry_over(workshop.mirror, live, live, workshop.store.get_blob)
    push(workshop, plan_files(3))
    crowd(workshop, DEVICES)
    push(workshop, plan_files(3))
    assert workshop.live().tree["windows"][NAME]["count"] == 3
    with pytest.raises(Refused, match="other seats meanwhile: 3, not 2"):
        workshop.push(build_image(plan, [], frozen=older))
