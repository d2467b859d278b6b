"""Time windows under pushes that meet one another, are killed, or come after a `gc`."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from compiler import cli
from compiler.commands.publishing import publish_under_overrides
from compiler.commands.session import Session
from compiler.control.counts import Counts
from compiler.control.upkeep import Upkeep
from compiler.control.workplace import Workplace
from compiler.image import build_image
from compiler.language.reading import read_files
from compiler.publication.freezing import freeze_due
from compiler.publication.publisher_key import create_key
from compiler.publication.restore import restore
from compiler.publication.seat_records import SeatRecord, SeatRecords
from compiler.publication.windows import collect, lost, prepare, reopen, settle
from compiler.refusal import Refused
from compiler.status.observer import window_fills
from gateway import layout
from gateway.link import connect_sync, parse_url
from gateway.pointer import encode_pointer
from gateway.seating import LOST, NO_SEAT
from interruption import SteppedStore, Steps
from processes import RedisServer
from publishing import COFFEE, KEYS, WORKSPACE, Workshop, publisher_key, record
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
    held = record_of(workshop)
    _fill(workshop, held, 20_000)
    SeatRecords(workshop.mirror).change(COFFEE, "first", {"seated": 20_000})
    push(workshop, plan_files(raised))
    held = record_of(workshop)
    assert (held.shards == 79) is (raised == 29_000)
    _fill(workshop, held, raised)
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


def test_a_controller_sets_right_what_a_killed_push_left(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at once, as a push may be on its way; and a window that is as it should be, never."""
    push(workshop, plan_files(FEW))
    seated = crowd(workshop, DEVICES[:50])
    place = Workplace(WORKSPACE, workshop.store, workshop.link, publisher_key())
    upkeep = Upkeep(place, Counts(), lambda: True)
    SeatRecords(workshop.mirror).change(COFFEE, "first", {"state": "thawed", "first": 60})
    upkeep.turn()
    upkeep.turn()
    assert (record_of(workshop).state, record_of(workshop).first) == ("thawed", 60)
    monkeypatch.setattr("compiler.control.upkeep.SETTLE_SECONDS", 0.0)
    upkeep.turn()
    assert (record_of(workshop).state, record_of(workshop).first) == ("open", FEW)
    assert sitting(workshop) == seated


def test_a_redis_set_back_is_restored_with_its_windows(workshop: Workshop) -> None:
    """The records follow the epoch that is live again: what was paused since is paused."""
    push(workshop, plan_files(FEW))
    crowd(workshop, DEVICES[:5])
    old = workshop.mirror.pointer()
    assert old is not None
    push(workshop, plan_files(FEW, release="\n    state: paused"))
    SeatRecords(workshop.mirror).change(COFFEE, "first", {"state": "open"})
    workshop.link.set(KEYS.live, old)
    restore(store=workshop.store, link=workshop.link, workspace=WORKSPACE)
    assert record_of(workshop).state == "paused"
    assert sit(workshop, "X") == NO_SEAT


def test_a_push_goes_on_top_of_a_freeze_of_that_moment(
    workshop: Workshop, server: RedisServer, tmp_path: Path
) -> None:
    """A controller that freezes a window between a push's look and its commit refuses no push."""
    push(workshop, plan_files(3))
    seated = crowd(workshop, DEVICES)
    plan = read_files({**plan_files(3), "rules.yaml": "rules: {}\n"}, now=0).plan
    assert plan is not None
    image, live = build_image(plan, []), workshop.live()
    told = {"workspace": WORKSPACE, "now": int(time.time()), "key": publisher_key()}

    def freeze() -> None:
        assert freeze_due(store=workshop.store, link=workshop.link, **told) is not None  # type: ignore[arg-type]

    session = Session(WORKSPACE, parse_url(server.url), str(workshop.folder))
    session.__dict__["store"] = SteppedStore(workshop.store, Steps(1, freeze))
    key = str(create_key(tmp_path / "keys", "ann", None))
    options = {"checkout": None, "base": live.number, "force": False, "key": key, "wait": 0}
    publish_under_overrides(session, image, live, [], note="mine", **options)  # type: ignore[arg-type]
    assert (workshop.live().number, workshop.live().epoch["note"]) == (3, "mine")
    assert workshop.live().tree["windows"][NAME]["count"] == 3
    assert sitting(workshop) == seated


def test_a_forced_push_starts_over_with_its_windows(
    workshop: Workshop,
    server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unreadable live epoch says nothing of its windows; their records still do."""
    push(workshop, plan_files(3))
    seated = crowd(workshop, DEVICES[:2])
    damaged = b"TGD1E\x01\0\0" + bytes(8) + b"an epoch of format 1"
    digest = layout.digest_of(damaged)
    workshop.store.put_blobs([(digest, damaged)])
    pointer = encode_pointer(7, digest)
    workshop.store.put_named("live", pointer)
    workshop.link.set(KEYS.live, pointer)
    for name, text in plan_files(3).items():
        path = tmp_path / "plan" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for version in ("1.0.0.1", "1.0.0.2"):
        (file,) = json.loads(*record(version).values())["forms"]
        workshop.store.put_named(file["path"], b"nine byte")
    key = str(create_key(tmp_path / "keys", "ann", None))
    places = ["--redis", server.url, "--store", str(workshop.folder), "--key", key]
    argv = ["tidegate", "push", str(tmp_path / "plan"), "--force", *places]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert workshop.live().number == 8
    assert sitting(workshop) == seated
    assert crowd(workshop, DEVICES) == {*DEVICES[:3]}
