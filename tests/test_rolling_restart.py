"""A rolling restart behind the edge of deploy/nginx: no request fails, and none counts twice.

Phones keep their connections to the edge, and the edge its own to the gateways, idle for moments
that differ; so a gateway may close one just while a request is on its way.
"""

import json
import os
import random
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread

import pytest

from edge import running_edge
from epochs import APP, WORKSPACE, make_epoch
from gateway.keys import Keys
from phones import Phones, answered_by
from processes import Gateway, RedisServer, free_port, running_gateway, wait_until

SOAK = "TIDEGATE_SOAK" in os.environ
ROUNDS = 15 if SOAK else 1
PHONES = 12 if SOAK else 6
DRAIN = "0.3"
LONGEST_PAUSE = 0.6
"""Longer than the drain, so that a connection of the edge's may be idle when its gateway goes."""

REPORT = {"app": APP, "release": "stable", "event": "installed", "version": "1.0.0.1"}
QUESTIONS = {
    "/v1/check": json.dumps({"apps": {APP: None}, "user": "u-1"}).encode(),
    "/v1/report": json.dumps({"device": "d-1", "reports": [REPORT]}).encode(),
    "/ofrep/v1/evaluate/flags": json.dumps({"context": {"user": "u-1"}}).encode(),
}


def pause(dice: random.Random) -> float:
    """Give the seconds until a phone's next question."""
    return dice.choice((0.001, dice.uniform(0, LONGEST_PAUSE)))


@pytest.fixture
def gateways(server: RedisServer, tmp_path: Path) -> Iterator[list[Gateway]]:
    """Run two gateways on ports of their own."""
    with server.client() as client, ExitStack() as stack:
        client.flushall()
        make_epoch(1, switches=True).write(client)
        places = [f"127.0.0.1:{free_port()}" for _ in range(2)]
        yield [
            stack.enter_context(
                running_gateway(tmp_path / str(at), server.url, LISTEN=place, DRAIN_SECONDS=DRAIN)
            )
            for at, place in enumerate(places)
        ]


def stop(gateway: Gateway) -> bool:
    """Stop a gateway; tell whether Redis was too slow to take what it had counted last."""
    gateway.terminate()
    assert gateway.wait() == 0
    return bool(gateway.events("Redis did not take what was counted last"))


def test_a_rolling_restart_loses_nothing(
    gateways: list[Gateway], server: RedisServer, tmp_path: Path
) -> None:
    """Each gateway in turn is stopped and started; every request is answered, once."""
    places = [each.url.removeprefix("http://") for each in gateways]
    lost = False
    with running_edge(tmp_path / "nginx", places, tmp_path) as edge:
        with Phones(edge, PHONES, QUESTIONS, pause) as phones:
            phones.more(5)
            for _ in range(ROUNDS):
                for gateway in gateways:
                    lost |= stop(gateway)
                    phones.more(3)
                    gateway.start()
                    wait_until(lambda at=gateway: answered_by(at), "it is asked again")
        print(f"\n{2 * ROUNDS} restarts: {phones.answered}, {len(phones.failures)} failed")
        assert phones.failures == []
    for gateway in gateways:
        lost |= stop(gateway)
    with server.client() as client:
        counted = client.hgetall(Keys(WORKSPACE).reports_of(APP))
    assert counted.keys() == {b"stable:installed"}
    added, told = int(counted[b"stable:installed"]), phones.answered["/v1/report"]
    assert added == told or (lost and added < told)


def test_a_gateway_that_starts_again_has_its_epoch(server: RedisServer, tmp_path: Path) -> None:
    """Its first answer is of the epoch that it has on disk, also if Redis hangs just then."""
    with server.client() as client:
        client.flushall()
        make_epoch(1).write(client)
    place = f"127.0.0.1:{free_port()}"
    first: list[int] = []

    def is_answered() -> bool:
        with suppress(ConnectionRefusedError):
            connection = HTTPConnection(place, timeout=30)
            connection.request("POST", "/v1/check", QUESTIONS["/v1/check"])
            first.append(connection.getresponse().status)
            connection.close()
        return first != []

    with running_gateway(tmp_path, server.url, LISTEN=place) as gateway:
        stop(gateway)
        phone = Thread(target=wait_until, args=(is_answered, "it listens"))
        phone.start()
        server.signal(signal.SIGSTOP)
        try:
            gateway.start()
        finally:
            server.signal(signal.SIGCONT)
            phone.join()
    assert first == [200]


class Leaving(Thread):
    """What an edge sees of a gateway that closes an idle connection while a request comes.

    Each connection is answered once; the next request on it meets a reset.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.left = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._server.getsockname()[1]}"

    def run(self) -> None:
        """Serve one connection after another, until the socket is closed."""
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                client.settimeout(60)
                client.recv(65_536)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                if client.recv(1):
                    self.left += 1
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()

    def close(self) -> None:
        """Accept nobody else."""
        self._server.close()


def test_a_connection_closed_under_a_request_costs_nothing(
    gateways: list[Gateway], tmp_path: Path
) -> None:
    """What a gateway that goes has not answered is asked of the next one, whatever it is."""
    leaving = Leaving()
    leaving.start()
    places = [leaving.place, gateways[0].url.removeprefix("http://")]
    with running_edge(tmp_path / "nginx", places, tmp_path) as edge, closing(leaving):
        for path, body in QUESTIONS.items():
            before = leaving.left

            def left(path: str = path, body: bytes = body, before: int = before) -> bool:
                assert edge.ask("POST", path, body)[0].status in (200, 202), path
                return leaving.left > before

            wait_until(left, "a connection was closed under a request")
