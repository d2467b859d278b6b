"""Guardrails: a bad release is halted, by what distinct subjects reported, and only a canary."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from compiler.control.counts import Counts
from compiler.control.guardrail import (
    Guard,
    counted_from,
    finding,
    is_broken,
    reaches_everyone,
)
from compiler.control.lease import LeaseLostError
from compiler.control.watch import Watch
from compiler.control.workplace import Workplace
from compiler.plan import Audience, Halt, Step
from compiler.refusal import Refused
from controllers import epoch_of, guarded, offered, report, running_controls
from gateway.signing import public_line
from processes import Gateway, RedisServer, running_gateway, wait_until
from publishing import COFFEE, KEYS, WORKSPACE, Workshop, image_of, publisher_key

HALT = Halt(failures=200, min_reports=200, minutes=30)


def test_a_share_is_broken_beyond_it_and_from_enough_subjects() -> None:
    """Exactly the share is not too many; of one subject too few nothing is concluded."""
    assert not is_broken(HALT, 4, 200)
    assert is_broken(HALT, 5, 200)
    assert not is_broken(HALT, 199, 199)
    assert is_broken(Halt(0, 1, 1), 1, 1)
    assert not is_broken(Halt(0, 1, 1), 0, 1_000_000)
    assert finding(HALT, 14, 210) == "14 of 210 (6.7 %) failed within 30 min"


@pytest.mark.parametrize(
    ("runs", "minute"),
    [
        ([(600, "2")], 10),
        ([(630, "2"), (600, "2")], 10),
        ([(659, "2"), (600, None)], 10),  # new: nothing was reported before
        ([(659, "2"), (600, None), (540, "2")], 11),  # resumed: the minute is mixed
        ([(659, "2"), (600, "1")], 11),  # another package
        ([(900, "2"), (659, "2"), (600, "1")], 11),
    ],
)
def test_reports_count_since_it_is_what_it_is(
    runs: list[tuple[int, str | None]], minute: int
) -> None:
    """Of a release that was resumed, or offers another package, only what came after that."""
    assert counted_from(runs) == minute


def test_a_period_is_so_many_minutes() -> None:
    """With the current one, and none from before it was offered."""
    guard = Guard(COFFEE, "r2", HALT, Audience())
    assert guard.minutes(60 * 100 + 59.9) == range(71, 101)
    assert Guard(COFFEE, "r2", HALT, Audience(), 99).minutes(6_000) == range(99, 101)
    assert not Guard(COFFEE, "r2", HALT, Audience(), 101).minutes(6_000)


def test_who_is_everyone() -> None:
    """`everyone`, all of it by percent, and a ramp that has got there; nothing narrower."""
    steps = (Step(10, 100), Step(20, 10_000), Step(30, 500))
    assert reaches_everyone(Audience(), 0)
    assert reaches_everyone(Audience(basis_points=10_000, by_user=True), 0)
    assert not reaches_everyone(Audience(basis_points=9_999), 0)
    assert not reaches_everyone(Audience(not_lists=("staff",)), 0)
    found = [reaches_everyone(Audience(ramp=steps), second) for second in (9, 19, 20, 29, 30)]
    assert found == [False, False, True, True, False]


@contextmanager
def gateways(folder: Path, url: str, number: int) -> Iterator[list[Gateway]]:
    """Run gateways that trust the operator and the controller."""
    controller = (folder / "keys/controller.pub").read_text()
    trusted = f"{public_line(publisher_key().public)}\n{controller}"
    with ExitStack() as stack:
        yield [
            stack.enter_context(running_gateway(folder / f"g{at}", url, TRUSTED_KEYS=trusted))
            for at in range(number)
        ]


def test_a_bad_release_is_halted(
    server: RedisServer, tmp_path: Path, workshop: Workshop, controller_key: Path
) -> None:
    """Paused on every gateway within seconds of the first failures, by an override that says why.

    Good reports do not halt it, nor do bad ones of fewer subjects than it asks for, nor the same
    ones again, nor those of devices that were not offered it; an operator who resumes it is not
    overruled by what was reported before.
    """
    workshop.push(image_of(guarded()))
    with (
        gateways(tmp_path, server.url, 2) as fleet,
        running_controls(tmp_path, server.url, workshop.folder, controller_key) as (control,),
    ):
        good, bad = offered(fleet[0], "d", 195), offered(fleet[1], "bad", 14)
        for gateway in fleet:
            assert report(gateway, dict.fromkeys(good, "installed")) == 195
            assert report(gateway, dict.fromkeys(bad[:4], "failed")) == 4
        # Anybody may say anything, and is told that it was taken.
        assert report(fleet[0], {f"made-up-{at}": "failed" for at in range(300)}) == 300
        time.sleep(3)
        assert epoch_of(fleet[0]) == 1  # 4 of 199: too few subjects
        began = time.monotonic()
        report(fleet[1], dict.fromkeys(bad, "failed"))
        for gateway in fleet:
            wait_until(lambda at=gateway: epoch_of(at) == 2, "the halt is served")
        took = time.monotonic() - began
        print(f"halted on both gateways {took:.2f} s after the first of the failures that broke it")
        live = workshop.live()
        assert live.epoch["author"] == "controller"
        assert live.tree["overrides"] == [
            {"what": "state", "app": COFFEE, "name": "r2", "value": "paused"}
        ]
        note = live.epoch["note"]
        assert re.fullmatch(r"halted: \d+ of 2\d\d \(\d\.\d %\) failed within 30 min", note)
        halts = "tidegate_control_halts_total"
        wait_until(lambda: control.metric(halts) == 1, "the halt is counted")
        assert report(fleet[0], {"late": "failed"}) == 1  # it is paused, and still counted
        workshop.push(image_of(guarded()), onto=live, now=int(time.time()))  # it is resumed
        wait_until(lambda: epoch_of(fleet[0]) == 3, "resumed")
        time.sleep(2.5)
        assert workshop.live().number == 3
        assert control.metric(halts) == 1


def test_everyone_is_alarmed_about_and_not_halted(
    server: RedisServer, tmp_path: Path, workshop: Workshop, controller_key: Path
) -> None:
    """A release to everyone goes on: log, metric and Redis tell; it ends as the share falls."""
    workshop.push(image_of(guarded("everyone")))
    with (
        running_gateway(tmp_path / "gateway", server.url) as gateway,
        running_controls(tmp_path, server.url, workshop.folder, controller_key) as (control,),
    ):
        link: Any = workshop.link
        bad, good = offered(gateway, "bad", 10), offered(gateway, "d", 600)
        report(gateway, dict.fromkeys(bad, "failed") | dict.fromkeys(good[:200], "installed"))
        wait_until(lambda: link.hgetall(KEYS.alarm), "an alarm")
        ((name, text),) = link.hgetall(KEYS.alarm).items()
        assert name.decode() == f"{COFFEE}/r2"
        assert "failed within 30 min" in json.loads(text)["why"]
        wait_until(lambda: control.metric("tidegate_control_alarms") == 1, "it is counted")
        assert len(wait_until(lambda: control.events("alarm"), "it is logged")) == 1
        report(gateway, dict.fromkeys(good[200:], "installed"))
        wait_until(lambda: not link.exists(KEYS.alarm), "the alarm is over")
        (over,) = wait_until(lambda: control.events("alarm over"), "that is logged")
        assert over["release"] == f"{COFFEE}/r2"
        assert workshop.live().number == 1


def controller(workshop: Workshop, may_act: Callable[[], bool]) -> Watch:
    """Make a controller in this process."""
    place = Workplace(WORKSPACE, workshop.store, workshop.link, publisher_key("controller"))
    return Watch(place, Counts(), may_act)


def fail(link: Any, subjects: int, *, minutes_ago: int = 0) -> None:
    """Add failures to a minute as gateways do."""
    key = KEYS.guard(COFFEE, "r2", "failed", int(time.time()) // 60 - minutes_ago)
    link.pfadd(key, *range(subjects))


def test_a_lost_lease_ends_whatever_is_begun(workshop: Workshop) -> None:
    """At whichever step it is lost, nothing is published after; or all was done before."""
    workshop.push(image_of(guarded()))
    fail(workshop.link, 300)
    for steps in range(100):
        left = iter(range(steps))
        one = controller(workshop, lambda left=left: next(left, None) is not None)
        try:
            one.turn()
        except LeaseLostError:
            assert workshop.mirror.pointer() == workshop.live().pointer
            if workshop.live().number == 2:
                break
        else:
            break
    assert steps > 1
    assert workshop.live().number == 2


def test_two_at_once_publish_once(workshop: Workshop) -> None:
    """Who was stopped just before its act, and goes on after another's, changes nothing."""
    workshop.push(image_of(guarded()))
    fail(workshop.link, 300)
    other = controller(workshop, lambda: True)
    turned: list[bool] = []

    def meanwhile() -> bool:
        if not turned:
            turned.append(True)
            other.turn()
        return True

    with pytest.raises(Refused, match="Another push was faster"):
        controller(workshop, meanwhile).turn()
    assert workshop.live().number == 2


def test_old_failures_do_not_count(workshop: Workshop) -> None:
    """Neither those from before the period, nor from before the release was published."""
    workshop.push(image_of(guarded()), now=workshop.now - 7_200)
    fail(workshop.link, 300, minutes_ago=31)
    one = controller(workshop, lambda: True)
    one.turn()
    assert workshop.live().number == 1
    fail(workshop.link, 300, minutes_ago=28)
    wait_until(lambda: one.turn() or workshop.live().number == 2, "it is halted")
    workshop.push(image_of(guarded()), onto=workshop.live())
    one.turn()
    assert workshop.live().number == 3
