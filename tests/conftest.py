"""What all tests share: one Redis a file, an empty workshop a test, and how Hypothesis runs."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from compiler.publication.publisher_key import create_key
from desks import desk  # noqa: F401 - a fixture
from gateway.link import connect_sync, parse_url
from processes import RedisServer, redis_server
from publishing import Workshop

# A shell lets what it runs in the background ignore Ctrl-C, and all that this starts would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No law is about being quick: an example that took long on a busy machine is no fault.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
# For test_mutations.py, which asks only whether a law fails: not by which smallest example.
settings.register_profile("noticing", phases=(Phase.explicit, Phase.generate))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run one Redis for this file."""
    with redis_server(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture
def workshop(server: RedisServer, tmp_path: Path) -> Iterator[Workshop]:
    """Give an empty Redis and an empty store."""
    link = connect_sync(parse_url(server.url), timeout_seconds=20)
    link.flushall()
    yield Workshop(tmp_path / "store", link)
    link.close()


@pytest.fixture
def controller_key(tmp_path: Path) -> Path:
    """Give a controller a key of its own."""
    return create_key(tmp_path / "keys", "controller", None)
