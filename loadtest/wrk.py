"""Load by wrk, and what it found: checks a second, latencies, and the server's CPU a check."""

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Measured:
    """One round: answers, seconds, the server's CPU seconds, latencies in ms, what went wrong."""

    answers: int
    seconds: float
    cpu_seconds: float
    p50_ms: float
    p99_ms: float
    wrong: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of the server's CPU an answer, user and system."""
        return self.cpu_seconds / self.answers * 1e6


def cpu_seconds(pid: int) -> float:
    """Read the CPU time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def write_script(path: Path, requests: Sequence[bytes]) -> None:
    """Write a script that sends these very requests in turn."""
    texts = ",\n".join(
        '"'
        + "".join(f"\\{byte:03d}" if byte < 32 or byte in b'"\\' else chr(byte) for byte in each)
        + '"'
        for each in requests
    )
    path.write_text(
        f"local requests = {{\n{texts}\n}}\nlocal at = 0\n"
        "request = function()\n  at = at % #requests + 1\n  return requests[at]\nend\n",
        encoding="latin-1",
    )


def _escaped(byte: int) -> str:
    return f"\\{byte:03d}" if byte < 32 or byte in b'"\\' else chr(byte)


def load(port: int, script: Path, *, pid: int, connections: int, seconds: int) -> Measured:
    """Load a server on loopback from one thread; `pid` is the process whose CPU is counted."""
    used = cpu_seconds(pid)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"], check=True, capture_output=True, text=True
    )
    used = cpu_seconds(pid) - used
    said = done.stdout
    total = re.search(r"(\d+) requests in ([\d.]+)(m?s)", said)
    assert total is not None, said
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said
    )
    broken = sum(int(each) for each in errors.groups()) if errors else 0
    return Measured(
        int(total[1]),
        float(total[2]) * _UNITS[total[3]] / 1e3,
        used,
        _percentile(said, "50%"),
        _percentile(said, "99%"),
        broken + (int(wrong[1]) if wrong else 0),
    )


def _percentile(said: str, name: str) -> float:
    found = re.search(rf"{name}\s+([\d.]+)(us|ms|s)", said)
    assert found is not None, said
    return float(found[1]) * _UNITS[found[2]]
