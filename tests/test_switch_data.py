"""Switches as JSON and as a file: out and in again they mean the same."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

import plans
import switch_plans
from compiler.language.reading import read_files
from compiler.overrides import lay_over
from compiler.plan import Audience, Plan, Switch, Targeting, Workspace
from compiler.switch_data import as_data, as_file
from processes import RedisServer
from workplace import workplace

SWITCHES = """switches:
  - key: new-home        # a comment
    variants: {on: true, off: false}
    default: off
    targeting:
      - {variant: on, audience: {same_as: {app: coffee, release: all}}, when: [wifi]}
      - {split: {on: 12.5, off: 87.5}, audience: {by: user}}
  - {key: title, variants: {a: "null", b: "1.0"}, default: a, enabled: false}
"""


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=switch_plans.switched_plans())
def test_what_is_exported_means_the_same(drawn: Any) -> None:
    """Both the JSON and the file give the very switches again."""
    written, _ = drawn
    files = plans.to_files(written, Random(0))
    plan = read_files(files | switch_plans.to_file(written, Random(0)), now=plans.NOW).plan
    assert plan is not None
    for text in (json.dumps(as_data(plan.switches)), as_file(plan.switches)):
        again = read_files({**files, "switches.yaml": text}, now=plans.NOW)
        assert again.plan is not None, again.diagnostics
        assert again.plan.switches == plan.switches
        assert repr(again.plan.switches) == repr(plan.switches)  # 1 is not 1.0, nor true


def test_list_export_import(server: RedisServer, tmp_path: Path) -> None:
    """An operator moves switches as JSON from the live epoch into a plan, and sees them."""
    with workplace(tmp_path, server.url) as place:
        place.write("workspace.yaml", "workspace: demo\n")
        place.write("rules.yaml", "rules: {wifi: [{attribute: network, in: WIFI}]}\n")
        app = "app: a1\npackages: [{version: 1.0}]\n"
        release = "{id: all, package: 1.0, audience: {percent: 5}, state: paused}"
        place.write("apps/coffee.yaml", f"{app}releases: [{release}]\n")
        place.write("switches.yaml", SWITCHES)
        place.commit("first")
        place.push()
        shown = place.run("switch", "list", str(place.plan)).out
        assert [line.split() for line in shown.splitlines()] == [
            ["switch", "variants", "default", "rows", "state"],
            ["new-home", "on,", "off", "off", "2", "enabled"],
            ["title", "a,", "b", "a", "0", "disabled"],
        ]
        listed = json.loads(place.run("switch", "list", "--live", "--json").out)
        exported = place.run("switch", "export", "--live").out
        assert json.loads(exported)["switches"] == listed
        assert listed[0]["targeting"][0]["audience"] == {"same_as": {"app": "a1", "release": "all"}}
        file = tmp_path / "switches.json"
        file.write_text(exported)
        refused = place.run("switch", "import", str(file), str(place.plan), code=3)
        assert "--replace" in refused.err
        done = place.run("switch", "import", str(file), str(place.plan), "--replace")
        assert done.out.strip().endswith("switches.yaml: 2 switches")
        assert place.run("switch", "export", str(place.plan)).out == exported
        file.write_text(exported.replace('"all"', '"nobody"'))
        wrong = place.run("switch", "import", str(file), str(place.plan), "--replace", code=1)
        assert 'There is no release "nobody"' in wrong.err
        assert place.run("switch", "export", str(place.plan)).out == exported


@pytest.mark.parametrize(
    ("rows", "doubt"),
    [
        ("[{variant: on}, {variant: off}]", "so this one never decides"),
        ("[{variant: on, audience: {percent: 0}}]", "0 percent reaches nobody"),
        ("[{variant: on, audience: {by: user}}]", "Without percent or split"),
        (
            "[{variant: on, when: [{attribute: brand, in: a}, {attribute: brand, in: b}]}]",
            "This row can never hold: no brand meets",
        ),
        ("[{split: {on: 1}}, {variant: off}]", ""),
        ("[{variant: on, audience: {percent: 50}}, {variant: off}]", ""),
    ],
)
def test_doubts(rows: str, doubt: str) -> None:
    """What surely is not meant is warned of; a split leaves those without an id to the next row."""
    text = f"switches: [{{key: a, variants: {{on: 1, off: 2}}, default: on, targeting: {rows}}}]"
    reading = read_files({"workspace.yaml": "workspace: w", "switches.yaml": text}, now=0)
    assert reading.plan is not None
    messages = [one.message for one in reading.diagnostics]
    assert [doubt in message for message in messages] == ([True] if doubt else [])


@pytest.mark.parametrize(("value", "doubted"), [("9007199254740992", 0), ("-9007199254740993", 1)])
def test_an_integer_that_clients_round_is_doubted(value: str, doubted: int) -> None:
    """Beyond 2^53 a client in JavaScript would get another number than the plan has."""
    text = f"switches: [{{key: a, variants: {{x: {value}}}, default: x}}]"
    reading = read_files({"workspace.yaml": "workspace: w", "switches.yaml": text}, now=0)
    assert ["beyond 2^53" in one.message for one in reading.diagnostics] == [True] * doubted


@pytest.mark.parametrize(
    ("override", "default", "rows", "enabled"),
    [
        ({}, "off", 2, True),
        ({"variant": "on"}, "on", 0, True),
        ({"variant": "on", "enabled": "false"}, "on", 0, False),
        ({"enabled": "false"}, "off", 2, False),
        ({"variant": "blue"}, "off", 2, True),
    ],
)
def test_overrides_are_laid_over_switches(
    override: dict[str, str], default: str, rows: int, enabled: bool
) -> None:
    """A variant is for everybody; one that the switch does not have changes nothing."""
    row = Targeting("on", (), Audience(basis_points=10))
    switch = Switch("a", {"on": True, "off": False}, "off", targeting=(row, row))
    laid = [
        {"what": what, "app": "a", "name": "", "value": value} for what, value in override.items()
    ]
    (found,) = lay_over(Plan(Workspace("demo"), (), switches=(switch,)), laid).switches
    assert (found.default, len(found.targeting), found.enabled) == (default, rows, enabled)
