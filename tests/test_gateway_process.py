"""Gateways as operators run them: a Redis that dies and comes back, restarts, a Cluster."""

import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any, Self

import orjson
import pytest
from redis.cluster import ClusterNode, RedisCluster

from epochs import APP, WORKSPACE, make_epoch
from gateway.keys import Keys
from processes import Gateway, redis_cluster, redis_server, running_gateway, wait_until

KEYS = Keys(WORKSPACE)
QUESTION = orjson.dumps({"apps": {APP: None}, "user": "u-1"})


class Stream:
    """Checks sent one after another from a thread, until told to stop; every failure is kept."""

    def __init__(self, gateway: Gateway) -> None:
        self._url = gateway.url + "/v1/check"
        self._stop = Event()
        self._thread = Thread(target=self._run)
        self.failures: list[str] = []
        self.answers: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def more(self, count: int) -> None:
        """Wait for so many answers more."""
        wanted = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= wanted or self.failures, f"{wanted} answers")

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(ask(self._url))
            except (OSError, ValueError) as fault:
                self.failures.append(repr(fault))


def ask(url: str) -> dict[str, Any]:
    """Send one check. Raises OSError for anything but 200."""
    with urllib.request.urlopen(url, QUESTION, timeout=30) as response:
        return dict(orjson.loads(response.read()))


def test_redis_killed_back_and_emptied_costs_no_check(tmp_path: Path) -> None:
    """Law 9: Redis is killed with -9, started again empty, and filled; not one check fails.

    The member keeps their release, as their membership was confirmed before.
    """
    with redis_server(tmp_path / "redis") as server:
        with server.client() as client:
            make_epoch(1, staff=("u-1",)).write(client)
        with running_gateway(tmp_path, server.url) as gateway:
            assert ask(gateway.url + "/v1/check")["apps"][0]["release"] == "staff"
            with Stream(gateway) as stream:
                stream.more(50)
                server.kill()
                stream.more(200)
                time.sleep(1.5)
                stream.more(50)
                server.start()  # on the same port, and empty
                time.sleep(1.5)
                stream.more(50)
                with server.client() as client:
                    make_epoch(2, staff=("u-1",)).write(client)
                    wait_until(lambda: stream.answers[-1]["epoch"] == 2, "epoch 2 is served")
                    wait_until(
                        lambda: (announced(client) or {}).get("epoch") == 2,
                        "the gateway announces itself again, with the new epoch",
                    )
            assert stream.failures == []
            assert {each["apps"][0]["release"] for each in stream.answers} == {"staff"}
            assert [row["level"] for row in gateway.events("a request failed")] == []


def test_a_check_waits_for_redis_as_long_as_it_is_told_to(tmp_path: Path) -> None:
    """TIDEGATE_LOOKUP_TIMEOUT_MS of 10 s outlasts a Redis that hangs for 2.5 s: a member is one."""
    with redis_server(tmp_path / "redis") as server:
        with server.client() as client:
            make_epoch(1, staff=("u-1",)).write(client)
        with running_gateway(tmp_path, server.url, LOOKUP_TIMEOUT_MS="10000") as gateway:
            wait_until(lambda: gateway.events("epoch served"), "the epoch is served")
            server.signal(signal.SIGSTOP)
            back = Timer(2.5, server.signal, [signal.SIGCONT])
            back.start()
            try:
                assert ask(gateway.url + "/v1/check")["apps"][0]["release"] == "staff"
            finally:
                back.join()


def announced(client: Any) -> Any:
    """Read what the one gateway says of itself."""
    names = client.zrange(KEYS.gateways, 0, -1)
    text = client.get(KEYS.gateway(names[0].decode())) if names else None
    return orjson.loads(text) if text else None


def test_a_gateway_killed_and_restarted_without_redis_serves_the_same(tmp_path: Path) -> None:
    """A gateway that starts while Redis is away serves its last epoch from the disk."""
    with redis_server(tmp_path / "redis") as server:
        with server.client() as client:
            make_epoch(7).write(client)
        with running_gateway(tmp_path, server.url) as gateway:
            wait_until(lambda: gateway.events("epoch served"), "the epoch is served, and so kept")
            gateway.kill()
            server.kill()
            gateway.start()
            assert ask(gateway.url + "/v1/check")["epoch"] == 7


def test_a_gateway_announces_itself_and_says_goodbye(tmp_path: Path) -> None:
    """Its key says what it serves, expires soon, follows a swap at once, and goes with it."""
    with (
        redis_server(tmp_path / "redis") as server,
        server.client() as client,
        running_gateway(tmp_path, server.url, NAME="gw-1") as gateway,
    ):
        said = wait_until(lambda: announced(client), "an announcement")
        assert (said["name"], said["epoch"], said["digest"], said["formats"]) == (
            "gw-1",
            0,
            "",
            [2],
        )
        made = make_epoch(3)
        made.write(client)
        said = wait_until(
            lambda: (found := announced(client)) and found["epoch"] and found, "epoch 3"
        )
        assert (said["epoch"], said["digest"]) == (3, made.digest.hex())
        assert abs(said["since"] - time.time()) < 60
        # Between 0 and 5 s; now and then it has expired, as the gateway was not given its turn.
        left = wait_until(lambda: max(client.pttl(KEYS.gateway("gw-1")), 0), "it expires")
        assert left <= 5_000
        assert abs(client.zscore(KEYS.gateways, "gw-1") - time.time()) < 60
        gateway.terminate()
        assert gateway.wait() == 0
        assert announced(client) is None


def test_a_real_cluster_is_followed_and_looked_up(tmp_path: Path) -> None:
    """Pointer, blobs, buckets, notices and announcements work over three nodes of a Cluster."""
    with redis_cluster(tmp_path / "cluster") as url, running_gateway(tmp_path, url) as gateway:
        host, _, port = url.rpartition("://")[2].split(",")[0].partition(":")
        client = RedisCluster(startup_nodes=[ClusterNode(host, int(port))])
        try:
            with pytest.raises(urllib.error.HTTPError, match="503"):
                ask(gateway.url + "/v1/check")
            make_epoch(1, staff=("u-1",), apps=20).write(client)
            wait_until(lambda: gateway.events("epoch served"), "the epoch is served")
            assert ask(gateway.url + "/v1/check")["apps"][0]["release"] == "staff"
            wait_until(lambda: (announced(client) or {}).get("epoch") == 1, "an announcement")
        finally:
            client.close()
