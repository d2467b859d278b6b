"""The gateways' census and the clients' reports, as the commands read them from Redis."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import processes
from compiler.patching.census import as_census, counted_by_gateways, last_days, read_census
from compiler.publication.mirror import Mirror
from gateway.keys import Keys
from gateway.version import parse_version
from patch_shop import APP, Shop, versions
from publishing import Workshop

KEYS = Keys("demo")
NOW = 1_800_000_000
DAYS = last_days(NOW, 8)


def count(link: Any, day: str, app: str, **checks: int) -> None:
    """Write what the gateways would have counted on a day; v1_2 is version 1.2."""
    link.sadd(KEYS.census(day), app)
    for name, number in checks.items():
        version = name.removeprefix("v").replace("_", ".") if name[0] == "v" else name
        link.hincrby(KEYS.census_of(day, app), version, number)


def run(redis: str, *arguments: str, code: int = 0, cwd: Path = processes.ROOT) -> str:
    """Run `tidegate`; give what it says."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
    settings = {"TIDEGATE_REDIS": redis, "TIDEGATE_WORKSPACE": "demo", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "compiler.cli", *arguments],
        cwd=cwd,
        env=kept | settings | {"PYTHONPATH": str(processes.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_days_are_named_back_from_now() -> None:
    """A day is UTC's; a week reaches over the turn of a month and a year."""
    assert last_days(1_767_225_599, 2) == ["20251231", "20251230"]
    assert last_days(1_767_225_600, 2) == ["20260101", "20251231"]
    assert len(set(last_days(NOW, 8))) == 8


def test_days_and_apps_are_summed(workshop: Workshop) -> None:
    """The sum is over the days asked for; apps are all that were seen, or those that are named."""
    link = workshop.link
    count(link, DAYS[0], "coffee", v1_1=5, none=2)
    count(link, DAYS[6], "coffee", v1_1=10, v1_2=1)
    count(link, DAYS[7], "coffee", v1_1=100)
    count(link, DAYS[1], "tea", other=7)
    mirror = Mirror(link, "demo")
    assert counted_by_gateways(mirror, DAYS[:7]) == {
        "coffee": {"1.1": 15, "1.2": 1, "none": 2},
        "tea": {"other": 7},
    }
    assert counted_by_gateways(mirror, DAYS, ["coffee"])["coffee"]["1.1"] == 115
    assert counted_by_gateways(mirror, DAYS, ["milk"]) == {}
    assert counted_by_gateways(Mirror(link, "other"), DAYS) == {}


def test_a_census_has_versions_alone() -> None:
    """Whoever has nothing, or a stranger's version, needs no patch; an app may be left out."""
    found = as_census({"coffee": {"1.0": 3, "1.0.0": 4, "none": 9, "other": 1}, "tea": {"none": 1}})
    assert found == {"coffee": {parse_version("1"): 7}}


def test_the_census_is_shown_and_is_a_file_for_patch(
    workshop: Workshop, server: processes.RedisServer, tmp_path: Path
) -> None:
    """The table has shares by app, the greatest first; --json is what `patch --census` reads."""
    today = last_days(time.time(), 1)[0]
    assert "No check was counted in 7 days" in run(server.url, "census")
    count(workshop.link, today, "coffee", v1_1=25, v1_2=974, none=1)
    count(workshop.link, today, "tea", other=3)
    rows = [line.split() for line in run(server.url, "census").splitlines()]
    assert rows == [
        ["app", "version", "checks", "share"],
        ["coffee", "1.2", "974", "97.40", "%"],
        ["coffee", "1.1", "25", "2.50", "%"],
        ["coffee", "none", "1", "0.10", "%"],
        ["tea", "other", "3", "100.00", "%"],
    ]
    file = tmp_path / "census.json"
    file.write_text(run(server.url, "census", "--json", "--days", "2"))  # midnight may pass
    assert read_census(file)["coffee"] == {parse_version("1.1"): 25, parse_version("1.2"): 974}
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "drink.yaml").write_text("app: tea\n")
    assert set(json.loads(run(server.url, "census", "drink", "--json", cwd=tmp_path))) == {"tea"}
    assert "8" in run(server.url, "census", "--days", "9", code=2)


def test_patches_are_made_in_order_of_the_gateways_census(
    workshop: Workshop, server: processes.RedisServer, tmp_path: Path
) -> None:
    """A Redis that is named gives the census; a file comes before it; one that is away is said."""
    shop = Shop(tmp_path)
    shop.fill(versions(4), offered="1.4")
    today = last_days(time.time(), 1)[0]
    redis = ("--redis", server.url)
    plain = shop.patch("--dry-run", *redis)
    assert [(each["from"], each["phones"]) for each in plain] == [
        ("1.3", None),
        ("1.2", None),
        ("1.1", None),
    ]
    count(workshop.link, today, APP, v1_1=5, v1_2=90, v1_3=5, v1_4=1_000, none=50)
    found = shop.patch("--dry-run", "--cover", "91", *redis)
    assert [(each["from"], each["phones"]) for each in found] == [("1.2", 90), ("1.3", 5)]
    (tmp_path / "census.json").write_text('{"coffee": {"1.1": 7}}')
    told = shop.patch("--dry-run", "--census", str(tmp_path / "census.json"), *redis)
    assert [(each["from"], each["phones"]) for each in told] == [("1.1", 7)]
    (tmp_path / "census.json").write_text('{"coffee": {"none": 5}}')
    told = shop.patch("--dry-run", "--census", str(tmp_path / "census.json"), *redis)
    assert [(each["from"], each["phones"]) for each in told] == [
        (each["from"], None) for each in plain
    ]
    away = shop.patch("--dry-run", "--redis", "redis://127.0.0.1:1/0", code=4)
    assert "Redis at 127.0.0.1:1 failed" in away


def test_reports_are_shown_by_release_and_event(
    workshop: Workshop, server: processes.RedisServer
) -> None:
    """Devices are told apart, reports are not; apps are all, or those that are named."""
    assert "Nothing was reported yet." in run(server.url, "reports")
    for app in ("coffee", "tea"):
        workshop.link.sadd(KEYS.reports, app)
        workshop.link.hset(KEYS.reports_of(app), "stable:failed", 2_000)
        workshop.link.hset(KEYS.reports_of(app), "ramp:installed", 1)
        workshop.link.pfadd(KEYS.subjects_of(app, "stable", "failed"), *range(50))
    lines = [line.split() for line in run(server.url, "reports", "tea").splitlines()]
    assert lines == [
        ["app", "release", "event", "reports", "devices"],
        ["tea", "ramp", "installed", "1", "0"],
        ["tea", "stable", "failed", "2,000", "50"],
    ]
    said = json.loads(run(server.url, "reports", "--json"))
    assert [row["app"] for row in said] == ["coffee", "coffee", "tea", "tea"]
    assert said[1] | {"devices": 50} == {
        "app": "coffee",
        "release": "stable",
        "event": "failed",
        "reports": 2_000,
        "devices": 50,
    }
    assert said[1]["devices"] == pytest.approx(50, abs=2)
