"""The parts of the load test that start no process: counting, levels, shapes, streets, options."""

import csv
import io
import math
import shlex
from random import Random
from typing import Any
from xml.etree import ElementTree as ET

import msgpack
import pytest

from loadtest.__main__ import locust_arguments, options_text
from loadtest.chart import Chart, Mark, Series
from loadtest.histogram import GROWTH, LEAST_MS, Histogram, bucket_of, percentile
from loadtest.levels import Levels, hold
from loadtest.marks import epoch_marks, read_marks
from loadtest.options import Settings, UsageError
from loadtest.report import Run, as_html, explain_command
from loadtest.series import as_csv
from loadtest.shapes import STEPS, Day, Ramp, Step, day_share
from loadtest.street import Street
from loadtest.timeline import MOST_SHOWN, Timeline

BEGAN = 1_800_000_000
LONG = 100_000.0
"""Seconds in which everyone has asked."""


def test_a_percentile_is_never_too_low_and_at_most_a_bucket_too_high() -> None:
    """Of any times, each percentile lies between the true one and 2 % more."""
    random = Random(6)
    times = sorted(random.lognormvariate(1, 2) + LEAST_MS for _ in range(5_000))
    histogram = Histogram(map(bucket_of, times))
    for share in (0.001, 0.5, 0.95, 0.99, 1.0):
        true = times[math.ceil(len(times) * share) - 1]
        found = percentile(histogram, share)
        assert found is not None
        assert true * (1 - 1e-9) <= found <= true * GROWTH * (1 + 1e-9)
    assert percentile({}, 0.5) is None


def timeline_of(seed: int, seconds: int = 20) -> Timeline:
    """Make what a process would have counted."""
    random, timeline = Random(seed), Timeline()
    for _ in range(600):
        moment = BEGAN + random.random() * seconds
        statuses = random.choices(["latest", "update", "none"], k=2)
        timeline.answered(moment, random.lognormvariate(1, 1), statuses)
        timeline.at(moment).judged[random.choice(["right", "right", "wrong"])] += 1
        timeline.at(moment).failed["status 503"] += random.random() < 0.1
        timeline.at(moment).late_ms = max(timeline.at(moment).late_ms, random.random() * 9)
        timeline.served(1 + int(moment - BEGAN) // 8, moment)
    return timeline


def sums(timeline: Timeline) -> tuple[Any, ...]:
    """Give all that a timeline counts, for comparison."""
    rows = [(at, second.as_data()) for at, second in timeline.rows()]
    plain = [
        (at, [sorted(each) if isinstance(each, list) else each for each in row]) for at, row in rows
    ]
    return plain, dict(timeline.epochs)


def test_processes_are_summed_as_if_they_were_one() -> None:
    """Whatever is taken from workers, when, and in which order: the master has it once."""
    one, other = timeline_of(1), timeline_of(2)
    alone = Timeline()
    for each in (timeline_of(1), timeline_of(2)):
        alone.merge(each.take())
    master = Timeline()
    packed = [msgpack.packb(other.take()), msgpack.packb(one.take())]
    assert other.total().answered == 0
    one.answered(BEGAN + 3, 5.0, ["latest"])  # after the first message, into the same second
    alone.answered(BEGAN + 3, 5.0, ["latest"])
    for message in (*packed, msgpack.packb(one.take())):
        master.merge(msgpack.unpackb(message, strict_map_key=False))
    assert sums(master) == sums(alone)
    assert master.total().answered == 1_201
    assert sum(row.answered for _, row in master.rows(step=7)) == 1_201
    assert master.total(BEGAN + 3, BEGAN + 4).answered == master.seconds[BEGAN + 3].answered


def case(outcome: str = "wrong", **check: Any) -> dict[str, Any]:
    """Make an answer that is not right."""
    return {
        "outcome": outcome,
        "sentence": 'app a1: `status` is "none", not "update", by epoch 1',
        "seed": 1,
        "phone": 7,
        "at": BEGAN + 5.2,
        "check": check | {"apps": {"a0": None, "a1": "1.0"}},
        "answer": {"epoch": 1, "apps": []},
    }


def test_many_unconfirmed_answers_leave_room_for_a_wrong_one() -> None:
    """Of each outcome some are kept whole, however many of another came before."""
    timeline = Timeline()
    for _ in range(5 * MOST_SHOWN):
        timeline.show(case("unconfirmed"))
    timeline.show(case("wrong"))
    assert [each["outcome"] for each in timeline.cases].count("wrong") == 1
    assert len(timeline.cases) == MOST_SHOWN + 1


GOOD = Levels(p99_ms=100, failures_percent=1, wrong=0, unconfirmed=0)


def run_of(**counts: int) -> Timeline:
    """Count answers of 10 ms, and of 500 ms as `slow`."""
    timeline = Timeline()
    for name, count in counts.items():
        second = timeline.at(BEGAN)
        if name in {"answered", "slow"}:
            for _ in range(count):
                timeline.answered(BEGAN, 500 if name == "slow" else 10, ["latest"])
        elif name == "failed":
            second.failed["status 503"] += count
        else:
            second.judged[name] += count
    return timeline


@pytest.mark.parametrize(
    ("counts", "broken"),
    [
        ({"answered": 990, "failed": 10, "right": 10}, set()),
        ({"answered": 985, "failed": 15, "right": 10}, {"failed checks"}),
        ({"answered": 990, "slow": 10, "right": 1}, set()),
        ({"answered": 980, "slow": 20, "right": 1}, {"p99 of answers"}),
        ({"answered": 99, "right": 98, "wrong": 1}, {"wrong answers"}),
        ({"answered": 99, "right": 98, "unconfirmed": 1}, {"unconfirmed answers"}),
        ({"answered": 99, "right": 98, "unjudged": 1}, {"sampled, but not judged"}),
        ({"answered": 99}, {"judged answers"}),
        ({}, {"p99 of answers", "failed checks", "judged answers"}),
    ],
)
def test_each_level_is_held_or_not_by_what_it_is_about(
    counts: dict[str, int], broken: set[str]
) -> None:
    """A level breaks beyond its bound and not at it; a run that shows nothing holds nothing."""
    found = hold(GOOD, run_of(**counts).total())
    assert {level.name for level in found if not level.held} == broken
    assert len(found) == 6


def test_what_nobody_wants_judged_is_no_level() -> None:
    """With --sample 0 the levels are of latency and failures alone."""
    found = hold(Levels(sampled=False), run_of(answered=1).total())
    assert {level.name for level in found} == {"p99 of answers", "failed checks"}


def test_a_street_asks_each_phone_once_and_no_sooner_than_told() -> None:
    """Everyone asks within the first spread, then each only when its time has come."""
    street = Street(1, 500, 100, began=BEGAN, spread_seconds=30)
    asked = {}
    while (due := street.take(BEGAN + 30)) is not None:
        asked[due.phone] = due.moment
        street.answered(due.phone, BEGAN + 30, 60)
    assert sorted(asked) == list(range(500, 600))
    assert all(BEGAN <= moment <= BEGAN + 30 for moment in asked.values())
    assert len({int(moment - BEGAN) // 3 for moment in asked.values()}) == 10
    assert street.take(BEGAN + 89.9) is None
    assert street.next_moment == BEGAN + 90
    same = Street(1, 500, 100, began=BEGAN, spread_seconds=30)
    assert same.next_moment == min(asked.values())


def test_a_phone_backs_off_from_30_seconds_doubled_to_check_after() -> None:
    """Each failure waits twice as long, spread by a fifth, up to the bound; an answer ends it."""
    street, now, waits = Street(1, 0, 1, began=0, spread_seconds=0), 0.0, []
    for _ in range(8):
        due = street.take(now)
        assert due is not None
        street.failed(due.phone, now, hurry=10, most_seconds=400)
        waits.append(10 * (street.next_moment - now))
        now = street.next_moment
    for wait, middle in zip(waits, (30, 60, 120, 240, 400, 400, 400, 400), strict=True):
        assert 0.8 * middle - 1e-6 <= wait <= 1.2 * middle + 1e-6
    street.take(now)
    street.answered(0, now, 5)
    street.take(now + 5)
    street.failed(0, now, hurry=1, most_seconds=400)
    assert street.next_moment - now <= 36


def test_everyone_wakes_within_the_time_given() -> None:
    """In a storm all phones ask, spread over the seconds given, whatever they waited for."""
    street = Street(1, 0, 200, began=BEGAN, spread_seconds=LONG)
    street.wake(BEGAN, 5)
    woken = []
    while (due := street.take(BEGAN + 5)) is not None:
        woken.append(due)
    assert len({due.phone for due in woken}) == 200
    assert {int(due.moment - BEGAN) for due in woken} == {0, 1, 2, 3, 4}


def test_a_day_has_a_night_and_two_peaks() -> None:
    """The evening's peak is everyone, noon's is lower, the night's depth a sixth; days join."""
    shares = [day_share(minute / 1440) for minute in range(1440)]
    peaks = [
        minute
        for minute in range(1, 1439)
        if shares[minute - 1] < shares[minute] >= shares[minute + 1]
    ]
    assert [minute // 60 for minute in peaks] == [12, 20]
    assert max(shares) == pytest.approx(1, abs=0.02)
    assert min(shares) == pytest.approx(0.15, abs=0.03)
    assert abs(shares[0] - shares[-1]) < 0.01
    day = Day(200, 600)
    assert day.tick(600) is None
    ticks = [day.tick(second) for second in range(600)]
    assert all(tick is not None and 1 <= tick[0] <= 200 for tick in ticks)


def climb(breaks_at: int | None) -> Ramp:
    """Let a ramp of 100 users go, second by second, which breaks at a number of users."""

    def weigh(users: int, seconds: float) -> Step:
        assert seconds == 15
        broken = "p99 too high" if breaks_at is not None and users >= breaks_at else ""
        return Step(users, 10.0 * users, broken)

    ramp = Ramp(100, 15, weigh)
    for second in range(1_000):
        if ramp.tick(second) is None:
            break
    return ramp


def test_a_ramp_stops_at_the_first_level_broken_and_names_the_rate() -> None:
    """Steps of a tenth; the first that breaks is the last; unbroken it says so."""
    broken = climb(breaks_at=40)
    assert [step.users for step in broken.steps] == [10, 20, 30, 40]
    assert broken.verdict == "Held up to 300 checks/s; broke at 400 checks/s: p99 too high."
    whole = climb(breaks_at=None)
    assert [step.users for step in whole.steps] == [10 * at for at in range(1, STEPS + 1)]
    assert whole.verdict.startswith("Not broken: held 1,000 checks/s")


def report_of(timeline: Timeline, marks: list[Mark]) -> str:
    found = hold(GOOD, timeline.total())
    return as_html(Run(timeline, GOOD, found, {"target": "<here>"}, marks, ["A doubt."]))


def test_the_report_and_its_csv_tell_the_same() -> None:
    """The rows sum up to the totals that stand in the report, and everything is escaped."""
    timeline = timeline_of(3)
    timeline.show(case(brand="<b>"))
    html = report_of(timeline, epoch_marks(timeline))
    rows = list(csv.DictReader(io.StringIO(as_csv(timeline))))
    assert sum(int(row["answered"]) for row in rows) == 600
    assert sum(int(row["apps_latest"]) for row in rows) == timeline.total().apps["latest"]
    assert rows[-1]["newest_epoch"] == "3"
    failed = sum(int(row["failed"]) for row in rows)
    assert f"{failed} of {600 + failed}" in html
    assert "&lt;here&gt;" in html
    assert "<b>&quot;" not in html
    assert "tidegate explain" in html
    assert "NOT HELD" in html
    assert html.count("epoch 2</text>") == html.count("<svg viewBox")


def test_a_long_run_is_drawn_in_few_points() -> None:
    """A day of seconds becomes at most 600 points a line."""
    timeline = Timeline()
    for second in range(0, 86_400, 7):
        timeline.answered(BEGAN + second, 3.0, ["latest"])
    assert len(report_of(timeline, [])) < 400_000


def test_a_wrong_answer_can_be_asked_about_again() -> None:
    """The command that the report prints names app, ids, version, moment and attributes."""
    check = {
        "user": "u 1", "device": "d'2", "brand": "Xiaomi", "custom": {"tier": "gold", "n": 7},
        "dry_run": True, "accept": ["gzip"], "apps": {"a1": "1.0"},
    }  # fmt: skip
    words = shlex.split(explain_command(check, "a1", BEGAN))
    assert words[:6] == ["tidegate", "explain", "--at", str(BEGAN), "--app", "a1"]
    pairs = [(words[at], words[at + 1]) for at in range(6, len(words), 2)]
    assert pairs == [
        ("--installed", "1.0"),
        ("--user", "u 1"),
        ("--device", "d'2"),
        ("--attr", "brand=Xiaomi"),
        ("--attr", "custom.n=7"),
        ("--attr", "custom.tier=gold"),
    ]


def test_marks_are_read_a_line_each() -> None:
    """Faults come from a file that anyone appends to; a line that is none is named."""
    marks = read_marks('{"at": 5.5, "text": "Redis killed"}\n\n{"at": 9, "text": "back"}\n')
    assert marks == [Mark(5.5, "Redis killed", fault=True), Mark(9.0, "back", fault=True)]
    with pytest.raises(ValueError, match="line 2: 'nonsense' is no mark"):
        read_marks('{"at": 5.5, "text": "x"}\nnonsense')


def _boxes(svg: str, texts: set[str]) -> list[tuple[float, float, float, float]]:
    """Give where the labels of marks are, about: left, right, top, bottom."""
    found = []
    for each in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        if each.text in texts:
            x, y, width = float(each.attrib["x"]), float(each.attrib["y"]), 6.0 * len(each.text)
            left = x - width if each.attrib["text-anchor"] == "end" else x
            found.append((left, left + width, y - 10, y))
    return found


def test_labels_of_marks_do_not_overlap() -> None:
    """However close the moments, labels have places of their own, inside the picture."""
    random = Random(5)
    for _ in range(50):
        moments = [BEGAN + 100 * random.random() for _ in range(5)]
        marks = [Mark(at, f"mark {number} of some length", fault=True)
                 for number, at in enumerate(moments)]  # fmt: skip
        chart = Chart(
            "T", "ms", range(BEGAN, BEGAN + 100), [Series("s", "#000", [1.0] * 100)], marks
        )
        boxes = _boxes(chart.svg(), {mark.text for mark in marks})
        assert len(boxes) == len(marks)
        for at, (left, right, top, bottom) in enumerate(boxes):
            assert left >= 0
            assert right <= 1000
            for low, high, above, below in boxes[at + 1 :]:
                assert right <= low or high <= left or bottom <= above or below <= top


@pytest.mark.parametrize("log", [False, True])
def test_a_chart_keeps_every_value_inside_its_axes(log: bool) -> None:
    """Values, gaps and levels are drawn between the lowest and the highest tick."""
    values = [None, 0.02, 7.0, None, 13_000.0, 1.0]
    chart = Chart("T", "ms", range(6), [Series("s", "#000", values)], log=log, limit=(250, "level"))
    root = ET.fromstring(chart.svg())
    path = next(root.iter("{http://www.w3.org/2000/svg}path")).attrib["d"]
    heights = [float(each.split(" ")[0]) for each in path.replace("L", "M").split("M")[1:] for each
               in [each.strip().split(" ")[1]]]  # fmt: skip
    floor = float(root.attrib["viewBox"].split()[3]) - 46
    assert all(floor - 220 - 0.1 <= height <= floor + 0.1 for height in heights)
    assert len(heights) == 4
    assert path.count("M") == 2, "a gap is no line"


def settings(**changes: Any) -> Settings:
    """Make settings as the command line would."""
    usual: dict[str, Any] = dict.fromkeys(Settings.__dataclass_fields__, "")
    usual |= {"workspace": "demo", "live": True, "yes": False, "target_is_mine": False}
    return Settings(**usual | changes)


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        """Yes, it is one."""
        return True


def test_live_is_confirmed_by_the_name_of_the_workspace() -> None:
    """Who types it, or says --yes, may leave traces; a wrong name or no terminal may not."""
    settings().allow_traces(Terminal("demo\n"))
    settings(yes=True).allow_traces(io.StringIO())
    settings(live=False).allow_traces(io.StringIO())
    for given in (Terminal("y\n"), Terminal(""), io.StringIO("demo\n")):
        with pytest.raises(UsageError):
            settings().allow_traces(given)


def test_load_stays_on_this_machine_unless_somebody_says_that_it_is_theirs() -> None:
    """Other hosts are refused by name; --target-is-mine lets them through; no URL is refused."""
    for url in ("http://127.0.0.1:8080", "http://localhost", "http://[::1]:1"):
        settings().allow_target(url)
    with pytest.raises(UsageError, match=r"https://gate\.example\.com is not on this machine"):
        settings().allow_target("https://gate.example.com")
    settings(target_is_mine=True).allow_target("https://gate.example.com")
    with pytest.raises(UsageError, match="is no URL"):
        settings(target_is_mine=True).allow_target("gate.example.com")


def test_defaults_are_given_to_locust_where_nothing_else_is_said() -> None:
    """The first run needs a URL only; whatever is an option of Locust stays as it was written."""
    found = locust_arguments(["http://127.0.0.1:8080"])
    file = found[1]
    assert found[2:] == [
        *("--headless", "--only-summary", "-u", "20", "-r", "20", "-t", "60s"),
        *("--host", "http://127.0.0.1:8080"),
    ]
    said = ["-u7", "--run-time=9s", "-H", "http://127.0.0.1:1"]
    assert locust_arguments(said)[2:] == ["--headless", "--only-summary", "-r", "7", *said]
    assert locust_arguments(["--worker"]) == ["-f", file, "--worker"]
    assert "--headless" not in locust_arguments(["http://127.0.0.1:1", "--web"])


def test_help_tells_every_option_of_ours() -> None:
    """Locust's own help has none of them: it does not read the file before."""
    said = options_text()
    names = (
        "store",
        "token-key",
        "street",
        "hurry",
        "shape",
        "p99-ms",
        "sample",
        "report",
        "marks",
    )
    assert all(f"--{name}" in said for name in names)


def test_a_word_at_first_is_the_gateway() -> None:
    """A forgotten http:// is told as that, not as one of Locust's classes that is not there."""
    assert locust_arguments(["127.0.0.1:8080"])[-2:] == ["--host", "127.0.0.1:8080"]
