"""The situation as data: what becomes of releases, who changed them last, and the most active."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compiler.commands.situation_view import lines
from compiler.status.last_change import last_changes
from compiler.status.observer import CENSUS_SECONDS, SHOWN, Observer
from compiler.status.situation import Standing
from gateway.link import connect_sync, parse_url
from processes import ROOT, redis_server
from publishing import COFFEE, Workshop, image_of, plan_files, record

V1, V2 = "1.0.0.1", "1.0.0.2"
NOON = 1_800_014_400.0


def test_a_withdrawn_version_is_followed(workshop: Workshop) -> None:
    """Who still reports a withdrawn version is counted; its release is withdrawn by override."""
    files = plan_files((V1, V2))
    workshop.push(image_of(files))
    over = {"what": "withdrawn", "app": COFFEE, "name": V2, "value": "true"}
    workshop.push(image_of(files, overrides=[over]))  # type: ignore[list-item]
    now = NOON
    day = time.strftime("%Y%m%d", time.gmtime(now))
    link: Any = workshop.link
    link.sadd(workshop.mirror.keys.census(day), COFFEE)
    link.hset(workshop.mirror.keys.census_of(day, COFFEE), mapping={V1: 30, V2: 10})
    observer = Observer(workshop.store, workshop.mirror, "demo")
    (app,) = observer.look(None, now).apps
    assert [(each.id, each.standing, each.by) for each in app.releases] == [
        (f"r{V1}", Standing.LIVE, "plan"),
        (f"r{V2}", Standing.WITHDRAWN, "override"),
    ]
    assert [(each.version, each.share, each.withdrawn) for each in app.versions] == [
        (V1, 0.75, False),
        (V2, 0.25, True),
    ]
    assert [each.changed.epoch if each.changed else 0 for each in app.releases] == [1, 2]
    assert [each.lately for each in app.versions] == [None, None]
    link.hset(workshop.mirror.keys.census_of(day, COFFEE), mapping={V1: 70, V2: 11})
    later = now + CENSUS_SECONDS
    found = observer.look(None, later)
    assert [each.lately for each in found.apps[0].versions] == [40, 1]
    said = "".join(lines(found, later, 1))
    assert "1.0.0.2 (withdrawn) still 11 of 81 (13.6 %), 1 of 41 in the last minute" in said


def test_the_history_is_walked_so_far(workshop: Workshop) -> None:
    """Beyond the bound it is told before which epoch; within it who changed a release last."""
    for turn, versions in enumerate([(V1,), (V1,), (V1, V2), (V1, V2), (V1, V2)]):
        workshop.push(image_of(plan_files(versions, check_after=60 + turn)))
    observer = Observer(workshop.store, workshop.mirror, "demo")
    live = observer.live()
    observer.look(None, NOON)
    assert observer._known is not None
    plan = observer._known[1]
    every = last_changes(workshop.store, live, plan)
    assert {place[1]: each.epoch for place, each in every.found.items()} == {
        "": 3,
        f"r{V1}": 1,
        f"r{V2}": 3,
    }
    near = last_changes(workshop.store, live, plan, most=2)
    assert (near.found, near.before) == ({}, 4)
    some = last_changes(workshop.store, live, plan, most=3)
    assert (set(some.found), some.before) == ({(COFFEE, ""), (COFFEE, f"r{V2}")}, 3)


def test_watching_outlasts_redis(tmp_path: Path) -> None:
    """When Redis goes away while it is watched, a sentence says so, and Ctrl-C still ends it."""
    with redis_server(tmp_path / "redis") as server:
        link = connect_sync(parse_url(server.url), timeout_seconds=20)
        Workshop(tmp_path / "store", link).push(image_of(plan_files((V1,))))
        link.close()
        kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
        where = ("--redis", server.url, "--store", str(tmp_path / "store"), "--workspace", "demo")
        watching = subprocess.Popen(
            [sys.executable, "-m", "compiler.cli", "status", "--watch", "--json", *where],
            cwd=ROOT,
            env=kept,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert json.loads(watching.stdout.readline())["live"]["epoch"] == 1
        server.kill()
        assert b"Looking again." in watching.stderr.readline()
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=120)
        assert watching.returncode == 0


def test_of_many_apps_the_most_active_stand_for_all(workshop: Workshop) -> None:
    """Without APP, a large workspace is summed up by the ten apps that are asked about most."""
    files = plan_files((V1,))
    for at in range(60):
        app = f"a{at:02}"
        files[f"apps/{app}.yaml"] = (
            f"app: {app}\npackages: [{{version: {V1}}}]\n"
            f"releases: [{{id: r, package: {V1}, audience: everyone}}]\n"
        )
        files |= record(V1, app)
    workshop.push(image_of(files))
    now = NOON
    day = time.strftime("%Y%m%d", time.gmtime(now))
    link: Any = workshop.link
    for at in range(60):
        link.sadd(workshop.mirror.keys.census(day), f"a{at:02}")
        link.hset(workshop.mirror.keys.census_of(day, f"a{at:02}"), V1, at)
    observer = Observer(workshop.store, workshop.mirror, "demo")
    found = observer.look(None, now)
    assert (found.all_apps, found.summed, found.all_checks) == (61, True, sum(range(60)))
    assert [app.id for app in found.apps] == [f"a{59 - at}" for at in range(SHOWN)]
    one = observer.look(["a03"], now)
    assert ([app.id for app in one.apps], one.summed) == (["a03"], False)
