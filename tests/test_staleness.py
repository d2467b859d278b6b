"""Cut off from Redis: how long a gateway stays ready, and how far the two clocks are apart."""

import re
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from epochs import APP, WORKSPACE, make_epoch
from gateway.admin import Ready, readiness
from gateway.config import ConfigError, read_config
from gateway.lifecycle import State
from gateway.link import connect_async, parse_url
from gateway.metrics import Metrics, Served, exposition
from gateway.redis_clock import compare
from in_process import snapshot_of
from processes import Gateway, redis_cluster, redis_server, running_gateway, wait_until

AHEAD = "tidegate_redis_ahead_seconds"
SILENCE = "tidegate_redis_silence_seconds"
SILENT = re.compile(r"Redis has not answered for \d+ s, and TIDEGATE_MAX_STALE is 5\. ")
QUESTION = orjson.dumps({"apps": {APP: None}})


class Silent:
    """Stands in for a follower to which Redis has said nothing for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.snapshot: Any = snapshot_of(make_epoch(7))
        self.state = State.KEPT
        self.why = "Redis is away"
        self._seconds = seconds

    def silence(self) -> float:
        """Tell."""
        return self._seconds


def test_a_gateway_is_unready_beyond_the_limit_alone() -> None:
    """Up to the limit it is as ready as ever, beyond it the sentence has both numbers."""
    kept = Ready(7, State.KEPT, "Redis is away")
    follower: Any = Silent(600)
    assert readiness(follower)() == readiness(follower, 600)() == kept
    assert readiness(follower, 599.5)() == (
        "Redis has not answered for 600 s, and TIDEGATE_MAX_STALE is 599.5. "
        "Checks are answered all the same."
    )
    follower.snapshot = None
    assert readiness(follower, 1)() == "There is no epoch to serve yet (Redis is away)."


@pytest.mark.parametrize("text", ["0", "4.9", "-1", "never", "nan", "inf", "604801"])
def test_the_limit_is_a_sensible_number(text: str) -> None:
    """Shorter than a failover, endless, or no number at all: a fault that names the range."""
    with pytest.raises(ConfigError, match=r"TIDEGATE_MAX_STALE: .* from 5 to 604,800"):
        read_config({"TIDEGATE_WORKSPACE": WORKSPACE, "TIDEGATE_MAX_STALE": text})


def test_the_limit_is_off_unless_set() -> None:
    """By default a gateway stays ready for ever."""
    assert read_config({"TIDEGATE_WORKSPACE": WORKSPACE}).max_stale is None
    set_so = {"TIDEGATE_WORKSPACE": WORKSPACE, "TIDEGATE_MAX_STALE": " 600 "}
    assert read_config(set_so).max_stale == 600


def _ready(gateway: Gateway) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(gateway.admin_url + "/health/ready", timeout=30) as answer:
            return answer.status, orjson.loads(answer.read())
    except urllib.error.HTTPError as refused:
        return refused.code, orjson.loads(refused.read())


def _detail(gateway: Gateway) -> str:
    """Give the sentence that says why it is not ready, "" while it is."""
    return str(_ready(gateway)[1].get("detail", ""))


def _metric(gateway: Gateway, name: str) -> float | None:
    with urllib.request.urlopen(gateway.admin_url + "/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    found = [line.split()[1] for line in lines if line.startswith(name + " ")]
    return float(found[0]) if found else None


def test_a_gateway_cut_off_is_unready_and_answers(tmp_path: Path) -> None:
    """With one process and with workers: unready in time, answering all along, ready again."""
    with redis_server(tmp_path) as server, ExitStack() as stack:
        with server.client() as client:
            make_epoch(1).write(client)
        gateways = [
            stack.enter_context(
                running_gateway(tmp_path / str(workers), server.url, MAX_STALE="5", WORKERS=workers)
            )
            for workers in ("1", "2")
        ]
        for gateway in gateways:
            wait_until(lambda at=gateway: _ready(at)[0] == 200, "it is ready")
            wait_until(lambda at=gateway: _metric(at, AHEAD) is not None, "clocks are compared")
            ahead = _metric(gateway, AHEAD)
            assert ahead is not None
            assert abs(ahead) < 2
        server.kill()
        for gateway in gateways:
            wait_until(lambda at=gateway: SILENT.match(_detail(at)), "it is unready")
            wait_until(lambda at=gateway: (_metric(at, SILENCE) or 0) > 5, "it says for how long")
            with urllib.request.urlopen(gateway.url + "/v1/check", QUESTION, timeout=30) as answer:
                assert orjson.loads(answer.read())["epoch"] == 1
        server.start()
        with server.client() as client:
            make_epoch(1).write(client)
        for gateway in gateways:
            wait_until(lambda at=gateway: _ready(at)[0] == 200, "it is ready again")


class Clocks:
    """Stands in for Redis, whose clock is so many seconds ahead; of a Cluster, those of nodes."""

    def __init__(self, *ahead: float) -> None:
        self._ahead = ahead

    async def time(self) -> Any:
        """Tell as redis-py does."""
        told = [divmod(round((time.time() + each) * 1e6), 1_000_000) for each in self._ahead]
        return told[0] if len(told) == 1 else {f"node-{at}": each for at, each in enumerate(told)}


@pytest.mark.parametrize(("clocks", "farthest"), [((90,), 90), ((-90,), -90), ((1, -9, 3), -9)])
async def test_the_distance_is_that_of_the_farthest_clock(clocks: Any, farthest: float) -> None:
    """Positive where Redis is ahead; of several, the one that is off most, to a fraction."""
    link: Any = Clocks(*clocks)
    assert await compare(link) == pytest.approx(farthest, abs=1)


async def test_real_clocks_are_compared(tmp_path: Path) -> None:
    """One Redis tells its time, and so do the nodes of a Cluster; here it is this machine's."""
    with redis_server(tmp_path / "one") as server, redis_cluster(tmp_path / "many") as cluster:
        for url in (server.url, cluster):
            link = connect_async(parse_url(url), timeout_seconds=20)
            try:
                ahead = await compare(link)
                while ahead is None:  # the machine was too busy to tell
                    ahead = await compare(link)
                assert ahead == pytest.approx(0, abs=2)
            finally:
                await link.aclose()


def test_metrics_tell_distance_and_silence() -> None:
    """Both are gauges; the distance is absent before it is known."""
    counts = Metrics()
    served = Served(1, 0, 0.0, live=True, silence=3.5)
    counts.served = lambda: served
    text = exposition(counts)().decode()
    assert "tidegate_redis_silence_seconds 3.5\n" in text
    assert "tidegate_redis_ahead_seconds" not in text
    served = Served(1, 0, 0.0, live=True, redis_ahead=-0.25)
    assert "tidegate_redis_ahead_seconds -0.25\n" in exposition(counts)().decode()
