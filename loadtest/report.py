"""A run's report: one HTML file that needs nothing else. Pure."""

import json
import re
import shlex
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from gateway.attribute import BUILT_IN
from loadtest import chart
from loadtest.chart import Chart, Mark, Series, legend
from loadtest.levels import UNJUDGED, Level, Levels
from loadtest.referee import Outcome
from loadtest.series import PERCENTILES, STATUSES
from loadtest.timeline import Second, Timeline

MOST_POINTS = 600
"""A longer run is drawn in steps of several seconds."""

LATE_MS = 1_000
"""From here on a check that left late is worth a word."""

_EXPLAINED = ("user", "device")
_APP = re.compile(r"app (\S+): ")
_STYLE = """
body { font: 15px/1.5 sans-serif; color: #222; background: #fff; max-width: 1060px;
       margin: 2em auto; padding: 0 1.5em }
h1 { margin-bottom: 0 } h2 { margin: 2em 0 .4em } svg { max-width: 100%; height: auto }
table { border-collapse: collapse; margin: .6em 0 } td, th { border-bottom: 1px solid #ccc;
padding: .25em .9em .25em 0; text-align: left; vertical-align: top } td.n { text-align: right }
.legend { margin: .1em 0 .3em } .legend span { margin-right: 1.6em; white-space: nowrap }
.legend svg { vertical-align: -1px; max-width: none }
.verdict { font-size: 1.25em; font-weight: 600; padding: .5em .8em; border-left: 8px solid }
.held { border-color: #0072B2 } .broken, .doubt { border-color: #D55E00 }
.doubt { padding: .3em .8em; border-left: 8px solid #D55E00 }
pre { background: #f4f4f4; padding: .7em; white-space: pre-wrap; overflow-wrap: anywhere }
small { color: #444 }
"""


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that a report tells of."""

    timeline: Timeline
    levels: Levels
    found: Sequence[Level]
    facts: Mapping[str, str] = field(default_factory=dict)
    marks: Sequence[Mark] = ()
    sentences: Sequence[str] = ()

    @property
    def held(self) -> bool:
        """Tell whether every level was held."""
        return all(level.held for level in self.found)


def as_html(run: Run) -> str:
    """Write the report."""
    total = run.timeline.total()
    verdict = "All levels were held" if run.held else "A level was not held"
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.timeline.span()[0]))
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Tidegate load test</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Load test</h1><p>{escape(began)}</p>",
        f'<p class="verdict {"held" if run.held else "broken"}">{verdict}.</p>',
        *(f'<p class="doubt">{escape(each)}</p>' for each in (*run.sentences, *doubts(run))),
        "<h2>Service levels</h2>",
        _table(
            ("level", "allowed", "measured", "held"),
            [(each.name, each.allowed, each.measured, _yes(each.held)) for each in run.found],
        ),
        "<h2>Summary</h2>",
        _table(("", ""), summary(run, total)),
        *_pictures(run),
        *_failures(total),
        *_cases(run.timeline),
        "<h2>How it was run</h2>",
        _table(("", ""), list(run.facts.items())),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def summary(run: Run, total: Second) -> list[tuple[str, str]]:
    """Give the figures of the whole run, each with its name."""
    first, after = run.timeline.span()
    seconds = max(1, after - first)
    checks = total.answered + total.failures
    busiest = max((each.answered for each in run.timeline.seconds.values()), default=0)
    rows = [
        ("checks", f"{checks:,} in {seconds:,} s: {checks / seconds:,.0f} a second"),
        ("busiest second", f"{busiest:,} answers"),
        *((name, _ms(total.percentile(share))) for name, share in PERCENTILES.items()),
        ("slowest", _ms(total.percentile(1.0))),
        ("answers by app", _counts(total.apps)),
        ("failed", f"{total.failures:,}"),
        ("judged by the plan", _judged(total)),
        ("epochs seen", ", ".join(map(str, sorted(run.timeline.epochs))) or "none"),
        ("phones awake at once", f"{total.phones:,}"),
        ("latest start of a check", f"{total.late_ms:,.0f} ms after its time"),
        ("busiest Locust process", f"{total.busy:.0%} of a core"),
        ("Locust's own delay", f"p50 {_ms(total.delay(0.5))}, p99 {_ms(total.delay(0.99))}"),
    ]
    return [*rows, *((name, f"{count:,}") for name, count in sorted(total.extra.items()))]


def doubts(run: Run) -> list[str]:
    """Say what makes the figures doubtful: a generator that was the limit, or did not keep pace."""
    seconds, late = list(run.timeline.seconds.values()), run.timeline.total().late_ms
    saturated = sum(each.saturated for each in seconds)
    found = []
    if saturated:
        found.append(
            f"Locust itself was saturated in {saturated} of {len(seconds)} s: a process took over "
            "90 % of a core, or its own clock was late by over 10 ms. Latencies of these seconds "
            "are partly the generator's. Use more workers on more cores, or fewer phones; what a "
            "gateway takes at most, wrk tells (loadtest/README.md)."
        )
    if late >= LATE_MS:
        found.append(
            f"Checks left up to {late / 1000:,.1f} s after their time, so less was sent than was "
            "asked for. If Locust was not saturated, the gateway was slower than the streets' "
            "phones: more users with smaller streets have more connections."
        )
    return found


def explain_command(check: Mapping[str, Any], app: str, second: int) -> str:
    """Write the `tidegate explain` that asks what this phone is told of an app, and why."""
    words = ["tidegate", "explain", "--at", str(second), "--app", app]
    installed = (check.get("apps") or {}).get(app)
    pairs = [("installed", installed), *((name, check.get(name)) for name in _EXPLAINED)]
    for name, value in pairs:
        if isinstance(value, str) and value:
            words += [f"--{name}", value]
    others = {k: v for k, v in check.items() if k in BUILT_IN and isinstance(v, str)}
    custom = check.get("custom")
    if isinstance(custom, dict):
        others |= {f"custom.{name}": _plain(value) for name, value in custom.items()}
    for name, value in sorted(others.items()):
        words += ["--attr", f"{name}={value}"]
    return shlex.join(words)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _pictures(run: Run) -> list[str]:
    first, after = run.timeline.span()
    if first == after:
        return ["<p>Nothing was asked, so there is nothing to draw.</p>"]
    step = max(1, -(-(after - first) // MOST_POINTS))
    rows = run.timeline.rows(step)
    moments, seconds = [at for at, _ in rows], [second for _, second in rows]
    marks = [mark for mark in run.marks if first - 1 <= mark.at <= after + 1]
    answered = Series("answered", chart.BLUE, [each.answered / step for each in seconds])
    failed = Series("failed", chart.RED, [each.failures / step for each in seconds], "6 4")
    latency = [
        Series(name, colour, [each.percentile(share) for each in seconds], dash)
        for (name, share), colour, dash in zip(
            PERCENTILES.items(), (chart.SKY, chart.ORANGE, chart.BLACK), ("", "8 3", "2 4"),
            strict=True,
        )
    ]  # fmt: skip
    seen = {status for each in seconds for status in each.apps}
    statuses = [
        Series(name, colour, [each.apps[name] / step for each in seconds])
        for name, colour in STATUSES.items()
        if name in seen
    ]
    limit = (run.levels.p99_ms, f"level: p99 at most {run.levels.p99_ms:g} ms")
    late = [
        Series("latest start of a check", chart.BLUE, [max(each.late_ms, 0.1) for each in seconds]),
        Series("Locust's own delay, p50", chart.RED, [each.delay(0.5) for each in seconds], "6 4"),
    ]
    charts = [
        Chart("Rate", "checks a second", moments, [answered, failed], marks),
        Chart("Latency", "milliseconds", moments, latency, marks, log=True, limit=limit),
        Chart("Answers", "apps a second", moments, statuses, marks, stacked=True),
        Chart("How late the generator was", "milliseconds", moments, late, marks, log=True),
    ]
    notes = (
        "A solid line marks an epoch (a push, a pause, …), a dashed one a fault.",
        "Of good answers, from sending to the last byte; the scale is logarithmic.",
        "What apps were told, by status.",
        "Checks leave late when their street waits. Locust's own delay is part of every latency.",
    )
    parts = []
    for each, note in zip(charts, notes, strict=True):
        if each.series:
            keys = legend(each.series, filled=each.stacked)
            parts += [f"<h2>{each.title}</h2><small>{note}</small>", keys, each.svg()]
    return parts


def _failures(total: Second) -> list[str]:
    if not total.failed:
        return []
    rows = [(why, f"{count:,}") for why, count in total.failed.most_common()]
    return ["<h2>Failed checks</h2>", _table(("why", "how often"), rows)]


def _cases(timeline: Timeline) -> list[str]:
    """Show answers that were not right, wrong ones first, so that each can be asked for again."""
    parts: list[str] = []
    for outcome in (Outcome.WRONG.value, Outcome.UNCONFIRMED.value, UNJUDGED):
        cases = [case for case in timeline.cases if case["outcome"] == outcome]
        if cases:
            parts.append(f"<h2>Answers {outcome}: the first {len(cases)}</h2>")
        for case in cases:
            told = json.dumps(case["answer"], ensure_ascii=False, default=repr)
            asked = json.dumps(case["check"], ensure_ascii=False)
            at = time.strftime("%H:%M:%S", time.gmtime(case["at"]))
            text = f"{_commands(case)}\n\nasked:     {asked}\nwas told:  {told}"
            who = f"{at} UTC, phone {case['phone']} of seed {case['seed']}: {case['sentence']}"
            parts.append(f"<p><b>{escape(who)}</b></p><pre>{escape(text)}</pre>")
    return parts


def _commands(case: Mapping[str, Any]) -> str:
    """Write `tidegate explain` for the app that the sentence names, or for all that were asked."""
    named = _APP.match(case["sentence"])
    apps = [named[1]] if named else list(case["check"]["apps"])
    return "\n".join(explain_command(case["check"], app, int(case["at"])) for app in apps)


def _judged(total: Second) -> str:
    outcomes = ", ".join(f"{count:,} {name.lower()}" for name, count in total.judged.items())
    return outcomes or "none"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counter.most_common()) or "none"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f} ms"


def _yes(held: bool) -> str:
    return "held" if held else "NOT HELD"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads) if any(heads) else ""
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>" if head else f"<table>{body}</table>"
