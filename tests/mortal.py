"""Rounds of the reference client that end badly: killed at a step, or on a disk that is full.

Run as a process, it forks one for every round that it is told to do (a line of JSON each), and
says how that ended. A step is what changes or reads the file system, or writes to it: the n-th is
not begun any more, as when the system kills the client there.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
KILLED = 9
_STEPS = ("open", "os.", "shutil.", "fcntl.", "socket.connect")
_WRITES = frozenset(("write", "truncate", "fsync", "flush", "close"))
_GIVEN_UP_SECONDS = 60.0


class Mortal:
    """The process that does the rounds."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def round(self, **told: Any) -> tuple[int, int]:
        """Do one round; give the exit code of its process, and how many steps it took."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        code, steps = json.loads(self._process.stdout.readline())
        return code, steps


@contextmanager
def mortal() -> Iterator[Mortal]:
    """Start the process; it ends with its input."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Mortal(process)
    finally:
        process.communicate(timeout=_GIVEN_UP_SECONDS)


def _counted(die_at: int) -> list[int]:
    """Count steps from now on, and die before the one of this number; 0 for never."""
    steps = [0]

    def step() -> None:
        steps[0] += 1
        if steps[0] == die_at:
            os._exit(KILLED)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(_STEPS):
            step()

    def profile(frame: Any, event: str, called: Any) -> None:
        if event == "c_call" and called.__name__ in _WRITES:
            step()

    sys.addaudithook(audit)
    sys.setprofile(profile)
    return steps


def _round(told: dict[str, Any], pipe: int) -> None:
    """Do the round in a process of its own; write the number of steps into the pipe."""
    from loadtest.client import Client, Limits, Trust, read_keys

    keys = read_keys(told["keys"]) if told.get("keys") else {}
    trust = Trust(keys=keys, identities=told.get("identities", ()))
    limits = Limits(silence_seconds=20.0, pause_seconds=0.0)
    client = Client(
        Path(told["root"]), told["gateway"], told["phone"], [told["app"]], trust, limits
    )
    if "file_bytes" in told:
        resource.setrlimit(resource.RLIMIT_FSIZE, (told["file_bytes"], told["file_bytes"]))
    steps = _counted(told.get("die_at", 0))
    client.update()
    sys.setprofile(None)
    os.write(pipe, str(steps[0]).encode())


def _fork(told: dict[str, Any]) -> tuple[int, int]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            _round(told, writer)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    said = os.read(reader, 100)
    os.close(reader)
    end = time.monotonic() + _GIVEN_UP_SECONDS
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), int(said or 0)
        time.sleep(0.001)
    os.kill(child, KILLED)
    os.waitpid(child, 0)
    return -KILLED, 0


if __name__ == "__main__":
    import loadtest.client  # noqa: F401 - once, before all forks

    for line in sys.stdin:
        print(json.dumps(_fork(json.loads(line))), flush=True)
