"""What the gateway counts. The only module that counts, and the only one that knows Prometheus.

Counting is an increment of a plain integer; names and labels are made when somebody scrapes. No
label value ever comes from a request: apps and releases come from the epoch, statuses from code.
What all gateways sum in Redis, the census and the reports, leaves through the tally (tally.py).

Of several workers each counts for itself, and hands on its counts as plain numbers by name; their
parent adds what each has gained since it was last heard, so that a sum never goes backwards.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from gateway.answer import OFFERS, OTHER, Outcome
from gateway.claims import GUARDED, Claims, Offered
from gateway.identity import OUTCOMES
from gateway.reach import Reach
from gateway.report import Place
from gateway.sketch import Sketch, rank_of
from gateway.tally import Tally

MAX_SERIES = 1_000
"""Series of (app, release, status), and of (app, release, event); later ones count as `other`."""

MAX_OUTCOMES = 10_000
"""Distinct outcomes before they are put where they belong, which takes some 5 ms then."""

LATENCY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

_STATUSES = 16  # more than there are statuses or events, which `other` may need all at once
_PLAIN = (
    "handed_over",
    "overloads",
    "failures",
    "swaps",
    "refused_epochs",
    "redis_errors",
    "reports_passed_over",
    "reports_dropped",
    "sum_failures",
    "reach_dropped",
)

EVALUATIONS = ("one", "all", "unchanged", "degraded", "unknown", "failed")
"""What becomes of a request for switches; one that asks for all may be `unchanged`, a 304."""

_CLASSES = 6  # of statuses, by their hundreds; 0 is never one
PLACES = (
    ("quick", "check"),
    ("quick", "switches"),
    ("ordinary", "check"),
    ("ordinary", "switches"),
    ("ordinary", "report"),
    ("ordinary", "other"),
)
"""Where an HTTP answer comes from: the way that it took through the gateway, and its subject."""

QUICK_CHECK, QUICK_SWITCHES, CHECK, SWITCHES, REPORT, OTHER_PATH = range(
    0, _CLASSES * len(PLACES), _CLASSES
)
"""Where the counts of each place begin."""

Counts = dict[tuple[str, ...], float]
"""Counts by what is counted and its labels, as ("answers", app, release, status)."""


class Histogram:
    """Observations by upper bound; `counts` has one more cell, for those above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        at = 0
        for bound in self.bounds:  # no bisection: nearly all are below the first
            if value <= bound:
                break
            at += 1
        self.counts[at] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Give the cumulative counts as Prometheus wants them."""
        rows: list[tuple[str, float]] = []
        seen = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            rows.append(("+Inf" if bound == float("inf") else str(bound), seen))
        return rows


@dataclass(slots=True)
class Lookups:
    """What became of the look-ups in Redis; a look-up is one bucket asked for."""

    round_trips: int = 0
    asked: int = 0
    remembered: int = 0
    timeouts: int = 0
    errors: int = 0
    refused: int = 0
    missing: int = 0
    damaged: int = 0
    filter_hits: int = 0
    false_positives: int = 0


@dataclass(slots=True)
class Seatings:
    """What became of the seats of time windows that were asked for; one ask is a check's app."""

    round_trips: int = 0
    asked: int = 0
    remembered: int = 0
    timeouts: int = 0
    errors: int = 0
    refused: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """The served epoch, as the follower knows it; times are Unix seconds.

    It is `live` when it is the one that Redis names. Of several workers it is the lowest, which
    is live when all are. `why` says why it is not, in a sentence. `silence` is for how many seconds
    Redis has said nothing, of several workers the longest, and `redis_ahead` by how many its clock
    is ahead of this machine's, the farthest; None before it is known.
    """

    number: int
    published: int
    activated: float
    live: bool
    why: str = ""
    silence: float = 0.0
    redis_ahead: float | None = None


class Series:
    """Counts by three labels, of which there are MAX_SERIES at most."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, str], int] = {}

    def add(self, labels: tuple[str, str, str], times: int) -> None:
        """Count so many times; where there is no room for more, by the last label alone."""
        if labels not in self.counts and len(self.counts) >= MAX_SERIES - _STATUSES:
            labels = (OTHER, OTHER, labels[2])
        self.counts[labels] = self.counts.get(labels, 0) + times


class Counted:
    """How often one outcome was answered, and the sketch of those whom it offered something.

    There is none for an outcome that offers nothing, and none when there are too many. `guarded`
    is the release, if it has a guardrail.
    """

    __slots__ = ("guarded", "offered", "times")

    def __init__(self, offered: Sketch | None, guarded: Offered | None) -> None:
        self.times = 0
        self.offered = offered
        self.guarded = guarded


class Metrics:
    """One gateway's counts."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.reach = Reach()
        self.claims = Claims()
        self.has_guardrail: Callable[[str, str], bool] = lambda _app, _release: False
        self._outcomes: dict[Outcome, Counted] = {}
        self._answers = Series()
        self._reports = Series()
        self._responses = [0] * (_CLASSES * len(PLACES))
        self.latency = Histogram(LATENCY_SECONDS)
        self.evaluations = dict.fromkeys(EVALUATIONS, 0)
        self.identities = dict.fromkeys(OUTCOMES, 0)
        self.lookups = Lookups()
        self.seatings = Seatings()
        self.handed_over = 0
        self.overloads = 0
        self.failures = 0
        self.swaps = 0
        self.refused_epochs = 0
        self.redis_errors = 0
        self.reports_passed_over = 0
        self.reports_dropped = 0
        self.sum_failures = 0
        self.reach_dropped = 0
        self.served: Callable[[], Served | None] = lambda: None
        self.workers: Callable[[], int] | None = None
        self.worker_ends = 0

    def count(self, outcomes: Iterable[Outcome], subject: int | None = None) -> None:
        """Count what one check answered, app by app; `subject` is the hash of whom it is about."""
        counts = self._outcomes
        rank = 0
        for outcome in outcomes:
            known = counts.get(outcome)
            if known is None:
                known = self._count_new(outcome)
            known.times += 1
            if subject is None:
                continue
            if known.offered is not None:
                rank = rank or rank_of(subject)
                known.offered.add_ranked(subject, rank)
            if known.guarded is not None:
                self.claims.offer(known.guarded, subject)

    def _count_new(self, outcome: Outcome) -> Counted:
        if len(self._outcomes) >= MAX_OUTCOMES:
            self.sort_out()
        app, release, status, _ = outcome
        offered = self.reach.of(app, release) if status in OFFERS else None
        if offered is None and status in OFFERS:
            self.reach_dropped += 1
        guarded = status in OFFERS and self.has_guardrail(app, release)
        counted = Counted(offered, (app, release) if guarded else None)
        self._outcomes[outcome] = counted
        return counted

    def sort_out(self) -> None:
        """Put the outcomes counted so far where they belong: into the series and the census."""
        for (app, release, status, installed), counted in self._outcomes.items():
            self._answers.add((app, release, status), counted.times)
            if app:
                self.tally.check(app, installed, counted.times)
        self._outcomes.clear()  # and is not replaced: `count` goes on with it

    def report(self, place: Place, subject: int | None) -> None:
        """Count what a client reported; `subject` is the hash of whose report it is."""
        self._reports.add(place, 1)
        if not self.tally.report(place, subject):
            self.reports_dropped += 1
        if subject is None or place.event not in GUARDED:
            return
        if self.has_guardrail(place.app, place.release):
            self.claims.report(place, subject)

    def evaluate(self, outcome: str) -> None:
        """Count one request for switches by what became of it, one of EVALUATIONS."""
        self.evaluations[outcome] += 1

    def identify(self, outcome: str) -> None:
        """Count one request by what became of its token, one of identity.OUTCOMES."""
        self.identities[outcome] += 1

    def respond(self, place: int, status: int, seconds: float) -> None:
        """Count one HTTP answer to a client, from QUICK_CHECK or …, and how long it took."""
        self._responses[place + status // 100] += 1
        self.latency.observe(seconds)

    def counts(self) -> Counts:
        """Give all counts as plain numbers, for another process to add."""
        self.sort_out()
        latency = self.latency
        found: Counts = {(name,): getattr(self, name) for name in _PLAIN}
        found |= {("answers", *labels): count for labels, count in self._answers.counts.items()}
        found |= {("reports", *labels): count for labels, count in self._reports.counts.items()}
        found |= {("answered", str(at)): count for at, count in enumerate(self._responses)}
        found |= {("latency", str(at)): count for at, count in enumerate(latency.counts)}
        found |= {("lookups", name): count for name, count in asdict(self.lookups).items()}
        found |= {("evaluations", name): count for name, count in self.evaluations.items()}
        found |= {("identities", name): count for name, count in self.identities.items()}
        found |= {("seatings", name): count for name, count in asdict(self.seatings).items()}
        found["latency_total",] = latency.total
        return found

    def add(self, now: Counts, before: Counts) -> None:
        """Add what another process has counted since `before`; pass over what is not known here."""
        for key, count in now.items():
            gained = count - before.get(key, 0)
            match key:
                case _ if not gained:
                    pass
                case ("answers" | "reports" as name, app, release, last):
                    series = self._answers if name == "answers" else self._reports
                    series.add((app, release, last), int(gained))
                case ("answered", at) if int(at) < len(self._responses):
                    self._responses[int(at)] += int(gained)
                case ("latency", at) if int(at) < len(self.latency.counts):
                    self.latency.counts[int(at)] += int(gained)
                case ("latency_total",):
                    self.latency.total += gained
                case ("evaluations" | "identities" as part, name) if name in getattr(self, part):
                    getattr(self, part)[name] += int(gained)
                case ("lookups" | "seatings" as part, name) if hasattr(getattr(self, part), name):
                    sums = getattr(self, part)
                    setattr(sums, name, getattr(sums, name) + int(gained))
                case (name,) if name in _PLAIN:
                    setattr(self, name, getattr(self, name) + int(gained))

    def collect(self) -> Iterator[Metric]:
        """Give all counts as Prometheus metrics."""
        self.sort_out()
        yield from self._workers()
        yield from self._traffic()
        yield from self._reported()
        yield from self._epoch()
        yield from self._redis()

    def _workers(self) -> Iterator[Metric]:
        if self.workers is not None:
            text = "Workers that serve an epoch; TIDEGATE_WORKERS of them when all is well."
            yield GaugeMetricFamily("tidegate_workers", text, self.workers())
            text = "Workers that ended unasked, and were replaced."
            yield CounterMetricFamily("tidegate_worker_ends", text, self.worker_ends)

    def _traffic(self) -> Iterator[Metric]:
        apps = CounterMetricFamily(
            "tidegate_app_answers",
            "Apps answered, by release and status; a dry run is not counted.",
            labels=("app", "release", "status"),
        )
        for labels, count in self._answers.counts.items():
            apps.add_metric(labels, count)
        yield apps
        responses = CounterMetricFamily(
            "tidegate_http_responses",
            "HTTP answers to clients: from which path, about what, and the class of the status.",
            labels=("path", "about", "class"),
        )
        for at, count in enumerate(self._responses):
            place, number = divmod(at, _CLASSES)
            if number:
                responses.add_metric((*PLACES[place], f"{number}xx"), count)
        yield responses
        yield HistogramMetricFamily(
            "tidegate_http_seconds",
            "From a request's head to its answer, in seconds.",
            buckets=self.latency.buckets(),
            sum_value=self.latency.total,
        )
        switches = CounterMetricFamily(
            "tidegate_switch_requests",
            "Requests for switches: of one or all of them, unchanged (304), degraded as Redis was "
            "away, of an unknown switch, or failed.",
            labels=("outcome",),
        )
        for name, count in self.evaluations.items():
            switches.add_metric((name,), count)
        yield switches
        tokens = CounterMetricFamily(
            "tidegate_identity_tokens",
            "Requests by what became of their token, where the workspace has an identity provider; "
            "verified and remembered ones count, the others are nobody.",
            labels=("outcome",),
        )
        for name, count in self.identities.items():
            tokens.add_metric((name,), count)
        yield tokens
        yield CounterMetricFamily(
            "tidegate_handed_over",
            "Connections that went from the quick path to aiohttp: an ordinary check never does.",
            self.handed_over,
        )
        yield CounterMetricFamily(
            "tidegate_overloads",
            "Checks, reports and requests for switches refused with 503: too much to do.",
            self.overloads,
        )
        yield CounterMetricFamily(
            "tidegate_failures", "Requests answered 500: each is a bug.", self.failures
        )

    def _reported(self) -> Iterator[Metric]:
        reports = CounterMetricFamily(
            "tidegate_reports",
            "Reports of clients; one that is told twice is counted twice.",
            labels=("app", "release", "event"),
        )
        for labels, count in self._reports.counts.items():
            reports.add_metric(labels, count)
        yield reports
        for name, text, value in (
            (
                "tidegate_reports_passed_over",
                "Reports that are wrong, or of what the served epoch's plan does not have.",
                self.reports_passed_over,
            ),
            (
                "tidegate_reports_dropped",
                "Reports missing in Redis's sums: too many waited for it.",
                self.reports_dropped,
            ),
            (
                "tidegate_sum_failures",
                "Attempts to add to the sums of reports, census and reach that Redis failed.",
                self.sum_failures,
            ),
            (
                "tidegate_reach_dropped",
                "Releases left out of the reach, each time: too many were offered at once.",
                self.reach_dropped,
            ),
        ):
            yield CounterMetricFamily(name, text, value)

    def _epoch(self) -> Iterator[Metric]:
        served = self.served()
        if served is not None:
            for name, text, value in (
                (
                    "tidegate_epoch",
                    "Number of the served epoch; of several workers, the lowest.",
                    served.number,
                ),
                (
                    "tidegate_epoch_age_seconds",
                    "Since the served epoch was published.",
                    max(0.0, time.time() - served.published),
                ),
                (
                    "tidegate_epoch_activated_timestamp_seconds",
                    "When this gateway began to serve its epoch.",
                    served.activated,
                ),
                (
                    "tidegate_epoch_live",
                    "1 if Redis names the served epoch; of several workers, every one's.",
                    int(served.live),
                ),
                (
                    "tidegate_redis_silence_seconds",
                    "Since Redis last answered; of several workers, the longest.",
                    served.silence,
                ),
            ):
                yield GaugeMetricFamily(name, text, value)
            if served.redis_ahead is not None:
                text = "By how much Redis's clock is ahead of this machine's; negative: behind."
                yield GaugeMetricFamily("tidegate_redis_ahead_seconds", text, served.redis_ahead)
        yield CounterMetricFamily("tidegate_epoch_swaps", "Epochs taken into service.", self.swaps)
        yield CounterMetricFamily(
            "tidegate_epoch_refusals",
            "Attempts at an epoch that must not be served, or is not all there.",
            self.refused_epochs,
        )

    def _redis(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "tidegate_redis_errors", "Failed reads of the live pointer.", self.redis_errors
        )
        lookups = self.lookups
        for name, text, value in (
            ("round_trips", "Gathered reads sent to Redis.", lookups.round_trips),
            ("buckets", "Buckets asked for; by round trips: the batch size.", lookups.asked),
            ("remembered", "Answered from memory, as the bucket is the same.", lookups.remembered),
            ("timeouts", "Not answered in time.", lookups.timeouts),
            ("errors", "Failed: Redis was away or refused.", lookups.errors),
            ("refused", "Not asked: too many waiting, or Redis left alone.", lookups.refused),
            (
                "filter_hits",
                "Ids let through by the filter, of members mostly.",
                lookups.filter_hits,
            ),
            ("false_positives", "Let through by the filter, on no list.", lookups.false_positives),
        ):
            yield CounterMetricFamily(f"tidegate_lookup_{name}", text, value)
        faults = CounterMetricFamily(
            "tidegate_lookup_faults", "Buckets that must be there and sound.", labels=("fault",)
        )
        faults.add_metric(("missing",), lookups.missing)
        faults.add_metric(("damaged",), lookups.damaged)
        yield faults
        seatings = self.seatings
        for name, text, value in (
            ("round_trips", "Gathered asks for seats sent to Redis.", seatings.round_trips),
            ("asked", "Asks for a seat in an open time window.", seatings.asked),
            ("remembered", "Seats answered from memory.", seatings.remembered),
            ("timeouts", "Not answered in time: the next release won.", seatings.timeouts),
            ("errors", "Failed: Redis was away or refused.", seatings.errors),
            ("refused", "Not asked: too many waiting, or Redis left alone.", seatings.refused),
            ("lost", "Asks that met a window whose record Redis has lost.", seatings.lost),
        ):
            yield CounterMetricFamily(f"tidegate_seat_{name}", text, value)


class _Bridge(Collector):
    """Prometheus's view of what gives metrics."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()

    def describe(self) -> list[Metric]:
        return []


def exposition(metrics: Metrics) -> Callable[[], bytes]:
    """Give what renders the Prometheus text of these counts and of the process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Bridge(metrics.collect))
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)


def exposition_of_several(
    metrics: Metrics, processes: Callable[[], Mapping[str, int]]
) -> Callable[[], bytes]:
    """Give what renders these counts, and processes by the label `worker`; `processes` are ids."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Bridge(metrics.collect))
    registry.register(_Bridge(lambda: _labelled(processes())))
    return lambda: generate_latest(registry)


def _labelled(processes: Mapping[str, int]) -> Iterable[Metric]:
    families: dict[str, Metric] = {}
    for worker, pid in processes.items():
        for found in ProcessCollector(pid=partial(str, pid), registry=None).collect():
            family = families.setdefault(
                found.name, Metric(found.name, found.documentation, found.type)
            )
            for sample in found.samples:
                family.add_sample(sample.name, {"worker": worker}, sample.value)
    return families.values()
