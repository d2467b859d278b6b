"""The real OpenFeature clients against a running gateway: every type, every error."""

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from processes import Gateway, RedisServer, running_gateway
from publishing import Workshop, image_of, plan_files

NODE = Path(__file__).parent / "openfeature"
INSTALL_SECONDS = 120
SWITCHES = """switches:
  - key: new-home
    variants: {on: true, off: false}
    default: off
    targeting:
      - {variant: on, when: [{attribute: brand, in: Xiaomi}]}
      - {variant: on, when: [{attribute: custom.tier, in: gold}], audience: {lists: staff}}
  - {key: limit, variants: {few: 5, many: 50}, default: few}
  - {key: ratio, variants: {whole: 1, half: 0.5}, default: whole}
  - {key: title, variants: {de: Hallo, en: Hello}, default: en, enabled: false}
  - {key: theme, variants: {red: {color: red}, blue: {color: blue}}, default: red,
     targeting: [{split: {blue: 100, red: 0}}]}
"""
XIAOMI = {"targetingKey": "d-1", "brand": "xiaomi"}
GOLD = {"targetingKey": "d-1", "user": "u-7", "custom": {"tier": "gold"}}
QUESTIONS: list[tuple[str, str, Any, dict[str, Any]]] = [
    ("Boolean", "new-home", False, XIAOMI),
    ("Boolean", "new-home", True, {"targetingKey": "d-1"}),
    ("Boolean", "new-home", False, GOLD),
    ("Number", "limit", 0, {}),
    ("Number", "ratio", 0.25, {}),
    ("String", "title", "", {}),
    ("Object", "theme", {}, {"targetingKey": "d-1"}),
    ("Object", "theme", {}, {}),
    ("Boolean", "nothing", True, {}),
    ("Boolean", "title", True, {}),
    ("String", "title", "mine", {"targetingKey": "d" * 300}),
]
# value, variant, reason, error: of each question in turn.
ANSWERS = [
    (True, "on", "TARGETING_MATCH", None),
    (False, "off", "UNKNOWN", None),
    (True, "on", "TARGETING_MATCH", None),
    (5, "few", "STATIC", None),
    (1.0, "whole", "STATIC", None),
    ("Hello", "en", "DISABLED", None),
    ({"color": "blue"}, "blue", "SPLIT", None),
    ({"color": "red"}, "red", "UNKNOWN", None),
    (True, None, "ERROR", "FLAG_NOT_FOUND"),
    (True, None, "ERROR", "TYPE_MISMATCH"),
    ("mine", None, "ERROR", "INVALID_CONTEXT"),
]


@pytest.fixture
def gateway(server: RedisServer, workshop: Workshop, tmp_path: Path) -> Iterator[Gateway]:
    """Serve the switches above."""
    files = plan_files(staff=True) | {"switches.yaml": SWITCHES}
    workshop.push(image_of(files, {"staff": ["u-7"]}))
    with running_gateway(tmp_path / "gateway", server.url) as found:
        yield found


@pytest.fixture
def empty_gateway(server: RedisServer, workshop: Workshop, tmp_path: Path) -> Iterator[Gateway]:
    """Serve nothing yet: every request gets 503."""
    with running_gateway(tmp_path / "empty", server.url) as found:
        yield found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the JavaScript clients into a folder of this run, or skip."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("there is no Node, so its OpenFeature clients are not driven")
    folder = tmp_path_factory.mktemp("node")
    for path in NODE.iterdir():
        shutil.copy(path, folder)
    command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=0"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not come to an end, so Node's OpenFeature clients are not driven")
    if done.returncode:
        pytest.skip(f"npm cannot install the OpenFeature clients: {done.stderr[-300:]}")
    return folder


def _run(folder: Path, script: str, *arguments: str) -> Any:
    done = subprocess.run(
        ["node", script, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _told(details: Any) -> tuple[Any, ...]:
    names = ("value", "variant", "reason", "errorCode")
    return tuple(details.get(name) for name in names)


def _counted(gateway: Gateway, outcome: str) -> float:
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    wanted = f'tidegate_switch_requests_total{{outcome="{outcome}"}} '
    return next(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


def _python_client(url: str) -> Any:
    pytest.importorskip("openfeature.contrib.provider.ofrep")
    from openfeature.contrib.provider.ofrep import OFREPProvider

    from openfeature import api

    api.set_provider(OFREPProvider(url))
    return api.get_client()


def _ask_python(client: Any, question: tuple[str, str, Any, dict[str, Any]]) -> tuple[Any, ...]:
    from openfeature.evaluation_context import EvaluationContext

    kind, key, default, context = question
    if kind == "Number":
        kind = "Float" if isinstance(default, float) else "Integer"
    rest = {name: value for name, value in context.items() if name != "targetingKey"}
    asked = getattr(client, f"get_{kind.lower()}_details")
    details = asked(key, default, EvaluationContext(context.get("targetingKey"), rest))
    error = None if details.error_code is None else details.error_code.value
    return (
        details.value,
        details.variant,
        str(getattr(details.reason, "value", details.reason)),
        error,
    )


def test_the_python_client(gateway: Gateway) -> None:
    """openfeature-provider-ofrep gets every type and every error as they are meant."""
    client = _python_client(gateway.url)
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        found = _ask_python(client, question)
        assert found == answer, question
        assert type(found[0]) is type(answer[0]), question
    assert _counted(gateway, "unknown") == 1
    assert _counted(gateway, "failed") == 1


def test_the_python_client_of_an_empty_gateway(empty_gateway: Gateway) -> None:
    """Before the first epoch it gets its own defaults, and an error."""
    client = _python_client(empty_gateway.url)
    found = _ask_python(client, QUESTIONS[0])
    assert found == (False, None, "ERROR", "GENERAL")


def test_the_node_server_client(gateway: Gateway, node: Path) -> None:
    """@openfeature/ofrep-provider gets every type and every error as they are meant."""
    found = _run(node, "server.mjs", gateway.url, json.dumps(QUESTIONS))
    for question, details, answer in zip(QUESTIONS, found, ANSWERS, strict=True):
        assert _told(details) == answer, question


def test_the_web_client(gateway: Gateway, node: Path) -> None:
    """@openfeature/ofrep-web-provider gets every type, follows the context, and polls to 304."""
    at = [0, 3, 4, 5, 8, 9]
    asked = json.dumps([QUESTIONS[each][:3] for each in at])
    first, other = _run(
        node, "web.mjs", gateway.url, asked, json.dumps([XIAOMI, {"targetingKey": "d-1"}])
    )
    # The tag covers the context: a change of `brand` alone is no 304.
    assert [_told(details) for details in first] == [ANSWERS[each] for each in at]
    assert _told(other[0]) == ANSWERS[1]
    assert _counted(gateway, "unchanged") >= 2
    assert _counted(gateway, "all") == 2


def test_the_web_client_of_a_context_that_is_refused(gateway: Gateway, node: Path) -> None:
    """It says so; what it had would stay."""
    wrong = json.dumps([{"targetingKey": "d" * 300}])
    (found,) = _run(node, "web.mjs", gateway.url, json.dumps([QUESTIONS[0][:3]]), wrong)
    assert "status: 400" in found["failed"]


def test_the_web_client_of_an_empty_gateway(empty_gateway: Gateway, node: Path) -> None:
    """Before the first epoch it fails to start, and says so."""
    (found,) = _run(node, "web.mjs", empty_gateway.url, json.dumps([QUESTIONS[0][:3]]), "[{}]")
    assert found["failed"]
