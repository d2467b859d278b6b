"""deploy/prometheus and deploy/grafana: held to what a running gateway exposes, and to promtool."""

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from epochs import APP, make_epoch
from processes import RedisServer, running_gateway
from tools import DEPLOY, tool

RULES = DEPLOY / "prometheus/alerts.yml"
EXAMPLES = DEPLOY / "prometheus/alerts_test.yml"
DASHBOARD = DEPLOY / "grafana/release-day.json"
ALERTS: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
NAME = re.compile(r"\b(?:tidegate|process)_[a-z_]+\b")


def promtool(*arguments: str | Path, cwd: Path = DEPLOY / "prometheus") -> tuple[int, str]:
    """Run promtool: its exit code, and all that it says."""
    command = [tool("promtool", "Debian's prometheus"), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def exposed(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a gateway of two workers, ask it something, and give its metrics."""
    with server.client() as client:
        make_epoch(1, staff=("u-1",)).write(client)
    with running_gateway(tmp_path_factory.mktemp("gateway"), server.url, WORKERS="2") as gateway:
        question = orjson.dumps({"apps": {APP: None}, "user": "u-1"})
        urllib.request.urlopen(f"{gateway.url}/v1/check", question, timeout=30).close()

        with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=30) as answer:
            yield answer.read().decode()


def test_alerts_and_dashboard_name_what_a_gateway_exposes(exposed: str) -> None:
    """No rule and no panel asks for a metric, or a label of one, that no gateway has."""
    samples = re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", exposed, re.MULTILINE)
    names = {name for name, _ in samples}
    names |= set(re.findall(r"^# TYPE (\w+) counter$", exposed, re.MULTILINE))  # none yet
    texts = [*EXPRESSIONS, *(alert["expr"] for alert in ALERTS)]
    asked = {name for text in texts for name in NAME.findall(text)}
    assert asked <= names
    assert len(asked) > 20
    labels = {label for _, text in samples for label in re.findall(r"(\w+)=\"", text)}
    later = {"instance", "job"} | {"app", "release", "status", "event"}  # with the first of each
    used = {
        label
        for text in texts
        for group in re.findall(r"(?:by|on) \(([^)]*)\)|\{([^}]*)\}", text)
        for label in re.findall(r"^\w+|(?<=,)\s*\w+", ",".join(filter(None, group)))
    }
    assert {each.strip() for each in used} <= labels | later


def test_the_metrics_are_well_formed(exposed: str) -> None:
    """Promtool's linter finds nothing in what a gateway exposes."""
    command = [tool("promtool", "Debian's prometheus"), "check", "metrics"]
    done = subprocess.run(command, input=exposed, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if line.startswith("tidegate")]
    assert complaints == []


def test_each_alert_fires_on_its_fault_alone(tmp_path: Path) -> None:
    """Promtool runs the examples; there is one for each alert, firing and silent; they can fail."""
    assert promtool("check", "rules", RULES)[0] == 0
    code, said = promtool("test", "rules", EXAMPLES)
    assert code == 0, said
    tested: dict[str, set[bool]] = {}
    for group in yaml.safe_load(EXAMPLES.read_text())["tests"]:
        for each in group["alert_rule_test"]:
            tested.setdefault(each["alertname"], set()).add(bool(each["exp_alerts"]))
    assert {name for name, seen in tested.items() if True in seen} == {
        alert["alert"] for alert in ALERTS
    }
    assert sum(False in seen for seen in tested.values()) >= len(ALERTS) - 1
    (tmp_path / "alerts.yml").write_text(RULES.read_text().replace("> 0.001", "> 0.1"))
    (tmp_path / "alerts_test.yml").write_text(EXAMPLES.read_text())
    code, said = promtool("test", "rules", "alerts_test.yml", cwd=tmp_path)
    assert code != 0
    assert "TidegateAnswersFail" in said


@pytest.mark.parametrize(
    "name", ["prometheus/prometheus.yml", "prometheus/kubernetes.yml", "container/prometheus.yml"]
)
def test_prometheus_takes_its_configuration(name: str, tmp_path: Path) -> None:
    """Promtool reads each configuration, with the rules beside it as they are installed."""
    for path in (RULES, DEPLOY / "prometheus/gateways.yml", DEPLOY / name):
        (tmp_path / path.name).write_text(path.read_text())
    code, said = promtool("check", "config", Path(name).name, cwd=tmp_path)
    assert code == 0, said
    assert f"{len(ALERTS)} rules found" in said
    (job,) = yaml.safe_load((DEPLOY / name).read_text())["scrape_configs"]
    assert job["job_name"] == "tidegate-gateway"


def test_each_alert_has_its_runbook() -> None:
    """An alert links to a section of the guide that has its name and says something."""
    guide = (DEPLOY / "README.md").read_text()
    for alert in ALERTS:
        name = alert["alert"]
        assert alert["annotations"]["runbook"] == f"deploy/README.md#{name.lower()}"
        found = re.search(rf"^### {name}\n\n(.+?)(?=^##|\Z)", guide, re.MULTILINE | re.DOTALL)
        assert found is not None, name
        assert len(found[1].split()) >= 15, name
        assert alert["labels"]["severity"] in ("page", "ticket")
    written = set(re.findall(r"^### (Tidegate\w+)$", guide, re.MULTILINE))
    assert written == {alert["alert"] for alert in ALERTS}


def test_every_panel_asks_what_prometheus_understands(tmp_path: Path) -> None:
    """Promtool parses the expression of each panel, and of the marks of new epochs."""
    expressions = [*EXPRESSIONS, *(mark["expr"] for mark in BOARD["annotations"]["list"])]
    rules = [
        {
            "record": f"panel:{at}",
            "expr": text.replace("$__rate_interval", "1m").replace("$gateway", ".*"),
        }
        for at, text in enumerate(expressions)
    ]
    assert not [each for each in rules if "$" in each["expr"]]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    code, said = promtool("check", "rules", path)
    assert code == 0, said
    assert f"{len(expressions)} rules found" in said


def test_panels_tile_the_dashboard() -> None:
    """Panels have ids and places of their own, titles, descriptions and a chosen data source."""
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert {each["datasource"]["uid"] for each in panel["targets"]} == {"${source}"}


def test_grafana_is_told_where_both_are() -> None:
    """The provisioned source is the service of compose.yaml, the folder the one mounted there."""
    source = yaml.safe_load((DEPLOY / "grafana/source.yaml").read_text())["datasources"][0]
    provider = yaml.safe_load((DEPLOY / "grafana/provider.yaml").read_text())["providers"][0]
    compose = yaml.safe_load((DEPLOY / "container/compose.yaml").read_text())
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose["services"]
    mounted = [each["target"] for each in compose["services"]["grafana"]["configs"]]
    assert f"{provider['options']['path']}/{DASHBOARD.name}" in mounted
