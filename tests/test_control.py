"""Controllers as processes: one is active, Redis is filled again, bad releases are halted."""

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from compiler.publication.publisher_key import create_key
from controllers import Control, running_controls, seconds_until
from processes import Gateway, RedisServer, running_gateway, wait_until
from publishing import COFFEE, KEYS, Workshop, assert_served, image_of, plan_files

HALT = "halt: {failures: 2%, min_reports: 200, within: 30m}"
TAKEN_OVER_SECONDS = 6.0
"""3 s until the lease is over, half a second until another asks, and two busy cores."""


def guarded(audience: str = "{percent: 20}", **more: str) -> dict[str, str]:
    """Write a plan whose newest package is offered under a guardrail."""
    files = plan_files(["1", "2"])
    app = files["apps/coffee.yaml"]
    app = app.replace(
        "{id: r2, package: 2, audience: everyone}",
        f"{{id: r2, package: 2, audience: {audience}, {HALT}}}",
    )
    return files | {"apps/coffee.yaml": app} | more


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Give the controller a key of its own."""
    return create_key(tmp_path / "keys", "controller", None)


@contextmanager
def gateways(folder: Path, url: str, number: int) -> Iterator[list[Gateway]]:
    """Run gateways."""
    with ExitStack() as stack:
        yield [stack.enter_context(running_gateway(folder / f"g{at}", url)) for at in range(number)]


def ask(gateway: Gateway, path: str, body: Any) -> Any:
    """Post to a gateway."""
    asked = urllib.request.Request(gateway.url + path, json.dumps(body).encode())
    with urllib.request.urlopen(asked, timeout=10) as response:
        return json.loads(response.read())


def epoch_of(gateway: Gateway) -> int:
    """Ask which epoch it serves."""
    return int(ask(gateway, "/v1/check", {"apps": {}})["epoch"])


def report(gateway: Gateway, events: dict[str, str], release: str = "r2") -> int:
    """Report events by device, as phones do; give how many were accepted."""
    accepted = 0
    for device, event in events.items():
        one = {"app": COFFEE, "release": release, "event": event, "version": "2"}
        said = ask(gateway, "/v1/report", {"device": device, "reports": [one]})
        accepted += said["accepted"]
    return accepted


def active(controls: list[Control]) -> list[Control]:
    """Give those that say that they are active."""
    return [each for each in controls if each.is_active()]


def test_another_takes_over(
    workshop: Workshop, server: RedisServer, tmp_path: Path, key: Path
) -> None:
    """One is active; killed, stopped, or told to end, another is within seconds; it does no harm.

    Who was stopped and goes on finds the lease with another one, and stands by.
    """
    workshop.push(image_of(guarded()))
    with running_controls(tmp_path, server.url, workshop.folder, key, 3) as controls:
        (first,) = active(controls)
        time.sleep(1)
        assert active(controls) == [first]
        assert first.metric("tidegate_control_active") == 1
        assert sum(each.metric("tidegate_control_active") for each in controls) == 1
        first.signal(signal.SIGKILL)
        first.wait()
        rest = [each for each in controls if each is not first]
        killed = seconds_until(lambda: active(rest), "another is active after a kill")
        (second,) = active(rest)
        (third,) = (each for each in rest if each is not second)
        second.signal(signal.SIGSTOP)
        stopped = seconds_until(third.is_active, "another is active after a stop")
        workshop.link.flushall()
        wait_until(lambda: third.events("redis was filled again from the store"), "it is filled")
        second.signal(signal.SIGCONT)
        wait_until(lambda: not second.is_active(), "it stands by when it goes on")
        time.sleep(1.5)
        assert third.is_active()
        assert second.metric("tidegate_control_refills_total") == 0
        third.signal(signal.SIGTERM)
        assert third.wait() == 0
        ended = seconds_until(second.is_active, "another is active after an end")
        print(f"taken over after: kill {killed:.1f} s, stop {stopped:.1f} s, end {ended:.1f} s")
        assert max(killed, stopped) < TAKEN_OVER_SECONDS
        assert ended < 2
        assert assert_served(workshop.link) == 1
        second.signal(signal.SIGTERM)
        assert second.wait() == 0
    assert workshop.link.get(KEYS.control) is None  # it was given back
    for each in controls:
        assert "Traceback" not in each.log.read_text()


def test_an_emptied_redis_is_filled_by_itself(
    server: RedisServer, tmp_path: Path, workshop: Workshop, key: Path
) -> None:
    """Flushed or restarted empty, under a running gateway: the same epoch, and no answer fails."""
    workshop.push(image_of(guarded()))
    pushed = workshop.push(image_of(guarded(**{"workspace.yaml": "workspace: demo\n"})))
    with (
        running_gateway(tmp_path / "gateway", server.url) as gateway,
        running_controls(tmp_path, server.url, workshop.folder, key) as (control,),
    ):
        wait_until(lambda: control.metric("tidegate_control_last_look_timestamp_seconds"), "looks")

        def filled() -> bool:
            assert epoch_of(gateway) == 2
            return workshop.mirror.pointer() == workshop.live().pointer

        for turn, lose in enumerate((workshop.link.flushall, lambda: restart(server))):
            lose()
            took = seconds_until(lambda: workshop.mirror.pointer() and filled(), "it is filled")
            print(f"filled again after {took:.1f} s")
            assert took < TAKEN_OVER_SECONDS
            (*_, said) = wait_until(
                lambda at=turn: control.events("redis was filled again from the store")[at:], "log"
            )
            assert (said["epoch"], workshop.live().digest) == (2, pushed.digest)
            assert_served(workshop.link, 2)
        assert control.metric("tidegate_control_refills_total") == 2
        workshop.push(image_of(guarded()))
        wait_until(lambda: epoch_of(gateway) == 3, "a push goes on from there")


def restart(server: RedisServer) -> None:
    """Lose everything with the server."""
    server.kill()
    server.start()


def test_lost_blobs_and_an_older_epoch_are_mended(
    server: RedisServer, tmp_path: Path, workshop: Workshop, key: Path
) -> None:
    """What a Cluster's emptied node loses, and what an old snapshot brings back, is noticed."""
    workshop.push(image_of(guarded()))
    old = workshop.mirror.pointer()
    workshop.push(image_of(guarded(**{"workspace.yaml": "workspace: demo\n"})))
    with running_controls(tmp_path, server.url, workshop.folder, key) as (control,):
        wait_until(lambda: control.metric("tidegate_control_last_look_timestamp_seconds"), "looks")
        workshop.link.delete(KEYS.blob(workshop.live().contents["settings"]))
        wait_until(lambda: control.metric("tidegate_control_refills_total") == 1, "noticed")
        assert_served(workshop.link, 2)
        assert old is not None
        workshop.link.set(KEYS.live, old)
        wait_until(lambda: workshop.mirror.pointer() != old, "it is brought forward")
        assert_served(workshop.link, 2)


def test_a_bad_release_is_halted(
    server: RedisServer, tmp_path: Path, workshop: Workshop, key: Path
) -> None:
    """Paused on every gateway within seconds of the first failures, by an override that says why.

    Good reports do not halt it, nor do bad ones of fewer subjects than it asks for, nor the same
    ones again; an operator who resumes it is not overruled by what was reported before.
    """
    workshop.push(image_of(guarded()))
    with (
        gateways(tmp_path, server.url, 2) as fleet,
        running_controls(tmp_path, server.url, workshop.folder, key) as (control,),
    ):
        for gateway in fleet:
            assert report(gateway, {f"d{at}": "installed" for at in range(195)}) == 195
        early = {f"bad{at}": "failed" for at in range(4)}
        assert report(fleet[0], early) == 4
        assert report(fleet[1], early) == 4
        time.sleep(2.5)
        assert epoch_of(fleet[0]) == 1  # 4 of 199: too few subjects
        began = time.monotonic()
        report(fleet[1], {f"bad{at}": "failed" for at in range(14)})
        for gateway in fleet:
            wait_until(lambda at=gateway: epoch_of(at) == 2, "the halt is served")
        took = time.monotonic() - began
        print(f"halted on both gateways {took:.2f} s after the first of the failures that broke it")
        assert took < 6
        live = workshop.live()
        assert live.epoch["author"] == "controller"
        assert live.tree["overrides"] == [
            {"what": "state", "app": COFFEE, "name": "r2", "value": "paused"}
        ]
        note = live.epoch["note"]
        assert note.startswith("halted: 1") and note.endswith(" failed within 30 min"), note
        assert control.metric("tidegate_control_halts_total") == 1
        assert report(fleet[0], {"late": "failed"}) == 0  # it is offered to nobody
        workshop.push(image_of(guarded()), onto=live)  # an operator resumes it
        wait_until(lambda: epoch_of(fleet[0]) == 3, "resumed")
        time.sleep(2.5)
        assert workshop.live().number == 3
        assert control.metric("tidegate_control_halts_total") == 1


def test_everyone_is_alarmed_about_and_not_halted(
    server: RedisServer, tmp_path: Path, workshop: Workshop, key: Path
) -> None:
    """A release to everyone goes on: log, metric and Redis tell; it ends as the share falls."""
    workshop.push(image_of(guarded("everyone")))
    with (
        running_gateway(tmp_path / "gateway", server.url) as gateway,
        running_controls(tmp_path, server.url, workshop.folder, key) as (control,),
    ):
        link: Any = workshop.link
        report(gateway, {f"d{at}": "failed" if at < 10 else "installed" for at in range(210)})
        wait_until(lambda: link.hgetall(KEYS.alarm), "an alarm")
        ((name, text),) = link.hgetall(KEYS.alarm).items()
        assert name.decode() == f"{COFFEE}/r2"
        assert "failed within 30 min" in json.loads(text)["why"]
        assert control.metric("tidegate_control_alarms") == 1
        assert len(control.events("alarm")) == 1
        report(gateway, {f"e{at}": "installed" for at in range(400)})
        wait_until(lambda: not link.exists(KEYS.alarm), "the alarm is over")
        assert [row["release"] for row in control.events("alarm over")] == [f"{COFFEE}/r2"]
        assert workshop.live().number == 1
