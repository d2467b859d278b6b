"""Programs that tests ask where the machine has them: Debian's, and those that wheels bring."""

import os
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
PLACES = (str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin")


def tool(name: str, package: str) -> str:
    """Give a program's path; skip the test that asks for it where it is not installed."""
    found = shutil.which(name, path=os.pathsep.join(PLACES))
    if found is None:
        pytest.skip(f"{name} is not here; it comes with {package}.")
    return found
