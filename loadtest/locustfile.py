"""Phones for Locust: `locust -f loadtest/locustfile.py`, with the web page or --headless.

loadtest/README.md teaches it. One Locust user is a street of phones behind one connection.
"""

import json
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import gevent
import msgpack
from gevent.event import Event
from geventhttpclient.response import HTTPConnectionClosed, HTTPResponse
from geventhttpclient.useragent import CompatRequest
from locust import FastHttpUser, events, task
from locust.contrib.fasthttp import LocustUserAgent
from locust.env import Environment

# Locust runs this file by its path: loadtest/ is found wherever the checkout is.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from loadtest.conductor import Conductor
from loadtest.options import UsageError, add_options
from loadtest.street import Street
from loadtest.town import Asked, Town

PATIENCE_SECONDS = 10.0
"""After which a phone gives up on a check."""

PACKED, PLAIN = "application/msgpack", "application/json"
FIRST_BYTES = "bytes=0-65535"
_IDLE_SECONDS = 0.2


class Line(LocustUserAgent):
    """A connection that asks once more when it breaks, as the edge in front of gateways does.

    A check may be asked twice (deploy/nginx): a gateway that was killed costs nothing. How often
    that was needed is in the report.
    """

    def __init__(self, town: Town) -> None:
        super().__init__(
            insecure=False,
            concurrency=1,
            max_retries=0,
            max_redirects=0,
            network_timeout=PATIENCE_SECONDS,
            connection_timeout=PATIENCE_SECONDS,
        )
        self._town = town

    def _urlopen(self, request: CompatRequest) -> HTTPResponse:
        try:
            return super()._urlopen(request)
        except (ConnectionError, HTTPConnectionClosed):
            if not request.url.endswith("/v1/check"):
                raise  # a report must not count twice
            self.close()
            self._town.timeline.at(time.time()).extra["asked again on a new connection"] += 1
            return super()._urlopen(request)


class Phones(FastHttpUser):
    """A street: its phones ask one after another, each when it is due."""

    street: Street

    def on_start(self) -> None:
        """Open the street."""
        try:
            self.town = conductor().town
            # The web page may have changed the host in the midst of a run.
            self.town.settings.allow_target(self.host or "")
        except UsageError as fault:
            conductor().refuse(str(fault))
            Event().wait()  # until Locust ends this user; to raise would print a traceback
        self.street = self.town.enter()
        self.client.client = Line(self.town)

    def on_stop(self) -> None:
        """Close it."""
        if hasattr(self, "street"):
            self.town.leave(self.street)

    def wait_time(self) -> float:
        """Wait until a phone is due, or everyone is woken."""
        if self.town.over:
            return _IDLE_SECONDS
        self.town.rest(self.street)
        return 0.0

    @task
    def ask(self) -> None:
        """Let the phone that is due ask; it may download and report what it is told."""
        due = None if self.town.over else self.street.take(time.time())
        if due is None:
            return
        if self.street.chance(self.town.settings.cold):
            self.client.client.close()  # an app that starts has no connection yet
        self.town.under_way += 1
        try:
            check, packed = self.town.check(due)
            changed = self._check(due.phone, check, packed=packed)
            if changed:
                self._fetch(changed)
                self._report(check, changed)
        finally:
            self.town.under_way -= 1

    def _check(self, phone: int, check: dict[str, Any], *, packed: bool) -> list[dict[str, Any]]:
        """Ask, count, and give the apps that the phone changes by it."""
        kind = PACKED if packed else PLAIN
        body = msgpack.packb(check) if packed else json.dumps(check).encode()
        token = self.town.token(check)
        headers = {"Content-Type": kind, "Accept": kind} | token
        began, clock = time.time(), time.perf_counter()
        with self._send("POST", "/v1/check", "check", data=body, headers=headers) as response:
            ended = began + time.perf_counter() - clock
            why = _failure(response, 200)
            if not why:
                try:
                    answer = _read(response.content, packed=packed)
                    asked = Asked(phone, check, answer, began, ended, bool(token))
                    return self.town.answered(self.street, asked)
                except ValueError as fault:
                    why = str(fault)
            response.failure(why)
            self.town.failed(self.street, phone, why)
        return []

    def _send(self, method: str, url: str, name: str, **more: Any) -> Any:
        """Send a request, and have the whole answer in time, however slowly it comes."""
        with gevent.Timeout(PATIENCE_SECONDS):  # which Locust takes for a fault like others
            return self.client.request(method, url, name=name, catch_response=True, **more)

    def _fetch(self, changed: list[dict[str, Any]]) -> None:
        """Fetch the beginning of a package, if that is asked for and the CDN may be loaded."""
        urls = changed[0]["package"].get("urls")
        if not urls or not self.street.chance(self.town.settings.download):
            return
        second = self.town.timeline.at(time.time())
        try:
            self.town.settings.allow_target(urls[0])
        except UsageError:
            second.extra["downloads left out: the CDN is not this machine"] += 1
            return
        headers = {"Range": FIRST_BYTES}
        with self._send("GET", urls[0], "download", headers=headers) as response:
            self._count(response, "downloads", 206, 200)

    def _report(self, check: dict[str, Any], changed: list[dict[str, Any]]) -> None:
        """Tell what was installed; a dry run leaves no trace of it."""
        reports = [
            {
                "app": app["app"],
                "version": app["version"],
                "from": check["apps"].get(app["app"]),
                "release": app["release"],
                "event": "rolled_back" if app["status"] == "rollback" else "installed",
            }
            for app in changed
        ]
        who = {name: check[name] for name in ("user", "device", "dry_run") if name in check}
        body = json.dumps(who | {"reports": reports}).encode()
        headers = {"Content-Type": PLAIN} | self.town.token(check)
        with self._send("POST", "/v1/report", "report", data=body, headers=headers) as response:
            self._count(response, "reports", 202)

    def _count(self, response: Any, what: str, *good: int) -> None:
        """Count a download or a report; one that failed is a failure of the run."""
        why = _failure(response, *good)
        second = self.town.timeline.at(time.time())
        if why:
            response.failure(why)
            second.failed[f"{what}: {why}"] += 1
        else:
            second.extra[what] += 1


def _read(body: bytes, *, packed: bool) -> Any:
    """Decode an answer. Raises ValueError, also for MessagePack that JSON cannot say."""
    try:
        if not packed:
            return json.loads(body)
        answer = msgpack.unpackb(body)
        json.dumps(answer)
        return answer  # noqa: TRY300 - what fails is above
    except Exception as fault:
        raise ValueError("the answer cannot be read") from fault


def _failure(response: Any, *good: int) -> str:
    """Say why an answer is none, or nothing."""
    if response.status_code and response.status_code not in good:
        return f"status {response.status_code}"
    error = response.request_meta["exception"]  # also of a body that broke off
    if isinstance(error, TimeoutError | gevent.Timeout):
        return f"no whole answer within {PATIENCE_SECONDS:g} s"
    return f"no whole answer: {type(error).__name__}" if error else ""


_conductors: list[Conductor] = []


def conductor() -> Conductor:
    """Give the one that Locust's `init` made."""
    return _conductors[-1]


@events.init_command_line_parser.add_listener
def _options(parser: ArgumentParser) -> None:
    add_options(parser)


@events.init.add_listener
def _init(environment: Environment, **_more: Any) -> None:
    _conductors.append(Conductor(environment))
    conductor().prepare()


@events.test_start.add_listener
def _test_start(**_more: Any) -> None:
    conductor().begin()


@events.test_stopping.add_listener
def _test_stopping(**_more: Any) -> None:
    conductor().end()


@events.test_stop.add_listener
def _test_stop(**_more: Any) -> None:
    conductor().tell()


@events.report_to_master.add_listener
def _report_to_master(data: dict[str, Any], **_more: Any) -> None:
    conductor().send(data)


@events.worker_report.add_listener
def _worker_report(client_id: str, data: dict[str, Any], **_more: Any) -> None:
    conductor().receive(client_id, data)


@events.quitting.add_listener
def _quitting(**_more: Any) -> None:
    conductor().end()
    conductor().tell()


@events.quit.add_listener
def _quit(**_more: Any) -> None:
    conductor().close()
    conductor().say_summary()
