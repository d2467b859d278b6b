"""Load tests in tests: Locust's processes, started, waited for and ended by their id."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import ROOT

LONGEST = 120.0
QUICK = ("-u", "4", "--street", "200", "--hurry", "300", "--sample", "20", "--p99-ms", "20000")
"""Some 130 checks a second; and no test is about being quick."""


def environment(store: Path) -> dict[str, str]:
    """Give what an operator has set; Locust's own variables are left out."""
    ours = ("TIDEGATE_", "LOCUST_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    said = {"TIDEGATE_STORE": str(store), "TIDEGATE_WORKSPACE": "demo", "PYTHONPATH": str(ROOT)}
    return kept | said


def start(store: Path, *words: str) -> subprocess.Popen[str]:
    """Start a load test."""
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment(store),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """End a process whatever happens, by its id."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for(process: subprocess.Popen[str], sentence: str) -> None:
    """Read what a process says until it says this."""
    assert process.stdout is not None
    said = iter(process.stdout.readline, "")
    assert any(sentence in line for line in said), f"it ended without {sentence!r}"


def loadtest(store: Path, *words: str, code: int) -> str:
    """Run `python -m loadtest` to its end; give what it says."""
    with ended(start(store, "-m", "loadtest", *words)) as process:
        said, _ = process.communicate(timeout=LONGEST)
    assert "Traceback" not in said, said
    assert process.returncode == code, said
    return said


def rehearse(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m loadtest.rehearsal` to its end; it writes its files into `out`."""
    return subprocess.run(
        [sys.executable, "-m", "loadtest.rehearsal", *words, "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    """Read a run's seconds."""
    with path.open() as file:
        return list(csv.DictReader(file))
