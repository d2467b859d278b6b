"""Phones before an edge in tests: they ask without end, so that a failure at any moment shows."""

import random
import re
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from threading import Event, Lock, Thread
from typing import Any, Self

from edge import Edge
from processes import Gateway, wait_until


class Phones:
    """So many phones, each on a connection that it keeps, that ask until told to stop.

    `answered` counts by question; `failures` are what was no answer, each with its question.
    """

    def __init__(
        self,
        edge: Edge,
        count: int,
        questions: Mapping[str, bytes],
        pause: Callable[[random.Random], float],
    ) -> None:
        """`questions` are bodies by path, posted at random; `pause` gives seconds between two."""
        self.failures: list[Any] = []
        self.answered = dict.fromkeys(questions, 0)
        self._edge = edge
        self._questions = questions
        self._pause = pause
        self._stop = Event()
        self._lock = Lock()
        self._threads = [Thread(target=self._run, args=(at,)) for at in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Wait for so many answers more to each question, or for a failure."""
        wanted = {path: so_far + count for path, so_far in self.answered.items()}
        wait_until(
            lambda: (
                all(self.answered[path] >= least for path, least in wanted.items()) or self.failures
            ),
            f"{wanted} answers",
        )

    def _run(self, number: int) -> None:
        dice = random.Random(number)
        connection = self._edge.connect()
        headers = {"X-Forwarded-For": f"192.0.2.{number}"}
        while not self._stop.is_set():
            path = dice.choice(list(self._questions))
            try:
                connection.request("POST", path, self._questions[path], headers)
                answer = connection.getresponse()
                told = answer.status, answer.read()
                if answer.status not in (200, 202):
                    self.failures.append((path, told))
            except (OSError, HTTPException) as fault:
                self.failures.append((path, repr(fault)))
                connection.close()
            with self._lock:
                self.answered[path] += 1
            self._stop.wait(self._pause(dice))
        connection.close()


def answered_by(gateway: Gateway) -> int:
    """Tell how many answers a gateway has given since its start."""
    with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = re.findall(r"^tidegate_http_seconds_count\S* (\d+)", text, re.MULTILINE)
    return sum(map(int, found))
