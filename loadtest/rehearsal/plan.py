"""The plan that a rehearsal plays: every kind of release, on twelve apps of five versions.

Every app has a release of each of these kinds, and each kind is on one app or more: a list, an
excluded list, a percentage of devices or users, conditions of each attribute, host-app ranges, a
schedule that opens or ends in the midst of the run, a percentage that rises by itself, and an open
time window. The second edition, which is pushed in the midst, offers a new version to more.
"""

import hashlib
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

WORKSPACE = "rehearsal"
CHECK_AFTER = 1800
APPS = tuple(f"20210000000001{number:02}" for number in range(12))
VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0")
STAFF, KIOSKS = 3_000, 500
PAUSED = (APPS[0], "ramp")
"""The app and the release that a rehearsal pauses."""

_CONDITIONS: tuple[list[dict[str, Any]], ...] = (
    [{"attribute": "network", "in": ["WIFI", "5G"]}],
    [{"attribute": "brand", "in": ["Xiaomi", "Redmi"]}],
    [{"attribute": "os_version", "between": ["12", "15.1"]}],
    [
        {"attribute": "region", "not_in": ["CN-XJ", "HK"]},
        {"attribute": "city", "not_in": ["Jinan"]},
    ],
    [{"attribute": "model", "matches": ["23*", "iPhone1?,*"]}],
    [{"attribute": "client_version", "at_least": "10.2"}],
    [{"attribute": "installed", "below": "1.2.0"}],
    [{"attribute": "custom.tier", "in": ["gold", "silver"]}],
    [{"attribute": "locale", "matches": ["zh-*"]}, {"attribute": "channel", "in": ["store"]}],
    [
        {"attribute": "rom_version", "matches": ["V8*", "1?.*"]},
        {"attribute": "platform", "in": ["android"]},
    ],
    [{"attribute": "custom.level", "between": [10, 20]}],
    [{"attribute": "client_version", "not_between": ["9.0", "10.1.9"]}],
)


def write_plan(folder: Path, edition: int, began: datetime, seconds: float) -> None:
    """Write an edition (1, 2, …) of the plan for a run that began then and takes so long."""
    middle = began + timedelta(seconds=round(seconds * 0.5))
    later = middle + timedelta(seconds=max(1, round(seconds * 0.2)))
    _write(folder / "workspace.yaml", _settings())
    for number, app in enumerate(APPS):
        releases = _releases(number, edition, middle, later)
        _write(folder / "apps" / f"app-{number}.yaml", _app(number, releases))
        for version in VERSIONS:
            _write(folder / "packages" / app / f"{version}.json", _record(app, version))
    lists = [
        {"list": "staff", "of": "user", "file": "lists/staff.txt"},
        {"list": "kiosks", "of": "device", "file": "lists/kiosks.txt"},
        {"list": "testers", "of": "user", "regex": ["^u-[0-9]+-[0-9]*77$"]},
    ]
    _write(folder / "lists.yaml", {"lists": lists})
    _write(folder / "rules.yaml", {"rules": {"roomy": _CONDITIONS[0]}})
    _write(folder / "switches.yaml", {"switches": _switches(edition)})
    (folder / "lists").mkdir(exist_ok=True)
    staff = "".join(f"staff-{number}\n" for number in range(STAFF + 500 * (edition - 1)))
    (folder / "lists" / "staff.txt").write_text(staff)
    kiosks = "".join(f"kiosk-{number}\n" for number in range(KIOSKS))
    (folder / "lists" / "kiosks.txt").write_text(kiosks)


def write_packages(store: Path) -> None:
    """Put what stands for packages into a store's folder, where a push looks for them."""
    for app in APPS:
        for version in VERSIONS:
            for form in _record(app, version)["forms"]:
                path = store / form["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(form["size"]))


def _settings() -> dict[str, Any]:
    bases = ["https://cdn-east.example.com", "https://cdn.example.com"]
    cdn = [
        {"regions": ["CN-ZJ", "CN-SH", "CN-J*"], "bases": bases},
        {"regions": ["*"], "bases": bases[1:]},
    ]
    return {"workspace": WORKSPACE, "check_after": CHECK_AFTER, "cdn": cdn}


def _app(number: int, releases: list[dict[str, Any]]) -> dict[str, Any]:
    packages: list[dict[str, Any]] = [{"version": version} for version in VERSIONS]
    packages[2] |= {"download": "wifi", "install": "preload"}
    packages[3] |= {"info": {"entry": "/index.html", "app": number}}
    if number % 3 == 0:
        clients = {"android": ">=10.2.0", "ios": ">=10.1.0 <11", "harmony": ">=9"}
        packages[4] |= {"clients": clients}
    return {"app": APPS[number], "packages": packages, "releases": releases}


def _releases(number: int, edition: int, middle: datetime, later: datetime) -> list[dict[str, Any]]:
    """Write an app's releases, from the newest version down to that for everyone."""
    oldest, second, third, fourth, newest = VERSIONS
    ramp: dict[str, Any] = {"percent": 10 * edition + 5 * (number % 4)}
    if number % 2:
        ramp["by"] = "user"
    rising = [{"at": middle.isoformat(), "percent": 20}, {"at": later.isoformat(), "percent": 60}]
    rows: list[dict[str, Any]] = [
        {"id": "staff", "package": newest, "audience": {"lists": ["staff", "testers"]}},
        {"id": "ramp", "package": fourth, "audience": ramp, "when": _CONDITIONS[number]},
        {"id": "spread", "package": third, "audience": {"percent": 50, "not_lists": ["kiosks"]}},
        {"id": "rising", "package": third, "audience": {"percent": rising}, "upgrade": "prompt"},
        {"id": "soon", "package": second, "audience": "everyone", "starts": middle.isoformat()},
        {"id": "today", "package": second, "audience": {"percent": 30}, "ends": later.isoformat()},
        {"id": "kiosks", "package": second, "audience": {"lists": ["kiosks"]}, "upgrade": "force"},
        {"id": "stable", "package": oldest, "audience": "everyone"},
    ]
    if number % 4 == 1:
        until = (later + timedelta(days=1)).isoformat()
        first = {"id": "first", "package": newest, "audience": {"first": 1_000, "until": until}}
        rows.append(first | {"when": ["roomy", *_CONDITIONS[(number + 5) % 12]]})
    if edition > 1:
        more = {"id": f"edition-{edition}", "package": newest, "upgrade": "prompt"}
        audience = {"percent": 10 * edition, "not_lists": ["kiosks"]}
        rows.append(more | {"audience": audience, "when": ["roomy"]})
    return rows


def _switches(edition: int) -> list[dict[str, Any]]:
    targeting = [
        {"variant": "on", "audience": {"lists": ["staff"]}},
        {"variant": "on", "audience": {"percent": 20 * edition}, "when": ["roomy"]},
    ]
    variants = {"on": True, "off": False}
    switch = {"key": "new-home", "variants": variants, "default": "off", "targeting": targeting}
    return [switch]


def _record(app: str, version: str) -> dict[str, Any]:
    """Write a version's record as `tidegate upload` does, with one compressed form."""
    name = f"{app}/{version}"
    sizes = random.Random(name)
    whole = _form(name, "identity", sizes.randrange(2_000, 4_000))
    small = _form(name, sizes.choice(("gzip", "zstd")), sizes.randrange(500, 1_500))
    forms, size = [whole, small], whole["size"]
    return {
        "format": 1,
        "forms": forms,
        "sha256": whole["sha256"],
        "signatures": [],
        "size": size,
    }


def _form(name: str, compression: str, size: int) -> dict[str, Any]:
    sha256 = hashlib.sha256(f"{name}/{compression}".encode()).hexdigest()
    end = {"identity": "zip", "gzip": "zip.gz", "zstd": "zip.zst"}[compression]
    path = f"files/{sha256[:2]}/{sha256}.{end}"
    return {"compression": compression, "path": path, "sha256": sha256, "size": size}


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def now() -> datetime:
    """Give the moment of a run's beginning, a whole second as plans have them."""
    return datetime.now(UTC).replace(microsecond=0)
