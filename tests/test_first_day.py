"""What a newcomer types: `make run`, and every command of the README, in order, as written."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from processes import ROOT, free_port, wait_until

NAMES = ("TIDEGATE_LISTEN", "TIDEGATE_ADMIN_LISTEN", "TIDEGATE_FILES_LISTEN")
README = (ROOT / "README.md").read_text()
LAST_WORDS = ("# after you changed the plan\n", "# what is live, as a plan's folder\n")
"""How the output ends, by what is live: the sample, or what was pushed."""

ENTER = ". .venv/bin/activate; . .tidegate/env"


def _environment(home: Path) -> dict[str, str]:
    """Give a newcomer's environment: three free ports, the tools, an empty home with a git name."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
    kept |= {"TIDEGATE_LATE_MS": "20000", "TIDEGATE_LOOKUP_TIMEOUT_MS": "10000"}  # as Gateway has
    ports = {name: f"127.0.0.1:{free_port()}" for name in NAMES}
    who = ("AUTHOR", "COMMITTER")
    git = {f"GIT_{each}_NAME": "ann" for each in who}
    git |= {f"GIT_{each}_EMAIL": "ann@example.com" for each in who}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return kept | ports | git | {"HOME": str(home), "PATH": path, "COLUMNS": "100"}


@contextmanager
def _up(folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run `tidegate up` until it serves, with its output in `folder`/output; end it by its id."""
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "compiler.cli", "up", "--dir", str(folder / ".tidegate")],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        wait_until(
            lambda: output.read_text().endswith(LAST_WORDS) or process.poll() is not None,
            "it serves, and has said what to type next",
            120,
        )
        assert process.poll() is None, output.read_text()
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def _answers(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _typed(folder: Path, environment: dict[str, str]) -> str:
    """Give the README's commands after `make`, for a clone that is `folder`."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    script = "".join(block for block in blocks if "make run" not in block)
    assert script.count(ENTER) == 1
    script = script.replace("/tmp/", f"{folder}/").replace(ENTER, f". {folder}/.tidegate/env")
    return script.replace("127.0.0.1:8080", environment["TIDEGATE_LISTEN"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README types curl")
def test_the_readme_works_as_written(tmp_path: Path) -> None:
    """Each command succeeds; the push is served at once; the next run goes on with it."""
    environment = _environment(tmp_path)
    with _up(tmp_path, environment):
        first = (tmp_path / "output").read_text()
        assert '"status": "update"' in first
        assert f"tidegate push {tmp_path}/.tidegate/plan --base 1 " in first
        done = subprocess.run(
            ["bash", "-e", "-c", _typed(tmp_path, environment)],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"epoch":1' in done.stdout
        assert "staff: 1.0.0.2, prompt — won" in done.stdout
        assert "Epoch 2 is live" in done.stdout
        assert "1 of 1 in" in done.stdout
    with _up(tmp_path, environment):
        again = (tmp_path / "output").read_text()
        assert "Going on with epoch 2 (ann" in again
        assert '"epoch": 2' in again
        assert ".tidegate/plan" not in again  # that would put the sample in the plan's place
        assert "tidegate push YOUR_PLAN " in again and "tidegate pull DIR " in again


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_running(tmp_path: Path, asked: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end gateway, files and Redis; a port in use is refused with the mend."""
    environment = _environment(tmp_path)
    with _up(tmp_path, environment) as process:
        told = (tmp_path / ".tidegate" / "env").read_text()
        redis = re.findall(r"redis://(127\.0\.0\.1:\d+)", told)
        addresses = [*(environment[name] for name in NAMES), *redis]
        assert len(addresses) == 4 and all(_answers(each) for each in addresses)
        second = subprocess.run(
            [sys.executable, "-m", "compiler.cli", "up", "--dir", str(tmp_path / "second")],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert second.returncode == 3
        assert f"{environment['TIDEGATE_LISTEN']} cannot be used" in second.stderr
        assert "TIDEGATE_LISTEN=127.0.0.1:" in second.stderr
        process.send_signal(asked)
        assert process.wait(60) == 0
    assert not any(_answers(each) for each in addresses)
