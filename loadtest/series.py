"""A run's seconds as CSV: what the pictures show, for other programs. Pure."""

import csv
from io import StringIO

from loadtest import chart
from loadtest.levels import UNJUDGED
from loadtest.referee import Outcome
from loadtest.timeline import Timeline

STATUSES = {
    "latest": chart.SKY,
    "update": chart.BLUE,
    "rollback": chart.ORANGE,
    "withdrawn": chart.RED,
    "none": chart.YELLOW,
    "unknown": chart.PURPLE,
    "invalid": chart.BLACK,
}
"""What an app is told, in the order of the picture."""

PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def as_csv(timeline: Timeline) -> str:
    """Write a row a second: what the pictures show, for other programs."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [*STATUSES, *sorted({s for _, row in timeline.rows() for s in row.apps} - {*STATUSES})]
    outcomes = (*Outcome, UNJUDGED)
    writer.writerow(
        ["unix_second", "answered", "failed", *(f"{name}_ms" for name in PERCENTILES)]
        + [f"apps_{name}" for name in names]
        + [*(f"judged_{name.lower()}" for name in Outcome), UNJUDGED]
        + ["phones", "late_ms", "generator_busy", "generator_delay_p50_ms", "newest_epoch"]
    )
    for at, row in timeline.rows():
        epoch = max((n for n, seen in timeline.epochs.items() if seen < at + 1), default="")
        times = (row.percentile(share) for share in PERCENTILES.values())
        writer.writerow(
            [at, row.answered, row.failures, *map(_number, times)]
            + [row.apps[name] for name in names]
            + [row.judged[name] for name in outcomes]
            + [row.phones, f"{row.late_ms:.0f}", f"{row.busy:.2f}", _number(row.delay(0.5)), epoch]
        )
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
