"""Overrides as data: laid over a plan, held against another one, written into its text."""

from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import plans
from compiler.image import Image, build_image, relay_image
from compiler.language.reading import read_files
from compiler.language.rewriting import rewritten
from compiler.overrides import lay_over, place_of, put, said, settle
from compiler.plan import Audience, Plan, State
from compiler.publication.stranding import strandings
from compiler.windows import Frozen, freeze, windows_of
from gateway.errors import FormatError
from gateway.layout import Override
from gateway.version import parse_version
from snapshots import list_ids

BASE = {"workspace.yaml": "workspace: demo\ncheck_after: 1800\n"}


def override(what: str, name: str, value: str, app: str = "a") -> Override:
    """Write an override, of the app `a` unless it is of check_after."""
    return {"what": what, "app": "" if what == "check_after" else app, "name": name, "value": value}


def plan_of(app: str, **files: str) -> Plan:
    """Read a plan of one app file."""
    found = read_files({**BASE, "apps/a.yaml": app} | files, now=0)
    assert found.plan is not None, found.diagnostics
    return found.plan


def app(*releases: str, packages: str = "{version: 1}, {version: 2}") -> str:
    """Write an app's file."""
    rows = "".join(f"  - {{{each}}}\n" for each in releases)
    return f"app: a\npackages: [{packages}]\nreleases:\n{rows}"


def seats_of(plan: Plan, random: Random) -> dict[str, Frozen]:
    """Freeze some windows of a plan, some with nobody in them."""
    return {
        name: freeze(np.array(random.sample(range(9), random.randrange(4)), np.uint64))
        for name in windows_of(plan.apps)
        if random.random() < 0.5
    }


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=plans.plans(), seed=st.integers(0, 2**32))
def test_relaying_is_compiling_under_the_overrides(drawn: Any, seed: int) -> None:
    """Law 2: however overrides and frozen windows came and went, all is as compiled afresh."""
    random = Random(seed)
    written, ids = drawn
    plan = read_files(plans.to_files(written, random), now=plans.NOW).plan
    assert plan is not None
    lists = [
        list_ids(source.name, source.of, ids[source.name])
        for source in plan.lists
        if not source.regex
    ]
    over = plans.overrides(plan, random)
    frozen, others = seats_of(plan, random), seats_of(plan, random)
    plain, direct = build_image(plan, lists), build_image(plan, lists, over, frozen=frozen)
    blobs: dict[bytes, bytes] = {**plain.blobs, **direct.blobs}

    def relaid(
        image: Image, overrides: list[Override], seats: dict[str, Frozen] | None = None
    ) -> Image:
        found = relay_image(image.contents, image.tree, blobs.__getitem__, overrides, seats)
        blobs.update(found.blobs)
        return found

    other = relaid(plain, plans.overrides(plan, random), others)
    shuffled = random.sample(over, len(over))
    assert relaid(other, shuffled, frozen).root == direct.root
    assert relaid(relaid(other, [], frozen), shuffled).root == direct.root
    assert relaid(direct, [], {}).root == plain.root


def test_only_the_touched_app_is_read() -> None:
    """Of two apps the other one's file and program are never looked at."""
    files = {**BASE, "apps/a.yaml": app(), "apps/b.yaml": "app: b\n"}
    plan = read_files(files, now=0).plan
    assert plan is not None
    image = build_image(plan, [])
    asked = []

    def blob(digest: bytes) -> bytes:
        asked.append(digest)
        return image.blobs[digest]

    found = relay_image(image.contents, image.tree, blob, [override("withdrawn", "1", "true")])
    assert image.tree["files"]["apps/a.yaml"] in asked
    assert image.tree["files"]["apps/b.yaml"] not in asked
    assert found.contents["programs"]["b"] == image.contents["programs"]["b"]
    assert found.contents["programs"]["a"] != image.contents["programs"]["a"]
    assert found.contents["settings"] == image.contents["settings"]


def test_each_value_is_laid_over() -> None:
    """State, percentage, withdrawal and check_after, and nothing where the plan has no such."""
    ramp = "audience: {percent: [{at: 2026-11-23T09:00:00Z, percent: 1}], by: user}"
    plan = plan_of(app(f"id: r, package: 1, {ramp}", "id: s, package: 2, audience: everyone"))
    found = lay_over(
        plan,
        [
            override("state", "r", "paused"),
            override("percent", "r", "1250"),
            override("percent", "s", "5"),
            override("withdrawn", "2.0", "true"),
            override("check_after", "", "60"),
            override("state", "gone", "ended"),
            override("state", "s", "ended", app="gone"),
        ],
    )
    first, second = found.apps[0].releases
    assert (first.state, first.audience) == (
        State.PAUSED,
        Audience(basis_points=1250, by_user=True),
    )
    assert (second.state, second.audience) == (State.LIVE, Audience(basis_points=5))
    assert [package.withdrawn for package in found.apps[0].packages] == [False, True]
    assert found.workspace.check_after == 60
    assert lay_over(plan, []) == plan


@pytest.mark.parametrize(
    "strange",
    [override("state", "r", "away"), override("percent", "r", "x"), override("mood", "r", "good")],
)
def test_an_unknown_override_is_refused(strange: Override) -> None:
    """What no tidegate of this version writes is not guessed at."""
    plan = plan_of(app("id: r, package: 1, audience: everyone"))
    with pytest.raises(FormatError, match="not known to this tidegate"):
        lay_over(plan, [strange])


def test_one_value_has_one_override() -> None:
    """A later one takes the place of an earlier, whatever way the version is written."""
    found = put([override("withdrawn", "1.0", "true")], override("withdrawn", "1", "false"))
    assert found == [override("withdrawn", "1", "false")]
    assert place_of(found[0]) == place_of(override("withdrawn", "1.0.0", "x"))


R = "id: r, package: 1, audience: everyone"
PERCENT = "id: r, package: 1, audience: {percent: %s}"


@pytest.mark.parametrize(
    ("before", "after", "over", "fate"),
    [
        (R, R, override("state", "r", "paused"), "kept"),
        (R, f"{R}, state: paused", override("state", "r", "paused"), "agreed"),
        (R, f"{R}, state: ended", override("state", "r", "paused"), "contested"),
        (f"{R}, state: paused", R, override("state", "r", "live"), "agreed"),
        (R, "id: q, package: 1, audience: everyone", override("state", "r", "paused"), "kept"),
        ("id: q, package: 1, audience: everyone", R, override("state", "r", "paused"), "kept"),
        (PERCENT % 5, PERCENT % 5, override("percent", "r", "200"), "kept"),
        (PERCENT % 5, PERCENT % "2.00", override("percent", "r", "200"), "agreed"),
        (PERCENT % 5, PERCENT % 10, override("percent", "r", "200"), "contested"),
        (PERCENT % 5, R, override("percent", "r", "200"), "contested"),
        (R, R, override("percent", "r", "200"), "kept"),
        (R, R, override("percent", "r", "10000"), "agreed"),
        (
            PERCENT % "[{at: 2026-11-23T09:00:00Z, percent: 2}]",
            PERCENT % "[{at: 2026-11-23T09:00:00Z, percent: 3}]",
            override("percent", "r", "200"),
            "contested",
        ),
        (R, R, override("withdrawn", "2", "true"), "kept"),
        (R, R, override("withdrawn", "3", "true"), "kept"),
        (R, R, override("withdrawn", "2", "false"), "agreed"),
        (R, R, override("check_after", "", "60"), "kept"),
        (R, R, override("check_after", "", "1800"), "agreed"),
    ],
)
def test_what_a_plan_does_to_an_override(
    before: str, after: str, over: Override, fate: str
) -> None:
    """Kept, ended as the plan says the same, or contested, as it changes the very value."""
    found = settle(plan_of(app(before)), plan_of(app(after)), [over])
    assert [name for name in ("kept", "agreed", "contested") if getattr(found, name)] == [fate]


def test_to_take_the_plan_settles_just_that() -> None:
    """A contested value is taken alone; a pause beside it stays until it is meant itself."""
    over = [override("state", "r", "paused"), override("percent", "r", "200")]
    before, after = plan_of(app(PERCENT % 5)), plan_of(app(PERCENT % 10))
    for name in ("a/r", "a/r"):
        found = settle(before, after, over, [name])
        assert (found.taken, found.kept, found.contested) == ((over[1],), (over[0],), ())
    assert settle(after, after, over, ["a/r"]).taken == (*over,)
    assert settle(before, after, over, ["a/x"]).contested != ()


TEXT = """\
# the first line
app: a   # an id
name: 珈琲店
packages:
  - version: 1
    # kept for old phones
    download: wifi
  - {version: 2.0, info: {entry: "/日本.html"}}   # new
releases:
  - id: block   # why
    package: 1
    audience:
      lists: [staff]   # ours
      by: user
      percent:   # slowly
        - {at: 2026-11-23T09:00:00Z, percent: 1}
        - at: 2026-11-24T09:00:00Z
          percent: 10

    state: live
  - {id: flow, package: 2, audience: everyone}
"""
LISTS = "lists:\n  - {list: staff, of: user, regex: staff}\n"


@pytest.mark.parametrize(
    ("over", "old", "new"),
    [
        (override("state", "block", "paused"), "    state: live\n", "    state: paused\n"),
        (override("state", "flow", "ended"), "{id: flow, ", "{id: flow, state: ended, "),
        (
            override("percent", "flow", "1250"),
            "audience: everyone",
            "audience: {percent: 12.5}",
        ),
        (
            override("percent", "block", "500"),
            (
                "percent:   # slowly\n        - {at: 2026-11-23T09:00:00Z, percent: 1}\n"
                "        - at: 2026-11-24T09:00:00Z\n          percent: 10\n"
            ),
            "percent: 5   # slowly\n",
        ),
        (
            override("withdrawn", "1.0.0", "true"),
            "  - version: 1\n",
            "  - version: 1\n    withdrawn: true\n",
        ),
        (
            override("withdrawn", "2", "true"),
            "{version: 2.0, ",
            "{version: 2.0, withdrawn: true, ",
        ),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_an_override_is_written_into_the_text(
    over: Override, old: str, new: str, newline: str
) -> None:
    """Only the value changes, or comes behind the name; every comment and the order stay."""
    assert TEXT.count(old) == 1
    text = "\ufeff" + TEXT.replace("\n", newline)
    found = rewritten(text, over)
    assert found == "\ufeff" + TEXT.replace(old, new).replace("\n", newline)
    plan = plan_of(found, **{"lists.yaml": LISTS})
    assert said(plan, place_of(over)) == over["value"]


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("workspace: demo\ncheck_after: 1800 # s\n", "workspace: demo\ncheck_after: 60 # s\n"),
        ("cors: []\nworkspace: demo # w", "cors: []\nworkspace: demo # w\ncheck_after: 60\n"),
        (
            '{"workspace": "demo", "cors": []}',
            '{"workspace": "demo", "check_after": 60, "cors": []}',
        ),
    ],
)
def test_check_after_is_written_into_the_workspace(text: str, new: str) -> None:
    """Where it stands, or behind the workspace's name, also at the end of the file and in JSON."""
    assert rewritten(text, override("check_after", "", "60")) == new


def test_a_folded_id_has_what_is_written_behind_it() -> None:
    """A block scalar ends with its line; what is written in another way is left to people."""
    text = "app: a\nreleases:\n- id: >-\n    r\n  audience:\n    percent: 5\n  package: 1\n"
    found = rewritten(text, override("state", "r", "paused"))
    assert found == text.replace("    r\n", "    r\n  state: paused\n")
    asked = text.replace("id: >-\n    r", "? id\n  : r")
    assert rewritten(asked, override("state", "r", "paused")) is None


def test_json_stays_json() -> None:
    """What is written as JSON has quoted words afterwards, too."""
    text = (
        '{"app": "a", "packages": [{"version": "1"}], "releases": [{"id": "r", "state": "live"}]}'
    )
    found = rewritten(text, override("state", "r", "paused"))
    assert found == text.replace('"live"', '"paused"')
    assert rewritten(text, override("withdrawn", "1", "true")) == text.replace(
        '{"version": "1"}', '{"version": "1", "withdrawn": true}'
    )
    for absent in (override("state", "x", "paused"), override("withdrawn", "2", "true")):
        assert rewritten(text, absent) is None


HOSTS = {
    "one": '{version: 1, clients: {android: ">=9 <11", ios: ">=10"}}',
    "two": '{version: 2, clients: {android: ">=10", ios: ">=9"}}',
}


@pytest.mark.parametrize(
    ("packages", "releases", "lines"),
    [
        (HOSTS, [R], ["android >=11: ALL", "ios >=9 <10: ALL"]),
        (
            HOSTS,
            ["id: r, package: 1, audience: {percent: 5}"],
            [
                "android >=11: ALL",
                "ios >=9 <10: ALL",
                "android >=10 <11: only those whom r reaches get another version",
                "ios >=10: only those whom r reaches get another version",
            ],
        ),
        (HOSTS, [f"{R}, state: paused"], ["android >=10: ALL", "ios >=9: ALL"]),
        (HOSTS, [f"{R}, ends: 1970-01-01T00:00:09Z"], ["android >=10: ALL", "ios >=9: ALL"]),
        ({"one": HOSTS["one"], "two": "{version: 2}"}, [R], None),
        ({"one": "{version: 1}", "two": HOSTS["two"]}, [R], []),
        ({"one": "{version: 1}", "two": "{version: 2}"}, [], ["any host app not named here: ALL"]),
    ],
)
def test_whom_a_withdrawal_strands(
    packages: Mapping[str, str], releases: list[str], lines: list[str] | None
) -> None:
    """Every host-app range that ran version 2 and has no sure target is named, with why."""
    plan = plan_of(app(*releases, packages=", ".join(packages.values())))
    laid = lay_over(plan, [override("withdrawn", "2", "true")])
    found = [str(each) for each in strandings(laid, "a", parse_version("2"), 10)]
    everybody = "no release is left, so clients must stop opening the app"
    if lines is None:
        lines = [
            "android <9: ALL",
            "android >=11: ALL",
            "ios <10: ALL",
            "any host app not named here: ALL",
        ]
    assert found == [line.replace("ALL", everybody) for line in lines]
