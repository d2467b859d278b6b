"""The operations guide: its commands exist, its links lead somewhere, its files are all tried."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from compiler.cli import COMMANDS, app, register
from gateway.config import VARIABLES
from tools import DEPLOY, ROOT

GUIDE = (DEPLOY / "README.md").read_text()


def commands() -> dict[str, Any]:
    """Give the commands that there are."""
    register(COMMANDS)
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def test_every_command_in_the_guide_exists() -> None:
    """What the guide tells to type is a command, with options that it has."""
    known = commands()
    typed = re.findall(r"(?:`|^|/|&& )tidegate ([a-z-]+)([^`\n]*)", GUIDE, re.MULTILINE)
    assert {name for name, _ in typed} <= set(known)
    assert len({name for name, _ in typed} & set(known)) >= 6
    for name, rest in typed:
        inner = known.get(name)
        if inner is None:
            continue
        words = rest.split("#")[0].split()
        if words and words[0] in getattr(inner, "commands", ()):
            inner = inner.commands[words[0]]
        options = {option for parameter in inner.params for option in parameter.opts} | {"--help"}
        said = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest.split("#")[0]))
        assert said <= options, f"{name}{rest}"


def test_settings_in_the_guide_exist() -> None:
    """Each variable that the guide names is one of a gateway's or of the commands'."""
    of_commands = {"TIDEGATE_COMPILE", "TIDEGATE_STORE", "TIDEGATE_KEY", "TIDEGATE_CONTROL_LISTEN"}
    of_commands.add("TIDEGATE_SOAK")  # of the tests that its figures come from
    named = set(re.findall(r"TIDEGATE_[A-Z_]+", GUIDE))
    assert named <= {variable.name for variable in VARIABLES} | of_commands


def test_links_lead_somewhere() -> None:
    """Each link of the guide is a file or a folder."""
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", GUIDE) if "://" not in link]
    assert len(links) >= 8
    for link in links:
        assert (DEPLOY / link).exists(), link


def deployed() -> list[str]:
    """Name every file of this folder that is under version control."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "deploy"]
    found = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return found.stdout.split()


TRIED_AS_A_FOLDER = (
    "deploy/kubernetes/",  # test_kubernetes.py builds each overlay from its files
    "deploy/nginx/tidegate/",  # test_nginx.py runs nginx on the copied folder
    "deploy/systemd/",  # test_systemd.py reads all units
    "deploy/container/edge/",  # test_container.py asks for what compose.yaml mounts
)


@pytest.mark.parametrize("name", deployed())
def test_every_file_is_tried(name: str) -> None:
    """A file of deploy/ is named by a test, or lies in a folder that one tries as a whole."""
    texts = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert name.startswith(TRIED_AS_A_FOLDER) or Path(name).stem in texts
