"""What two epochs, or an epoch and an image, have different: pure, from blobs alone."""

import dataclasses
import json
from collections.abc import Callable

from compiler.image import Image
from compiler.publication.change import Kind
from compiler.publication.difference import Difference, Side, compare_sides, shown, summary
from publishing import COFFEE, image_of, record, withdrawal

PLAN = {
    "workspace.yaml": "workspace: demo\n",
    "rules.yaml": "rules:\n  wifi: [{attribute: network, in: [WIFI]}]\n",
    "lists.yaml": "lists:\n  - {list: staff, of: user, file: lists/staff.csv}\n"
    '  - {list: testers, of: user, regex: ["^qa-"]}\n',
    "apps/coffee.yaml": f"""app: {COFFEE}
name: Coffee
packages:
  - version: 1.0
    clients: {{android: ">=10.2"}}
  - version: 1.1
releases:
  - {{id: staff, package: 1.1, audience: {{lists: [staff, testers]}}}}
  - {{id: ramp, package: 1.1, audience: {{percent: 12.5}}, when: [wifi]}}
  - {{id: stable, package: 1.0, audience: everyone}}
""",
    "apps/tea.yaml": "app: tea\npackages:\n  - version: 2.0\n"
    "releases:\n  - {id: all, package: 2.0, audience: everyone}\n",
    **record("1.0"),
    **record("1.1"),
    **record("2.0", app="tea"),
}
IDS = {"staff": [f"u{at}" for at in range(10)]}


def side(image: Image, seen: list[bytes] | None = None) -> Side:
    """Give an image as one of the two; `seen` gathers the digests that are read."""

    def blob(digest: bytes) -> bytes:
        if seen is not None:
            seen.append(digest)
        return image.blobs[digest]

    return Side(image.contents, image.tree, blob)


def difference(
    changes: dict[str, Callable[[str], str]], ids: dict[str, list[str]] | None = None
) -> Difference:
    """Change files of the plan by name and compare."""
    files = PLAN | {name: change(PLAN.get(name, "")) for name, change in changes.items()}
    files = {name: text for name, text in files.items() if text}
    return compare_sides(side(image_of(PLAN, IDS)), side(image_of(files, ids or IDS)))


def test_equal_contents_have_no_difference() -> None:
    """Nothing differs, and nothing is read to find that out."""
    seen: list[bytes] = []
    found = compare_sides(side(image_of(PLAN, IDS), seen), side(image_of(PLAN, IDS), seen))
    assert not found
    assert shown(found) == summary(found) == "nothing differs"
    assert not seen


def test_a_release_that_changed_says_from_what_to_what() -> None:
    """Percent, package and schedule are told as old and new."""
    found = difference(
        {
            "apps/coffee.yaml": lambda text: text.replace(
                "percent: 12.5}",
                "percent: 25}, starts: 2027-01-01T00:00:00Z",
            ).replace("stable, package: 1.0", "stable, package: 1.1")
        }
    )
    assert shown(found).splitlines() == [
        f"~ app {COFFEE} (Coffee)",
        "    ~ release ramp: audience 12.5 % → 25 %; starts none → 2027-01-01 00:00:00 UTC",
        "    ~ release stable: package 1.0 → 1.1",
    ]
    assert summary(found) == "~Coffee: ~release ramp, ~release stable"


def test_another_signed_range_is_told() -> None:
    """What had no range served every host app, and says so."""
    found = difference(
        {"apps/coffee.yaml": lambda text: text.replace("1.1\n", '1.1\n    clients: {ios: ">=9"}\n')}
    )
    assert "package 1.1: clients every host app → ios >=9" in shown(found)


def test_what_came_and_went_is_told() -> None:
    """Added and removed releases and packages, with what an added one is."""
    found = difference(
        {
            "apps/coffee.yaml": lambda text: (
                text.replace("  - version: 1.1\n", "")
                .replace(
                    "  - {id: ramp, package: 1.1, audience: {percent: 12.5}, when: [wifi]}\n", ""
                )
                .replace("staff, package: 1.1", "staff, package: 1.2")
                .replace("releases:", "  - {version: 1.2, download: wifi}\nreleases:")
            ),
            **{name: lambda _, text=text: text for name, text in record("1.2").items()},
            f"packages/{COFFEE}/1.1.json": lambda _: "",
        }
    )
    lines = shown(found).splitlines()
    assert "    - package 1.1" in lines
    assert any(
        line.startswith("    + package 1.2: download wifi; install on_open") for line in lines
    )
    assert "    - release ramp" in lines
    assert "    ~ release staff: package 1.1 → 1.2" in lines


def test_apps_that_came_and_went() -> None:
    """A removed app is one line, an added one says what it has."""
    found = difference(
        {
            "apps/tea.yaml": lambda _: "",
            "packages/tea/2.0.json": lambda _: "",
            "apps/milk.yaml": lambda _: "app: milk\npackages:\n  - version: 1.0\n",
        }
    )
    assert [(app.kind, app.app) for app in found.apps] == [
        (Kind.ADDED, "milk"),
        (Kind.REMOVED, "tea"),
    ]
    assert shown(found).splitlines()[-1] == "- app tea"
    assert summary(found) == "+milk; -tea"


def test_lists_are_told_with_counts() -> None:
    """Ids are counted; as many others are told too; expressions are shown."""
    found = difference({}, {"staff": [f"u{at}" for at in range(12)]})
    assert shown(found) == "~ list staff: 10 ids → 12 ids"
    found = difference({}, {"staff": [f"v{at}" for at in range(10)]})
    assert shown(found) == "~ list staff: other ids, 10 as before"
    found = difference({"lists.yaml": lambda text: text.replace("^qa-", "^test-")})
    assert shown(found) == "~ list testers: regex ^qa- → ^test-"


def test_a_rule_shows_in_the_releases_that_use_it() -> None:
    """A changed rule changes no app's file, but its releases."""
    found = difference({"rules.yaml": lambda text: text.replace("WIFI", "WIFI, 5G")})
    assert shown(found).splitlines() == [
        f"~ app {COFFEE} (Coffee)",
        "    ~ release ramp: when network in WIFI → network in WIFI, 5G",
    ]


def test_a_withdrawal_over_the_plan_is_told() -> None:
    """What is laid over the plan is told, though no file changed."""
    over = image_of(PLAN, IDS, [withdrawal("1.1")])
    found = compare_sides(side(image_of(PLAN, IDS)), side(over))
    assert shown(found) == f"+ override {COFFEE}/1.1: is withdrawn"
    back = compare_sides(side(over), side(image_of(PLAN, IDS)))
    assert shown(back) == f"- override {COFFEE}/1.1: is withdrawn"


def test_settings_are_told() -> None:
    """What holds for the whole workspace, as old and new."""
    found = difference({"workspace.yaml": lambda text: text + "check_after: 60\n"})
    assert shown(found) == "~ setting check_after: 1800 → 60"


def test_mere_text_is_told_by_file() -> None:
    """A comment changes nothing that is served, and says so by its file."""
    found = difference({"apps/tea.yaml": lambda text: "# green\n" + text})
    assert shown(found) == "~ file apps/tea.yaml"
    assert not found.apps


def test_a_first_epoch_is_all_new() -> None:
    """Without an epoch before, apps and lists are added."""
    found = compare_sides(None, side(image_of(PLAN, IDS)))
    assert [app.kind for app in found.apps] == [Kind.ADDED, Kind.ADDED]
    assert "+ list staff: 10 ids; of user" in shown(found)


def test_unchanged_apps_are_not_read() -> None:
    """Of many apps only the changed one's files are read; a changed record finds its app too."""
    many = dict(PLAN)
    for at in range(50):
        many[f"apps/a{at}.yaml"] = PLAN["apps/tea.yaml"].replace("tea", f"a{at}")
        many |= record("2.0", app=f"a{at}")
    before = image_of(many, IDS)
    seen: list[bytes] = []
    text = many["apps/tea.yaml"].replace("audience: everyone", "audience: {percent: 1}")
    after = image_of({**many, "apps/tea.yaml": text}, IDS)
    found = compare_sides(side(before, seen), side(after, seen))
    assert [app.app for app in found.apps] == ["tea"]
    assert len(seen) < 20
    after = image_of({**many, **record("2.0", app="a7", bytes_of="other")}, IDS)
    found = compare_sides(side(before), side(after))
    assert [app.app for app in found.apps] == ["a7"]
    assert "SHA-256" in shown(found)


def test_many_apps_are_cut_short() -> None:
    """The text stays readable when thousands change; the data has them all."""
    many = dict(PLAN)
    for at in range(60):
        many[f"apps/a{at}.yaml"] = PLAN["apps/tea.yaml"].replace("tea", f"a{at}")
        many |= record("2.0", app=f"a{at}")
    found = compare_sides(side(image_of(PLAN, IDS)), side(image_of(many, IDS)))
    assert len(found.apps) == 60
    assert shown(found).splitlines()[-1] == "… and 20 more apps"
    assert "more apps" not in shown(found, most=None)
    assert summary(found) == "+60 apps"


def test_a_difference_is_json() -> None:
    """Every part of it can be printed as JSON."""
    found = compare_sides(None, side(image_of(PLAN, IDS)))
    text = json.dumps(dataclasses.asdict(found))
    assert json.loads(text)["apps"][0]["kind"] == "+"


def test_a_plan_that_cannot_be_read_differs_by_file() -> None:
    """An old plan that this compiler refuses is still compared, file by file."""
    old = image_of(PLAN, IDS)
    broken = b"workspace: demo\nold_key: 1\n"
    blobs = {**old.blobs, b"?" * 32: broken}
    files = {**old.tree["files"], "workspace.yaml": b"?" * 32}
    tree = {**old.tree, "files": files}
    contents = {**old.contents, "plan": b"!" * 32}
    before = Side(contents, tree, blobs.__getitem__)  # type: ignore[arg-type]
    assert shown(compare_sides(before, side(old))) == "~ file workspace.yaml"
