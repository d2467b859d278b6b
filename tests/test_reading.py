"""Reading a plan: the one printed in the design, value by value; traps; folders; speed."""

import os
import shutil
import time
from pathlib import Path

import pytest

from compiler.diagnostic import Severity, render
from compiler.language.reading import Reading, read_files, read_folder
from compiler.plan import (
    App,
    Audience,
    CdnRule,
    Comparison,
    Condition,
    Form,
    ListSource,
    Operator,
    Package,
    PackageRecord,
    Plan,
    Release,
    State,
    Step,
    Switch,
    Targeting,
    Upgrade,
    Window,
    Workspace,
)
from gateway.version import parse_version

NOW = 1_790_000_000
DESIGN = Path(__file__).parent / "data" / "design_plan"
APP = "apps/coffee.yaml"
WINDOW = Window(10_000, 1_795_881_600)
SHA = "ab" * 32
PATH = f"files/ab/{SHA}.zip"


def key(text: str) -> tuple[object, ...]:
    """Give the key of a version that is one."""
    found = parse_version(text)
    assert found is not None
    return found


def design_plan(folder: Path) -> Path:
    """Copy the printed plan."""
    shutil.copytree(DESIGN, folder)
    return folder


def plan_of(reading: Reading) -> Plan:
    """Give the plan of a reading without errors."""
    assert reading.plan is not None, reading.diagnostics
    return reading.plan


def small(app: str = "", **files: str) -> Plan:
    """Read a plan of one app with `app` added to its only release's mapping."""
    text = "app: a\npackages: [{version: 1.0}]\nreleases:\n"
    text += f"  - {{id: r, package: 1.0, {app or 'audience: everyone'}}}\n"
    texts = {"workspace.yaml": "workspace: w\n", "apps/a.yaml": text}
    texts |= {f"{name}.yaml": content for name, content in files.items()}
    return plan_of(read_files(texts, now=NOW))


def test_the_printed_plan_as_printed() -> None:
    """Nothing of it is refused: it is valid as printed."""
    reading = read_folder(DESIGN, now=NOW)
    assert reading.plan is not None
    assert [
        (one.file, one.line, one.column, one.message.split(" comes")[0].split(" come")[0])
        for one in reading.diagnostics
        if one.severity is Severity.ERROR
    ] == []


def test_the_printed_plan_value_by_value(tmp_path: Path) -> None:
    """It says exactly this."""
    plan = plan_of(read_folder(design_plan(tmp_path / "plan"), now=NOW))
    assert plan.workspace == Workspace(
        "demo",
        1800,
        (
            CdnRule(
                ("CN-ZJ", "CN-SH"), ("https://cdn-east.example.com", "https://cdn.example.com")
            ),
            CdnRule(("*",), ("https://cdn.example.com",)),
        ),
    )
    old = Package(
        "1.0.0.1",
        key("1.0.0.1"),
        {
            "android": (Comparison(">=", "10.2.0"),),
            "ios": (Comparison(">=", "10.1.0"), Comparison("<", "11")),
        },
    )
    new = Package(
        "1.0.0.2",
        key("1.0.0.2"),
        {"android": (Comparison(">=", "10.2.0"),), "ios": (Comparison(">=", "10.1.0"),)},
        "wifi",
        "on_open",
        {"entry": "/index.html"},
        has_info=True,
    )
    conditions = (
        Condition("brand", Operator.IN, ("Xiaomi", "Redmi")),
        Condition("os_version", Operator.BETWEEN, ("12", "15.1")),
        Condition("region", Operator.NOT_IN, ("CN-XJ",)),
        Condition("network", Operator.IN, ("WIFI",)),
    )
    releases = (
        Release("staff", "1.0.0.2", Audience(("staff",)), upgrade=Upgrade.FORCE),
        Release("first-10k", "1.0.0.2", Audience(window=WINDOW), conditions),
        Release("ramp", "1.0.0.2", Audience(basis_points=1250), starts=1_795_395_600),
        Release("stable", "1.0.0.1", Audience()),
    )
    assert plan.apps == (App("2021000000000001", "Coffee", APP, (old, new), releases),)
    assert plan.lists == (
        ListSource("staff", "user", "lists/staff.csv", "employee_id"),
        ListSource("testers", "user", regex=("^qa-[0-9]+$",)),
    )
    condition = Condition("client_version", Operator.AT_LEAST, ("10.3",))
    row = Targeting("on", (), Audience(basis_points=2500), None, (condition,))
    assert plan.switches == (Switch("new-home", {"on": True, "off": False}, "off", True, (row,)),)
    names = {"workspace.yaml", APP, "rules.yaml", "lists.yaml", "switches.yaml"}
    assert set(plan.files) == names
    assert plan.files[APP] == (tmp_path / "plan" / APP).read_text()


def test_the_printed_plan_has_exactly_these_doubts(tmp_path: Path) -> None:
    """Nothing was uploaded yet, and nobody uses the testers."""
    found = read_folder(design_plan(tmp_path / "plan"), now=NOW).diagnostics
    assert [(one.file, one.line, one.message.split(". ")[0]) for one in found] == [
        (APP, 5, "1.0.0.1 is released but has no record, and a push needs it"),
        (APP, 7, "1.0.0.2 is released but has no record, and a push needs it"),
        ("lists.yaml", 4, 'Nothing uses the list "testers"'),
    ]


def test_files_in_any_order_give_one_plan(tmp_path: Path) -> None:
    """The order of files and of mapping keys never matters; apps and lists are sorted."""
    texts = dict(plan_of(read_folder(design_plan(tmp_path / "plan"), now=NOW)).files)
    texts["apps/a.yaml"] = "name: B\napp: b\n"
    texts["apps/b.yaml"] = "app: a\nname: A\n"
    one = plan_of(read_files(texts, now=NOW))
    texts["apps/a.yaml"] = "app: b\nname: B\n"
    other = plan_of(read_files(dict(reversed(texts.items())), now=NOW))
    assert one == other
    assert [app.id for app in one.apps] == ["2021000000000001", "a", "b"]


@pytest.mark.parametrize("text", ["on", "no", "1.10", "0012", "2021000000000001", "null", "1e3"])
@pytest.mark.parametrize("quotes", ["{}", "'{}'", '"{}"'])
def test_ids_and_operands_mean_what_they_look_like(text: str, quotes: str) -> None:
    """An id, a name, a brand or a rule called `on`, `1.10` or `0012` is just that text."""
    written = quotes.format(text)
    plan = plan_of(
        read_files(
            {
                "workspace.yaml": f"workspace: {written}\nplaceholders: [{written}]\n",
                "apps/a.yaml": f"app: {written}\nname: {written}\npackages: [{{version: 1.0}}]\n"
                f"releases:\n  - id: {written}\n    package: '1.0'\n    audience: everyone\n"
                f"    when: [{written}, {{attribute: brand, in: {written}}}]\n",
                "rules.yaml": f"rules:\n  {written}: [{{attribute: model, matches: {written}}}]\n",
            },
            now=NOW,
        )
    )
    assert (plan.workspace.name, plan.workspace.placeholders) == (text, (text,))
    assert (plan.apps[0].id, plan.apps[0].name, plan.apps[0].releases[0].id) == (text,) * 3
    assert plan.apps[0].releases[0].conditions == (
        Condition("model", Operator.MATCHES, (text,)),
        Condition("brand", Operator.IN, (text,)),
    )


def test_versions_are_no_numbers() -> None:
    """`1.10` is above `1.9`, and a release may write `1.0` for the package `1.0.0.0`."""
    text = "app: a\npackages: [{version: 1.9}, {version: 1.10}, {version: 1.0.0.0}]\nreleases:\n"
    text += "  - {id: r, package: 1.0, audience: everyone}\n"
    plan = plan_of(read_files({"workspace.yaml": "workspace: w", "apps/a.yaml": text}, now=NOW))
    nine, ten, _ = plan.apps[0].packages
    assert (nine.version, ten.version) == ("1.9", "1.10")
    assert ten.key > nine.key
    assert plan.apps[0].releases[0].package == "1.0.0.0"


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("0", 0),
        ("0.01", 1),
        ("12.5", 1250),
        ("12.50", 1250),
        ("'33.33'", 3333),
        ("0.29", 29),
        ("16.08", 1608),
        ("057", 5700),
        ("100", 10_000),
        ("100.00", 10_000),
    ],
)
def test_percentages_are_exact(text: str, points: int) -> None:
    """0.29 and 16.08 are no binary fractions, and still 29 and 1608 steps of 0.01."""
    plan = small(f"audience: {{percent: {text}}}")
    assert plan.apps[0].releases[0].audience == Audience(basis_points=points)


def test_a_percentage_may_rise_by_itself() -> None:
    """A ramp's steps are seconds with basis points, in the order of time."""
    steps = "{at: 2026-11-23T09:00:00+08:00, percent: 1}, {at: 2026-11-23T01:00:01Z, percent: 12.5}"
    plan = small(f"audience: {{percent: [{steps}], by: user}}")
    ramp = (Step(1_795_395_600, 100), Step(1_795_395_601, 1250))
    assert plan.apps[0].releases[0].audience == Audience(by_user=True, ramp=ramp)


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ("[]", "This list is empty. Write steps such as {at: 2026"),
        ("[5]", "This is one value, where a step of a percentage is a mapping"),
        ("[{percent: 1}]", 'needs the key "at". Add "at: 2026-11-23T09:00:00+08:00"'),
        ("[{at: 2026-11-23, percent: 1}]", "does not say in which time zone"),
        (
            "[{at: 2026-11-23T09:00:00Z, percent: 1}, {at: 2026-11-23T09:00:00Z, percent: 2}]",
            "This step is not after the one before it. Write a later time.",
        ),
        (
            "[{at: 2026-11-23T09:00:00Z, percent: 2}, {at: 2026-11-23T09:00:01Z, percent: 1.5}]",
            "This step lowers the percentage to 1.5: some subjects are no longer reached",
        ),
        (str([{"at": "2026-11-23T09:00:00Z", "percent": 1}] * 51), "This list has 51 items"),
    ],
)
def test_a_ramp_says_what_is_wrong(steps: str, sentence: str) -> None:
    """Every fault of a ramp is told with its mend."""
    app = f"releases: [{{id: r, package: 1.0, audience: {{percent: {steps}}}}}]\n"
    text = "app: a\npackages: [{version: 1.0}]\n" + app
    found = read_files({"workspace.yaml": "workspace: w\n", "apps/a.yaml": text}, now=NOW)
    assert sentence in "\n".join(each.message for each in found.diagnostics)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-29T00:00:00+08:00", 1_795_881_600),
        ("'2026-11-28T16:00:00Z'", 1_795_881_600),
        ("2026-11-28t11:00:00-05:00", 1_795_881_600),
        ("2026-11-28 16:00:00z", 1_795_881_600),
        ("1969-12-31T23:59:59Z", -1),
    ],
)
def test_times_are_unix_seconds(text: str, seconds: int) -> None:
    """One moment may be written in any zone."""
    assert small(f"audience: everyone, starts: {text}").apps[0].releases[0].starts == seconds


def test_custom_operands_follow_the_core_schema() -> None:
    """Numbers, truth values and text on custom attributes are what YAML 1.2 says they are."""
    plan = small(
        "audience: everyone, when: [{attribute: custom.a, in: [1, 0x10, 1.50, true, yes, '1', on]},"
        " {attribute: custom.a, between: [-1, 2.5]}, {attribute: custom.a, at_least: 18},"
        " {attribute: custom.a, matches: 12}]"
    )
    operands = [one.operands for one in plan.apps[0].releases[0].conditions]
    assert operands == [(1, 16, 1.5, True, "yes", "1", "on"), (-1, 2.5), (18,), ("12",)]
    assert [type(one) for one in operands[0]] == [int, int, float, bool, str, str, str]


def test_everything_a_release_may_say() -> None:
    """All keys of releases and audiences arrive."""
    plan = small(
        "audience: {lists: [a, b], not_lists: c, percent: 5, by: user, first: 7, "
        "until: 2026-02-01T00:00:00Z, pace: linear}, upgrade: prompt, "
        "state: paused, starts: 2026-01-01T00:00:00Z, ends: 2027-01-01T00:00:00Z",
        lists="lists:\n  - {list: c, of: device, stored: true}\n  - {list: b, of: user, "
        "regex: a+}\n  - {list: a, of: user, file: x.txt}\n",
    )
    release = Release(
        "r",
        "1.0",
        Audience(("a", "b"), ("c",), 500, True, window=Window(7, 1_769_904_000, linear=True)),
        (),
        Upgrade.PROMPT,
        State.PAUSED,
        1_767_225_600,
        1_798_761_600,
    )
    assert plan.apps[0].releases == (release,)
    assert plan.lists == (
        ListSource("a", "user", "x.txt"),
        ListSource("b", "user", regex=("a+",)),
        ListSource("c", "device", stored=True),
    )


def test_everything_a_workspace_may_say() -> None:
    """Bases lose a trailing slash; lists replace their defaults."""
    text = "workspace: w\ncheck_after: 0\nplaceholders: []\ncors: ['*', https://a.example:8443]\n"
    text += "cdn: [{regions: '*', bases: [http://127.0.0.1:8090/, 'https://[::1]/a/b/']}]\n"
    plan = plan_of(read_files({"workspace.yaml": text}, now=NOW))
    bases = ("http://127.0.0.1:8090", "https://[::1]/a/b")
    assert plan.workspace == Workspace(
        "w", 0, (CdnRule(("*",), bases),), (), ("*", "https://a.example:8443")
    )


def test_info_may_be_null() -> None:
    """`info: null` is handed to the client as null; without `info` nothing is."""
    text = "app: a\npackages: [{version: 1, info: null}, {version: 2, info: }, {version: 3}]\n"
    plan = plan_of(read_files({"workspace.yaml": "workspace: w", "apps/a.yaml": text}, now=NOW))
    assert [(one.info, one.has_info) for one in plan.apps[0].packages] == [
        (None, True),
        (None, True),
        (None, False),
    ]


def _record(clients: str = "") -> str:
    form = f'{{"compression": "identity", "size": 9, "sha256": "{SHA}", "path": "{PATH}"}}'
    packed = form.replace("identity", "zstd").replace("9", "5").replace(".zip", ".zip.zst")
    return (
        f'{{"format": 1, "size": 9, "sha256": "{SHA}", "forms": [{form}, {packed}], '
        f'"signatures": ["{"x" * 2000}"]{clients}}}'
    )


def test_records_join_their_packages() -> None:
    """A record is found by its version, however that is spelled, and carries the signed range."""
    texts = {
        "workspace.yaml": "workspace: w",
        "apps/a.yaml": "app: a\npackages: [{version: 1.0}, {version: 2}, {version: 3, "
        "clients: {IOS: '>=1.5'}}]\n",
        "packages/a/1.0.0.json": _record(),
        "packages/a/2.json": _record(', "clients": {"ios": ">=1"}'),
        "packages/a/3.json": _record(', "clients": {"ios": ">=1", "android": ">=2"}'),
    }
    packages = plan_of(read_files(texts, now=NOW)).apps[0].packages
    forms = (Form("identity", 9, SHA, PATH), Form("zstd", 5, SHA, f"{PATH}.zst"))
    assert packages[0].record == PackageRecord(9, SHA, forms, ("x" * 2000,))
    assert [one.clients for one in packages] == [
        None,
        {"ios": (Comparison(">=", "1"),)},
        {"ios": (Comparison(">=", "1.5"),)},
    ]


def test_a_folder_without_a_plan(tmp_path: Path) -> None:
    """No folder, a file, and an empty folder: each says what is missing and how to start."""
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name in ("absent", "file", "empty"):
        reading = read_folder(tmp_path / name, now=NOW)
        assert reading.plan is None
        assert len(reading.diagnostics) == 1
        assert "tidegate init" in reading.diagnostics[0].message


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """Hidden files, lists and documents are no plan files; what looks like one is named."""
    folder = design_plan(tmp_path / "plan")
    quiet = len(read_folder(folder, now=NOW).diagnostics)
    (folder / ".ci.yaml").write_text("[")
    (folder / "README.md").write_text("[")
    (folder / "lists" / "more.yaml").write_text("[")
    (folder / "packages").mkdir()
    (folder / "packages" / "notes.txt").write_text("[")
    assert len(read_folder(folder, now=NOW).diagnostics) == quiet
    (folder / "rule.yaml").write_text("")
    (folder / "mkdocs.yaml").write_text("")
    (folder / "apps" / "tea.yml").write_text("")
    (folder / "apps" / "hot").mkdir()
    (folder / "apps" / "hot" / "tea.yaml").write_text("")
    (folder / "apps" / "folder.yaml").mkdir()
    found = read_folder(folder, now=NOW).diagnostics
    assert [(one.file, one.severity) for one in found if one.line == 0] == [
        ("apps/folder.yaml", "error"),
        ("apps/hot/tea.yaml", "error"),
        ("apps/tea.yml", "error"),
        ("mkdocs.yaml", "warning"),
        ("rule.yaml", "error"),
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A dangling link, a pipe, bytes that are no UTF-8: each is named, and nothing hangs."""
    folder = design_plan(tmp_path / "plan")
    (folder / "apps" / "a.yaml").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "apps" / "b.yaml")
    (folder / "apps" / "c.yaml").write_bytes(b"app: \xff\n")
    (folder / "apps" / "loop.yaml").symlink_to(folder / "apps" / "loop.yaml")
    (folder / "apps" / os.fsdecode(b"\xff.yaml")).touch()
    reading = read_folder(folder, now=NOW)
    assert [(one.file, one.line) for one in reading.diagnostics if one.severity == "error"] == [
        ("apps", 0),
        ("apps/a.yaml", 0),
        ("apps/b.yaml", 0),
        ("apps/c.yaml", 1),
        ("apps/loop.yaml", 0),
    ]
    assert reading.sources["apps/c.yaml"] == "app: \ufffd\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission(tmp_path: Path) -> None:
    """What the user may not read is named."""
    folder = design_plan(tmp_path / "plan")
    (folder / APP).chmod(0)
    reading = read_folder(folder, now=NOW)
    assert "Permission denied" in reading.diagnostics[0].message


def test_the_files_of_lists_must_be_there(tmp_path: Path) -> None:
    """A missing file, a folder, or a link that leads out is an error at its name."""
    folder = design_plan(tmp_path / "plan")
    staff = folder / "lists" / "staff.csv"
    staff.unlink()
    outside = tmp_path / "ids.csv"
    for make, part in (
        (lambda: None, "There is no file"),
        (staff.mkdir, "There is no file"),
        (lambda: (staff.rmdir(), staff.symlink_to(outside)), "There is no file"),
        (outside.touch, "leads out of the plan's folder"),
    ):
        make()
        reading = read_folder(folder, now=NOW)
        errors = [one for one in reading.diagnostics if one.severity == "error"]
        assert [(one.file, one.line, one.column) for one in errors] == [("lists.yaml", 3, 35)]
        assert part in errors[0].message
    assert read_files(plan_texts(folder), now=NOW).plan is not None


def plan_texts(folder: Path) -> dict[str, str]:
    """Give the plan's texts, as an epoch carries them."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.yaml")
    }


def test_a_file_that_is_none_of_a_plan(tmp_path: Path) -> None:
    """A name that was surely mistyped is an error; any other file is a warning only."""
    folder = design_plan(tmp_path / "plan")
    for name in ("other.yaml", "docker-compose.yaml", "mkdocs.yml"):
        (folder / name).write_text("x: 1\n")
    assert plan_of(read_folder(folder, now=NOW))
    for name, meant in (("rule.yaml", "rules.yaml"), ("workspace.yml", "workspace.yaml")):
        (folder / name).write_text("x: 1\n")
        found = {one.file: one.message for one in read_folder(folder, now=NOW).diagnostics}
        assert found[name] == f"This file is not read. Rename it to {meant}, or move it away."


def test_a_line_is_shown_as_lines_are_counted() -> None:
    """What some programs take for the end of a line, as U+2028, does not move the caret's line."""
    reading = read_files({"workspace.yaml": "a: \u2028\nb: 1\r\nc: \u2028\n"}, now=NOW)
    said = render(reading.diagnostics, reading.sources)
    assert "workspace.yaml:3:4: error: The character U+2028" in said
    assert "\n  3 | c: \N{REPLACEMENT CHARACTER}\n    |    ^" in said


def test_a_thousand_apps_are_read_in_seconds(tmp_path: Path) -> None:
    """10,000 apps take tens of seconds at worst: 200 of them, measured at 0.4 s, under 4 s."""
    folder = design_plan(tmp_path / "plan")
    text = (folder / APP).read_text()
    for number in range(200):
        app = text.replace("2021000000000001", str(2021000000000002 + number))
        (folder / "apps" / f"app-{number}.yaml").write_text(app)
    began = time.process_time()
    assert len(plan_of(read_folder(folder, now=NOW)).apps) == 201
    assert time.process_time() - began < 4
