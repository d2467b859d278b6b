"""`tidegate capacity`: its arithmetic by hand, and what it says of figures and of usage."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest import bench
from loadtest.capacity import figures, storm
from loadtest.capacity.__main__ import main
from loadtest.capacity.availability import (
    Failure,
    Failures,
    allowed_seconds,
    availability,
    expected,
)
from loadtest.capacity.check import Round, held, traffic
from loadtest.capacity.day import Day, Site, cpu_us, drivers, need, saturation
from loadtest.capacity.figures import AGAIN, FIRST, NEW, ONE, STRANGER, TWENTY, Cost, Figures
from loadtest.capacity.storm import Storm
from loadtest.rows import all_rows
from loadtest.table import Measured, as_json
from loadtest.wrk import Found

ROOT = Path(__file__).parent.parent
FIGURES = Figures(
    "made up",
    {
        ONE: Cost(10, 0, 300, 500),
        TWENTY: Cost(29, 0, 870, 6_200),
        STRANGER: Cost(11, 0, 300, 500),
        FIRST: Cost(20, 5, 300, 500),
        AGAIN: Cost(12, 0, 300, 500),
        NEW: Cost(30, 0, 320, 520),
    },
)
DAY = Day(
    visitors=86.4e6,
    checks=10,
    apps=3,
    variety=1,
    peak=4,
    lists=True,
    members=0.1,
    remembered=0.5,
    fresh=0.25,
    updates=0.5,
    patched=0.8,
    package_bytes=1e6,
    patch_bytes=1e5,
    ids=1e6,
)
SITE = Site(busy=0.5, cores_a_machine=8, zones=3)
STORM = Storm(1_000_000, 10, 1_000, 0.5, 0.8, 1e6, 1e5)


def test_a_days_need_is_the_sum_done_by_hand() -> None:
    """Each cause has its share, and cores, look-ups and bytes are at the peak."""
    costs = cpu_us(DAY, FIGURES)
    # One app 10, two more of 1, nine tenths strangers of 1, members of 10 and 2 by halves of 10 %,
    # and a quarter of the checks opens a connection of 20.
    assert list(costs.values()) == pytest.approx([10, 2, 0.9, 0.5, 0.1, 5])
    assert saturation(DAY, FIGURES) == pytest.approx(1e6 / 18.5)
    found = need(DAY, SITE, FIGURES)
    # 40,000 checks/s * 18.5 µs = 0.74 cores; half busy: 1.48; with a zone to spare: 2.22.
    assert (found.machines, found.cores) == (3, 24)
    assert found.lookups == pytest.approx(2_000)
    assert found.redis_busy == pytest.approx(0.01)
    assert found.redis_bytes == pytest.approx(10.5e6)
    assert found.bits_in == pytest.approx(40_000 * 360 * 8)
    assert found.bits_out == pytest.approx(40_000 * 1_100 * 8)
    assert found.cdn_bytes == pytest.approx(43.2e6 * 280_000)
    assert found.cdn_bits == pytest.approx(43.2e6 * 280_000 / 86_400 * 4 * 8)


def test_cores_are_rounded_up_to_machines_in_every_zone() -> None:
    """Each zone has as many machines as another, and without the largest the rest are enough."""
    for visitors in (1e6, 1e9, 5e9, 2e10):
        day = replace(DAY, visitors=visitors)
        found = need(day, SITE, FIGURES)
        assert found.machines % SITE.zones == 0
        left = found.cores * (SITE.zones - 1) / SITE.zones
        assert left * SITE.busy >= day.peak_rate / saturation(day, FIGURES)
        one_less = found.cores - SITE.zones * SITE.cores_a_machine
        assert one_less * 2 / 3 * SITE.busy < day.peak_rate / saturation(day, FIGURES)


def test_without_lists_nothing_is_looked_up() -> None:
    """No live list, no cost of lists and no Redis."""
    day = replace(DAY, lists=False)
    assert sum(cpu_us(day, FIGURES).values()) == pytest.approx(17)
    assert need(day, SITE, FIGURES).lookups == 0


def test_variety_makes_a_check_dearer_and_nothing_else() -> None:
    """What lists, look-ups and connections add is as the bench has it."""
    costs = cpu_us(replace(DAY, variety=1.5), FIGURES)
    assert list(costs.values()) == pytest.approx([15, 3, 0.9, 0.5, 0.1, 5])


def test_drivers_are_what_a_tenth_more_does() -> None:
    """Visitors drive all alike; what costs a share of a check drives by this share."""
    found = drivers(DAY, SITE, FIGURES)
    assert found["visitors"] == pytest.approx((0.1, 0.1))
    assert found["checks"] == pytest.approx((0.1, 0.0))
    assert found["fresh"] == pytest.approx((0.5 / 18.5, 0.0))
    assert found["package_bytes"] == pytest.approx((0.0, 0.1 * 200 / 280))
    assert found["patched"][1] < 0


def test_a_storm_comes_again_spread() -> None:
    """The next round is spread over 0.4 check_after; later ones overlap, and settle."""
    assert STORM.rate == 100_000
    assert storm.next_peak(STORM) == pytest.approx(2_500)
    assert storm.rate_at(STORM, 700) == 0
    assert storm.rate_at(STORM, 1_000) == pytest.approx(2_500)
    assert storm.rate_at(STORM, 1_300) == 0
    assert storm.rate_at(STORM, 2_000) == pytest.approx(1_250)
    assert storm.rate_at(STORM, 2_500) == pytest.approx(1e6 / 1200)
    assert storm.rate_at(STORM, 1e6) == pytest.approx(storm.settled_rate(STORM), rel=0.01)
    assert storm.settled_rate(STORM) == pytest.approx(1_000 * math.log(1.5) / 0.4)
    assert STORM.full_bytes == 5e11
    assert STORM.patched_bytes == pytest.approx(1.4e11)


def test_no_phone_is_lost_or_asked_twice_in_a_round() -> None:
    """Over any round's span the rates add up to the phones."""
    for first, last, rounds in ((700, 1_300, 1), (1_500, 2_395, 1)):
        total = sum(storm.rate_at(STORM, at + 0.5) for at in range(first, last))
        assert total == pytest.approx(rounds * STORM.phones, rel=0.01)


def test_gateways_that_are_too_few_take_longer() -> None:
    """All are answered when they have woken, or when the work is done, if that is later."""
    assert storm.drained_after(STORM, 200_000) == 10
    assert storm.drained_after(STORM, 50_000) == 20


def test_five_nines_are_316_seconds_a_year() -> None:
    """What fails is counted in checks: a third of them for 30 s is 10 s."""
    assert allowed_seconds() == pytest.approx(315.6, abs=0.1)
    failure = Failure("a zone", 2, 30, 1 / 3, "")
    assert failure.lost_seconds == pytest.approx(20)
    assert availability([failure]) == pytest.approx(1 - 20 / 31_557_600)
    assert availability([Failure("all", 1, allowed_seconds(), 1.0, "")]) == pytest.approx(0.99999)


def test_redis_and_deploys_cost_no_check() -> None:
    """Law 9 in the arithmetic: however long Redis is away, the share that fails is none."""
    often = Failures(redis_failovers=1_000, redis_seconds=3_600, deploys=9_999)
    found = {x.what: x for x in expected(often, machines=6, cores=48, zones=3, asked=0.01)}
    assert found["Redis fails over"].lost_seconds == 0
    assert "1.00%" in found["Redis fails over"].why
    assert found["a deploy"].lost_seconds == 0
    assert found["a worker crashes"].share == pytest.approx(1 / 48)
    # Six machines fail half a year each, and each is a sixth of the checks.
    assert found["a machine is lost"].lost_seconds == pytest.approx(3 * 10 / 6)
    alone = expected(Failures(), machines=1, cores=8, zones=1, asked=0.0)
    assert alone[-1].share == 1
    assert "--zone-seconds" in alone[-1].why


def test_the_readmes_figures_are_those_of_its_table() -> None:
    """Who has measured nothing is given the README's table, as it stands there."""
    rows = dict(
        re.findall(
            r"^\| \**(.+?)\** \| [^|]+ \| \**([\d.,]+)\** \|",
            (ROOT / "README.md").read_text(),
            re.MULTILINE,
        )
    )
    names = {
        ONE: "Tidegate, one app, no list",
        TWENTY: "Tidegate, 20 apps in one check",
        STRANGER: "Tidegate, a stranger to 10,000,000 ids on 200 lists",
        FIRST: "Tidegate, a member of one, looked up in Redis",
        AGAIN: "Tidegate, a member of one, remembered",
        NEW: "Tidegate, a new connection each time",
    }
    assert set(names) == set(figures.NEEDED)
    for row, name in names.items():
        assert figures.README.rows[row].cpu_us == float(rows[name])
    assert "another machine" in figures.README.source


def _said(**change: object) -> dict[str, object]:
    rows = [{"row": name, "wrong": 0, **cost._asdict()} for name, cost in FIGURES.rows.items()]
    return {"rows": rows} | change


def test_what_the_bench_leaves_is_what_capacity_reads(tmp_path: Path) -> None:
    """Every figure comes back as it was, with where and when it was measured."""
    there = {row.name for row in all_rows(400)}
    assert set(figures.NEEDED) <= there
    text = figures.as_file(
        _said(), name="make bench", measured="2026-11-22T22:00:00+00:00", machine="a machine"
    )
    assert text is not None
    path = tmp_path / "figures.json"
    path.write_text(text)
    found = figures.read(path)
    assert found.rows == FIGURES.rows
    assert found.source == "make bench, 2026-11-22T22:00:00+00:00, on a machine"


def test_the_bench_leaves_its_figures_with_date_and_machine(tmp_path: Path) -> None:
    """A run with every row leaves a file that is read at once; half a run leaves none."""
    rows = [row for row in all_rows(400) if row.name in figures.NEEDED]
    found = Found(2_000, 1.0, p50_ms=1.0, p99_ms=2.0, broken=0, busy=0.5, received=1_000_000)
    rounds = {row.name: [Measured(found, 0.02, 0.01, 0)] for row in rows}
    data = as_json(rounds, dict.fromkeys(rounds, 0))
    place = tmp_path / "new" / "figures.json"
    bench.leave(place, rows[1:], {"rows": data["rows"][1:]})
    assert not place.exists()
    bench.leave(place, rows, data)
    read = figures.read(place)
    assert read.rows[ONE] == Cost(10, 5, read.rows[ONE].request_bytes, 500)
    assert read.rows[TWENTY].request_bytes > read.rows[ONE].request_bytes > 300
    assert read.source.startswith("make bench, 20")
    assert "cores" in read.source
    assert "Python 3" in read.source


def test_half_a_bench_and_a_wrong_one_leave_nothing() -> None:
    """Figures are left only when every row that is needed was measured, and answered rightly."""
    rows = _said()["rows"]
    assert isinstance(rows, list)
    label = {"name": "make bench", "measured": "now", "machine": "here"}
    assert figures.as_file({"rows": rows[1:]}, **label) is None
    assert figures.as_file({"rows": [rows[0] | {"wrong": 1}, *rows[1:]]}, **label) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "holds no figures"),
        ("[]", "holds no figures"),
        ('{"format": 2}', "has format 2, not 1"),
        (
            '{"format": 1, "name": "x", "measured": "y", "machine": "z", "rows": []}',
            "lacks the row",
        ),
    ],
)
def test_a_file_that_is_none_is_refused(
    tmp_path: Path, text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sentence names the file, what is wrong, and what to type."""
    path = tmp_path / "figures.json"
    path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["--figures", str(path)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"{path}" in said
    assert says in said
    assert "make bench" in said


def test_a_missing_file_is_refused_only_when_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without figures of one's own the README's are taken, and said to be."""
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert "README.md's table" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--figures", "none.json"])
    assert "none.json cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--visitors", "many"],
        ["--visitors", "0"],
        ["--visitors", "1e999"],
        ["--peak", "-1"],
        ["--members", "110%"],
        ["--busy", "0%"],
        ["--zones", "1.5"],
        ["--check-after", "0"],
        ["--nonsense"],
    ],
)
def test_what_is_no_number_is_usage(arguments: list[str]) -> None:
    """Exit code 2, before anything is computed."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--visitors", "1", "--zones", "1", "--cores-per-machine", "1"],
        ["--check-after", "1", "--list-ids", "0", "--updates", "0"],
        ["--visitors", "8G", "--storm-phones", "8e9", "--storm-seconds", "1", "--package", "2GB"],
        ["--core-hour", "0.04", "--gigabyte", "0.02", "--members", "0", "--apps", "1"],
    ],
)
def test_text_and_data_say_the_same(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is asked, both forms come, and agree on cores and on whether 99.999 % holds."""
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    cores = re.search(r"^  cores, one worker each +([\d,]+)", text, re.MULTILINE)
    assert cores is not None
    assert int(cores[1].replace(",", "")) == data["need"]["cores"] > 0
    assert ("it holds" in text) == data["holds"]
    assert len(data["cost_a_day"]) == text.count("cost of ")


def test_the_command_hands_on_arguments_help_and_exit_code() -> None:
    """`tidegate capacity` is `python -m loadtest.capacity`, word for word."""
    command = [sys.executable, "-m", "compiler.cli", "capacity"]
    for arguments, code in ((["--help"], 0), (["--zones", "0"], 2), (["--json"], 0)):
        done = subprocess.run(
            [*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        if "--help" in arguments:
            assert "--storm-phones" in done.stdout


def _round(predicted: float, measured: float) -> Round:
    found = Found(1_000, 1.0, p50_ms=1.0, p99_ms=2.0, broken=0, busy=0.5)
    return Round(predicted, measured, Measured(found, 1_000 / measured, 0.0, 0))


@pytest.mark.parametrize(
    ("ratios", "good"),
    [
        ((1.0, 1.0, 1.0, 1.0, 1.0), True),
        ((0.71, 0.71, 0.71, 9.0, 0.1), True),
        ((1.29, 1.29, 1.31, 1.29, 1.31), True),
        ((1.31, 1.31, 1.31, 1.0, 1.0), False),
        ((0.69, 0.69, 0.69, 1.0, 1.0), False),
    ],
)
def test_the_median_prediction_must_be_within_thirty_percent(
    ratios: tuple[float, ...], good: bool
) -> None:
    """Rounds that something else disturbed do not decide; most of them do."""
    assert held([_round(each * 20_000, 20_000) for each in ratios]) == good


def test_the_crowd_is_described_by_its_own_phones() -> None:
    """Apps a check are counted, and who is on a list of ids; regular expressions are none."""
    apps = {"a": None}
    phones = [
        {"user": "staff-1", "apps": apps | {"b": None}},
        {"device": "kiosk-2", "apps": apps},
        {"user": "u-7-77", "device": "d-1", "apps": apps | {"b": None, "c": None, "d": None}},
        {"apps": apps},
    ]
    found = traffic(phones)
    assert (found.apps, found.members, found.remembered, found.fresh) == (2, 0.5, 1, 0)


def test_the_guide_shows_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The arithmetic of 200 million visitors stands in the guide as it is computed."""
    monkeypatch.chdir(tmp_path)
    main([])
    printed = capsys.readouterr().out
    guide = (ROOT / "loadtest/capacity/README.md").read_text()
    assert f"```text\n{printed}```\n" in guide
