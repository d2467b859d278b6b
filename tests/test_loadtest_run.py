"""Load tests as operators run them: Locust's processes against a real gateway and a real Redis."""

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import windows
from compiler.publication.seat_records import SeatRecords
from controllers import epoch_of
from gateway.link import connect_sync, parse_url
from load_runs import LONGEST, QUICK, ended, loadtest, rows_of, start, wait_for
from phones import answered_by
from processes import (
    Gateway,
    RedisServer,
    free_port,
    redis_server,
    running_gateway,
    wait_until,
)
from publishing import COFFEE, Workshop, image_of, plan_files

LOADTEST = ("-m", "loadtest")
FOR_EVER = "300s"
"""Until the test ends the run, which it does once what it waits for has come."""


def seated(workshop: Workshop) -> int:
    """Count who sits in the window."""
    record = SeatRecords(workshop.mirror).read(COFFEE, "first")
    assert record is not None
    return record.seated


def end_when(run: subprocess.Popen[str], holds: Callable[[], Any], what: str) -> str:
    """Let a load test go on until something holds, then end it; give what it says then."""
    wait_for(run, "users spawned")  # Locust itself may take long to start
    wait_until(lambda: run.poll() is not None or holds(), what)
    run.terminate()
    said, _ = run.communicate(timeout=LONGEST)
    assert "Traceback" not in said, said
    return said


def answers_of(gateway: Gateway, count: int) -> Callable[[], bool]:
    """Tell whether a gateway has given so many answers more, but for those on their way."""
    wanted = answered_by(gateway) + count
    return lambda: answered_by(gateway) >= wanted


def test_a_run_with_a_push_in_its_midst_is_right_and_leaves_no_trace(
    tmp_path: Path, server: RedisServer, workshop: Workshop
) -> None:
    """Every judged answer is right, by the plan of its epoch; nobody sits; report and CSV tell it.

    The storm wakes everyone, and the mark that another wrote during the run stands in the picture.
    """
    windows.push(workshop, windows.plan_files(50))
    report, series, marks = (tmp_path / name for name in ("r.html", "s.csv", "marks"))
    with running_gateway(tmp_path / "gateway", server.url) as gateway:
        words = ["-t", FOR_EVER, "--report", str(report), "--series", str(series)]
        words += ["--marks", str(marks), "--shape", "storm", "--wake-seconds", "1"]
        run = start(workshop.folder, "-m", "compiler.cli", "loadtest", gateway.url, *QUICK, *words)
        with ended(run) as process:
            wait_until(answers_of(gateway, 50), "epoch 1 is seen", LONGEST)
            time.sleep(1)  # epoch 2 is seen in a second of its own
            windows.push(workshop, windows.plan_files(60))
            marks.write_text(json.dumps({"at": time.time(), "text": "something broke"}) + "\n")
            wait_until(lambda: epoch_of(gateway) == 2, "epoch 2 is served")
            said = end_when(process, answers_of(gateway, 700), "the storm is answered")
        assert process.returncode == 0, said
    rows, html = rows_of(series), report.read_text()
    assert {row["newest_epoch"] for row in rows} >= {"1", "2"}
    checks, judged = (sum(int(row[name]) for row in rows) for name in ("answered", "judged_right"))
    assert judged >= checks // 5 > 100
    assert sum(int(row["failed"]) + int(row["judged_wrong"]) for row in rows) == 0
    assert f"0 of {judged:,} judged" in html
    assert "epoch 2</text>" in html
    assert "something broke</text>" in html
    assert seated(workshop) == 0
    assert all("update" not in each for each in gateway.events("a request failed"))


def test_a_live_run_takes_seats_and_needs_a_yes(
    tmp_path: Path, server: RedisServer, workshop: Workshop
) -> None:
    """Without a terminal --live sends nothing unless --yes is said; then seats are taken: all."""
    windows.push(workshop, windows.plan_files(5))
    with running_gateway(tmp_path / "gateway", server.url) as gateway:
        words = (*QUICK, "-t", FOR_EVER, "--live", "--report", str(tmp_path / "r.html"))
        said = loadtest(workshop.folder, gateway.url, *words, code=2)
        assert "Say --yes if that is meant" in said
        assert seated(workshop) == 0
        with ended(start(workshop.folder, *LOADTEST, gateway.url, *words, "--yes")) as run:
            said = end_when(run, lambda: seated(workshop) == 5, "all seats are taken")
        assert run.returncode == 0, said
    assert "it counted for real" in (tmp_path / "r.html").read_text()


def test_wrong_answers_fail_the_run_and_can_be_asked_about(
    tmp_path: Path, server: RedisServer, workshop: Workshop
) -> None:
    """A gateway whose answers are not the plan's ends the run with 1; the report says who asked.

    The gateway serves epoch 1 of another store than that by which its answers are judged.
    """
    workshop.push(image_of(plan_files(("1.0.0.1", "1.0.0.2"))))
    with redis_server(tmp_path / "other") as aside:
        link = connect_sync(parse_url(aside.url), timeout_seconds=5)
        other = Workshop(tmp_path / "judged", link)
        other.push(image_of(plan_files(("1.0.0.1",))))
        link.close()
    with running_gateway(tmp_path / "gateway", server.url) as gateway:
        words = (*QUICK, "-t", FOR_EVER, "--report", str(tmp_path / "r.html"))
        with ended(start(other.folder, *LOADTEST, gateway.url, *words)) as run:
            said = end_when(run, answers_of(gateway, 200), "many are answered")
        assert run.returncode == 1, said
    assert re.search(r"NOT HELD +wrong answers: [1-9]", said)
    html = (tmp_path / "r.html").read_text()
    commands = re.findall(r"tidegate explain [^\n]+", html)
    assert commands
    assert all(shlex.split(each)[4:6] == ["--app", COFFEE] for each in commands)


def test_who_ends_the_command_ends_the_load(
    tmp_path: Path, server: RedisServer, workshop: Workshop
) -> None:
    """`tidegate loadtest` is the load test: its id ends it, with a report of what was so far."""
    workshop.push(image_of(plan_files()))
    with running_gateway(tmp_path / "gateway", server.url) as gateway:
        words = (*QUICK, "-t", FOR_EVER, "--report", str(tmp_path / "r.html"))
        run = start(workshop.folder, "-m", "compiler.cli", "loadtest", gateway.url, *words)
        with ended(run) as process:
            said = end_when(process, answers_of(gateway, 20), "some are answered")
    assert process.returncode == 0, said
    assert "r.html is written" in said


def test_a_gateway_that_is_away_is_said_at_once(tmp_path: Path, workshop: Workshop) -> None:
    """No gateway there is 4, and writes no report."""
    workshop.push(image_of(plan_files()))
    report = ("--report", str(tmp_path / "r.html"))
    said = loadtest(workshop.folder, f"http://127.0.0.1:{free_port()}", *report, code=4)
    assert "No gateway answers at" in said
    assert not (tmp_path / "r.html").exists()


def test_a_plan_without_apps_is_said_before_the_run(
    tmp_path: Path, server: RedisServer, workshop: Workshop
) -> None:
    """Who has nothing to ask about waits for no run: 2, and no report."""
    workshop.push(image_of({"workspace.yaml": "workspace: demo\n"}))
    with running_gateway(tmp_path / "gateway", server.url) as gateway:
        report = ("--report", str(tmp_path / "r.html"))
        said = loadtest(workshop.folder, gateway.url, *report, code=2)
    assert "The plan has no app to ask about" in said
    assert not (tmp_path / "r.html").exists()


@pytest.mark.skipif(not os.environ.get("TIDEGATE_SOAK"), reason="TIDEGATE_SOAK is not set")
def test_a_storm_of_fifty_thousand_phones(
    tmp_path: Path, server: RedisServer, workshop: Workshop
) -> None:
    """Fifty thousand wake on a push; all are answered, none wrongly, and nobody is left out."""
    workshop.push(image_of(plan_files(("1.0.0.1", "1.0.0.2"))))
    series = tmp_path / "s.csv"
    with running_gateway(tmp_path / "gateway", server.url) as gateway:
        words = ["-u", "100", "--street", "500", "--hurry", "20", "-t", "100s", "--shape", "storm"]
        words += ["--wake-seconds", "10", "--p99-ms", "20000", "--series", str(series)]
        words += ["--report", str(tmp_path / "r.html")]
        run = start(workshop.folder, "-m", "compiler.cli", "loadtest", gateway.url, *words)
        with ended(run) as process:
            wait_for(process, "users spawned")
            time.sleep(15)
            workshop.push(image_of(plan_files(("1.0.0.1", "1.0.0.2", "1.0.0.3"))))
            said, _ = process.communicate(timeout=180)
        assert process.returncode == 0, said
    rows = rows_of(series)
    after = sum(int(row["answered"]) for row in rows if row["newest_epoch"] == "2")
    assert after >= 50_000
    print(f"{after:,} checks after the push; busiest second "
          f"{max(int(row['answered']) for row in rows):,}")  # fmt: skip
