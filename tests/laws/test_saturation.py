"""Capacity's promise: what it predicts is what this machine then answers. In `make soak` alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.skipif("TIDEGATE_SOAK" not in os.environ, reason="takes minutes: make soak")
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_what_is_predicted_is_measured() -> None:
    """The median of five predictions of a crowd's saturation is within 30 % of what came."""
    command = [sys.executable, "-m", "loadtest.capacity.check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(f"\n{done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
