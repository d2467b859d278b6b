"""`python -m loadtest.rehearsal`: a release day, and a storm, on real processes, judged.

Starts a Redis with an append-only file and a gateway of two workers, publishes a plan with every
kind of release, and lets `python -m loadtest` send a crowd's checks. In the midst of it: a push, a
pause, a worker killed, Redis killed and started again, and a push. Then the storm: a gateway as
before, and a push on which all phones wake.

  python -m loadtest.rehearsal --minutes 10           as the release day, and 50,000 phones' storm
  python -m loadtest.rehearsal --seconds 15 --act day  the short form

Nothing may fail, and no answer may be wrong. Answers that are right only because Redis was away are
allowed while it is, and a little later, when gateways have found out that it is back. Reports,
series and marks are left in --out. Exit codes: 0 all held, 1 not, 2 usage.
"""

import argparse
import csv
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from compiler.child import end_child
from gateway.errors import TidegateError
from loadtest.quantity import above_zero, count
from loadtest.rehearsal import plan
from loadtest.rehearsal.acts import Act, Marks, perform, release_day, storm
from loadtest.rehearsal.stage import Stage
from loadtest.servers import Failed

FOUND_OUT_SECONDS = 5
"""How long after Redis is back gateways may answer as if it was not: they leave it alone at first,
and an answer is counted in the second in which it came."""

_STREET = 250
_JOIN_SECONDS = 180.0
_STOP_SECONDS = 20.0
_UNDER_WAY = 20
"""Answers after which phones are asking: before the first, Locust itself looks for the epoch."""

_ENDLESS = "24h"
"""The rehearsal ends the load test itself, when its acts are over."""

_AWAY = ("--unconfirmed", "1000000000")
"""Locust does not know when Redis is away: such answers are held against the time by
`unconfirmed`."""


@dataclass(frozen=True, slots=True)
class Run:
    """One part of a rehearsal: its name, length, phones, and Locust's further options."""

    name: str
    seconds: float
    phones: int
    acts: Callable[[Stage], list[Act]]
    options: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse; give the exit code."""
    asked = _parser().parse_args(arguments)
    seconds = asked.seconds or asked.minutes * 60
    levels = ("--p99-ms", f"{asked.p99_ms:g}", "--sample", f"{asked.sample:g}")
    wake = ("--shape", "storm", "--wake-seconds", f"{asked.wake_seconds:g}")
    slow = ("--hurry", f"{plan.CHECK_AFTER / asked.every:g}")
    # In the storm phones ask seldom: it is the push that wakes them.
    last = ("--hurry", f"{plan.CHECK_AFTER / asked.storm_every:g}")
    runs = {
        "day": Run("day", seconds, asked.phones, release_day, (*levels, *slow, *_AWAY)),
        "storm": Run(
            "storm", asked.storm_seconds, asked.storm_phones, storm, (*levels, *wake, *last)
        ),
    }
    out: Path = asked.out
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is ended
    try:
        out.mkdir(parents=True, exist_ok=True)
        faults = [
            f"{name}: {fault}"
            for name in asked.act or runs
            for fault in rehearse(runs[name], out, asked.processes)
        ]
    except (Failed, TidegateError, OSError) as fault:
        faults = [str(fault)]
    except KeyboardInterrupt:
        faults = ["stopped"]
    for each in faults:
        print(each, file=sys.stderr)
    print("not held" if faults else f"All held. The reports are in {out}.")
    return int(bool(faults))


def rehearse(run: Run, out: Path, processes: int) -> list[str]:
    """Rehearse one run, leaving its report in `out`; give what did not hold. Raises Failed."""
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-rehearsal-"))
        )
        stage = stack.enter_context(Stage(folder, run.seconds))
        marks = Marks(folder / "marks")
        series = out / f"{run.name}.csv"
        series.unlink(missing_ok=True)  # what an earlier rehearsal left says nothing of this one
        locust = _load(stage, run, marks.path, out, processes)
        stack.callback(end_child, locust, _STOP_SECONDS, signal.SIGINT)
        try:
            _wait_for_checks(stage, locust)
            perform(run.acts(stage), marks, run.seconds)
            stage.wait_for_workers()
            locust.terminate()
            code = locust.wait(_JOIN_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed("The load test does not end.") from None
        finally:
            if marks.path.exists():
                shutil.copy(marks.path, out / f"{run.name}-marks.jsonl")
            shutil.copy(folder / "gateway.log", out / f"{run.name}-gateway.log")
        if not series.exists():
            raise Failed(f"The load test ended with {code} and left no report.")
        faults = [] if code == 0 else [f"the load test ended with {code}; see {run.name}.html"]
        return faults + unconfirmed(series.read_text(), marks.outage())


def unconfirmed(series: str, outage: tuple[float, float]) -> list[str]:
    """Tell of answers that needed Redis to be away while it was there, or were not judged."""
    first, last = int(outage[0]), int(outage[1]) + FOUND_OUT_SECONDS
    rows = list(csv.DictReader(series.splitlines()))
    unlisted = [
        (int(row["unix_second"]), int(row["judged_unconfirmed"]))
        for row in rows
        if int(row["judged_unconfirmed"]) and not first <= int(row["unix_second"]) <= last
    ]
    unjudged = sum(int(row["unjudged"]) for row in rows)
    faults = []
    if unlisted:
        number = sum(each for _, each in unlisted)
        when = f"first at {unlisted[0][0]}"
        faults.append(f"{number} answers without their lists while Redis was there, {when}")
    if unjudged:
        faults.append(f"{unjudged} answers that could not be judged")
    return faults


def _load(
    stage: Stage, run: Run, marks: Path, out: Path, processes: int
) -> "subprocess.Popen[bytes]":
    """Start the load test."""
    streets = max(1, round(run.phones / _STREET))
    command = [
        *(sys.executable, "-m", "loadtest", stage.url, "--workspace", plan.WORKSPACE),
        *("--store", str(stage.store), "--marks", str(marks)),
        *("--report", str(out / f"{run.name}.html"), "--series", str(out / f"{run.name}.csv")),
        *("-u", str(streets), "-r", str(streets), "--street", str(_STREET), "--members", "10"),
        *("-t", _ENDLESS),
        *(("--processes", str(processes)) if processes > 1 else ()),
        *run.options,
    ]
    return subprocess.Popen(command)


def _wait_for_checks(stage: Stage, locust: "subprocess.Popen[bytes]") -> None:
    """Wait until the phones ask. Raises Failed when Locust ends before."""
    end = time.monotonic() + _JOIN_SECONDS
    while stage.answers() < _UNDER_WAY:
        if locust.poll() is not None or time.monotonic() > end:
            raise Failed(f"The load test does not begin (exit code {locust.poll()}).")
        time.sleep(0.1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.rehearsal",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--act", choices=("day", "storm"), action="append", help="this one alone (both)")
    add("--minutes", type=above_zero, default=10, metavar="N", help="how long the day is (10)")
    add("--seconds", type=above_zero, metavar="N", help="the same in seconds")
    add("--phones", type=count, default=5_000, metavar="N", help="of the day (5000)")
    add("--every", type=above_zero, default=30, metavar="S", help="seconds between checks (30)")
    add("--storm-phones", type=count, default=50_000, metavar="N", help="of the storm (50000)")
    add("--storm-seconds", type=above_zero, default=400, metavar="S", help="its length (400)")
    add("--storm-every", type=above_zero, default=150, metavar="S", help="between checks (150)")
    add("--wake-seconds", type=above_zero, default=100, metavar="S", help="in which all wake (100)")
    add("--p99-ms", type=above_zero, default=1_000, metavar="MS", help="level of latency (1000)")
    add("--sample", type=above_zero, default=10, metavar="PERCENT", help="answers judged (10)")
    add("--processes", type=count, default=1, metavar="N", help="Locust's workers (one process)")
    add("--out", type=Path, default=Path(".tidegate/rehearsal"), metavar="DIR",
        help="where the reports go (.tidegate/rehearsal)")  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
