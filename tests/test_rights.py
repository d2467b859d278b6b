"""The least rights suffice: under them alone everything works, and nothing beside it does."""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

import processes
from compiler.control.counts import Counts
from compiler.control.lease import Lease, LeaseLostError
from compiler.control.upkeep import Upkeep
from compiler.control.watch import Watch
from compiler.control.workplace import Workplace as Duty
from compiler.publication.collection import collect
from compiler.publication.restore import restore
from gateway.keys import Keys
from gateway.link import Kind, connect_sync, parse_url
from gateway.rights import READS, RIGHTS, Role, acl_line
from gateway.service import GOODBYE_SECONDS
from gateway.signing import public_line
from publishing import COFFEE, KEYS, WORKSPACE, Workshop, image_of, plan_files, publisher_key
from test_reader import steady
from workplace import Workplace

PASSWORD = "pw/@:1"
IN_URL = "pw%2F%40%3A1"
IDS = {"staff": [f"u-{at}" for at in range(2_000)]}


def redis_version() -> int:
    """Tell the major version of the redis-server that tests start."""
    told = subprocess.check_output([processes.redis_server_path(), "--version"])
    return int(told.decode().split("v=")[1].split(".")[0])


def users(client: redis.Redis, kind: Kind) -> None:
    """Give a server the two users, as `tidegate redis-acl` prints them, and close it to others."""
    apart = redis_version() >= 7
    for role in Role:
        line = acl_line(role, f"demo-{role.value}", "demo", kind, reads_apart=apart)
        assert client.execute_command(*shlex.split(line)) in (b"OK", "OK", True)
        client.execute_command("ACL", "SETUSER", f"demo-{role.value}", f">{PASSWORD}")
    client.execute_command("ACL", "SETUSER", "default", "-@all", "+ping", "+acl", "+auth")


@contextmanager
def one(folder: Path) -> Iterator[str]:
    """Run one server with the users; give its URL without any."""
    with processes.redis_server(folder) as server:
        with server.client() as client:
            users(client, Kind.ONE)
        yield f"redis://127.0.0.1:{server.port}/0"


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """Run a Cluster with the users; give its URL without any."""
    with processes.redis_cluster(folder) as found:
        url = steady(found)
        for node in url.partition("://")[2].split(","):
            with redis.Redis(port=int(node.rpartition(":")[2])) as client:
                users(client, Kind.CLUSTER)
        yield url


def as_user(url: str, role: Role) -> str:
    """Put a user into a URL."""
    return url.replace("://", f"://demo-{role.value}:{IN_URL}@")


def watched(versions: list[str]) -> dict[str, str]:
    """Write a plan with guardrails: one failure halts what is offered to staff."""
    files = plan_files(versions, staff=True)
    halt = ", halt: {failures: 0%, min_reports: 1, within: 5m}}"
    app = re.sub(r"(\{id: .*)\}$", rf"\1{halt}", files["apps/coffee.yaml"], flags=re.MULTILINE)
    app = app.replace("{id: staff,", "{id: staff, upgrade: force,")  # or r2 would win
    return files | {"apps/coffee.yaml": app}


def oversee(workshop: Workshop, place: Workplace) -> None:
    """Control it as the operator: raise an alarm, halt a release, hold the lease and give it."""
    lease = Lease(workshop.link, KEYS.control)
    lease.keep()
    for release, who in (("staff", {"device": "d-1", "user": "u-1"}), ("r2", {"device": "d-2"})):
        processes.wait_until(
            lambda release=release, who=who: place.app(**who)["release"] == release, "it is offered"
        )
        place.report("failed", release, **who)
    key = publisher_key("controller")
    where = Duty(WORKSPACE, workshop.store, workshop.link, key)
    works = [kind(where, Counts(), lease.held) for kind in (Upkeep, Watch)]

    def halted() -> bool:
        lease.keep()
        with suppress(LeaseLostError):  # a turn that took too long; the next one goes on
            for work in works:
                work.turn()
        return workshop.live().epoch["note"].startswith("halted") and workshop.mirror.alarms() != {}

    processes.wait_until(halted, "it is halted")
    lease.give_back()


@pytest.mark.parametrize("where", [one, cluster])
def test_all_works_under_the_least_rights(
    tmp_path: Path, where: Callable[[Path], AbstractContextManager[str]]
) -> None:
    """Push, serve, look up, hear at once, announce, restore, collect: no command is refused."""
    with where(tmp_path / "redis") as url:
        link: Any = connect_sync(parse_url(as_user(url, Role.OPERATOR)), timeout_seconds=20)
        workshop = Workshop(tmp_path / "store", link)
        workshop.push(image_of(watched(["1"]), IDS))
        settings = {"TRUSTED_KEYS": public_line(publisher_key().public)}
        settings["TRUSTED_KEYS"] += f"\n{public_line(publisher_key('controller').public)}"
        settings["LOOKUP_TIMEOUT_MS"] = "10000"
        at = as_user(url, Role.GATEWAY)
        with processes.running_gateway(tmp_path / "gateway", at, **settings) as gateway:
            place = Workplace(tmp_path, url, gateway)
            told = place.check(user="u-1", apps={COFFEE: None})
            assert told["apps"][0]["release"] in ("staff", "r1")
            if where is one:  # a Cluster's node counts only its own listeners
                processes.wait_until(lambda: link.publish(KEYS.notice, b"x"), "it listens")
            workshop.push(image_of(watched(["1", "2"]), IDS))
            processes.wait_until(
                lambda: place.check(apps={COFFEE: None})["epoch"] == 2, "it is served"
            )
            names = lambda: workshop.mirror.announced(time.time() - 60)  # noqa: E731
            processes.wait_until(names, "the gateway announces itself")
            where_ = {"store": workshop.store, "link": link, "workspace": "demo"}
            restore(**where_)
            collect(**where_, now=workshop.now + 7200, keep=1)
            oversee(workshop, place)
            refused = [row for row in gateway.events() if "NOPERM" in str(row)]
            assert not refused
            began = time.monotonic()
            gateway.terminate()
            gateway.wait()
            heard = time.monotonic() - began < GOODBYE_SECONDS
        # It could take its name back, if Redis was there to hear it.
        assert not (heard and workshop.mirror.announced(time.time() - 60))
        link.close()


BEYOND = [
    ("FLUSHALL",),
    ("KEYS", "*"),
    ("CONFIG", "GET", "*"),
    ("ACL", "LIST"),
    ("MONITOR",),
    ("SHUTDOWN",),
    ("REPLICAOF", "NO", "ONE"),
    ("GET", "tg:other:live"),
    ("GET", "else"),
    ("PUBLISH", "tg:other:notice", "x"),
    ("SUBSCRIBE", "tg:other:notice"),
    ("EVAL", "return redis.call('GET', 'tg:other:live')", "0"),
    ("EVAL", "return redis.call('FLUSHALL')", "0"),
]


@pytest.mark.parametrize("role", list(Role))
def test_nothing_else_is_allowed(tmp_path: Path, role: Role) -> None:
    """Other commands, other workspaces' keys and channels, also from inside a script: refused."""
    with one(tmp_path) as url, raw(as_user(url, role)) as client:
        for command in BEYOND:
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|can't"):
                client.execute_command(*command)


@pytest.mark.skipif(redis_version() < 7, reason="Redis 6.2 cannot tell reading a key from writing.")
def test_a_gateway_moves_no_pointer(tmp_path: Path) -> None:
    """From Redis 7 on it may read pointer, blobs and buckets, and change none of them."""
    with one(tmp_path) as url, raw(as_user(url, Role.GATEWAY)) as client:
        assert client.get(KEYS.live) is None
        for key in (KEYS.live, KEYS.blob(b"x"), KEYS.bucket(b"x")):
            with pytest.raises(redis.ResponseError, match=r"(?i)permission"):
                client.set(key, "1")
            with pytest.raises(redis.ResponseError, match=r"(?i)permission|can't"):
                client.execute_command("EVAL", f"return redis.call('SET', '{key}', 1)", "0")


@contextmanager
def raw(url: str) -> Iterator[Any]:
    """Connect as one pleases, past our own code."""
    user, _, rest = url.partition("://")[2].partition(":")
    host = rest.rpartition("@")[2].partition("/")[0]
    client = redis.Redis(
        port=int(host.rpartition(":")[2]), username=user, password=PASSWORD, socket_timeout=5
    )
    with client:
        yield client


def test_every_kind_of_key_has_a_right() -> None:
    """No key or channel that keys.py names is forgotten in the table."""
    keys: Any = Keys("w")
    named = [
        value for value in vars(keys).values() if isinstance(value, str) and value != keys._prefix
    ]
    named += [keys.blob(b"x"), keys.bucket(b"x"), keys.gateway("g")]
    patterns = ["tg:w:" + right.keys for right in RIGHTS]
    for name in named:
        assert any(
            name == each or (each.endswith("*") and name.startswith(each[:-1])) for each in patterns
        ), f"{name} has no row in RIGHTS"


def test_the_command_prints_these_lines(tmp_path: Path) -> None:
    """`tidegate redis-acl` asks no Redis, prints what to paste, and refuses what it cannot mean."""
    said = acl(tmp_path, "--redis", "redis+cluster://nowhere")
    assert said.stdout.splitlines() == [
        acl_line(role, f"demo-{role.value}", "demo", Kind.CLUSTER) for role in Role
    ]
    said = acl(tmp_path, "--redis", "redis+sentinel://me:s3cret@h/main", "--sentinel")
    assert said.stdout.count("+sentinel|masters") == 2
    assert "s3cret" not in said.stdout + said.stderr
    for wrong in (["--sentinel"], ["--gateway-user", "a b"], ["--redis", "redis://u:s3cret@:x"]):
        said = acl(tmp_path, *wrong)
        assert said.returncode == 2
        assert "s3cret" not in said.stdout + said.stderr


def acl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command where no setting of this machine counts."""
    command = [sys.executable, "-m", "compiler.cli", "redis-acl", "--workspace", "demo", *arguments]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("TIDEGATE_")}
    return subprocess.run(
        command, cwd=processes.ROOT, env=kept, capture_output=True, text=True, check=False
    )


def test_lines_read_as_one_writes_them() -> None:
    """A line names its user, switches it on, takes all else away; reading is marked where known."""
    line = acl_line(Role.GATEWAY, "gw", "demo", Kind.CLUSTER)
    assert line.startswith("ACL SETUSER gw on resetkeys resetchannels -@all ")
    assert '"%R~tg:demo:live"' in line
    assert "+readonly" in line
    six = acl_line(Role.GATEWAY, "gw", "demo", Kind.ONE, reads_apart=False)
    assert "%R" not in six
    assert '"~tg:demo:live"' in six
    assert not READS & {"set", "eval", "zadd", "del", "publish", "pfcount"}
