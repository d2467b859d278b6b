"""A storm rehearsed: a push on which all phones wake. In `make soak` alone."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.skipif("TIDEGATE_SOAK" not in os.environ, reason="starts everything anew: make soak")
def test_a_rehearsal_that_breaks_a_level_fails(tmp_path: Path) -> None:
    """A storm whose answers are asked to come in no time is reported, and is not held."""
    short = ("--act", "storm", "--storm-seconds", "3", "--storm-phones", "250")
    options = (*short, "--storm-every", "3", "--wake-seconds", "1")
    tight = ("--p99-ms", "0.01", "--out", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.rehearsal", *options, *tight],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "not held" in done.stdout
    assert "storm: the load test ended with 1" in done.stderr
    assert "Traceback" not in done.stderr
    seconds = list(csv.DictReader((tmp_path / "storm.csv").read_text().splitlines()))
    assert sum(int(each["answered"]) for each in seconds) > 0
    assert seconds[-1]["newest_epoch"] == "2"
