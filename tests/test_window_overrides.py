"""Time windows under overrides: what a pause says to Redis, and what no override touches."""

import time
from typing import Any

import numpy as np
import pytest

import processes
from compiler.carried_plan import read_plan
from compiler.commands import overriding
from compiler.commands.session import Session
from compiler.image import build_image
from compiler.language.reading import read_files
from compiler.overrides import What
from compiler.publication.carrying import carry, same_plan
from compiler.publication.emergency import Wish, fulfil
from compiler.publication.epoch import Publication, read_publication
from compiler.publication.freezing import freeze_due
from compiler.publication.seat_records import SeatRecord, SeatRecords
from compiler.publication.windows import carry_over
from compiler.windows import freeze
from gateway import layout
from gateway.link import parse_url
from gateway.request import parse_body
from gateway.seating import NO_SEAT, Place
from publishing import COFFEE, KEYS, WORKSPACE, Workshop, assert_served, publisher_key
from test_seats import snapshot_of
from windows import NAME, crowd, hash_of, plan_files, push, sit

DEVICES = [f"d-{number}" for number in range(20)]


def record_of(workshop: Workshop) -> SeatRecord:
    """Read the window's record."""
    found = SeatRecords(workshop.mirror).read(COFFEE, "first")
    assert found is not None
    return found


def lay(workshop: Workshop, what: What, value: str, name: str = "first") -> Publication:
    """Lay an override over the live epoch, as its command does; give the epoch that it made."""
    live, blob = workshop.live(), workshop.store.get_blob
    app = "" if what is What.CHECK_AFTER else COFFEE
    image = fulfil(live, read_plan(live.tree, blob, [COFFEE]), blob, Wish(what, value, app, name))
    assert image is not None
    workshop.push(image, onto=live)
    return workshop.live()


def test_the_record_says_what_an_override_says(workshop: Workshop) -> None:
    """Paused and ended nobody sits; resumed the same ones do; other values leave it as it is."""
    push(workshop, plan_files(3))
    assert crowd(workshop, DEVICES[:2]) == set(DEVICES[:2])
    opened = record_of(workshop)
    lay(workshop, What.WITHDRAWN, "true", "1.0.0.1")
    lay(workshop, What.PERCENT, "5000", "stable")
    lay(workshop, What.CHECK_AFTER, "60", "")
    lay(workshop, What.STATE, "paused", "stable")
    assert (record_of(workshop).state, record_of(workshop).seated) == ("open", 2)
    paused = lay(workshop, What.STATE, "paused")
    assert record_of(workshop).state == paused.tree["windows"][NAME]["state"] == "paused"
    assert crowd(workshop, DEVICES) == set()
    assert lay(workshop, What.STATE, "live").tree["windows"][NAME]["state"] == "live"
    assert (record_of(workshop).state, record_of(workshop).sets) == ("open", opened.sets)
    assert crowd(workshop, DEVICES) == set(DEVICES[:3])
    lay(workshop, What.STATE, "ended")
    assert record_of(workshop).state == "ended"
    assert sit(workshop, DEVICES[0]) == NO_SEAT


def test_a_pause_is_written_before_the_pointer_moves(workshop: Workshop) -> None:
    """And a resumption after it: whoever loses the race for the pointer has seated nobody."""
    push(workshop, plan_files(3))
    client: Any = workshop.link
    for state, said in (("paused", "paused"), ("live", "open")):
        commands = []
        with client.monitor() as monitor:
            lay(workshop, What.STATE, state)
            while not commands or not commands[-1].startswith("PUBLISH "):
                commands.append(monitor.next_command()["command"])
        wrote = [
            at
            for at, line in enumerate(commands)
            if _writes(line, KEYS.window(COFFEE, "first"), said)
        ]
        (moved,) = [at for at, line in enumerate(commands) if _writes(line, KEYS.live)]
        assert wrote
        assert (wrote[0] < moved) is (said == "paused")


def _writes(line: str, key: str, value: str = "") -> bool:
    return line.startswith(("SET ", "HSET ")) and line.split()[1] == key and value in line


def test_a_killed_resumption_is_finished_by_the_same_command(
    workshop: Workshop, server: processes.RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The epoch says live, and the record not yet: nothing is published, and the record follows."""
    push(workshop, plan_files(3))
    SeatRecords(workshop.mirror).change(COFFEE, "first", {"state": "paused"})
    session = Session(WORKSPACE, parse_url(server.url), str(workshop.folder))
    wish = Wish(What.STATE, "live", "coffee", "first")
    overriding.lay(session, wish, "resume", key="", wait=0, message="")
    assert "that is so already in epoch 1" in capsys.readouterr().out
    assert record_of(workshop).state == "open"


def test_an_override_freezes_nothing_and_thaws_nothing(workshop: Workshop) -> None:
    """It stays partial: a full window waits for a push, and a frozen one is as it was before."""
    push(workshop, plan_files(3))
    crowd(workshop, DEVICES)
    live = lay(workshop, What.STATE, "paused", "stable")
    assert live.tree["windows"][NAME]["seats"] == b""
    assert live.contents["membership"] is None
    frozen = _freeze_due(workshop)
    assert frozen.tree["windows"][NAME]["count"] == 3
    assert frozen.tree["overrides"] == live.tree["overrides"]
    for state, said in (("paused", "paused"), ("live", "frozen")):
        live = lay(workshop, What.STATE, state)
        window = live.tree["windows"][NAME]
        assert window == {**frozen.tree["windows"][NAME], "state": state}
        assert live.contents["membership"] == frozen.contents["membership"]
        assert same_plan(frozen, live)
        assert record_of(workshop).state == said
    assert_served(workshop.link)


def _freeze_due(workshop: Workshop) -> Publication:
    told = {"workspace": WORKSPACE, "now": int(time.time())}
    published = freeze_due(store=workshop.store, link=workshop.link, key=publisher_key(), **told)
    assert published is not None
    assert same_plan(_before(workshop), workshop.live())
    return workshop.live()


def _before(workshop: Workshop) -> Publication:
    return read_publication(workshop.live().epoch["previous"], workshop.store.get_blob)


def test_a_push_keeps_a_window_paused(workshop: Workshop) -> None:
    """Compiled without a look at anything, a plan goes live under the pause, and frozen."""
    push(workshop, plan_files(3))
    crowd(workshop, DEVICES)
    live = lay(workshop, What.STATE, "paused")
    starts = "\n    starts: 2026-01-01T00:00:00Z"
    plan = read_files(plan_files(3, more=", pace: linear", release=starts), now=0).plan
    assert plan is not None
    image, blob = build_image(plan, []), workshop.store.get_blob
    found = carry_over(workshop.mirror, live.tree["windows"], image.tree["windows"], blob)
    carried = carry(image, live, blob, (), found)
    workshop.push(carried.image, onto=live)
    window = workshop.live().tree["windows"][NAME]
    assert (window["state"], window["count"]) == ("paused", 3)
    assert record_of(workshop).state == "paused"
    assert_served(workshop.link)
    direct = build_image(plan, [], workshop.live().tree["overrides"], frozen=found)
    assert workshop.live().epoch["contents"] == direct.root


def test_a_ramp_with_a_window_is_asked_once() -> None:
    """Each step has the release's one window: at any second one place of it is asked for."""
    steps = "[{at: 2026-01-01T00:00:00Z, percent: 0.01}, {at: 2026-01-02T00:00:00Z, percent: 100}]"
    files = plan_files(3, more=f", percent: {steps}")
    snapshot = snapshot_of(files)
    body = b'{"device": "d-1", "brand": "Xiaomi", "apps": {"%s": null}}' % COFFEE.encode()
    check = parse_body(body, packed=False)
    assert snapshot.probes(check) == ()
    first, second = 1_767_225_600, 1_767_312_000
    coffee = snapshot.apps[COFFEE]
    assert coffee is not None
    assert len(coffee.program.windows) == 2
    assert snapshot.asks(check, {}, first - 1) == []
    assert snapshot.asks(check, {}, second - 1) == []
    for moment in (second, second + 9_999):
        (ask,) = snapshot.asks(check, {}, moment)
        (place,) = ask.places
        assert place == Place("first", place.rank, hash_of("d-1"), True)
        got, _ = snapshot.answer(check, {}, moment, False, {COFFEE: place.rank})
        assert b'"release":"first"' in got
    plan = read_files(files, now=0).plan
    assert plan is not None
    image = build_image(plan, [], frozen={NAME: freeze(np.array([7], np.uint64))})
    program = layout.decode(layout.Program, image.blobs[image.contents["programs"][COFFEE]])
    assert program["windows"] == []
    assert [each["lists"] for each in program["lists"]] == [[f"window:{NAME}"]]
