"""Doubts: each warns of what it is about, and keeps quiet about what is merely similar."""

import pytest

from compiler.diagnostic import Severity
from compiler.language.conditions import CONDITION
from compiler.language.doubts import contradiction
from compiler.language.faults import Faults
from compiler.language.reading import read_files
from compiler.language.tree import parse
from compiler.plan import Condition

NOW = 1_790_000_000  # 2026-09-21
APP = "apps/a.yaml"
BASE = {
    "workspace.yaml": "workspace: w\n",
    "lists.yaml": "lists:\n  - {list: l, of: user, stored: true}\n"
    "  - {list: m, of: user, stored: true}\n",
    "rules.yaml": "rules:\n  wifi: [{attribute: network, in: [WIFI]}]\n",
}
# Uses both lists and the rule, and never holds for what the cases are about.
USES = "{id: zz, package: 9, audience: {lists: l, not_lists: m}, when: [wifi], state: paused}"
IGNORED = ("has no record", "No release offers 9")


def doubts(packages: list[str], releases: list[str], **files: str) -> list[str]:
    """Give the warnings of an app: `4:place` and the first sentence, in the order of the file."""
    text = "app: a\npackages:\n"
    text += "".join(f"  - {{version: {package}}}\n" for package in [*packages, "9"])
    text += "releases:\n" + "".join(f"  - {{id: {one}}}\n" for one in releases) + f"  - {USES}\n"
    texts = {**BASE, APP: text, **{f"{name}.yaml": one for name, one in files.items()}}
    reading = read_files(texts, now=NOW)
    assert [one for one in reading.diagnostics if one.severity is Severity.ERROR] == []
    found = [one.message for one in reading.diagnostics]
    return [one.split(". ")[0] for one in found if not any(part in one for part in IGNORED)]


ALL = "package: 1, audience: everyone"


@pytest.mark.parametrize(
    ("packages", "releases", "shadowed"),
    [
        # A higher version for everyone hides a lower one, whatever the lower one says.
        (["1", "2"], ["b, package: 2, audience: everyone", f"a, {ALL}, upgrade: force"], "a"),
        (["1", "2"], [f"b, {ALL}", "c, package: 2, audience: {percent: 100}"], "b"),
        # Among releases of one package the stronger upgrade, then the smaller id.
        (["1"], [f"a, {ALL}", f"b, {ALL}, upgrade: force"], "a"),
        (["1"], [f"a, {ALL}", "b, package: 1, audience: {percent: 5}"], "b"),
        (["1"], [f"b, {ALL}", "a, package: 1, audience: {percent: 5}"], ""),
        # Subsets of audiences.
        (
            ["1"],
            ["a, package: 1, audience: {lists: [l, m]}", "b, package: 1, audience: {lists: l}"],
            "b",
        ),
        (
            ["1"],
            ["a, package: 1, audience: {lists: l}", "b, package: 1, audience: {lists: [l, m]}"],
            "",
        ),
        (["1"], ["a, package: 1, audience: {lists: l}", f"b, {ALL}"], ""),
        (["1"], ["a, package: 1, audience: {not_lists: l}", f"b, {ALL}"], ""),
        (
            ["1"],
            [
                "a, package: 1, audience: {not_lists: l}",
                "b, package: 1, audience: {not_lists: [m, l]}",
            ],
            "b",
        ),
        (
            ["1"],
            ["a, package: 1, audience: {percent: 50}", "b, package: 1, audience: {percent: 20}"],
            "",
        ),
        # Conditions: the winner's must all be among the other's.
        (["1"], [f"a, {ALL}, when: [wifi]", f"b, {ALL}"], ""),
        (
            ["1"],
            [f"a, {ALL}, when: [{{attribute: network, in: wifi}}]", f"b, {ALL}, when: [wifi]"],
            "b",
        ),
        (
            ["1"],
            [f"a, {ALL}, when: [wifi]", f"b, {ALL}, when: [wifi, {{attribute: city, in: X}}]"],
            "b",
        ),
        # Times: the winner must be active whenever the other still can be.
        (["1"], [f"a, {ALL}, starts: 2026-12-01T00:00:00Z", f"b, {ALL}"], ""),
        (["1"], [f"a, {ALL}, starts: 2026-01-01T00:00:00Z", f"b, {ALL}"], "b"),
        (["1"], [f"a, {ALL}, ends: 2026-12-01T00:00:00Z", f"b, {ALL}"], ""),
        (
            ["1"],
            [f"a, {ALL}, ends: 2026-12-01T00:00:00Z", f"b, {ALL}, ends: 2026-11-30T00:00:00Z"],
            "b",
        ),
        (
            ["1"],
            [f"a, {ALL}, starts: 2026-11-01T00:00:00Z", f"b, {ALL}, starts: 2026-12-01T00:00:00Z"],
            "b",
        ),
        # States and withdrawals.
        (["1"], [f"a, {ALL}, state: paused", f"b, {ALL}"], ""),
        (["1"], [f"a, {ALL}", f"b, {ALL}, state: ended"], ""),
        # Hosts: the winner's package must serve all that the other's does.
        (["1", "2, clients: {ios: '>=1'}"], [f"a, {ALL}", "b, package: 2, audience: everyone"], ""),
        (
            ["1, clients: {IOS: '>=2'}", "2, clients: {ios: '>=1', android: '>=1'}"],
            [f"a, {ALL}", "b, package: 2, audience: everyone"],
            "a",
        ),
        (
            ["1, clients: {ios: '>=1', android: '>=1'}", "2, clients: {ios: '>=1', android: '>1'}"],
            [f"a, {ALL}", "b, package: 2, audience: everyone"],
            "",
        ),
    ],
)
def test_a_release_that_never_wins(packages: list[str], releases: list[str], shadowed: str) -> None:
    """It is named when one other release provably hides it, and only then."""
    found = [one for one in doubts(packages, releases) if "is never offered" in one]
    assert [one.split('"')[1] for one in found] == ([shadowed] if shadowed else [])


@pytest.mark.parametrize(
    ("packages", "releases", "stranded"),
    [
        (["1, withdrawn: true"], [], "a host app"),
        (["1, withdrawn: true", "2"], ["a, package: 2, audience: {percent: 1}"], ""),
        (
            ["1, withdrawn: true", "2"],
            ["a, package: 2, audience: everyone, state: paused"],
            "a host app",
        ),
        (
            ["1, withdrawn: true", "2"],
            ["a, package: 2, audience: everyone, ends: 2026-01-01T00:00:00Z"],
            "a host app",
        ),
        (
            ["1, withdrawn: true", "2, withdrawn: true"],
            ["a, package: 2, audience: everyone"],
            "a host app",
        ),
        (
            ["1, withdrawn: true", "2, clients: {ios: '>=1'}"],
            ["a, package: 2, audience: everyone"],
            "a host app that no other package names",
        ),
        (
            [
                "1, withdrawn: true, clients: {ios: '>=10.1', android: '>=10'}",
                "2, clients: {ios: '>=10.5'}",
            ],
            ["a, package: 2, audience: everyone"],
            "android >=10",
        ),
        (
            ["1, withdrawn: true, clients: {ios: '>=10.1'}", "2, clients: {ios: '>=10.5'}"],
            ["a, package: 2, audience: everyone"],
            "ios >=10.1 <10.5",
        ),
        (
            [
                "1, withdrawn: true, clients: {ios: '>=10.1 <12'}",
                "2, clients: {ios: '>=10.5'}",
                "3, clients: {ios: '>9 <10.5'}",
            ],
            ["a, package: 2, audience: everyone", "b, package: 3, audience: {lists: l}"],
            "",
        ),
    ],
)
def test_a_withdrawal_that_strands_hosts(
    packages: list[str], releases: list[str], stranded: str
) -> None:
    """The first hosts left without any package are named, as a range where it is one."""
    found = [one for one in doubts(packages, releases) if "is withdrawn, and" in one]
    start = f"1 is withdrawn, and {stranded} then has no package at all"
    assert [one.startswith(start) for one in found if one.startswith("1 ")] == [True] * bool(
        stranded
    )


@pytest.mark.parametrize(
    ("release", "found"),
    [
        (ALL, []),
        (f"{ALL}, ends: 2026-09-21T14:13:20Z", ['Release "r" is over already']),
        (f"{ALL}, ends: 2026-09-21T14:13:21Z", []),
        (f"{ALL}, ends: 2026-01-01T00:00:00Z, state: ended", []),
        ("package: 1, audience: {percent: 0}", ["0 percent reaches nobody"]),
        ("package: 1, audience: {percent: 0}, state: paused", []),
        ("package: 1, audience: {percent: 0.01}", []),
        (
            "package: 1, audience: {lists: l, by: user}",
            ["Without percent or first, by changes nothing"],
        ),
        ("package: 1, audience: {first: 9, until: 2036-11-28T00:00:00Z, by: user}", []),
        (
            "package: 1, audience: {first: 9, until: 2016-11-28T00:00:00Z}",
            ['The window of "r" is over: nobody else gets a seat, and who has one keeps it'],
        ),
        ("package: 1, audience: {percent: 1, by: user}", []),
        (
            "package: 1, audience: {lists: l, not_lists: [l, m]}",
            ['"l" is in not_lists too, so this audience can never hold'],
        ),
        (
            "package: 1, audience: {lists: [l, m], not_lists: l}",
            ['"l" is in not_lists too, so naming it in lists has no effect'],
        ),
        ("package: 1, audience: {lists: [l, l]}", ['"l" stands here twice']),
        (
            f"{ALL}, when: [{{attribute: brand, in: [Mi, MI]}}]",
            ['"MI" equals "Mi", which is in this condition already'],
        ),
        (
            f"{ALL}, when: [{{attribute: installed, in: [1.0, 1.0.0]}}]",
            ['"1.0.0" equals "1.0", which is in this condition already'],
        ),
        (f"{ALL}, when: [{{attribute: brand, in: [1.0, 1.0.0]}}]", []),
        (f"{ALL}, when: [{{attribute: custom.a, in: [1, true, '1']}}]", []),
        (
            f"{ALL}, when: [{{attribute: custom.a, in: [1, 1.0]}}]",
            ['"1.0" equals "1", which is in this condition already'],
        ),
        (
            f"{ALL}, when: [{{attribute: network, in: 4G}}, wifi]",
            ['Release "r" can never hold: no network meets all of its conditions'],
        ),
        (f"{ALL}, when: [{{attribute: network, in: [4G, wifi]}}, wifi]", []),
    ],
)
def test_doubts_about_one_release(release: str, found: list[str]) -> None:
    """Each is about exactly this, and what is merely similar is not doubted."""
    assert doubts(["1"], [f"r, {release}"]) == found


@pytest.mark.parametrize(
    ("conditions", "attribute"),
    [
        (
            "{attribute: os_version, at_least: 12}, {attribute: os_version, below: 12.0}",
            "os_version",
        ),
        ("{attribute: os_version, at_least: 12}, {attribute: os_version, below: 12.1}", None),
        (
            "{attribute: os_version, between: [1, 2]}, {attribute: os_version, at_least: 2.0.0}",
            None,
        ),
        (
            "{attribute: os_version, between: [1, 2]}, {attribute: os_version, in: [3, 2.1]}",
            "os_version",
        ),
        ("{attribute: os_version, between: [1, 2]}, {attribute: os_version, in: [3, 1.9]}", None),
        ("{attribute: brand, in: [a, b]}, {attribute: brand, not_in: [B, A, c]}", "brand"),
        ("{attribute: brand, not_in: [A]}, {attribute: brand, in: [a, b]}", None),
        ("{attribute: brand, in: [a]}, {attribute: brand, matches: b*}", None),
        ("{attribute: custom.n, at_least: 18}, {attribute: custom.n, in: [17, '18']}", "custom.n"),
        ("{attribute: custom.n, at_least: 18}, {attribute: custom.n, in: [18]}", None),
        ("{attribute: city, in: [a]}, {attribute: region, in: [b]}", None),
    ],
)
def test_conditions_that_contradict(conditions: str, attribute: str | None) -> None:
    """A contradiction is named by its attribute; what some value meets is none."""
    node = parse("a.yaml", f"[{conditions}]", Faults())
    assert node is not None
    read = [CONDITION.read(one, Faults()) for one in node.items]
    assert contradiction([one for one in read if isinstance(one, Condition)]) == attribute


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            {"lists": BASE["lists.yaml"] + "  - {list: n, of: user, stored: true}\n"},
            ['Nothing uses the list "n"'],
        ),
        (
            {"rules": BASE["rules.yaml"] + "  x: [{attribute: brand, in: a}]\n"},
            ['Nothing uses the rule "x"'],
        ),
        (
            {"workspace": "workspace: w\ncdn: [{regions: CN, bases: http://a}]\n"},
            ["Clients of other regions, or without one, get no URL"],
        ),
        ({"workspace": "workspace: w\ncdn: [{regions: [CN, '*'], bases: http://a}]\n"}, []),
        (
            {
                "workspace": "workspace: w\ncdn: [{regions: '*', bases: http://a}, "
                "{regions: CN, bases: http://a}]\n"
            },
            ['The entry on line 2 with "*" fits first, so this one is never used'],
        ),
        ({"workspace": "workspace: w\ncdn: []\n"}, []),
    ],
)
def test_doubts_about_other_files(files: dict[str, str], found: list[str]) -> None:
    """What nothing uses, and regions without a base, are doubted."""
    assert doubts(["1"], [f"r, {ALL}"], **files) == found


def test_doubts_about_packages() -> None:
    """A package that no release names, one without a record, a range that nothing meets."""
    text = "app: a\npackages:\n  - version: 1\n  - {version: 2, withdrawn: true}\n"
    text += "  - {version: 3, clients: {ios: '>=11 <10', android: '=10'}}\n"
    text += "  - version: 4\nreleases:\n"
    text += "  - {id: r, package: 3, audience: everyone}\n"
    text += "  - {id: s, package: 4, audience: everyone, state: ended}\n"
    sha = "ab" * 32
    place = f"files/{sha[:2]}/{sha}.zip"
    form = f'{{"compression": "identity", "size": 1, "sha256": "{sha}", "path": "{place}"}}'
    record = f'{{"format": 1, "size": 1, "sha256": "{sha}", "forms": [{form}]}}'
    texts = {"workspace.yaml": "workspace: w\n", APP: text, "packages/a/5.json": record}
    found = read_files(texts, now=NOW).diagnostics
    stranded = "a host app that no other package names then has no package at all"
    assert [(one.file, one.line, one.column, one.message.split(". ")[0]) for one in found] == [
        (APP, 3, 14, "No release offers 1"),
        (APP, 4, 15, f"2 is withdrawn, and {stranded}: such a client must stop opening the app"),
        (APP, 5, 15, "3 is released but has no record, and a push needs it"),
        (APP, 5, 33, "No version meets all of these comparisons, so this serves nobody"),
        ("packages/a/5.json", 0, 0, 'No app file names version 5 of app "a"'),
    ]
    texts["packages/a/3.json"] = record
    assert "no record" not in str(read_files(texts, now=NOW).diagnostics)


def test_a_plan_without_apps() -> None:
    """A workspace alone is legal and surely unfinished."""
    reading = read_files({"workspace.yaml": "workspace: w\n"}, now=NOW)
    assert reading.plan is not None
    assert [one.message for one in reading.diagnostics] == [
        "This plan has no app. Add a file such as apps/coffee.yaml."
    ]


def test_doubts_wait_for_errors_that_may_cause_them() -> None:
    """While a release is broken, its list is not called unused, nor its package unoffered."""
    text = "app: a\npackages: [{version: 1}]\n"
    text += "releases: [{id: r, pakage: 1, audience: {list: l, not_lists: m}, when: [wifi]}]\n"
    found = read_files({**BASE, APP: text}, now=NOW).diagnostics
    assert {one.severity for one in found} == {Severity.ERROR}
