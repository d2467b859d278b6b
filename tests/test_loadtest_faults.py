"""What a gateway can do wrong beside a wrong answer: nothing of it may vanish from a load test."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gevent
import pytest

import crowds
from compiler.refusal import Refused
from load_runs import ended, start, wait_for
from loadtest.levels import UNJUDGED
from loadtest.referee import Outcome
from loadtest.rules import Rules
from loadtest.town import Asked, Town
from processes import wait_until
from publishing import Workshop, image_of, plan_files
from test_loadtest_parts import settings

LONGEST = 20.0
ANSWER = {"epoch": 1, "check_after": 1800, "apps": []}
GOOD = json.dumps(ANSWER).encode()
FAULTS = (
    b'{"epoch": Infinity, "check_after": 1800, "apps": []}',
    b"",
    b"<html>",
    b"[" * 100_000,
    b'{"epoch": 1, "check_after": 1800, "apps": {"a": 1}}',
)
"""Bodies of a 200 that are no answers; besides, one breaks off, and the first one trickles."""


class Liar(BaseHTTPRequestHandler):
    """Every fifth check is answered by one of the faults in turn."""

    protocol_version = "HTTP/1.1"
    checks = 0
    faults = 0
    one_by_one = threading.Lock()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """Answer a check."""
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        packed = self.headers["Accept"] == "application/msgpack"
        body, more, slow = GOOD, 0, False
        if b'"apps":{}' not in asked and not packed:
            with Liar.one_by_one:
                Liar.checks += 1
                if Liar.checks % 5 == 0:
                    turn = Liar.faults % (len(FAULTS) + 1)
                    slow = Liar.faults == 0
                    more = 0 if turn or slow else 50
                    body = FAULTS[turn - 1] if turn else GOOD
                    Liar.faults += 1
        elif packed:
            body = b"\x83\xa5epoch\x01\xabcheck_after\xcd\x07\x08\xa4apps\x90"
        self._send(body, more, slow=slow)

    def _send(self, body: bytes, more: int, *, slow: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + more))
        self.end_headers()
        if slow:  # each byte comes soon; all of them never do
            for at in range(len(body) - 1):
                self.wfile.write(body[at : at + 1])
                time.sleep(1)
            self.close_connection = True
        self.wfile.write(body)
        self.close_connection = self.close_connection or bool(more)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Phones that give up are part of the test."""


@contextmanager
def liar() -> Iterator[str]:
    """Run one on a free port."""
    server = _Server(("127.0.0.1", 0), Liar)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_is_no_answer_is_counted_as_failed_each_time(
    tmp_path: Path, workshop: Workshop
) -> None:
    """Broken off, trickling, empty, or no answer of ours: all are failed checks, none vanishes."""
    workshop.push(image_of(plan_files()))
    Liar.checks = Liar.faults = 0
    with liar() as url:
        words = ("-u", "4", "--street", "100", "--hurry", "300", "--sample", "0", "-t", "300s")
        words += ("--p99-ms", "20000", "--report", str(tmp_path / "r.html"))
        with ended(start(workshop.folder, "-m", "loadtest", url, *words)) as run:
            wait_for(run, "users spawned")
            wait_until(lambda: Liar.faults > 3 * len(FAULTS), "each fault has come three times")
            run.terminate()
            said, _ = run.communicate(timeout=60)
    assert run.returncode == 1, said
    assert "Traceback" not in said, said
    found = re.search(r"NOT HELD +failed checks: ([\d,]+) of", said)
    assert found, said
    assert int(found[1].replace(",", "")) == Liar.faults > len(FAULTS)


class Clerk:
    """Has epoch 1 only."""

    def rules(self, number: int) -> Rules:
        """Refuse: no other epoch is ever asked for."""
        raise Refused(f"There is no epoch {number}.")


@pytest.fixture
def town() -> Iterator[Town]:
    """Give a town whose judge works."""
    said = {"seed": 1, "street": 10, "hurry": 60.0, "members": 0.0, "sample": 1.0, "shape": "day"}
    made = Town(settings(live=False, **said), Clerk(), crowds.rules())  # type: ignore[arg-type]
    judge = gevent.spawn(made.judge_all)
    yield made
    gevent.kill(judge)


def ask(town: Town, epoch: int, apps: list[Any]) -> None:
    """Let phone 0 ask about what it is answered."""
    check = {"dry_run": True, "apps": {"strange": None}}
    answer = {"epoch": epoch, "check_after": 600, "apps": apps}
    town.answered(town.enter(), Asked(0, check, answer, crowds.STARTS, crowds.STARTS))


def test_a_judge_who_stumbles_goes_on(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be judged is counted as such, and the next wrong answer is still found."""

    def stumble(*_: Any, **_more: Any) -> Any:
        monkeypatch.undo()
        raise KeyError("anything")

    monkeypatch.setattr("loadtest.town.judge", stumble)
    ask(town, 1, [])
    ask(town, 7, [])
    ask(town, 1, [{"app": "strange", "status": "latest"}])
    town.finish(LONGEST)
    assert town.timeline.total().judged == {UNJUDGED: 2, Outcome.WRONG: 1}
    assert "There is no epoch 7." in {case["sentence"] for case in town.timeline.cases}


def test_what_waits_for_its_judge_at_the_end_was_not_judged(town: Town) -> None:
    """A run that ends before its judge, or in the midst of checks, does not hide them."""
    for _ in range(3):
        ask(town, 1, [])
    town.under_way = 2
    town.finish(0.0)
    total = town.timeline.total()
    assert total.judged.total() == 3
    assert total.judged[UNJUDGED] > 0
    assert total.failures == 2


def test_phones_do_only_what_they_can_read(town: Town) -> None:
    """An offer that lacks what a phone needs changes nothing, and is the judge's."""
    offer = {"app": "strange", "status": "update", "version": "1", "release": "r", "package": {}}
    for name in offer:
        if name != "status":
            ask(town, 1, [{key: each for key, each in offer.items() if key != name}])
            ask(town, 1, [offer | {name: ["odd"]}])
    assert town.timeline.total().apps == {"update": 8}
    assert not town._installed


def test_a_street_that_opens_again_asks_no_sooner(town: Town) -> None:
    """Phones of a closed street were told when to ask next, and keep to it."""
    street = town.enter()
    now = time.time()
    for phone in iter(lambda: street.take(now + 600), None):
        street.answered(phone.phone, now, 1_000.0)
    town.leave(street)
    again = town.enter()
    assert again.first == street.first
    assert again.next_moment >= now + 1_000.0
