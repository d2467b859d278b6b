"""What a load test is told beside Locust's own options, and what of it makes no sense."""

import math
import os
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO

from compiler.plan import Identity
from loadtest.levels import Levels
from loadtest.shapes import NAMES
from loadtest.target import is_loopback
from loadtest.tokens import Signer, open_signer

HELD, NOT_HELD, USAGE, AWAY = 0, 1, 2, 4
"""Exit codes."""


class UsageError(Exception):
    """What was asked for cannot be done as asked; the message says what to write."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One load test, as it was asked for."""

    store: str
    redis: str
    workspace: str
    seed: int
    street: int
    hurry: float
    members: float
    cold: float
    download: float
    shape: str
    wake_seconds: float
    step_seconds: float
    sample: float
    levels: Levels
    live: bool
    yes: bool
    target_is_mine: bool
    marks: str
    report: str
    series: str
    token_key: str = ""

    @classmethod
    def of(cls, options: Namespace) -> Self:
        """Read Locust's options. Raises UsageError."""
        if not options.store:
            raise UsageError(
                "No store is named, and answers are judged by its plans. Say --store FOLDER or "
                "--store URL, or set TIDEGATE_STORE."
            )
        for place in filter(None, (options.report, options.series)):
            if not Path(place).parent.is_dir() or Path(place).is_dir():
                raise UsageError(f"{place} cannot be written: it is no file in a folder.")
        if not options.workspace:
            raise UsageError("No workspace is named. Say --workspace, or set TIDEGATE_WORKSPACE.")
        return cls(
            store=options.store,
            redis=options.redis or "",
            workspace=options.workspace,
            seed=options.seed,
            street=options.street,
            hurry=options.hurry,
            members=options.members / 100,
            cold=options.cold / 100,
            download=options.download / 100,
            shape=options.shape,
            wake_seconds=options.wake_seconds,
            step_seconds=options.step_seconds,
            sample=options.sample / 100,
            levels=Levels(
                options.p99_ms,
                options.failures,
                options.wrong,
                options.unconfirmed,
                sampled=options.sample > 0,
            ),
            live=options.live,
            yes=options.yes,
            target_is_mine=options.target_is_mine,
            marks=options.marks or "",
            report=options.report or "",
            series=options.series or "",
            token_key=options.token_key or "",
        )

    def signer(self, identity: Identity | None) -> Signer | None:
        """Give what lets phones sign tokens; None without --token-key. Raises UsageError."""
        try:
            return open_signer(self.token_key, identity)
        except ValueError as fault:
            raise UsageError(str(fault)) from None

    def allow_target(self, url: str) -> None:
        """Raise UsageError for a URL that is elsewhere, unless somebody said that it is theirs."""
        if not url.startswith(("http://", "https://")):
            what = f"{url} is no URL" if url else "No gateway is named"
            raise UsageError(f"{what}. Say http://127.0.0.1:8080, or where it is.")
        if not (self.target_is_mine or is_loopback(url)):
            raise UsageError(
                f"{url} is not on this machine. If it is yours to put under load, say so with "
                "--target-is-mine."
            )

    def allow_traces(self, terminal: TextIO | None = None) -> None:
        """Let a person confirm --live by typing the workspace's name. Raises UsageError."""
        if not self.live or self.yes:
            return
        terminal = terminal or sys.stdin
        if not terminal.isatty():
            raise UsageError(
                f"--live takes seats and counts in the workspace {self.workspace}, and nobody is "
                "at a terminal to confirm it. Say --yes if that is meant."
            )
        print(
            f"--live takes seats of time windows and counts checks and reports in the workspace "
            f"{self.workspace}.\nType the workspace's name to go on: ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        if terminal.readline().strip() != self.workspace:
            raise UsageError("That is not its name: nothing was sent.")


def _number(kind: Callable[[str], Any], low: float, high: float, says: str) -> Callable[[str], Any]:
    """Make a reader of numbers within bounds."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ArgumentTypeError(f"{text!r} is not {says}")
        return value

    return read


_SHARE = _number(float, 0, 100, "a percentage from 0 to 100")
_COUNT = _number(int, 0, 10**9, "a whole number from 0 on")
_SECONDS = _number(float, 0.1, 86_400, "a number of seconds from 0.1 to 86400")


def add_options(parser: Any) -> None:
    """Add our options to Locust's parser; those that a run may change show in the web page."""
    _add_places(parser)
    _add_shape(parser)
    _add_levels(parser)


def _add_places(parser: Any) -> None:
    def hidden(name: str, **more: Any) -> None:
        parser.add_argument(name, include_in_web_ui=False, **more)

    env = os.environ
    hidden(
        "--store",
        default=env.get("TIDEGATE_STORE", ""),
        metavar="PLACE",
        help="the store whose plans judge the answers (TIDEGATE_STORE)",
    )
    hidden(
        "--redis",
        default=env.get("TIDEGATE_REDIS", ""),
        metavar="URL",
        help="tells sooner than the store of a new epoch; need not be given (TIDEGATE_REDIS)",
    )
    hidden(
        "--workspace",
        default=env.get("TIDEGATE_WORKSPACE", ""),
        metavar="NAME",
        help="(TIDEGATE_WORKSPACE)",
    )
    hidden(
        "--live",
        action="store_true",
        help="count for real: seats, census, reports; asks first (default: dry runs, no trace)",
    )
    hidden("--yes", action="store_true", help="do not ask before --live")
    hidden(
        "--token-key",
        default="",
        metavar="FILE",
        help="private key (PEM) of one under the plan's `identity:`, for phones to sign tokens by",
    )
    hidden(
        "--target-is-mine",
        action="store_true",
        help="the host is not this machine, and is mine to put under load",
    )
    add = parser.add_argument
    add("--seed", type=_COUNT, default=1, metavar="N", help="the same seed, the same phones (1)")
    add(
        "--street",
        type=_number(int, 1, 100_000, "a whole number from 1 to 100000"),
        default=500,
        metavar="N",
        help="phones behind one Locust user, which has one connection (500)",
    )
    add(
        "--members",
        type=_SHARE,
        default=1.0,
        metavar="PERCENT",
        help="phones that are on a list of the plan (1)",
    )
    add(
        "--cold",
        type=_SHARE,
        default=5.0,
        metavar="PERCENT",
        help="checks of apps that start cold, on a new connection (5)",
    )
    add(
        "--download",
        type=_SHARE,
        default=0.0,
        metavar="PERCENT",
        help="of those told to update, how many fetch the first 64 KiB of the package (0)",
    )


def _add_shape(parser: Any) -> None:
    add = parser.add_argument
    add("--shape", choices=NAMES, default="steady", help="steady, day, storm or ramp (steady)")
    add(
        "--hurry",
        type=_number(float, 0.01, 100_000, "a number from 0.01 on"),
        default=60.0,
        metavar="X",
        help="phones' clocks run X times as fast: check_after 1800 is 30 s (60)",
    )
    add(
        "--wake-seconds",
        type=_SECONDS,
        default=5.0,
        metavar="S",
        help="storm: within which all phones wake when an epoch is new (5)",
    )
    add(
        "--step-seconds",
        type=_SECONDS,
        default=15.0,
        metavar="S",
        help="ramp: how long each tenth of the users is held (15)",
    )


def _add_levels(parser: Any) -> None:
    add = parser.add_argument
    add(
        "--p99-ms",
        type=_number(float, 0.01, 1e6, "a number of milliseconds"),
        default=250.0,
        metavar="MS",
        help="level: 99 of 100 good answers are there within (250)",
    )
    add(
        "--failures",
        type=_SHARE,
        default=0.0,
        metavar="PERCENT",
        help="level: checks without a good answer, at most (0)",
    )
    add("--wrong", type=_COUNT, default=0, metavar="N", help="level: wrong answers, at most (0)")
    add(
        "--unconfirmed",
        type=_COUNT,
        default=0,
        metavar="N",
        help="level: answers that are right only if Redis was away, at most (0)",
    )
    add(
        "--sample",
        type=_SHARE,
        default=1.0,
        metavar="PERCENT",
        help="answers that are judged by the plan of the epoch that they name (1)",
    )
    add("--report", default="loadtest.html", metavar="FILE", help="the report (loadtest.html)")
    add("--series", default="", metavar="FILE", help="its seconds as CSV")
    add(
        "--marks",
        default="",
        metavar="FILE",
        help='moments to mark, a line each: {"at": UNIX SECONDS, "text": "Redis killed"}',
    )
