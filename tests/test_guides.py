"""The guides say what the code does: their plans, tables, requests and answers are tried out."""

import hashlib
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest

import plans
from compiler.language import (
    app_file,
    conditions,
    core_value,
    identity,
    plan_text,
    recipients,
    schema,
    tree,
    trusted_keys,
)
from compiler.language.reading import read_files
from compiler.language.records import Record
from compiler.lists.gathering import ID_BYTES
from compiler.packaging.encryption import MOST_RECIPIENTS
from compiler.plan import Operator
from gateway import server
from gateway.answer import Status, status_of
from gateway.attribute import BUILT_IN, TEXT, VALUE_CHARS, VERSIONS
from gateway.check import Check
from gateway.errors import RequestError
from gateway.identity import TOKEN_BYTES
from gateway.problem import problem
from gateway.request import BODY_BYTES, MAX_APPS, MAX_ID_BYTES, parse_body, parse_query
from gateway.version import CLIENT_PARTS, PLAN_PARTS, parse_version
from snapshots import Opened, open_plan

ROOT = Path(__file__).parent.parent
LANGUAGE = (ROOT / "compiler/language/README.md").read_text()
GATEWAY = (ROOT / "gateway/README.md").read_text()
COFFEE = "2021000000000001"
EPOCH = 42
IDS = {"staff": ["u-8841"], "kiosks": ["k-1"]}


def blocks(guide: str, *kinds: str) -> list[tuple[str, str]]:
    """Give a guide's fenced blocks of these kinds, each with its kind."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    return [(kind, text) for kind, text in found if kind in kinds]


def section(guide: str, heading: str) -> str:
    """Give what stands between a heading and the next one."""
    found = re.search(
        rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", guide, re.MULTILINE | re.DOTALL
    )
    assert found, heading
    return found[1]


def rows(guide: str, heading: str, first_column: str) -> list[list[str]]:
    """Give the cells of the table in a section whose first column is called so."""
    lines = section(guide, heading).split("\n")
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def record(app: str, version: str) -> str:
    """Make the record that `tidegate upload` would write of a package of 1 MiB."""
    sha256 = hashlib.sha256(f"{app} {version}".encode()).hexdigest()
    path = f"files/{sha256[:2]}/{sha256}.zip"
    form = {"compression": "identity", "path": path, "sha256": sha256, "size": 1 << 20}
    return json.dumps(
        {
            "forms": [form],
            "format": 1,
            "sha256": sha256,
            "signatures": [],
            "size": 1 << 20,
        },
        indent=2,
    )


RECORDED = ((COFFEE, "1.0.0.1"), (COFFEE, "1.0.0.2"), ("tea", "1.0.0"), ("tea", "1.1.0"))


def plan_files() -> dict[str, str]:
    """Give the plan that the guide prints, with the records of its packages."""
    files = {f"packages/{app}/{version}.json": record(app, version) for app, version in RECORDED}
    for _, text in blocks(LANGUAGE, "yaml"):
        name = re.match(r"# (\S+)\n", text)
        assert name, f"this block does not begin with its file's name: {text[:60]}"
        assert name[1] not in files
        files[name[1]] = text
    return files


@pytest.fixture(scope="module")
def opened() -> Opened:
    """Compile the printed plan and open it as a gateway would."""
    plan = read_files(plan_files(), now=plans.NOW).plan
    assert plan is not None
    return open_plan(plan, IDS, Random(1), number=EPOCH)


def test_the_printed_plan_is_read_without_a_word() -> None:
    """Every file that the guide prints is read, with neither an error nor a warning."""
    reading = read_files(plan_files(), now=plans.NOW)
    assert reading.diagnostics == ()
    assert reading.plan is not None
    assert {app.id for app in reading.plan.apps} == {COFFEE, "tea"}
    assert {one.name for one in reading.plan.lists} == {"staff", "testers", "kiosks"}


def test_the_printed_record_is_one() -> None:
    """The record that the guide prints is the one with which the plan above is read."""
    assert [text for _, text in blocks(LANGUAGE, "json")] == [record(COFFEE, "1.0.0.2") + "\n"]


AUDIENCE: Any = app_file.AUDIENCE.record


@pytest.mark.parametrize(
    ("heading", "shape"),
    [
        ("workspace.yaml", schema.WORKSPACE),
        ("An app file", app_file.APP),
        ("A package", app_file.PACKAGE),
        ("A release", app_file.RELEASE),
        ("An audience", AUDIENCE),
        ("rules.yaml", schema.RULES),
        ("A key", trusted_keys.KEY),
        ("A recipient", recipients.RECIPIENT),
        ("An identity", identity.IDENTITY),
        ("A key of the identity provider", identity.KEY),
        ("A list", schema.LIST),
        ("Conditions", conditions.CONDITION),
    ],
)
def test_every_key_is_in_the_guide(heading: str, shape: Record[Any]) -> None:
    """A table of keys has exactly those that are read, and says which are required."""
    found = {
        key.strip("`"): value.startswith("Required.")
        for key, value in rows(LANGUAGE, heading, "key")
    }
    assert found == {name: bool(key.required) for name, key in shape.keys.items()}


def test_every_attribute_is_in_the_guides() -> None:
    """The attributes are named by what they compare as, and each as a member of a request."""
    found = {
        name: tests
        for names, _, tests in rows(LANGUAGE, "Conditions", "attribute")
        for name in names.replace("`", "").split()
    }
    assert set(found) == {*BUILT_IN, "custom.NAME"}
    unordered = " ".join(f"`{each}`" for each in (Operator.IN, Operator.NOT_IN, Operator.MATCHES))
    assert {found[name] for name in TEXT} == {unordered}
    assert {found[name] for name in VERSIONS} == {"all"}
    request = section(GATEWAY, "The request")
    assert all(f"`{name}`" in request for name in BUILT_IN if name != "installed")


def test_versions_are_ordered_as_printed() -> None:
    """The chain of versions rises, and is equal, where the guide says so."""
    ((_, chain),) = blocks(LANGUAGE, "text")
    texts = chain.split()
    keys = [parse_version(text, PLAN_PARTS) for text in texts[::2]]
    for low, sign, high in zip(keys, texts[1::2], keys[1:], strict=False):
        assert low is not None
        assert high is not None
        assert low < high if sign == "<" else low == high
    assert parse_version("1." * (CLIENT_PARTS - 1) + "1")
    assert not any(parse_version(text) for text in ("v1", "1.", "Android 14"))


@pytest.mark.parametrize(("condition", "sent", "holds"), rows(LANGUAGE, "Conditions", "condition"))
def test_conditions_hold_as_printed(condition: str, sent: str, holds: str) -> None:
    """A release under the printed condition is offered to the printed client, or is not."""
    written = condition.strip("`")
    files = {
        "workspace.yaml": "workspace: demo\n",
        "apps/a.yaml": "app: a\npackages: [{version: 1.0}]\nreleases:\n"
        f"  - {{id: r, package: 1.0, audience: everyone, when: [{written}]}}\n",
        "packages/a/1.0.json": record("a", "1.0"),
    }
    plan = read_files(files, now=plans.NOW).plan
    assert plan is not None
    phone = orjson.loads(sent.strip("`"))
    phone["apps"] = {"a": phone.pop("installed", None)}
    answer = orjson.loads(open_plan(plan, {}, Random(1)).ask(phone, plans.NOW))
    assert answer["apps"][0]["status"] == {"yes": "update", "no": "none"}[holds]


WITHDRAWN = "1.5"
ANSWERS = [
    ("1.5", "2", "withdrawn", "higher"),
    ("1.5", "1", "withdrawn", "lower"),
    ("1.5", None, "withdrawn", "none"),
    ("1", None, "anything", "none"),
    (None, "1", "nothing, or no version", "any"),
    ("0.9", "1", "lower than the target", "any"),
    ("1.0", "1", "equal or higher", "any"),
]


def test_the_table_of_answers_is_the_code_s() -> None:
    """Each printed row gives the printed status, and is forced where it says so."""
    printed = rows(LANGUAGE, "Which answer", "installed")
    assert [(row[0], row[1]) for row in printed] == [(row[2], row[3]) for row in ANSWERS]
    gone = parse_version(WITHDRAWN)
    assert gone is not None
    for (installed, target, *_), (_, _, answer) in zip(ANSWERS, printed, strict=True):
        have = None if installed is None else parse_version(installed)
        goal = None if target is None else parse_version(target)
        status, forced = status_of(have, goal, frozenset({gone}))
        assert answer.split("`")[1] == status
        if status in (Status.UPDATE, Status.ROLLBACK):
            assert forced is ("`force`" in answer)


def test_the_limits_are_the_code_s() -> None:
    """The numbers in the tables of limits are those that the code holds to."""
    language = section(LANGUAGE, "Limits")
    for limit in (
        f"{plan_text.MOST_BYTES >> 20} MiB, nested {tree.MOST_LEVELS} deep",
        f"{app_file.MOST_INFO_BYTES:,} bytes",
        f"within ±2^{core_value.INTEGER_BITS}",
        f"{VALUE_CHARS} characters",
        f"{schema.MOST_CHECK_AFTER:,}",
        f"| {schema.MOST_EXPRESSIONS} |",
        f"recipients of an app | {MOST_RECIPIENTS} |",
        f"keys of the identity provider | {identity.MOST_KEYS} |",
        f"{ID_BYTES} bytes",
    ):
        assert limit in language
    gateway = section(GATEWAY, "Limits")
    for limit in (
        f"{BODY_BYTES:,} bytes",
        f"{server.BODY_SECONDS:.0f} seconds",
        f"| {MAX_APPS} |",
        f"{MAX_ID_BYTES} bytes",
        f"{VALUE_CHARS} characters",
        f"a token | {TOKEN_BYTES:,} bytes | nobody",
    ):
        assert limit in gateway


def ask(opened: Opened, read: Callable[[], Check]) -> bytes:
    """Answer one check as the server does, a refused one too."""
    snapshot = opened.snapshot
    try:
        check = read()
    except RequestError as fault:
        return problem(fault.status, str(fault))
    members = {
        hashed: snapshot.lists_of(hashed, opened.buckets[snapshot.bucket_of(hashed)])
        for hashed in snapshot.probes(check)
    }
    body, _ = snapshot.answer(check, members, plans.NOW, msgpack=False)
    return body


def reader(kind: str, text: str) -> Callable[[], Check]:
    """Give what reads a printed question: a body of JSON, or the address that curl is given."""
    if kind == "json":
        return lambda: parse_body(text.encode(), packed=False)
    address = urlsplit(shlex.split(text)[-1])
    return lambda: parse_query(address.path.rpartition("/")[2], address.query)


def test_every_printed_question_is_answered_as_printed(opened: Opened) -> None:
    """Each question in the guide, asked of the printed plan, gets the answer below it."""
    printed = blocks(GATEWAY, "json", "sh")
    assert len(printed) % 2 == 0
    seen = set()
    for (kind, question), (_, answer) in zip(printed[::2], printed[1::2], strict=True):
        said = orjson.loads(answer)
        assert ask(opened, reader(kind, question)) == orjson.dumps(said), question
        seen |= {each["status"] for each in said.get("apps", [said])}
    assert seen == {*Status, 400}
