"""`make bench`: it measures what it says, and notices wrong answers."""

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from loadtest import micro, plans, rows, table, windows
from loadtest.lineup import SAMPLE, Lineup
from loadtest.phones import ANYBODY, anybody, as_json, member, phone
from loadtest.servers import Failed
from loadtest.table import Measured
from loadtest.wrk import Found, load, read, write_script

ROOT = Path(__file__).parent.parent
IDS = 400
NEEDS_WRK = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
REPORT = """\
Running 2s test @ http://127.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   812.03us    1.02ms  21.11ms   92.50%
    Req/Sec    62.11k     3.39k   66.01k    80.00%
  Latency Distribution
     50%  431.00us
     75%  640.00us
     90%    1.90ms
     99%    1.20s
  123456 requests in 2.10s, 50.55MB read
{more}Requests/sec:  61728.00
Transfer/sec:     25.27MB
"""


def measured(cpu_seconds: float, answers: int = 1_000) -> Measured:
    """Make up a round of one second."""
    found = Found(answers, 1.0, p50_ms=1.0, p99_ms=2.0, broken=0, busy=0.5)
    return Measured(found, cpu_seconds, 0.0, 0)


def test_a_report_of_wrk_is_read() -> None:
    """Answers, seconds and latencies come out in one unit each, whatever wrk wrote."""
    found = read(REPORT.format(more=""), 0.7)
    assert found == Found(
        123_456, 2.1, p50_ms=0.431, p99_ms=1_200, broken=0, busy=0.7, received=53_005_517
    )
    slow = REPORT.replace("2.10s", "1.50m").replace("431.00us", "8.50ms").format(more="")
    assert read(slow, 0.7).seconds == 90
    assert read(slow, 0.7).p50_ms == 8.5


def test_what_went_wrong_under_load_is_counted() -> None:
    """Refused answers and broken connections add up."""
    more = (
        "  Socket errors: connect 1, read 20, write 300, timeout 4000\n"
        "  Non-2xx or 3xx responses: 50000\n"
    )
    assert read(REPORT.format(more=more), 0.0).broken == 54_321


@pytest.mark.parametrize("said", ["", REPORT.replace("123456 req", "0 req"), REPORT[:120]])
def test_no_report_is_a_failure(said: str) -> None:
    """No answers are no measurement."""
    with pytest.raises(Failed, match="wrk"):
        read(said, 0.0)


@NEEDS_WRK
@pytest.mark.parametrize("members", [0, 3])
def test_a_script_sends_the_very_bytes(tmp_path: Path, members: int) -> None:
    """What wrk sends is what was to be sent: quotes, line ends, zeros and any other byte."""
    bodies = [bytes(range(256)) + ANYBODY.encode() + b"123", ANYBODY.encode() + b"\0007\r\n\r\n"]
    head = b'POST / HTTP/1.1\r\nHost: x\r\nX: "\\9"\r\nContent-Length: %d\r\n\r\n'
    requests = [head % len(body) + body for body in bodies]
    write_script(tmp_path / "script.lua", requests, members)
    # wrk takes the first one to look whether it is HTTP, and sends from the second one on.
    expected = [requests[1], requests[0]]
    if members:
        ids = (b"m-00000000", b"m-00000001")
        expected = [
            each.replace(ANYBODY.encode(), name) for each, name in zip(expected, ids, strict=True)
        ]
    sizes = [len(each) for each in expected]
    for seconds in (1, 5, 20):  # on a machine under load a second may be over before both are sent
        received = _received(tmp_path / "script.lua", sizes, seconds)
        if len(received) == len(expected):
            break
    assert received == expected


def _received(script: Path, sizes: Sequence[int], seconds: int) -> list[bytes]:
    """Let wrk send for so long; give what came of requests of these sizes."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=_answer, args=(listening, sizes, received))
        server.start()
        with suppress(Failed):  # it got no answer at all
            load(listening.getsockname()[1], script, connections=1, seconds=seconds, start=1)
        server.join(30)
    return received


def _answer(listening: socket.socket, sizes: Sequence[int], received: list[bytes]) -> None:
    """Answer requests of these sizes, and no more, until wrk goes."""
    listening.settimeout(25)
    with suppress(OSError):
        listening.accept()[0].close()  # wrk tries first whether anybody is there
        _answer_one(listening.accept()[0], sizes, received)


def _answer_one(connection: socket.socket, sizes: Sequence[int], received: list[bytes]) -> None:
    with connection:
        for size in sizes:
            came = connection.recv(size, socket.MSG_WAITALL)
            if not came:
                return
            received.append(came)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def test_ratios_are_taken_round_by_round() -> None:
    """A round in which the whole machine was slow changes no ratio."""
    rounds = {
        "one": [measured(0.2), measured(0.8), measured(0.3)],
        "other": [measured(0.1), measured(0.4), measured(0.1)],
    }
    found = table.ratio(rounds, "one", "other", "cpu_us")
    assert found is not None
    assert found == pytest.approx((2.0, 2.0, 3.0))
    assert table.ratio(rounds, "one", "absent", "cpu_us") is None


def test_budgets_are_of_rows_that_there_are() -> None:
    """Every budget compares two rows of the bench; one at its bound holds, one beyond does not."""
    names = {row.name for row in rows.all_rows(IDS)}
    assert {name for each in table.BUDGETS for name in (each.row, each.against)} <= names
    for budget in table.BUDGETS:
        beyond = budget.bound * (0.99 if budget.at_least else 1.01)
        assert table.holds(budget, table.Ratio(budget.bound, 0, 99))
        assert not table.holds(budget, table.Ratio(beyond, 0, 99))


def test_the_plan_is_the_one_of_the_budgets() -> None:
    """12 releases, 8 conditions, 2 percentages; 200 lists, each used by a release; 20 apps."""
    for app in (plans.apps_without_lists()[0], plans.apps_with_lists()[0]):
        releases = app["releases"]
        tested = [each["attribute"] for row in releases for each in row.get("when", ())]
        assert len(releases) == 12
        assert len(tested) == len(set(tested)) == 8
        assert sum("percent" in row["audience"] for row in releases) == 2
    audiences = [row["audience"] for row in plans.apps_with_lists()[0]["releases"]]
    used = [name for each in audiences if each != "everyone" for name in each.get("lists", ())]
    assert sorted(used) == plans.list_names()
    twenty = next(row for row in rows.all_rows(IDS) if row.name == rows.TWENTY)
    assert len(twenty.phones[0]["apps"]) == 20
    sizes = {each["app"]: len(each["releases"]) for each in plans.apps_without_lists()}
    assert (sizes[plans.TEN], sizes[plans.THOUSAND]) == (10, 1_000)


def test_requests_of_one_kind_have_one_length() -> None:
    """A member's request is as long as a stranger's."""
    for number in (0, 7, 499):
        asked = phone(number), member(plans.LISTS * number), anybody(number)
        assert len({len(as_json(each)) for each in asked}) == 1


def test_wrong_answers_are_noticed(tmp_path: Path) -> None:
    """A server that gives every phone the answer of the first one is wrong in Tidegate's place."""
    with Lineup(tmp_path, IDS, lambda _: None) as lineup:
        nothing = lineup.server("aiohttp")
        usual = [phone(number) for number in range(SAMPLE)]
        assert lineup.wrong(rows.Row("a constant", "aiohttp", usual)) == []
        lineup.servers["tidegate"] = nothing
        faults = lineup.wrong(rows.Row("a gateway", "tidegate", usual))
        assert len(faults) > SAMPLE // 2
        assert faults[0].startswith("a gateway: 200 ")


@NEEDS_WRK
def test_a_small_run_measures_and_finds_no_wrong_answer() -> None:
    """Tidegate and the obvious gateway give the same bytes; the figures come as JSON, too."""
    chosen = (rows.OBVIOUS_LISTS, rows.STRANGER, rows.FIRST)
    only = [word for name in chosen for word in ("--only", name)]
    command = [sys.executable, "-m", "loadtest.bench", "--rounds", "1", "--seconds", "1"]
    done = subprocess.run(
        [*command, "--ids", str(IDS), "--json", "-", *only],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {row["row"]: row["wrong"] for row in said["rows"]} == dict.fromkeys(chosen, 0)
    for row in said["rows"]:
        assert row["rate"] > 0
        assert row["cpu_us"] > 0
        assert len(row["rounds"]) == 1
        assert row["row"] in done.stderr
    assert said["budgets"] == []  # each compares with a row that was not chosen


def test_a_name_that_no_row_has_is_answered_with_the_names() -> None:
    """Who mistypes a row is shown what there is."""
    command = [sys.executable, "-m", "loadtest.bench", "--only", "zebra"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    if shutil.which("wrk") is not None:
        assert rows.GRANIAN in done.stderr
    assert "Traceback" not in done.stderr


def test_every_step_is_measured_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The micro-benchmarks run: each step is there, and each took some time."""
    monkeypatch.setattr(micro, "REPEATS", 2)
    monkeypatch.setattr(micro, "IDS", IDS)
    assert micro.run() == 0
    said = capsys.readouterr().out
    for step in ("head", "parse", "probes", "decide", "answer", "render", "look-up", "bytes to"):
        lines = [line for line in said.splitlines() if line.startswith(step)]
        assert lines, step
        assert all(int(line.split()[-1].replace(",", "")) > 0 for line in lines)


def test_windows_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every state of a window is asked for, and its seats are small in a real Redis."""
    monkeypatch.setattr(micro, "REPEATS", 2)
    monkeypatch.setattr(windows, "FIRST", 2_000)
    monkeypatch.setattr(windows, "ROUNDS", 1)
    monkeypatch.setattr(windows, "apart", lambda work, *arguments: work(*arguments))
    windows.main(["--seats", "100000"])
    said = dict(
        re.findall(r"^(.*\S) +([0-9.,]+)(?: +[0-9.]+)?$", capsys.readouterr().out, re.MULTILINE)
    )
    assert len(said) == 9
    assert float(said["100,000 seats in Redis, bytes a seat"]) <= 12
