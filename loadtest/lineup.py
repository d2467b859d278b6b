"""The servers of a run: each is set up when the first row wants it, and ended with the run.

One Redis serves all that need one. The workspace `plain` has no list, `listed` has 200 lists, all
of them used by its one app.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import msgpack
import orjson
import redis

from compiler.commands.local_redis import LocalRedis
from loadtest import plans
from loadtest.contenders import nginx, obvious, tidegate
from loadtest.phones import Phone, phone
from loadtest.plans import list_of, member_id
from loadtest.rows import Row
from loadtest.servers import Server, free_port, running

PLAIN, LISTED = "plain", "listed"
_ANSWER = "answer.json"
SAMPLE = 60
"""Answers of each row that are checked byte for byte."""

Say = Callable[[str], None]


class Lineup:
    """What runs, by name; a context manager that ends it all."""

    def __init__(self, folder: Path, ids: int, say: Say) -> None:
        """Work in an empty folder; lists have so many ids; `say` is told what takes long."""
        self.publish_seconds: float | None = None
        self._folder = folder
        self._ids = ids
        self._say = say
        self._stack = ExitStack()
        self._servers: dict[str, Server] = {}
        self._published: set[tuple[str, str]] = set()
        self._redis: LocalRedis | None = None
        self._apps = {PLAIN: plans.apps_without_lists(), LISTED: plans.apps_with_lists()}
        self._rules = {
            workspace: {app["app"]: obvious.rules_of(app) for app in apps}
            for workspace, apps in self._apps.items()
        }
        self._constant = self._answer(PLAIN, phone(0))
        (folder / _ANSWER).write_bytes(self._constant)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def servers(self) -> dict[str, Server]:
        """The servers that run, by name."""
        return self._servers

    def server(self, name: str) -> Server:
        """Give a server; start it, and publish what it serves, if it does not run. Failed."""
        if name not in self._servers:
            self._say(f"starting {name}")
            self._servers[name] = self._start(name)
        return self._servers[name]

    def redis(self) -> Server | None:
        """Give the Redis, if one runs."""
        if self._redis is None:
            return None
        with redis.Redis(port=self._redis.port) as client:
            pid: int = client.info("server")["process_id"]
        return Server(self._redis.port, pid)

    def wrong(self, row: Row) -> list[str]:
        """Ask a sample of a row's requests; describe each answer that is not as it must be.

        Right is what the obvious gateway's rules give (or the constant, of who returns one).
        """
        server = self.server(row.server)
        faults = []
        for number, written in enumerate(row.phones[:SAMPLE]):
            who = member_id(number * 104_729 % self._ids)
            asked = written | {"user": who} if row.members else written
            status, body = server.ask(row.write(asked))
            expected = self._expected(row.server, asked)
            if body.startswith(b"\x83"):
                body = orjson.dumps(msgpack.unpackb(body))
            if status != 200 or body != expected:
                faults.append(
                    f"{row.name}: {status} {body[:600]!r}\ninstead of {expected[:600]!r}\n"
                    f"to {asked}"
                )
        return faults

    def _expected(self, server: str, asked: Phone) -> bytes:
        if not server.startswith(("tidegate", "obvious")):
            return self._constant
        return self._answer(LISTED if server.endswith("listed") else PLAIN, asked)

    def _answer(self, workspace: str, asked: Phone) -> bytes:
        user = asked["user"]
        lists = {list_of(int(user[2:]))} if user.startswith("m-") else set()
        hashes = obvious.hashes_of(workspace, asked)
        now = time.time()
        found = {
            app: obvious.candidates(self._rules[workspace][app], asked, hashes, now)
            for app in asked["apps"]
        }
        return obvious.answer(asked, hashes, found, lists)

    def _start(self, name: str) -> Server:
        kind, _, form = name.partition("-")
        workspace = LISTED if form == "listed" else PLAIN
        if kind == "tidegate":
            address = self._publish(kind, workspace)
            folder, plain = self._folder / workspace, form == "python"
            gateway = tidegate.gateway(folder, address, workspace, plain=plain)
            return self._stack.enter_context(gateway)
        port = free_port()
        if kind == "obvious":
            address = self._publish(kind, workspace)
            module = "loadtest.contenders.obvious"
            command = [sys.executable, "-m", module, str(port), address, workspace]
        else:
            command = _do_nothing(kind, self._folder, port, self._constant)
        environment = {**os.environ, "ANSWER": str(self._folder / _ANSWER)}
        log = self._folder / f"{name}.log"
        return self._stack.enter_context(running(command, port, log, environment))

    def _publish(self, kind: str, workspace: str) -> str:
        """Publish a workspace for Tidegate or the obvious gateway; give the URL of the Redis."""
        if self._redis is None:
            self._redis = self._stack.enter_context(LocalRedis(self._folder / "redis"))
        apps, url = self._apps[workspace], self._redis.url
        if (kind, workspace) in self._published:
            return url
        self._published.add((kind, workspace))
        ids = self._ids if workspace == LISTED else 0
        if ids:
            self._say(f"publishing {ids:,} ids on {plans.LISTS} lists for {kind}")
        if kind == "obvious":
            obvious.publish(self._redis.port, workspace, apps, ids)
        else:
            seconds = tidegate.publish(self._folder / workspace, url, workspace, apps, ids)
            self.publish_seconds = seconds if ids else self.publish_seconds
        return url


def _do_nothing(kind: str, folder: Path, port: int, answer: bytes) -> list[str]:
    """Give the command of a server that returns a constant, by its best settings for one core."""
    if kind == "nginx":
        return nginx.command(folder, port, answer)
    name, *options = {
        "aiohttp": ("loadtest.contenders.aiohttp_nothing", str(port), str(folder / _ANSWER)),
        "uvicorn": (
            *("uvicorn", "loadtest.contenders.asgi_nothing:app", "--port", str(port)),
            *("--loop", "uvloop", "--http", "httptools", "--lifespan", "off"),
            *("--no-access-log", "--log-level", "warning"),
        ),
        "granian": (
            *("granian", "loadtest.contenders.rsgi_nothing:app", "--port", str(port)),
            *("--interface", "rsgi", "--loop", "uvloop", "--http", "1", "--no-ws"),
            *("--workers", "1", "--runtime-threads", "1", "--log-level", "warning"),
        ),
    }[kind]
    return [sys.executable, "-m", name, *options]
