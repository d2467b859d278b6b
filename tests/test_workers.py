"""Several workers on one port: one that dies, all that are replaced, and what they say together."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import orjson
import pytest

from epochs import APP, KEY, WORKSPACE, make_epoch, public_key
from gateway import channel
from gateway.keys import Keys
from gateway.metrics import MAX_SERIES, OTHER, Metrics
from gateway.signing import public_line
from gateway.slot import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS, READY_SECONDS
from gateway.workers import SILENT_TURNS, TURN_SECONDS
from processes import ROOT, Gateway, RedisServer, running_gateway, wait_until

KEYS = Keys(WORKSPACE)
PATH = f"/v1/check/{APP}?user=u-1"
SOAK = "TIDEGATE_SOAK" in os.environ
RESTARTS = 10 if SOAK else 1
SLOW = re.compile(r"Worker \d has not answered its parent for \d+ s\.")
COUNTED = ("tidegate_app_answers_total", "tidegate_http_seconds_count")


@contextmanager
def two_workers(folder: Path, server: RedisServer, name: str) -> Iterator[Gateway]:
    """Run a gateway of two workers that serve epoch 1."""
    with server.client() as client:
        make_epoch(1).write(client)
    with running_gateway(folder, server.url, WORKERS="2", NAME=name) as found:
        wait_until(lambda: len(pids(found)) == 2, "both serve")
        yield found


@pytest.fixture
def gateway(server: RedisServer, tmp_path: Path) -> Iterator[Gateway]:
    """Run a gateway that has counted nothing yet."""
    with two_workers(tmp_path, server, "gw") as found:
        yield found


def pids(gateway: Gateway) -> dict[int, int]:
    """Give the process that serves now in each slot."""
    return {row["worker"]: row["pid"] for row in gateway.events("worker serving")}


def has_ended(pid: int) -> bool:
    """Tell whether a process has ended, also if nobody has asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def fetch(url: str) -> tuple[int, str]:
    """Fetch a page: its status and text."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def ready(gateway: Gateway) -> tuple[int, str]:
    """Ask whether it is ready: the status, and the sentence why not."""
    status, text = fetch(gateway.admin_url + "/health/ready")
    return status, orjson.loads(text).get("detail", "")


def counted(gateway: Gateway, name: str) -> int:
    """Add up the series of one name in `/metrics`."""
    _, text = fetch(gateway.admin_url + "/metrics")
    found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return int(sum(map(float, found)))


def send(gateway: Gateway, signal_number: int) -> None:
    """Send a signal to the parent."""
    assert gateway._process is not None
    gateway._process.send_signal(signal_number)


class Streams:
    """Threads that check, on a kept connection or on a new one each time.

    After each answer they pause for so many seconds.
    """

    def __init__(self, gateway: Gateway, *, kept: int, new: int, pause: float = 0.0) -> None:
        self._pause = pause
        self._host = gateway.url.removeprefix("http://")
        self._stop = threading.Event()
        kinds = [True] * kept + [False] * new
        self._threads = [threading.Thread(target=self._run, args=(each,)) for each in kinds]
        self._lock = threading.Lock()
        self.answers = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.more(100)
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Stop asking."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Wait for so many answers more."""
        wanted = self.answers + count
        wait_until(lambda: self.answers >= wanted, f"{wanted} answers; {self.failures}")

    def _run(self, keep: bool) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=30)
        while not self._stop.is_set():
            try:
                connection.request("GET", PATH)
                response = connection.getresponse()
                status = response.status, orjson.loads(response.read())["apps"][0]["status"]
                assert status == (200, "update"), status
                with self._lock:
                    self.answers += 1
            except Exception as fault:  # noqa: BLE001 - whatever it is, a check failed
                connection.close()
                with self._lock:
                    self.failures.append(repr(fault))
            if not keep:
                connection.close()
            if self._pause:
                self._stop.wait(self._pause)
        connection.close()


def test_whoever_waits_at_a_dead_worker_is_served_by_the_next(gateway: Gateway) -> None:
    """Connections go to both workers; those queued at one that is killed lose nothing but time."""
    before = pids(gateway)
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    os.kill(before[0], signal.SIGSTOP)
    with ExitStack() as stack:
        waiting: set[socket.socket] = set()
        for _ in range(40):
            client = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            client.sendall(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            waiting.add(client)

        def left() -> int:
            for client in list(waiting):
                client.settimeout(0)
                with suppress(BlockingIOError):
                    assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
                    waiting.remove(client)
            return len(waiting)

        wait_until(lambda: left() < 35, "the other worker answers")
        assert left() > 5
        os.kill(before[0], signal.SIGKILL)
        for client in waiting:
            client.settimeout(30)
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
    after = pids(gateway)
    assert after[0] != before[0]
    assert after[1] == before[1]
    wait_until(lambda: ready(gateway) == (200, ""), "both serve again")
    (end,) = gateway.events("a worker ended, and is replaced")
    assert (end["pid"], end["why"]) == (before[0], "SIGKILL")
    assert counted(gateway, "tidegate_worker_ends_total") == 1
    wait_until(lambda: counted(gateway, "tidegate_workers") == 2, "both are counted")


def test_a_worker_killed_under_load_costs_its_own_connections_alone(gateway: Gateway) -> None:
    """Each client loses one request at most; sums do not go backwards, nor lose over a second."""
    name = "tidegate_app_answers_total"
    with Streams(gateway, kept=2, new=2) as streams:
        pass
    heard = streams.answers
    wait_until(lambda: counted(gateway, name) == heard, "the parent has heard of all")
    counts = [heard]
    with Streams(gateway, kept=3, new=3) as streams:
        killed = pids(gateway)[1]
        os.kill(killed, signal.SIGKILL)
        counts.append(counted(gateway, name))
        wait_until(lambda: pids(gateway)[1] != killed, "it is replaced")
        gap = streams.answers
        streams.more(200)
        counts.append(counted(gateway, name))
    assert len(streams.failures) <= 6, streams.failures
    most = heard + streams.answers + len(streams.failures)
    least = heard + streams.answers - gap
    counts.append(wait_until(lambda: (now := counted(gateway, name)) >= least and now, "counted"))
    assert counts == sorted(counts)
    assert counts[-1] <= most


def test_a_rolling_restart_loses_no_request(gateway: Gateway, server: RedisServer) -> None:
    """On SIGHUP every worker is replaced under load; no check fails, none is miscounted."""
    with Streams(gateway, kept=3, new=2) as streams:
        for _ in range(RESTARTS):
            before = pids(gateway)
            restarts = len(gateway.events("restarted the workers"))
            send(gateway, signal.SIGHUP)
            while len(gateway.events("restarted the workers")) == restarts:
                status, why = ready(gateway)
                assert status == 200 or SLOW.fullmatch(why), why
                time.sleep(0.05)
            assert all(map(has_ended, before.values()))
            wait_until(
                lambda old=before: not set(pids(gateway).values()) & set(old.values()), "others say"
            )
            streams.more(100)
    assert streams.failures == []
    for name in COUNTED:
        wait_until(lambda at=name: counted(gateway, at) >= streams.answers, "all are counted")
        assert counted(gateway, name) == streams.answers
    names = [KEYS.gateway("gw-0"), KEYS.gateway("gw-1")]
    with server.client() as client:
        wait_until(lambda: announced(client, "gw") == {"gw-0", "gw-1"}, "each under its own name")
        wait_until(lambda: client.exists(*names) == 2, "both are there")


def announced(client: Any, name: str, keys: Keys = KEYS) -> set[str]:
    """Give the names under which the workers of a gateway announce themselves."""
    found = {each.decode() for each in client.zrange(keys.gateways, 0, -1)}
    return {each for each in found if each.startswith(f"{name}-")}


def test_ready_when_all_are_and_gone_when_told(server: RedisServer, tmp_path: Path) -> None:
    """Not ready before the first epoch; SIGTERM ends all, with 0, and nobody stays announced."""
    with (
        server.client() as client,
        running_gateway(
            tmp_path,
            server.url,
            WORKERS="2",
            NAME="new",
            WORKSPACE="other",
            DRAIN_SECONDS="60",
        ) as gateway,
    ):
        assert ready(gateway) == (503, "Worker 0 has no epoch to serve yet.")
        assert fetch(gateway.admin_url + "/health/live")[0] == 200
        assert fetch(gateway.url + PATH)[0] == 503
        assert counted(gateway, "tidegate_workers") == 0
        make_epoch(3, workspace="other").write(client, workspace="other")
        wait_until(lambda: ready(gateway) == (200, ""), "every worker serves it")
        live = {"ready": True, "epoch": 3, "state": "live"}
        ask = gateway.admin_url + "/health/ready"
        wait_until(lambda: orjson.loads(fetch(ask)[1]) == live, "it is the live one")
        assert counted(gateway, "tidegate_epoch") == 3
        names, keys = {"new-0", "new-1"}, Keys("other")
        wait_until(lambda: announced(client, "new", keys) == names, "both are announced")
        wait_until(lambda: len(pids(gateway)) == 2, "both say so")
        gateway.terminate()
        wait_until(lambda: ready(gateway) == (503, "This gateway is stopping."), "unready")
        gateway.terminate()  # the second time it does not wait for balancers
        assert gateway.wait() == 0
        assert all(map(has_ended, pids(gateway).values()))
        assert announced(client, "new", keys) == set()


def test_workers_do_not_outlive_their_parent(server: RedisServer, tmp_path: Path) -> None:
    """When the parent is killed the workers end by themselves, and the port is free."""
    with two_workers(tmp_path, server, "orphans") as gateway:
        gateway.kill()
        left = pids(gateway).values()
        wait_until(lambda: all(map(has_ended, left)), "the workers have ended")
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    socket.create_server((host, int(port))).close()


def test_a_worker_whose_parent_died_before_it_started_ends(
    server: RedisServer, tmp_path: Path
) -> None:
    """It finds a question on its channel and then the end: no ghost stays on the port."""
    with server.client() as client:
        make_epoch(1).write(client)
    ours, theirs = socket.socketpair()
    with theirs, socket.create_server(("127.0.0.1", 0)) as bound:
        with ours:
            ours.send(channel.REPORT)
        passed = (bound.fileno(), theirs.fileno())
        seat = {channel.VARIABLE: f"0:{passed[0]}:{passed[1]}"}
        code, said = run(tmp_path, server, seat, pass_fds=passed)
    assert (code, "Traceback" in said) == (0, False), said
    assert "the parent is gone" in said


def test_a_worker_that_cannot_start_is_tried_again_ever_later(
    server: RedisServer, tmp_path: Path
) -> None:
    """Broken settings stop no gateway that runs: those who serve stay, attempts grow rarer."""
    keys = tmp_path / "keys"
    keys.write_text(public_line(public_key(KEY)))
    with server.client() as client:
        make_epoch(1).write(client)
    with running_gateway(tmp_path, server.url, WORKERS="2", TRUSTED_KEYS=str(keys)) as gateway:
        wait_until(lambda: len(pids(gateway)) == 2, "both serve")
        before = pids(gateway)
        keys.write_text("nonsense\n")
        send(gateway, signal.SIGHUP)
        sentence = "the new worker does not serve; this one and the rest stay"
        wait_until(lambda: gateway.events(sentence), "the restart is given up")
        wait_until(lambda: ready(gateway) == (200, ""), "both serve on")
        os.kill(before[0], signal.SIGKILL)
        ends = "a worker ended, and is replaced"
        wait_until(lambda: len(gateway.events(ends)) >= 3, "it was tried twice")
        _, *tried = gateway.events(ends)[:3]
        assert [row["why"] for row in tried] == ["exit code 2"] * 2
        once, twice = (row["after_seconds"] for row in tried)
        assert twice == 2 * once > 0
        status, why = ready(gateway)
        assert (status, why[:9]) == (503, "Worker 0 ")
        keys.write_text(public_line(public_key(KEY)))
        wait_until(lambda: ready(gateway) == (200, ""), "it serves again")
        wait_until(lambda: pids(gateway)[0] != before[0], "and says so")
        assert pids(gateway)[1] == before[1]


def run(
    tmp_path: Path, server: RedisServer, more: dict[str, str], pass_fds: tuple[int, ...] = ()
) -> tuple[int, str]:
    """Run a gateway that should end by itself; give its exit code and what it said."""
    made = Gateway(tmp_path, server.url, WORKERS="2")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
    done = subprocess.run(
        [sys.executable, "-m", "gateway"],
        cwd=ROOT,
        env=kept | made.environment | more,
        pass_fds=pass_fds,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_gateway_that_cannot_start_says_so_and_ends(server: RedisServer, tmp_path: Path) -> None:
    """Faults in settings are said once, another's port is not shared, a bad disk is exit code 4."""
    code, said = run(tmp_path, server, {"TIDEGATE_WORKSPACE": ""})
    assert code == 2
    assert said == (
        "TIDEGATE_WORKSPACE: it is not set. Name the workspace to serve, for example demo.\n"
    )
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        code, said = run(tmp_path, server, {"TIDEGATE_LISTEN": f"127.0.0.1:{port}"})
    assert code == 2
    assert said.startswith(f"TIDEGATE_LISTEN: 127.0.0.1:{port} is in use. Choose another port")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "highest").write_bytes(b"nonsense")
    code, said = run(tmp_path, server, {})
    assert code == 4
    assert "it holds the highest epoch that was served here" in said


@pytest.mark.skipif(not SOAK, reason="takes half a minute: TIDEGATE_SOAK=1")
def test_a_worker_that_answers_nothing_is_replaced(gateway: Gateway) -> None:
    """A process that hangs is said to be so within seconds, and is killed within half a minute."""
    hung = pids(gateway)[0]
    os.kill(hung, signal.SIGSTOP)
    why = "Worker 0 has not answered its parent for"
    wait_until(lambda: ready(gateway)[1].startswith(why), "it is said", 10)
    wait_until(lambda: pids(gateway)[0] != hung, "it is replaced", 45)
    wait_until(lambda: ready(gateway) == (200, ""), "it serves again")


def test_counts_of_several_add_up() -> None:
    """What several have counted, heard in whatever portions, is their sum, and is bounded."""
    total, workers = Metrics(), [Metrics() for _ in range(3)]
    heard = [worker.counts() for worker in workers]
    for turn in range(500):
        for at, worker in enumerate(workers):
            worker.count([("app", f"r{turn * (at + 1)}", "update", ""), ("app", "r", "latest", "")])
            worker.respond(0, 200 if turn % 2 else 503, turn / 100)
            worker.lookups.timeouts += 1
            worker.refused_epochs += 1
        if turn % 7 == 0:
            worker = workers[turn % 3]
            total.add(worker.counts(), heard[turn % 3])
            heard[turn % 3] = worker.counts()
    for worker, before in zip(workers, heard, strict=True):
        total.add(worker.counts(), before)
    found = total.counts()
    answers = {key[1:]: count for key, count in found.items() if key[0] == "answers"}
    assert sum(answers.values()) == 3_000
    assert answers["app", "r", "latest"] == 1_500
    assert len(answers) <= MAX_SERIES
    assert (OTHER, OTHER, "update") in answers
    for key, count in found.items():
        if key[0] != "answers":
            assert count == pytest.approx(sum(worker.counts()[key] for worker in workers)), key
    total.add({("of", "another", "version"): 5.0, ("lookups", "later"): 1.0}, {})
    assert total.counts() == found


def test_the_guide_names_the_times_that_are_kept() -> None:
    """The numbers in the guide's part on workers are those that the code holds to."""
    guide = (ROOT / "gateway/README.md").read_text().partition("**Workers.**")[2]
    text = " ".join(guide.split())
    assert f"after {FIRST_DELAY_SECONDS} s, then twice as long each time" in text
    assert f"up to {LONGEST_DELAY_SECONDS:.0f} s." in text
    assert f"nothing for {SILENT_TURNS * TURN_SECONDS:.0f} s is killed" in text
    assert "serves none within a minute" in text
    assert READY_SECONDS == 60
