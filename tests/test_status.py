"""What `tidegate status` says of real gateways and a real Redis, and that it writes nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import processes
import workplace
from stock import run_here
from workplace import APP, Workplace

AWAY, USAGE, REFUSED = 4, 2, 3
TWO_DAYS = ("--days", "2")
V1, V2, V3 = "1.0.0.1", "1.0.0.2", "1.0.0.3"
PLAN = f"""\
app: {APP}
name: Coffee
packages: [{{version: {V1}}}, {{version: {V2}}}, {{version: {V3}}}]
releases:
  - {{id: ramp, package: {V2}, audience: {{percent: 50, lists: [staff]}}}}
  - {{id: late, package: {V3}, audience: everyone, starts: 2099-01-01T00:00:00Z}}
  - {{id: gone, package: {V3}, audience: everyone, ends: 2020-01-01T00:00:00Z}}
  - {{id: held, package: {V3}, audience: everyone, state: paused}}
  - {{id: stable, package: {V1}, audience: everyone}}
"""


@pytest.fixture(scope="module")
def place(
    server: processes.RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """Publish three epochs, and let phones ask, report, and have versions."""
    folder = tmp_path_factory.mktemp("status")
    with workplace.workplace(folder, server.url) as found:
        found.write(
            "workspace.yaml", 'workspace: demo\ncdn: [{regions: ["*"], bases: ["https://c"]}]\n'
        )
        found.write("lists.yaml", "lists: [{list: staff, of: user, file: staff.txt}]\n")
        found.write("staff.txt", "".join(f"u-{at}\n" for at in range(1_500)))
        found.write("apps/coffee.yaml", PLAN)
        for version in (V1, V2, V3):
            found.upload(version, found.make_bundle(version))
        found.commit("first")
        run_here(found, "push", str(found.plan), "-m", "first")
        run_here(found, "pause", APP, "stable", "-m", "look at it")
        run_here(found, "percent", APP, "ramp", "100")
        for at in range(400):
            found.app(user=f"u-{at % 200}", apps={APP: V1})
        for at in range(10):
            found.app(user=f"u-{at}", apps={APP: V2})  # latest: no offer
            found.app(user=f"u-{700 + at}", dry_run=True)
        for at in range(30):
            found.report("downloaded", "ramp", user=f"u-{at % 20}")
        found.report("failed", "ramp", user="u-1")
        found.gateway.terminate()  # which adds what it has counted
        found.gateway.wait()
        start_again(found)
        yield found


def start_again(place: Workplace) -> None:
    """Start the gateway, and wait until it has announced what it serves."""
    place.gateway.start()
    processes.wait_until(
        lambda: [each["epoch"] for each in said(place)["gateways"]] == [3], "it is announced"
    )


def said(place: Workplace, *more: str) -> dict[str, Any]:
    """Ask for the status as JSON; of two days, as midnight may pass meanwhile."""
    found: dict[str, Any] = json.loads(run_here(place, "status", "--json", *TWO_DAYS, *more))
    return found


def release(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Find a release of the one app."""
    return next(each for each in found["apps"][0]["releases"] if each["release"] == name)


def test_every_state_and_number_is_told(place: Workplace) -> None:
    """States, who said so, reach, reports, the last change, versions seen and gateways."""
    found = said(place)
    assert found["live"] | {"time": 0} == {
        "epoch": 3,
        "time": 0,
        "author": "ann",
        "note": f"percent {APP} ramp 100",
    }
    (gateway,) = found["gateways"]
    assert (gateway["epoch"], gateway["behind"]) == (3, False)
    assert -1 <= found["now"] - gateway["since"] < 60
    states = {each["release"]: each["state"] for each in found["apps"][0]["releases"]}
    assert states == {
        "ramp": "live",
        "late": "scheduled",
        "gone": "over",
        "held": "paused",
        "stable": "paused",
    }
    ramp, stable = release(found, "ramp"), release(found, "stable")
    assert (stable["by"], release(found, "held")["by"]) == ("override", "plan")
    assert ramp["audience"] == "lists staff and 100 %"
    assert ramp["reach"] == pytest.approx(200, abs=10)
    assert stable["reach"] == 0
    assert ramp["reports"]["downloaded"] == {"reports": 30, "devices": 20}
    assert ramp["reports"]["failed"] == {"reports": 1, "devices": 1}
    changed = {name: release(found, name)["changed"]["epoch"] for name in states}
    assert changed == {"ramp": 3, "stable": 2, "late": 1, "gone": 1, "held": 1}
    assert stable["changed"]["note"] == "look at it"
    assert found["apps"][0]["changed"]["epoch"] == 3
    versions = {each["version"]: each["checks"] for each in found["apps"][0]["versions"]}
    assert versions == {V1: 400, V2: 10}
    assert found["totals"]["overrides"] == {"paused": 1, "percent": 1}
    assert said(place, "coffee")["apps"] == said(place, APP)["apps"] == found["apps"]


def test_plain_lines_and_a_table_say_the_same(place: Workplace) -> None:
    """Off a terminal each line tells what it is about; on one there are tables."""
    plain = place.run("status", *TWO_DAYS).out
    assert f"release {APP}/stable: paused by override, {V1} to everyone; reach 0, " in plain
    assert "downloaded 20, installed 0, failed 1" in plain
    assert "gateway " in plain
    assert f"versions of {APP} in 2 days: {V1} 400 of 410 (97.6 %); {V2} 10 of 410" in plain
    run = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'compiler.cli', 'status']))"
    shown = subprocess.run(
        [sys.executable, "-c", run],
        cwd=processes.ROOT,
        env=_environment(place) | {"TERM": "xterm", "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=120,
    ).stdout.decode()
    assert "audience" in shown
    assert "paused by override" in shown
    assert "Traceback" not in shown


def _environment(place: Workplace) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
    return kept | {
        "TIDEGATE_REDIS": place.redis_url,
        "TIDEGATE_STORE": str(place.folder / "store"),
        "TIDEGATE_WORKSPACE": "demo",
        "PYTHONPATH": str(processes.ROOT),
    }


def test_watching_goes_on_until_it_is_told_to_end(place: Workplace) -> None:
    """With --watch --json there is an object a line every 2 s; Ctrl-C ends it without a fault."""
    watching = subprocess.Popen(
        [sys.executable, "-m", "compiler.cli", "status", "--watch", "--json"],
        cwd=processes.ROOT,
        env=_environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert watching.stdout is not None
    shown = [watching.stdout.readline() for _ in range(2)]
    watching.send_signal(signal.SIGINT)
    left, faults = watching.communicate(timeout=120)
    epochs = {json.loads(line)["live"]["epoch"] for line in [*shown, *left.splitlines()]}
    assert (watching.returncode, epochs, faults) == (0, {3}, b"")


def test_it_writes_nothing(place: Workplace, server: processes.RedisServer) -> None:
    """Neither store nor Redis is another one afterwards."""

    def everything() -> tuple[dict[str, bytes], dict[str, int]]:
        files = {str(each): each.read_bytes() for each in (place.folder / "store").rglob("*.*")}
        with server.client() as client:
            calls = client.info("commandstats")
        writes = ("set", "del", "eval", "hset", "hincrby", "pfadd", "pfmerge", "expire", "zadd")
        # The gateway announces itself meanwhile, by SET and ZADD.
        return files, {
            name: calls.get(f"cmdstat_{name}", {}).get("calls", 0)
            for name in writes
            if name not in ("set", "zadd")
        }

    place.gateway.terminate()
    place.gateway.wait()
    before = everything()
    processes.wait_until(
        lambda: "No gateway is running." in run_here(place, "status"), "it has said goodbye"
    )
    said(place)
    assert everything() == before
    start_again(place)


def test_faults_are_sentences(place: Workplace, tmp_path: Path) -> None:
    """Redis away is exit 4 with a sentence; an unknown app, an empty store, are told apart."""
    away = f"redis://127.0.0.1:{processes.free_port()}/0"
    assert "Look whether it runs" in run_here(place, "status", "--redis", away, code=AWAY)
    assert "Did you mean" in run_here(place, "status", "coffe", code=USAGE)
    (tmp_path / "empty").mkdir()
    assert "does not know" in run_here(
        place, "status", "--store", str(tmp_path / "empty"), code=REFUSED
    )
    assert "'demo'" in run_here(place, "status", "--workspace", "other", code=REFUSED)
    ids = tmp_path / "ids"
    ids.write_text("u-1\n")
    asked = ("explain", "--app", "coffee", "--ids", str(ids), "--redis", away)
    assert "Look whether it runs" in run_here(place, *asked, code=AWAY)


def test_each_id_of_a_file_is_explained(place: Workplace, tmp_path: Path) -> None:
    """What --ids prints of each is what the gateway would answer, in the file's order."""
    ids = tmp_path / "ids.txt"
    wanted = [f"u-{at}" for at in range(1_480, 1_520)]
    ids.write_text("\ufeff" + "\r\n".join([*wanted[:20], "", *wanted[20:]]) + "\r\n")
    asked = ("explain", "--app", "coffee", "--installed", V1, "--ids", str(ids))
    rows = [line.split("\t") for line in run_here(place, *asked).splitlines()]
    assert [row[0] for row in rows] == wanted
    for who, status, version, name in rows:
        answer = place.app(user=who, apps={APP: V1}, dry_run=True)
        assert status == answer["status"]
        assert (version, name) == (answer.get("version", "-"), answer.get("release", "-"))
    assert {row[1] for row in rows} == {"update", "none"}
    told = [json.loads(line) for line in run_here(place, *asked, "--json").splitlines()]
    assert [[each or "-" for each in row.values()] for row in told] == rows
    assert list(told[0]) == ["id", "status", "version", "release"]
    devices = run_here(place, *asked, "--of", "device").splitlines()
    assert {line.split("\t")[1] for line in devices} == {"none"}
    ids.write_bytes(b"u-1\n" + b"x" * 300 + b"\n")
    assert "ids.txt:2" in run_here(place, *asked, code=USAGE)
    ids.write_bytes(b"u-1\n\xff\n")
    assert "UTF-8" in run_here(place, *asked, code=USAGE)
    assert "--of" in run_here(place, *asked, "--of", "phone", code=USAGE)
    assert "No such file" in run_here(place, *asked[:-1], str(tmp_path / "no"), code=USAGE)
