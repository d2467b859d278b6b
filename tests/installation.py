"""Installed gateways for tests: what needed.py selects of the lock file, and nothing else.

Packages are linked from the environment that runs the tests, so that nothing is fetched.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement

from processes import Gateway
from tools import DEPLOY, ROOT

NEEDED = DEPLOY / "container/needed.py"


def normal(name: str) -> str:
    """Give a package's name as names of packages are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(*arguments: str) -> dict[str, str]:
    """Let needed.py select from the lock file: versions, for this machine, by name."""
    command = [sys.executable, str(NEEDED), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--hash=sha256:" in done.stdout
    found = {}
    for line in re.findall(r"^[a-z0-9].*?(?= \\$)", done.stdout, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            found[normal(requirement.name)] = str(requirement.specifier).removeprefix("==")
    return found


def install(folder: Path, version: str) -> Path:
    """Install a gateway that calls itself `version`; give its Python, which has no pip."""
    venv = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(venv, check=True)
    (place,) = (folder / "lib").glob("python*/site-packages")
    selected = needed()
    for each in distributions():
        if normal(each.name) in selected:
            tops = {path.parts[0] for path in each.files or () if path.parts[0] != ".."}
            for top in tops - {"__pycache__"}:
                (place / top).unlink(missing_ok=True)
                (place / top).symlink_to(str(each.locate_file(top)))
    shutil.copytree(ROOT / "gateway", place / "gateway", ignore=shutil.ignore_patterns("*.so"))
    module = place / "gateway/__init__.py"
    text, changed = re.subn(r'__version__ = ".*"', f'__version__ = "{version}"', module.read_text())
    assert changed == 1
    module.write_text(text)
    return folder / "bin/python"


class Installed(Gateway):
    """A gateway of two workers, run by its own Python from a folder of its own."""

    def __init__(self, folder: Path, redis_url: str, python: Path, **environment: str) -> None:
        """`python` has what an installation has."""
        super().__init__(folder, redis_url, WORKERS="2", **environment)
        self._python = python
        self._folder = folder

    def reload(self) -> None:
        """Send what `systemctl reload` sends."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def start(self) -> None:
        """Start it as an image or a unit does."""
        environ = {"PATH": os.environ["PATH"], "PYTHONSAFEPATH": "1", **self.environment}
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [self._python, "-m", "gateway"],
                cwd=self._folder,
                env=environ,
                stdout=output,
                stderr=output,
            )
        self._meet()
