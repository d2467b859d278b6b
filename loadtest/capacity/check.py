"""`python -m loadtest.capacity.check`: tries on this machine what capacity predicts.

Round by round, in one run: the rows of `make bench` that capacity computes with, and then the crowd
of loadtest/population.py on the rehearsal's plan, sent by wrk to a gateway on a core of its own.
From the rows of the same round it predicts how many of the crowd's checks a core answers, and
compares that with what was answered. Held if the median over the rounds is within 30 %.

What is compared is answers a CPU second of the gateway's, which other work on the machine changes
little; answers a second of the clock are shown beside it, with how busy the gateway's core was with
it. On an idle machine both say the same. The crowd differs from the bench in everything: plan, apps
a check, attributes, odd input, some MessagePack and switches. Exit codes: 0 held, 1 not, 2 usage.
"""

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import TidegateError
from loadtest import machine, plans
from loadtest.bench import account
from loadtest.books import open_books
from loadtest.capacity.day import VARIETY, Day, saturation
from loadtest.capacity.figures import NEEDED, Cost, Figures
from loadtest.lineup import Lineup
from loadtest.population import Population
from loadtest.quantity import count
from loadtest.rehearsal import plan
from loadtest.rehearsal.stage import Stage
from loadtest.replay import write_requests
from loadtest.rows import all_rows
from loadtest.servers import Failed, Server, two_cores
from loadtest.table import Measured
from loadtest.wrk import load, write_file_script, write_script

WITHIN = 0.30
PHONES = 5_000
MEMBERS = 0.05
SEED = 7
_CONNECTIONS = 32
WARM_ROUNDS = 2
"""How often each phone asks before: a gateway that has just started makes each answer, and learns
each value, for the first time, which a day's traffic soon has done."""

_DAY_SECONDS = 86_400.0
"""The plan's schedule is of a run so long, so that nothing of it falls into the measurement."""


@dataclass(frozen=True, slots=True)
class Round:
    """What was predicted and what was measured: answers a CPU second; and the crowd's round."""

    predicted: float
    measured: float
    crowd: Measured

    @property
    def ratio(self) -> float:
        """The prediction over what came: 1 is exact."""
        return self.predicted / self.measured


def traffic(phones: Sequence[dict[str, object]]) -> Day:
    """Describe the crowd as capacity is told it: apps a check, and who is on a list of ids.

    wrk sends the same phones again and again, so the gateway remembers the members; and it keeps
    its connections.
    """
    members = sum(_is_member(each) for each in phones) / len(phones)
    apps = statistics.fmean(len(each["apps"]) for each in phones)  # type: ignore[arg-type]
    return Day(
        visitors=1, checks=1, apps=apps, variety=VARIETY, peak=1,
        lists=True, members=members, remembered=1, fresh=0,
        updates=0, patched=0, package_bytes=0, patch_bytes=0, ids=0,
    )  # fmt: skip


def _is_member(phone: dict[str, object]) -> bool:
    user, device = str(phone.get("user", "")), str(phone.get("device", ""))
    return user.startswith("staff-") or device.startswith("kiosk-")


def held(rounds: Sequence[Round]) -> bool:
    """Tell whether the median prediction is within 30 % of what was measured."""
    return abs(statistics.median(each.ratio for each in rounds) - 1) <= WITHIN


class Bench:
    """The rows that capacity computes with, each measured as `make bench` does."""

    def __init__(self, lineup: Lineup, scripts: Path, ids: int, seconds: int) -> None:
        """Write the rows' scripts into a folder, and start their servers."""
        self._lineup, self._scripts, self._ids, self._seconds = lineup, scripts, ids, seconds
        self._rows = [row for row in all_rows(ids) if row.name in NEEDED]
        for number, row in enumerate(self._rows):
            lineup.server(row.server)
            write_script(scripts / f"{number}.lua", row.requests(), row.members)

    def figures(self, passed_over: int, run: "Run") -> Figures:
        """Measure them all; `passed_over` are members that were asked for before."""
        costs = {}
        for number, row in enumerate(self._rows):
            server = self._lineup.server(row.server)
            for each in row.requests() if row.again else ():
                server.ask(each)
            script = self._scripts / f"{number}.lua"
            came = run(server, self._lineup.redis(), script, self._seconds, passed_over)
            costs[row.name] = Cost(came.cpu_us, came.redis_us, 0.0, 0.0)
        return Figures("this round", costs)


Run = Callable[[Server, Server | None, Path, int, int], Measured]
"""Loads a server, with the Redis that it asks, by a script, for so long, from so many on."""


def measure(folder: Path, rounds: int, seconds: int, ids: int) -> Iterator[Round]:
    """Predict and measure, round by round, in an empty folder. Raises Failed."""
    server_core, other_core = two_cores()
    os.sched_setaffinity(0, {other_core})  # wrk inherits it, and all that is started here

    def run(
        server: Server, redis: Server | None, script: Path, seconds: int, passed_over: int
    ) -> Measured:
        asking = {"connections": _CONNECTIONS, "seconds": seconds, "start": passed_over}
        server.pin(server_core)
        try:
            return account(server, redis, lambda: load(server.port, script, **asking))
        finally:
            server.pin(other_core)

    (folder / "bench").mkdir()
    with (
        Lineup(folder / "bench", ids, lambda _: None) as lineup,
        Stage(folder / "stage", _DAY_SECONDS, workers=1) as stage,
    ):
        bench = Bench(lineup, folder, ids, seconds)
        rules = open_books(str(stage.store), plan.WORKSPACE).newest()
        crowd = Population(SEED, PHONES, rules.plan, rules.members(), member_share=MEMBERS)
        asked = traffic([crowd.phone(number) for number in range(PHONES)])
        # They count as real checks, which cost a little more than dry runs.
        write_requests(folder / "crowd", crowd, dry_run=False)
        script = folder / "crowd.lua"
        write_file_script(script, folder / "crowd")
        warm = 0
        while warm < WARM_ROUNDS * PHONES:
            warm += run(stage.server(), None, script, seconds, warm).found.answers
        for turn in range(rounds):
            found = bench.figures(turn * (ids // rounds), run)
            came = run(stage.server(), None, script, 2 * seconds, 0)
            if came.found.broken:
                raise Failed(f"{came.found.broken} of the crowd's checks failed.")
            yield Round(saturation(asked, found), 1e6 / came.cpu_us, came)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line a round; give the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.capacity.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--rounds", type=count, default=5, metavar="N", help="(5)")
    parser.add_argument("--seconds", type=count, default=2, metavar="N", help="of load a row (2)")
    parser.add_argument(
        "--ids", type=count, default=1_000_000, metavar="N", help="on the bench's lists (1M)"
    )
    asked = parser.parse_args(arguments)
    if asked.ids < plans.LISTS:
        parser.error(f"--ids: {asked.ids} are too few: no list may be empty")
    if shutil.which("wrk") is None:
        parser.error("wrk is missing. On Debian type: apt-get install wrk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is ended
    print(f"{machine.described()}; answers a CPU second of the gateway's, in one round:")
    rounds = []
    try:
        with tempfile.TemporaryDirectory(prefix="tidegate-check-") as folder:
            for each in measure(Path(folder), asked.rounds, asked.seconds, asked.ids):
                rounds.append(each)
                print(_line(len(rounds), each), flush=True)
    except (Failed, TidegateError) as fault:
        print(fault, file=sys.stderr)
        return 1
    median, good = statistics.median(each.ratio for each in rounds), held(rounds)
    said = "within" if good else "NOT within"
    print(f"median of {len(rounds)}: predicted is {median:.2f} of measured, {said} {WITHIN:.0%}")
    return int(not good)


def _line(number: int, found: Round) -> str:
    busy = found.crowd.cpu_seconds / found.crowd.found.seconds
    return (
        f"round {number}: predicted {found.predicted:,.0f}, measured {found.measured:,.0f}: "
        f"{found.ratio:.2f}; by the clock {found.crowd.rate:,.0f}/s, its core {busy:.0%} busy"
    )


if __name__ == "__main__":
    sys.exit(main())
