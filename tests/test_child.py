"""A process that was started here ends, whether it listens or not."""

import signal
import subprocess
import sys

import pytest

from compiler.child import end_child

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
WAITING = "print(flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    ("program", "seconds", "asked", "ended_by"),
    [
        ("import time; " + WAITING, 30.0, signal.SIGTERM, signal.SIGTERM),
        (DEAF + WAITING, 30.0, signal.SIGUSR1, signal.SIGUSR1),
        (DEAF + WAITING, 0.01, signal.SIGTERM, signal.SIGKILL),
    ],
)
def test_a_child_ends_by_what_it_is_asked_or_is_killed(
    program: str, seconds: float, asked: int, ended_by: int
) -> None:
    """It has the time that it is given; one that has ended is left as it is."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        end_child(child, seconds, asked)
        assert child.returncode == -ended_by
        end_child(child, seconds, asked)
        assert child.returncode == -ended_by
    end_child(None, seconds)
