"""deploy/systemd: what systemd says of the units, and what Redis and a gateway do with them."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.config import VARIABLES, read_config
from gateway.slot import FINISH_SECONDS
from processes import ROOT, Gateway, free_port, redis_server_path, wait_until
from tools import DEPLOY, tool

UNITS = DEPLOY / "systemd"
NAMES = sorted(path.name for path in UNITS.glob("*.service"))
SYSTEM = Path("/usr/lib/systemd/system")
PROGRAMS = ("opt/tidegate/current/bin/python", "opt/tidegate/current/bin/tidegate")
MOST_EXPOSED = 1.5  # of 10, as `systemd-analyze security` counts; a unit without a word has 9.6
SYSCALL_NUMBERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def settings(unit: str) -> dict[str, list[str]]:
    """Give a unit's settings by key, each with its values in order."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", (UNITS / unit).read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Lay out a machine's root on which the units are installed, and all that they start."""
    if not (SYSTEM / "sysinit.target").exists():
        pytest.skip("There is no systemd here whose own units could be loaded.")
    here = tmp_path / "usr/lib/systemd/system"
    here.mkdir(parents=True)
    for path in [*SYSTEM.glob("*.target"), *SYSTEM.glob("*.slice")]:
        shutil.copy(path, here)
    for name in NAMES:
        shutil.copy(UNITS / name, here)
    for program in (*PROGRAMS, "usr/bin/redis-server", "bin/kill"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).touch(mode=0o755)
    return tmp_path


def verify(machine: Path) -> subprocess.CompletedProcess[str]:
    """Let systemd read the installed units."""
    analyze = tool("systemd-analyze", "Debian's systemd")
    command = [analyze, "verify", "--man=no", "--recursive-errors=one", f"--root={machine}"]
    return subprocess.run([*command, *NAMES], capture_output=True, text=True, check=False)


def test_systemd_has_nothing_to_say_of_the_units(machine: Path) -> None:
    """`systemd-analyze verify` is silent; a misspelled key, or a missing program, is noticed."""
    done = verify(machine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    spoiled = machine / "usr/lib/systemd/system" / NAMES[0]
    spoiled.write_text(spoiled.read_text().replace("NoNewPrivileges", "NoNewPrivilege"))
    (machine / PROGRAMS[0]).unlink()
    said = verify(machine).stderr
    assert "Unknown key 'NoNewPrivilege'" in said
    assert "/opt/tidegate/current/bin/python is not executable" in said


@pytest.mark.parametrize("name", NAMES)
def test_the_units_are_hardened(name: str) -> None:
    """By systemd's count there is little that a service could do beyond its work."""
    analyze = tool("systemd-analyze", "Debian's systemd")
    done = subprocess.run(
        [analyze, "security", "--offline=yes", "--no-pager", str(UNITS / name)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    assert float(found[1]) <= MOST_EXPOSED


def test_the_owner_of_the_store_is_made(tmp_path: Path) -> None:
    """Systemd makes the user, and the store's folder that others may read, from deploy's files."""
    if os.geteuid() != 0:
        pytest.skip("Only root may give a folder to another user.")
    (tmp_path / "etc").mkdir()
    for kind in ("sysusers", "tmpfiles"):
        tool(f"systemd-{kind}", "Debian's systemd")
        place = tmp_path / f"usr/lib/{kind}.d/tidegate.conf"
        place.parent.mkdir(parents=True)
        shutil.copy(UNITS / f"{kind}.conf", place)
    root = f"--root={tmp_path}"
    subprocess.run(["systemd-sysusers", root], check=True, capture_output=True)
    subprocess.run(["systemd-tmpfiles", "--create", root], check=True, capture_output=True)
    (user,) = (tmp_path / "etc/passwd").read_text().splitlines()
    name, _, number, *_ = user.split(":")
    assert [name] == settings("tidegate-control.service")["User"]
    store = (tmp_path / "srv/tidegate").stat()
    assert (store.st_uid, store.st_mode & 0o777) == (int(number), 0o755)


def test_a_stop_waits_longer_than_the_gateway() -> None:
    """A gateway has killed its workers, if it must, before systemd kills the gateway."""
    found = settings("tidegate-gateway.service")
    drain = re.search(r"TIDEGATE_DRAIN_SECONDS=(\d+)", " ".join(found["Environment"]))
    assert drain is not None
    # once for the workers to end by themselves, once more for those that are told to hurry
    assert int(found["TimeoutStopSec"][0]) > int(drain[1]) + 2 * FINISH_SECONDS
    assert found["KillMode"] == ["mixed"]


@pytest.mark.parametrize("name", ["gateway.env", "control.env"])
def test_environment_files_are_what_a_gateway_reads(name: str, tmp_path: Path) -> None:
    """Every variable in them exists, and a gateway takes the values as they stand."""
    lines = re.findall(r"^(?:# )?(TIDEGATE_\w+)=(.*)$", (UNITS / name).read_text(), re.MULTILINE)
    environ = {key: value for key, value in lines if value}
    assert {key for key, _ in lines} <= {variable.name for variable in VARIABLES}
    if "TIDEGATE_TRUSTED_KEYS" in environ:
        environ["TIDEGATE_TRUSTED_KEYS"] = "ann:" + "A" * 43 + "="
    assert read_config(environ).workspace == "demo"


def test_a_reload_finds_two_workers() -> None:
    """SIGHUP ends a gateway of one process: the unit, which sends it, and its file ask for more."""
    found = settings("tidegate-gateway.service")
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert any("TIDEGATE_WORKERS=2" in each for each in found["Environment"])
    assert "\nTIDEGATE_WORKERS=2\n" in (UNITS / "gateway.env").read_text()


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[tuple[redis.Redis, Callable[[], None]]]:
    """Run a Redis by deploy's file but for port and folder: a client, and a kill with restart."""
    port = free_port()
    command = [redis_server_path(), str(UNITS / "redis.conf"), "--port", str(port)]
    command += ["--dir", str(tmp_path), "--bind", "127.0.0.1"]
    client = redis.Redis(port=port, socket_timeout=5)
    running: list[subprocess.Popen[bytes]] = []

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False

    def start() -> None:
        output = (tmp_path / "redis.log").open("ab")
        running.append(subprocess.Popen(command, stdout=output, stderr=output))
        output.close()
        wait_until(answers, "Redis answers")

    def restart() -> None:
        running[-1].kill()
        running[-1].wait()
        start()

    with ExitStack() as stack:
        stack.callback(lambda: [(each.kill(), each.wait()) for each in running])
        stack.callback(client.close)
        start()
        yield client, restart


def test_redis_keeps_what_it_acknowledged(
    configured: tuple[redis.Redis, Callable[[], None]],
) -> None:
    """Redis evicts nothing; what it has written, within seconds, is there after a kill with -9."""
    client, restart = configured
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    client.sadd("seats", 1, 2, 3)

    def written() -> bool:
        said: Any = client.info("persistence")
        return said["aof_buffer_length"] == 0

    wait_until(written, "it is in the file")
    restart()
    assert client.scard("seats") == 3


def allowed_calls() -> list[int]:
    """Give the numbers of the system calls that the gateway's unit allows."""
    analyze = tool("systemd-analyze", "Debian's systemd")
    listing = subprocess.run(
        [analyze, "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True
    ).stdout
    groups: dict[str, list[str]] = {}
    name = ""
    for line in listing.splitlines():
        if line.startswith("@"):
            name = line.strip()
            groups[name] = []
        elif line.startswith("    ") and name:
            groups[name].append(line.split()[0])

    def members(group: str) -> set[str]:
        found = set()
        for each in groups.get(group, ()):
            found |= members(each) if each.startswith("@") else {each}
        return found

    calls: set[str] = set()
    for value in settings("tidegate-gateway.service")["SystemCallFilter"]:
        taken = set().union(*(members(each) for each in value.removeprefix("~").split()))
        calls = calls - taken if value.startswith("~") else calls | taken
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", SYSCALL_NUMBERS.read_text()))
    return sorted(int(numbers[each]) for each in calls if each in numbers)


CONFINED = """
import ctypes, os, struct, sys
calls = [int(each) for each in sys.argv[1].split(",")]
code = [(0x20, 0, 0, 0)]                                     # load the call's number
for call in calls:
    code += [(0x15, 0, 1, call), (0x06, 0, 0, 0x7FFF0000)]   # this one: allow
code.append((0x06, 0, 0, 0x00050000 | 1))                    # any other: EPERM
program = b"".join(struct.pack("HBBI", *each) for each in code)
buffer = ctypes.create_string_buffer(program)
header = struct.pack("HL", len(code), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0                       # PR_SET_NO_NEW_PRIVS
assert libc.prctl(65, 1, 0, 0, 0) == 0 or sys.exit(77)       # PR_SET_MDWE
assert libc.prctl(22, 2, header, 0, 0) == 0                  # PR_SET_SECCOMP, a filter
os.execv(sys.executable, [sys.executable, "-m", "gateway"])
"""


def test_a_gateway_bears_its_confinement(tmp_path: Path) -> None:
    """With the unit's system calls only, and no memory both written and run, workers serve."""
    if sys.platform != "linux" or not SYSCALL_NUMBERS.exists():
        pytest.skip("The numbers of system calls are not here; they come with linux-libc-dev.")
    if ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) < 0:  # PR_GET_MDWE
        pytest.skip("This kernel is older than 6.3, and cannot forbid such memory by itself.")
    calls = ",".join(map(str, allowed_calls()))
    gateway = Gateway(tmp_path, "redis://127.0.0.1:1/0", WORKERS="2")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
    with gateway.log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", CONFINED, calls],
            cwd=ROOT,
            env=kept | gateway.environment,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: gateway.events("serving") or process.poll(), "the gateway serves")
        assert process.poll() is None, gateway.log.read_text()
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
