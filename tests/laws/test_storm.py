"""A storm rehearsed: a push on which all phones wake. In `make soak` alone."""

import os
from pathlib import Path

import pytest

from load_runs import rehearse, rows_of


@pytest.mark.skipif("TIDEGATE_SOAK" not in os.environ, reason="starts everything anew: make soak")
def test_a_rehearsal_that_breaks_a_level_fails(tmp_path: Path) -> None:
    """A storm whose answers are asked to come in no time is reported, and is not held."""
    short = ("--act", "storm", "--storm-seconds", "3", "--storm-phones", "250")
    options = (*short, "--storm-every", "3", "--wake-seconds", "1")
    done = rehearse(tmp_path, *options, "--p99-ms", "0.01")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "not held" in done.stdout
    assert "storm: the load test ended with 1" in done.stderr
    assert "Traceback" not in done.stderr
    seconds = rows_of(tmp_path / "storm.csv")
    assert sum(int(each["answered"]) for each in seconds) > 0
    assert seconds[-1]["newest_epoch"] == "2"
