"""What the benchmarks publish: workspaces whose apps have 12 releases, 8 conditions, 2 percentages.

An app's releases, of N:

    t-000 … (N minus 4)  1.0.0.2, if their conditions hold; 8 attributes are tested over all of them
    ramp, second         1.0.0.2, for 12.5 % of devices and 3 % of users
    next                 1.0.0.2, from the year 2099 on
    stable               1.0.0.1, for everyone

Without lists no phone of the bench meets the conditions of a t-release. With lists every phone
does, and each t-release has its share of the lists as audience instead: so who is on no list gets
the same answer in both, through the same tables. A release with a list asks a `prompt` upgrade,
which wins over the percentages.

Plan files are written as JSON, which is YAML too.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

App = dict[str, Any]
"""An app's file as data."""

COFFEE = "2021000000000001"
MORE = tuple(f"20210000000000{number}" for number in range(10, 29))
"""With COFFEE, the 20 apps of one check."""

TEN, THOUSAND = "app-of-10", "app-of-1000"
RELEASES = 12
LISTS = 200
BASE = "https://cdn.example.com"
CHECK_AFTER = 1800
STABLE, NEW = "1.0.0.1", "1.0.0.2"
_PACKAGE = b"a package"


def apps_without_lists() -> list[App]:
    """Describe the apps of the workspace that has no list."""
    usual = [app(name, RELEASES) for name in (COFFEE, *MORE)]
    return [*usual, app(TEN, 10), app(THOUSAND, 1_000)]


def apps_with_lists() -> list[App]:
    """Describe the one app whose releases use all of the lists."""
    return [app(COFFEE, RELEASES, list_names())]


def list_names() -> list[str]:
    """Name the lists."""
    return [f"l-{number:03}" for number in range(LISTS)]


def list_of(member: int) -> str:
    """Tell the one list that a member is on."""
    return f"l-{member % LISTS:03}"


def member_id(number: int) -> str:
    """Write a member's user id."""
    return f"m-{number:08}"


def members_of(number: int, ids: int) -> list[str]:
    """Give the ids of one list, when all lists together have so many."""
    return [member_id(each) for each in range(number, ids, LISTS)]


def app(name: str, releases: int, lists: Sequence[str] = ()) -> App:
    """Describe an app of so many releases, over these lists."""
    targeted = releases - 4
    conditions = [_condition(number, met=bool(lists)) for number in range(max(targeted, 8))]
    share = len(lists) // targeted
    rows: list[dict[str, Any]] = [
        {
            "id": f"t-{number:03}",
            "package": NEW,
            "audience": {"lists": list(lists[number * share :][:share])} if lists else "everyone",
            "upgrade": "prompt",
            "when": conditions[number::targeted],
        }
        for number in range(targeted)
    ]
    rows += [
        {"id": "ramp", "package": NEW, "audience": {"percent": "12.5"}},
        {"id": "second", "package": NEW, "audience": {"percent": "3", "by": "user"}},
        {"id": "next", "package": NEW, "audience": "everyone", "starts": "2099-01-01T00:00:00Z"},
        {"id": "stable", "package": STABLE, "audience": "everyone"},
    ]
    packages = [{"version": STABLE}, {"version": NEW}]
    return {"app": name, "packages": packages, "releases": rows}


def _condition(number: int, *, met: bool) -> dict[str, Any]:
    """Write one of 8 kinds of condition, which the bench's phones meet or not."""
    else_where = [f"elsewhere-{number}"]
    attribute, test, meant, other = (
        ("city", "in", ["Hangzhou"], else_where),
        ("model", "matches", ["23*"], [f"9{number}*"]),
        ("custom.tier", "in", ["gold"], else_where),
        ("client_version", "at_least", "10.2", f"{99 + number}"),
        ("network", "in", ["WIFI", "5G"], else_where),
        ("os_version", "between", ["9", "15.1"], [f"{99 + number}", f"{100 + number}"]),
        ("region", "not_in", ["CN-XJ"], ["CN-ZJ", *else_where]),
        ("brand", "in", ["Xiaomi", "Redmi"], else_where),
    )[number % 8]
    return {"attribute": attribute, test: meant if met else other}


def package() -> dict[str, Any]:
    """Write any version's record, as `tidegate upload` does. All packages have the same bytes."""
    sha256 = hashlib.sha256(_PACKAGE).hexdigest()
    size = len(_PACKAGE)
    path = f"files/{sha256[:2]}/{sha256}.zip"
    form = {"compression": "identity", "path": path, "sha256": sha256, "size": size}
    return {"format": 1, "forms": [form], "sha256": sha256, "signatures": [], "size": size}


def write_plan(folder: Path, workspace: str, apps: Sequence[App], ids: int) -> None:
    """Write a plan's folder; with `ids`, so many members spread evenly over the lists."""
    cdn = [{"regions": ["*"], "bases": [BASE]}]
    settings = {"workspace": workspace, "check_after": CHECK_AFTER, "cdn": cdn}
    _write(folder / "workspace.yaml", settings)
    for each in apps:
        _write(folder / "apps" / f"{each['app']}.yaml", each)
        for version in (STABLE, NEW):
            record = folder / "packages" / each["app"] / f"{version}.json"
            _write(record, package())
    if ids:
        rows = [{"list": x, "of": "user", "file": f"lists/{x}.txt"} for x in list_names()]
        _write(folder / "lists.yaml", {"lists": rows})
        (folder / "lists").mkdir()
        for number, name in enumerate(list_names()):
            lines = "\n".join(members_of(number, ids))
            (folder / "lists" / f"{name}.txt").write_text(lines)


def write_packages(store: Path) -> None:
    """Put the packages' bytes into a store's folder, where a push looks whether they are there."""
    path = store / package()["forms"][0]["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_PACKAGE)


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
