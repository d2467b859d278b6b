"""What the gateway counts. The only module that counts, and the only one that knows Prometheus.

Counting is an increment of a plain integer; names and labels are made when somebody scrapes. No
label value ever comes from a request: apps and releases come from the epoch, statuses from code.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

MAX_SERIES = 1_000
"""Series of (app, release, status); what comes later is counted as `other`."""

OTHER = "other"
LATENCY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

_STATUSES = 16  # more than there are statuses, which `other` may need all at once


class Histogram:
    """Observations by upper bound; `counts` has one more cell, for those above every bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
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
    buckets: int = 0
    remembered: int = 0
    timeouts: int = 0
    errors: int = 0
    refused: int = 0
    missing: int = 0
    damaged: int = 0
    false_positives: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """The served epoch, as the follower knows it; times are Unix seconds.

    It is `live` when it is the one that Redis names.
    """

    number: int
    published: int
    activated: float
    live: bool


class Metrics:
    """One gateway's counts."""

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, str, str], int] = {}
        self._responses = [0] * 6
        self.latency = Histogram(LATENCY_SECONDS)
        self.lookups = Lookups()
        self.overloads = 0
        self.failures = 0
        self.swaps = 0
        self.refused_epochs = 0
        self.redis_errors = 0
        self.served: Callable[[], Served | None] = lambda: None

    def count(self, outcomes: Iterable[tuple[str, str, str]]) -> None:
        """Count what one check answered: (app, release, status) for each app asked."""
        counts = self._outcomes
        for outcome in outcomes:
            if outcome in counts:
                counts[outcome] += 1
            else:
                self._count_new(outcome)

    def _count_new(self, outcome: tuple[str, str, str]) -> None:
        if len(self._outcomes) >= MAX_SERIES - _STATUSES:
            outcome = (OTHER, OTHER, outcome[2])
        self._outcomes[outcome] = self._outcomes.get(outcome, 0) + 1

    def respond(self, status: int, seconds: float) -> None:
        """Count one HTTP answer to a client, and how long it took."""
        self._responses[status // 100] += 1
        self.latency.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Give all counts as Prometheus metrics."""
        yield from self._traffic()
        yield from self._epoch()
        yield from self._redis()

    def _traffic(self) -> Iterator[Metric]:
        apps = CounterMetricFamily(
            "tidegate_app_answers",
            "Apps answered, by release and status; a dry run is not counted.",
            labels=("app", "release", "status"),
        )
        for outcome, count in self._outcomes.items():
            apps.add_metric(outcome, count)
        yield apps
        responses = CounterMetricFamily(
            "tidegate_http_responses", "HTTP answers to clients.", labels=("class",)
        )
        for number in range(1, 6):
            responses.add_metric((f"{number}xx",), self._responses[number])
        yield responses
        yield HistogramMetricFamily(
            "tidegate_http_seconds",
            "From a request's head to its answer, in seconds.",
            buckets=self.latency.buckets(),
            sum_value=self.latency.total,
        )
        yield CounterMetricFamily(
            "tidegate_overloads", "Checks refused with 503 for too many waiting.", self.overloads
        )
        yield CounterMetricFamily(
            "tidegate_failures", "Requests answered 500: each is a bug.", self.failures
        )

    def _epoch(self) -> Iterator[Metric]:
        served = self.served()
        if served is not None:
            for name, text, value in (
                ("tidegate_epoch", "Number of the served epoch.", served.number),
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
                ("tidegate_epoch_live", "1 if Redis names the served epoch.", int(served.live)),
            ):
                yield GaugeMetricFamily(name, text, value)
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
            ("buckets", "Buckets asked for; by round trips: the batch size.", lookups.buckets),
            ("remembered", "Answered from memory, as the bucket is the same.", lookups.remembered),
            ("timeouts", "Not answered in time.", lookups.timeouts),
            ("errors", "Failed: Redis was away or refused.", lookups.errors),
            ("refused", "Not asked: too many waiting, or Redis left alone.", lookups.refused),
            ("false_positives", "Let through by the filter, on no list.", lookups.false_positives),
        ):
            yield CounterMetricFamily(f"tidegate_lookup_{name}", text, value)
        faults = CounterMetricFamily(
            "tidegate_lookup_faults", "Buckets that must be there and sound.", labels=("fault",)
        )
        faults.add_metric(("missing",), lookups.missing)
        faults.add_metric(("damaged",), lookups.damaged)
        yield faults


class _Bridge(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.collect()

    def describe(self) -> list[Metric]:
        return []


def exposition(metrics: Metrics) -> Callable[[], bytes]:
    """Give what renders the Prometheus text of these counts and of the process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Bridge(metrics))
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)
