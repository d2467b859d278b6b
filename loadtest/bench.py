"""`make bench`: what a check costs, beside nginx returning a constant.

Every contender gets the same requests over 32 connections of wrk, in alternation, round after
round; each server has one core for itself, and wrk, Redis and everything idle share another. The
do-nothing servers return a real answer as a constant. Before and after, a sample of every row's
answers is compared, byte for byte, with what the rules give; a wrong one ends the run with 1.

  checks/s   answers a second
  CPU µs     the server's CPU time a check, user and system: the steadier figure of the two
  Redis      Redis's CPU time a check, in µs
  to nginx   CPU µs against nginx's in the same round: the median over the rounds, and its spread
  server     how busy its core was with it; well below 100 %, something else was the limit:
  wrk        how busy the load generator was
  wrong      sampled answers with wrong bytes, answers that were no 200, broken connections

The plan has apps of 12 releases, 8 conditions and 2 percentages. "200 lists" are all used by live
releases of the one app that is asked about. "First time asked": every check has another member,
who is looked up in Redis; "asked again": 500 members, whom the gateway remembers.

A second table compares the figures that have a budget. "By CPU" is what a ratio of rates would be
if each server had its core for itself. Memory, publication and starting have benchmarks of their
own: loadtest/footprint.py and loadtest/lists.py. A run that has every row that `tidegate capacity`
computes with leaves their figures in .tidegate/figures.json for it.

  python -m loadtest.bench                               everything, about five minutes
  python -m loadtest.bench --only nginx --only 'no list' these rows (and what budgets they allow)
  python -m loadtest.bench --ids 100000 --rounds 3       smaller lists, fewer rounds
  python -m loadtest.bench --json -                      the figures, each round, for a script
  python -m loadtest.bench --micro                       parse, decide, render: without servers
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from gateway.errors import TidegateError
from gateway.lookup import CONFIRMED
from loadtest import machine, micro, plans, table
from loadtest.capacity import figures
from loadtest.contenders import nginx
from loadtest.lineup import Lineup
from loadtest.rows import PLAIN_PYTHON, Row, all_rows, chosen
from loadtest.servers import Failed, Server, two_cores
from loadtest.table import Measured
from loadtest.wrk import Found, load, write_script

BUSY = 0.85
"""What a server or wrk has of its core at least, when nothing else wants it."""

TOLERATED = 0.01
"""Look-ups given up, a check: below is a machine's hiccup, above it not what the row says."""


def main() -> None:
    """Set everything up, measure, print, and end what was started."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is ended
    try:
        code = micro.run() if arguments.micro else run(arguments)
    except (Failed, TidegateError) as fault:
        print(f"\n{fault}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        code = 130
    sys.exit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=_count, default=7, help="rounds of alternation (7)")
    parser.add_argument("--seconds", type=_count, default=2, help="of load a row and round (2)")
    parser.add_argument("--connections", type=_count, default=32, help="that wrk keeps busy (32)")
    parser.add_argument(
        "--ids", type=_ids, default=10_000_000, help="on the 200 lists together (10000000)"
    )
    parser.add_argument(
        *("--only", "-k"), action="append", default=[], metavar="PATTERN", help="rows by name"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there; - for here")
    parser.add_argument(
        "--figures",
        type=Path,
        default=figures.PLACE,
        metavar="FILE",
        help=f"where `tidegate capacity` finds them ({figures.PLACE})",
    )
    parser.add_argument("--micro", action="store_true", help="the steps of a check apart")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _ids(text: str) -> int:
    if _count(text) < plans.LISTS:
        raise argparse.ArgumentTypeError(f"{text} are too few: no list may be empty")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Run the bench; give the exit code. Raises Failed."""
    if shutil.which("wrk") is None:
        raise Failed("The bench needs wrk. On Debian type: apt-get install wrk nginx-light")
    rows = chosen(all_rows(arguments.ids), arguments.only)
    if not rows:
        every = "\n  ".join(row.name for row in all_rows(arguments.ids))
        raise Failed(f"No row has such a name. There are:\n  {every}")
    if not micro.is_compiled():
        rows = [row for row in rows if row.name != PLAIN_PYTHON]  # all others are that, too
    missing = [row.name for row in rows if row.server == "nginx" and nginx.binary() is None]
    rows = [row for row in rows if row.name not in missing]
    if not rows:
        raise Failed("Only nginx was chosen. On Debian type: apt-get install nginx-light")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-bench-")))
        lineup = stack.enter_context(Lineup(folder, arguments.ids, _say))
        wrong = {row.name: _check(lineup, row) for row in rows}
        rounds = _measure(lineup, rows, arguments, folder)
        for row in rows:
            broken = sum(each.found.broken for each in rounds[row.name])
            wrong[row.name] += broken + _check(lineup, row)
        notes = [*_notes(arguments, missing, lineup), *_doubts(rounds)]
    _show(arguments.json, rounds, wrong, notes)
    leave(arguments.figures, rows, table.as_json(rounds, wrong))
    return 1 if any(wrong.values()) else 0


def _show(
    place: str | None, rounds: table.Rounds, wrong: dict[str, int], notes: Sequence[str]
) -> None:
    text = "\n".join((table.as_text(rounds, wrong), "", *notes))
    print(text, file=sys.stderr if place == "-" else sys.stdout)
    if place is not None:
        data = json.dumps(table.as_json(rounds, wrong) | {"notes": notes}, indent=1)
        if place == "-":
            print(data)
        else:
            Path(place).write_text(data + "\n")


def leave(place: Path, rows: Sequence[Row], found: dict[str, Any]) -> None:
    """Leave the figures where capacity finds them, if it can compute with them."""
    sizes = {row.name: statistics.fmean(map(len, row.requests())) for row in rows}
    for row in found["rows"]:
        row["request_bytes"] = sizes[row["row"]]
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    text = figures.as_file(found, name="make bench", measured=measured, machine=machine.described())
    if text is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        print(f"{place}: the figures, for `tidegate capacity`", file=sys.stderr)


def _say(text: str) -> None:
    """Say on one line of a terminal what is going on."""
    if sys.stderr.isatty():
        print(f"\r{text:78}", end="", file=sys.stderr, flush=True)


def _check(lineup: Lineup, row: Row) -> int:
    """Count the wrong answers of a sample; show the first."""
    faults = lineup.wrong(row)
    if faults:
        print(f"{len(faults)} wrong answers, the first of\n{faults[0]}", file=sys.stderr)
    return len(faults)


def _measure(
    lineup: Lineup, rows: Sequence[Row], arguments: argparse.Namespace, scripts: Path
) -> dict[str, list[Measured]]:
    """Load the rows' servers in alternation, forth and back, so that a drift meets all alike."""
    server_core, other_core = two_cores()
    os.sched_setaffinity(0, {other_core})  # wrk inherits it
    redis = lineup.redis()
    for each in (*lineup.servers.values(), *((redis,) if redis else ())):
        each.pin(other_core)
    for number, row in enumerate(rows):
        write_script(scripts / f"{number}.lua", row.requests(), row.members)
    found: dict[str, list[Measured]] = {row.name: [] for row in rows}
    for turn in range(arguments.rounds):
        order = list(enumerate(rows))
        for number, row in order if turn % 2 == 0 else reversed(order):
            _say(f"round {turn + 1} of {arguments.rounds}: {row.name}")
            server = lineup.server(row.server)
            server.pin(server_core)
            for each in row.requests() if row.again else ():
                server.ask(each)
            run_wrk = partial(
                load,
                *(server.port, scripts / f"{number}.lua"),
                connections=arguments.connections,
                seconds=arguments.seconds,
                start=turn * (arguments.ids // arguments.rounds),  # members not asked before
            )
            found[row.name].append(account(server, redis, run_wrk))
            server.pin(other_core)
    _say("")
    return found


def account(server: Server, redis: Server | None, run_wrk: Callable[[], Found]) -> Measured:
    """Run wrk, and count what it took of server and Redis. Raises Failed."""
    used = server.cpu_seconds()
    redis_used = redis.cpu_seconds() if redis else 0.0
    given_up = server.given_up()
    found = run_wrk()
    return Measured(
        found,
        server.cpu_seconds() - used,
        redis.cpu_seconds() - redis_used if redis else 0.0,
        server.given_up() - given_up,
    )


def _notes(arguments: argparse.Namespace, missing: Sequence[str], lineup: Lineup) -> list[str]:
    """Say what the tables do not."""
    how = f"{arguments.rounds} rounds of {arguments.seconds} s, {arguments.connections} connections"
    notes = [f"medians of {how}; Python {platform.python_version()}; {micro.form()}"]
    if lineup.publish_seconds is not None:
        seconds = f"{lineup.publish_seconds:.1f} s"
        notes.append(f"{arguments.ids:,} ids were compiled and published in {seconds}.")
        if arguments.ids <= CONFIRMED:
            notes.append(f"A gateway remembers {CONFIRMED:,} ids: of so few, none is new for long.")
    if missing:
        left_out = "; ".join(missing)
        notes.append(f"left out for want of nginx (apt-get install nginx-light): {left_out}")
    return notes


def _doubts(rounds: table.Rounds) -> list[str]:
    """Say when something else kept the cores busy, or Redis could not be asked."""
    doubts = []
    figures = [table.figures(each) for each in rounds.values()]
    idle = sum(max(each["server_busy"], each["wrk_busy"]) < BUSY for each in figures)
    if idle:
        doubts.append(
            f"In {idle} of {len(figures)} rows neither core was {BUSY:.0%} busy with its task: "
            f"something else ran here. Trust CPU µs more than checks/s, or measure again."
        )
    for name, each in rounds.items():
        given_up = sum(one.given_up for one in each) / sum(one.found.answers for one in each)
        if given_up > TOLERATED:
            doubts.append(
                f"{name}: Redis did not answer {given_up:.1%} of the checks in time, and they got "
                "the next release. This row did not measure what it says."
            )
    return doubts


if __name__ == "__main__":
    main()
