"""Load by wrk: the scripts that it sends, and what it found."""

import re
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.phones import ANYBODY
from loadtest.servers import Failed

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
_SIZES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
_TIMEOUT = "30s"
"""Longer than a busy machine holds up a server: what is late is no failure, and p99 shows it."""

_BROKEN = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_SPECIAL = b'"\\'

_SAME = """\
request = function()
  at = at % #requests + 1
  return requests[at]
end
"""
_OTHERS = """\
local member = 0
function init(args) member = tonumber(args[1]) end
request = function()
  at = at % #requests + 1
  member = (member + 1) % {ids}
  return requests[at] .. string.format("m-%08d", member) .. behind[at]
end
"""
# As on the wire, one behind the other: a file is read as an HTTP server would read it.
_FILE = """\
local requests, at = {{}}, 0
function init(args)
  local file = assert(io.open({path}, "rb"))
  local text, from = file:read("*a"), 1
  file:close()
  while from <= #text do
    local _, head = text:find("\\r\\n\\r\\n", from, true)
    local length = tonumber(text:sub(from, head):match("\\r\\nContent%-Length: (%d+)\\r\\n"))
    requests[#requests + 1] = text:sub(from, head + length)
    from = head + length + 1
  end
  at = (tonumber(args[1]) or 0) % #requests
end
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What one run of wrk says: answers, seconds, latencies in ms, its own share of a core.

    `broken` are answers that were no 2xx, and connections that failed; `received` are the bytes of
    all answers with their heads.
    """

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float
    broken: int
    busy: float
    received: int = 0


def write_script(path: Path, requests: Sequence[bytes], members: int = 0) -> None:
    """Write a script that sends these very requests in turn.

    With `members`, each has ANYBODY in it, where the script writes one member after another; its
    argument says after which one to begin.
    """
    if members:
        parts = [each.partition(ANYBODY.encode()) for each in requests]
        assert all(mark for _, mark, _ in parts), "a request without ANYBODY"
        before, behind = [front for front, _, _ in parts], [end for _, _, end in parts]
        text = f"local requests = {_table(before)}\nlocal behind = {_table(behind)}\n"
    else:
        text = f"local requests = {_table(requests)}\n"
    text += "local at = 0\n" + (_OTHERS.format(ids=members) if members else _SAME)
    path.write_text(text, encoding="latin-1")


def write_file_script(path: Path, requests: Path) -> None:
    """Write a script that sends the requests of a file in turn, as often as wrk likes.

    Each of them has a Content-Length. The script's argument says how many to pass over at first.
    """
    name = f'"{"".join(map(_escaped, str(requests.resolve()).encode()))}"'
    path.write_text(_FILE.format(path=name) + _SAME, encoding="latin-1")


def _table(texts: Sequence[bytes]) -> str:
    return "{\n" + ",\n".join(f'"{"".join(map(_escaped, each))}"' for each in texts) + "\n}"


def _escaped(byte: int) -> str:
    return f"\\{byte:03d}" if byte < 32 or byte in _SPECIAL else chr(byte)


def load(port: int, script: Path, *, connections: int, seconds: int, start: int) -> Found:
    """Load a server on loopback from one thread, on the cores of this process. Raises Failed.

    `start` is the member to begin after, in a script over members.
    """
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={_TIMEOUT}", "--latency"]
    used, began = _children_seconds(), time.monotonic()
    done = subprocess.run(
        ["wrk", *options, "-s", str(script), f"http://127.0.0.1:{port}/", "--", str(start)],
        check=False,
        capture_output=True,
        text=True,
    )
    busy = (_children_seconds() - used) / (time.monotonic() - began)
    if done.returncode:
        raise Failed(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    return read(done.stdout, busy)


def _children_seconds() -> float:
    """Read the CPU time of the ended children of this process: between two reads, that is wrk."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def read(said: str, busy: float) -> Found:
    """Read what wrk printed. Raises Failed when it is no report, or reports no answer."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m), ([\d.]+)(B|KB|MB|GB) read", said)
    if total is None or total[1] == "0":
        raise Failed(f"wrk got no answer. It said:\n{said}")
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = _BROKEN.search(said)
    return Found(
        answers=int(total[1]),
        seconds=float(total[2]) * _UNITS[total[3]] / 1e3,
        p50_ms=_percentile(said, "50%"),
        p99_ms=_percentile(said, "99%"),
        broken=(sum(map(int, errors.groups())) if errors else 0) + (int(wrong[1]) if wrong else 0),
        busy=busy,
        received=round(float(total[4]) * _SIZES[total[5]]),
    )


def _percentile(said: str, name: str) -> float:
    found = re.search(rf"\b{name}\s+([\d.]+)(us|ms|s|m)\b", said)
    if found is None:
        raise Failed(f"wrk printed no latencies. It said:\n{said}")
    return float(found[1]) * _UNITS[found[2]]
