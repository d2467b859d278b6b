"""The JSON Schema for editors: it accepts what the reader accepts and refuses plain mistakes."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from compiler.language.core_value import core_value
from compiler.language.faults import Faults
from compiler.language.schema import json_schema
from compiler.language.tree import parse

ROOT = Path(__file__).parent.parent
SAMPLE = sorted((ROOT / "compiler" / "sample").rglob("*.yaml"))
DESIGN = sorted((ROOT / "tests" / "data" / "design_plan").rglob("*.yaml"))
SCHEMA = json_schema()


def as_an_editor_reads(text: str) -> Any:
    """Give a file's value by YAML 1.2's core schema, as editors' plugins do."""
    node = parse("a.yaml", text, Faults())
    assert node is not None
    return core_value(node, Faults())


def fits(text: str, kind: str = "app") -> bool:
    """Ask whether a text fits the definition of a kind of file."""
    schema = {"definitions": SCHEMA["definitions"], "$ref": f"#/definitions/{kind}"}
    return Draft7Validator(schema).is_valid(as_an_editor_reads(text))


def test_it_is_a_schema() -> None:
    """The schema is one of draft 7, and every key of every record has a description."""
    Draft7Validator.check_schema(SCHEMA)
    records = [SCHEMA]
    while records:
        value = records.pop()
        for key, part in value.items():
            if key == "properties":
                assert all(one["description"].endswith(".") for one in part.values())
            parts = part if isinstance(part, list) else [part]
            records += [one for one in parts if isinstance(one, dict)]


@pytest.mark.parametrize("path", SAMPLE, ids=lambda path: path.name)
def test_the_sample_fits(path: Path) -> None:
    """An editor finds no fault in what `tidegate init` writes."""
    assert Draft7Validator(SCHEMA).is_valid(as_an_editor_reads(path.read_text()))


def test_the_printed_plan_fits_but_for_what_comes_later() -> None:
    """Of the design's files an editor doubts those that the reader refuses."""
    refused = {
        path.name
        for path in DESIGN
        if not Draft7Validator(SCHEMA).is_valid(as_an_editor_reads(path.read_text()))
    }
    assert refused == set()


APP = """app: {app}
packages: [{{version: {version}, withdrawn: {withdrawn}}}]
releases:
  - {{id: {id}, package: {version}, audience: {{percent: {percent}}}, state: {state}, when: {when}}}
"""
RIGHT = {
    "app": "2021000000000001",
    "version": "1.0.0.1",
    "withdrawn": "false",
    "id": "stable",
    "percent": "12.5",
    "state": "live",
    "when": "[wifi, {attribute: os_version, between: [12, 15.1]}]",
}


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("app", "'2021000000000001'"),
        ("app", "coffee"),
        ("version", "1.10"),
        ("version", "'1.0'"),
        ("version", "2"),
        ("withdrawn", "'true'"),
        ("id", "0012"),
        ("percent", "'12.5'"),
        ("percent", "100"),
        ("state", "paused"),
        ("when", "[{attribute: brand, in: on}]"),
        ("when", "[{attribute: custom.tier, at_least: 3}]"),
        ("when", "[{attribute: brand, matches: [a*, '?']}]"),
    ],
)
def test_it_accepts_what_the_reader_accepts(key: str, text: str) -> None:
    """A version may be a number or text to an editor, quoted or not."""
    assert fits(APP.format(**{**RIGHT, key: text}))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("app", "[a]"),
        ("app", "a b"),
        ("version", "{}"),
        ("withdrawn", "yes"),
        ("percent", "101"),
        ("percent", "[1, 10]"),
        ("state", "pause"),
        ("when", "{attribute: brand, in: on}"),
        ("when", "[{attribute: brnad, in: on}]"),
        ("when", "[{attribute: brand}]"),
        ("when", "[{attribute: brand, in: a, not_in: b}]"),
        ("when", "[{attribute: os_version, between: [1]}]"),
    ],
)
def test_it_refuses_plain_mistakes(key: str, text: str) -> None:
    """Wrong shapes, unknown words and keys show in the editor already."""
    assert fits(APP.format(**RIGHT))
    assert not fits(APP.format(**{**RIGHT, key: text}))


def test_unknown_and_missing_keys() -> None:
    """Every record is closed, and says what it needs."""
    assert fits("workspace: demo\ncheck_after: 1800\n", "workspace")
    assert not fits("workspace: demo\nchek_after: 1800\n", "workspace")
    assert not fits("check_after: 1800\n", "workspace")
    assert fits("lists: [{list: a, of: user, stored: true}]", "lists")
    assert not fits("lists: [{list: a, stored: true}]", "lists")
    assert fits("rules: {a: [{attribute: brand, in: [b]}]}", "rules")
    assert not fits("rules: {a: [b]}", "rules")


def test_it_knows_keys() -> None:
    """An editor takes the line that keygen prints, and doubts what is no base64."""
    line = '{key: ann-2026, public: "MCowBQYDK2VwAyEA8uzLxVnPhpxFg8A+WlSRkZMe2hZdiTNddxGYkZKm8rA="}'
    assert fits(f"workspace: demo\nkeys: [{line}]\n", "workspace")
    for wrong in ("[]", "[{key: ann}]", "[{key: ann, public: '-----BEGIN'}]", "[{key: a, kid: b}]"):
        assert not fits(f"workspace: demo\nkeys: {wrong}\n", "workspace"), wrong
