"""A run from its beginning to its report, in whichever process of Locust this is.

A local process has a town of phones and the report. Of a distributed run the workers have towns,
and the master the report: workers send what they counted with Locust's own reports every three
seconds, and at the end, asked by the master, what is left once everything is answered and judged.
"""

import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent
import locust
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from locust.shape import LoadTestShape

from gateway.errors import TidegateError
from loadtest.clerk import Clerk
from loadtest.gateway_probe import AwayError, served_epoch
from loadtest.levels import Level, heard, hold
from loadtest.marks import epoch_marks, read_marks
from loadtest.options import AWAY, HELD, NOT_HELD, USAGE, Settings, UsageError
from loadtest.report import Run, as_html, doubts
from loadtest.rules import Rules
from loadtest.series import as_csv
from loadtest.shapes import Day, Ramp, Step
from loadtest.timeline import Timeline
from loadtest.tokens import NOBODY, Signer
from loadtest.town import Town

FINISH_SECONDS = 20.0
"""How long what is under way at the end may take."""

WATCH_SECONDS = 0.25
PROGRESS_SECONDS = 5.0
REPORT_LAG_SECONDS = 4.0
"""By when a worker's counts of a second are at the master, if all is well."""

DAY_SECONDS, USERS = 600.0, 20
_FINISH, _FINISHED, _TOWN = "tidegate-finish", "tidegate-finished", "tidegate"


class Conductor:
    """What all events of one Locust process come to."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._runner: Any = environment.runner
        self._settings: Settings | None = None
        self._timeline = Timeline()
        self._town: Town | None = None
        self._greenlets: list[gevent.Greenlet] = []
        self._running = False
        self._doubts: list[str] = []
        self._workers: set[str] = set()
        self._finished: set[str] = set()
        self._refusal = ""
        self._refused = False
        self._summary = ""
        self._nobody = False
        self._ramp: Ramp | None = None
        if self._is_worker:
            self._runner.register_message(_FINISH, self._finish, concurrent=True)
        elif self._is_master:
            self._runner.register_message(_FINISHED, self._take_last)

    @property
    def _is_worker(self) -> bool:
        return isinstance(self._runner, WorkerRunner)

    @property
    def _is_master(self) -> bool:
        return isinstance(self._runner, MasterRunner)

    @property
    def town(self) -> Town:
        """This process's phones. Raises UsageError when there are none, saying why."""
        if self._town is None:
            raise UsageError(self._refusal or "The run has not begun.")
        return self._town

    def refuse(self, why: str) -> None:
        """End a run that may not be, and say so, once."""
        if not self._refused:
            self._refused, self._refusal = True, why
            print(f"\n{why}", file=sys.stderr)
            if self._is_worker:
                self._runner.send_message(_FINISHED, {_TOWN: None, "refusal": why})
            gevent.spawn(self._runner.quit if self._is_worker else self._runner.stop)

    def prepare(self) -> None:
        """Look at everything before the first check; end the process where a run makes no sense."""
        if self._is_worker:
            return  # a worker is told its options when the run begins
        options = self._environment.parsed_options
        try:
            settings = Settings.of(options)
            settings.allow_traces()
            if options.headless or self._environment.host:
                settings.allow_target(self._environment.host or "")
            if options.headless:
                served_epoch(self._environment.host or "")
                self._signer(settings, Clerk(settings).newest())
        except (UsageError, ValueError) as fault:
            _end(str(fault), USAGE)
        except (AwayError, TidegateError, OSError) as fault:
            _end(str(fault), AWAY)
        self._settings = settings
        self._environment.shape_class = self._shape(options)
        if options.headless:
            gevent.spawn(self._tell_progress)

    def begin(self) -> None:
        """Begin a run: a worker or a local process makes its town."""
        self.close()
        self._refusal, self._refused, self._doubts, self._town = "", False, [], None
        self._running = True
        self._timeline, self._finished, self._workers = Timeline(), set(), set()
        if self._is_master:
            self._workers = self._present()
        try:
            self._settings = settings = Settings.of(self._environment.parsed_options)
            settings.allow_target(self._environment.host or "")
            if not self._is_master:
                self._town = self._make_town(settings)
                self._timeline = self._town.timeline
        except (UsageError, AwayError, TidegateError, OSError, ValueError) as fault:
            self.refuse(str(fault))
            return
        if self._town is not None:
            tasks = (self._town.keep_time, self._town.judge_all, self._watch)
            self._greenlets = [gevent.spawn(task) for task in tasks]
        if not self._is_worker:
            self._greenlets.append(gevent.spawn(self._count_phones))

    def end(self) -> None:
        """Let everything that is under way come to its end, here and on the workers."""
        if not self._running or self._is_worker:
            return
        if self._is_master:
            self._gather()
        elif self._town is not None:
            self._town.finish(FINISH_SECONDS)
        gevent.killall(self._greenlets)

    def tell(self) -> None:
        """Write the report, and decide on the exit code."""
        if not self._running or self._is_worker or self._settings is None:
            return
        self._running = False
        settings, total = self._settings, self._timeline.total()
        marks, sentences = epoch_marks(self._timeline), list(self._doubts)
        if self._refusal:
            sentences.insert(0, self._refusal)
        if self._nobody:
            sentences.append(NOBODY)
        if self._ramp is not None:
            sentences.insert(0, self._ramp.verdict)
        try:
            if settings.marks and Path(settings.marks).exists():
                marks += read_marks(Path(settings.marks).read_text())
        except (OSError, ValueError) as fault:
            sentences.append(f"{settings.marks}: {fault}")
        found = hold(settings.levels, total)
        if self._is_master:
            found.append(heard(len(self._workers & self._finished), len(self._workers)))
        run = Run(self._timeline, settings.levels, found, self._facts(), marks, sentences)
        self._environment.process_exit_code = HELD if run.held else NOT_HELD
        self._summary = "\n".join((*_lines(found), *sentences, *doubts(run)))
        for place, text in (
            (settings.report, as_html(run)),
            (settings.series, as_csv(self._timeline)),
        ):
            if place:
                self._summary += f"\n{_write(Path(place), text)}"

    def close(self) -> None:
        """Leave nothing running behind a run."""
        if self._town is not None:
            self._town.close()

    def say_summary(self) -> None:
        """Say at the very end whether the levels were held."""
        if self._summary:
            print(f"\n{self._summary}", file=sys.stderr)

    def send(self, data: dict[str, Any]) -> None:
        """Put what this worker has counted into its report to the master."""
        if self._town is not None:
            data[_TOWN] = self._town.timeline.take()

    def receive(self, worker: str, data: Mapping[str, Any]) -> None:
        """Add what a worker has counted."""
        if _TOWN in data:
            self._workers.add(worker)
            self._timeline.merge(data[_TOWN])

    def _make_town(self, settings: Settings) -> Town:
        secret = os.environ.get("TIDEGATE_URL_SECRET") or None
        clerk = Clerk(settings, secret)
        rules = clerk.rules(served_epoch(self._environment.host or ""))
        index = max(0, getattr(self._runner, "worker_index", 0))
        return Town(settings, clerk, rules, index, self._signer(settings, rules))

    def _signer(self, settings: Settings, rules: Rules) -> Signer | None:
        """Give what lets phones sign tokens, and note if they need it and have none.

        Raises UsageError, also for a plan of which nothing can be asked.
        """
        if not rules.plan.apps:
            raise UsageError("The plan has no app to ask about. Push one that has.")
        identity = rules.plan.workspace.identity
        found = settings.signer(identity)
        self._nobody = identity is not None and found is None
        return found

    def _watch(self) -> None:
        """Notice a new epoch at once, however seldom phones ask."""
        while True:
            gevent.sleep(WATCH_SECONDS)
            try:
                epoch = served_epoch(self._environment.host or "", 1.0)
            except AwayError:
                continue
            self.town.notice(epoch, time.time())

    def _count_phones(self) -> None:
        while True:
            gevent.sleep(1)
            assert self._settings is not None
            awake = self._runner.user_count * self._settings.street
            self._timeline.at(time.time()).phones = awake

    def _gather(self) -> None:
        """Wait for the last word of every worker that can be heard."""
        asked = self._present()
        self._workers |= asked
        self._runner.send_message(_FINISH)
        with gevent.Timeout(FINISH_SECONDS + 10, False):
            while not asked <= self._finished:
                gevent.sleep(0.05)

    def _present(self) -> set[str]:
        return {client.id for client in self._runner.clients.all if client.state != "missing"}

    def _finish(self, environment: Environment, msg: Any) -> None:  # noqa: ARG002 - Locust's form
        """On a worker: finish, and send what is left."""
        if self._town is not None:
            self._town.finish(FINISH_SECONDS)
        gevent.killall(self._greenlets)
        left = self._town.timeline.take() if self._town is not None else None
        self._runner.send_message(_FINISHED, {_TOWN: left, "refusal": self._refusal})

    def _take_last(self, environment: Environment, msg: Any) -> None:  # noqa: ARG002 - as above
        """On the master: take a worker's last word."""
        if msg.data[_TOWN] is not None:
            self._timeline.merge(msg.data[_TOWN])
        if msg.data["refusal"]:
            self._doubts.append(f"A worker did nothing: {msg.data['refusal']}")
        else:
            self._finished.add(msg.node_id)

    def _shape(self, options: Any) -> LoadTestShape | None:
        settings, users = self._settings, options.num_users or USERS
        assert settings is not None
        shape: Day | Ramp
        if settings.shape == "day":
            shape = Day(users, float(options.run_time or DAY_SECONDS))
        elif settings.shape == "ramp":
            shape = self._ramp = Ramp(users, settings.step_seconds, self._weigh)
        else:
            return None
        found = _Shaped(shape)
        found.runner = self._runner
        return found

    def _weigh(self, users: int, seconds: float) -> Step:
        """Hold the last step of a ramp against the levels, but for its first second."""
        assert self._settings is not None
        now = time.time()
        lag = REPORT_LAG_SECONDS if self._is_master else 1.0
        after, before = now - seconds + 1, max(now - lag, now - seconds + 2)
        total = self._timeline.total(after, before)
        found = hold(self._settings.levels, total)
        # Of a step alone nothing need have been judged.
        broken = [level for level in found if not level.held and level.name != "judged answers"]
        why = "; ".join(f"{level.name} {level.measured}, {level.allowed}" for level in broken)
        step = Step(users, total.answered / max(1.0, before - after), why, total.saturated)
        print(f"{users} users: {step.rate:,.0f} checks/s {why or 'held'}", file=sys.stderr)
        return step

    def _tell_progress(self) -> None:
        while True:
            gevent.sleep(PROGRESS_SECONDS)
            if not self._running:
                continue
            now = time.time() - (REPORT_LAG_SECONDS if self._is_master else 0)
            last = self._timeline.total(now - PROGRESS_SECONDS, now)
            p99 = last.percentile(0.99)
            rate = last.answered / PROGRESS_SECONDS
            print(
                f"{self._runner.user_count} users, {rate:,.0f} checks/s, "
                f"p99 {'-' if p99 is None else f'{p99:.3g} ms'}, {last.failures} failed, "
                f"{last.judged.total()} judged, epoch {max(self._timeline.epochs, default='-')}",
                file=sys.stderr,
            )

    def _facts(self) -> dict[str, str]:
        settings, options = self._settings, self._environment.parsed_options
        assert settings is not None
        workers = len(self._runner.clients.all) if self._is_master else 0
        users = options.num_users or self._runner.target_user_count
        return {
            "target": self._environment.host or "",
            "workspace": settings.workspace,
            "kind": "live: it counted for real" if settings.live else "dry runs: no trace is left",
            "phones": f"{users} users, each a street of {settings.street:,}; seed {settings.seed}",
            "shape": f"{settings.shape}; phones' clocks run {settings.hurry:g} times as fast",
            "judged": f"{100 * settings.sample:g} % of answers",
            "processes": f"a master and {workers} workers" if workers else "one",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "programs": f"Locust {locust.__version__}, Python {platform.python_version()}",
        }


class _Shaped(LoadTestShape):
    """One of our shapes, as Locust asks for it."""

    abstract = True
    use_common_options = True

    def __init__(self, shape: Day | Ramp) -> None:
        super().__init__()
        self._shape = shape

    def reset_time(self) -> None:
        super().reset_time()
        if isinstance(self._shape, Ramp):
            self._shape.steps.clear()

    def tick(self) -> Any:
        return self._shape.tick(self.get_run_time())


def _lines(found: list[Level]) -> list[str]:
    rows = [("held" if each.held else "NOT HELD", each) for each in found]
    return [f"{how:<9} {each.name}: {each.measured}; {each.allowed}" for how, each in rows]


def _write(place: Path, text: str) -> str:
    """Write a report's file; say so, or why not."""
    try:
        place.write_text(text, "utf-8", errors="backslashreplace")
    except OSError as fault:
        return f"{place} cannot be written: {fault.strerror}."
    return f"{place} is written."


def _end(sentence: str, code: int) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(code)
