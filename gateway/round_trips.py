"""Round trips to Redis: what gathers for one, when it leaves, and when its answer is too late.

What is asked in one turn of the event loop leaves together; what is asked while enough is under
way gathers for the next round trip. What has no answer in time is late, and after repeated
failures Redis is left alone for a while (breaker.py).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog

from gateway.breaker import Breaker
from gateway.metrics import Lookups, Seatings

log = structlog.get_logger()


class RoundTrips:
    """The round trips of questions of one sort; a question is `done` once answered, or late."""

    def __init__(
        self,
        begin: Callable[[list[Any]], None],
        give: Callable[[Any, None], None],
        counts: Lookups | Seatings,
        timeout_seconds: float,
        size: int,
        at_once: int,
        failing: str,
        working: str,
    ) -> None:
        """`begin` begins one, of `size` questions at most; no more than `at_once` are under way.

        `give` gives nothing to a question that waited for `timeout_seconds`, which is then done.
        `failing` is logged once round trips fail, and `working` once they work again.
        """
        self._begin = begin
        self._give = give
        self._counts = counts
        self._timeout = timeout_seconds
        self._size = size
        self._at_once = at_once
        self._sentences = failing, working
        self._failing = False
        self._failed_at = 0.0
        self._breaker = Breaker()
        self._turn: list[Any] = []
        # What was asked in each of the last turns, and when; one timer serves them all.
        self._turns: deque[tuple[float, list[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._queue: deque[Any] = deque()
        self._under_way = 0

    def ask(self, question: object) -> bool:
        """Put a question into the next round trip; False while Redis is left alone."""
        if not self._turn:
            loop = asyncio.get_running_loop()
            if not self._breaker.allows(loop.time()):
                return False
            loop.call_soon(self._end_turn)
        self._turn.append(question)
        return True

    def came(self, questions: list[Any], values: Sequence[object]) -> None:
        """Take note of values before their questions are done; if all are faults, of a failure."""
        faults = [value for value in values if isinstance(value, Exception)]
        if faults:
            self._counts.errors += len(faults)
        if faults and len(faults) == len(values):
            self.failed(str(faults[0]) or type(faults[0]).__name__)
        elif not all_done(questions):  # it was in time for somebody
            self._breaker.succeeded()
            if self._failing:
                self._failing = False
                log.info(self._sentences[1])

    def failed(self, why: str) -> None:
        """Take note of a failure."""
        self._failed_at = asyncio.get_running_loop().time()
        self._breaker.failed(self._failed_at)
        if not self._failing:
            self._failing = True
            log.warning(self._sentences[0], why=why)

    def ended(self) -> None:
        """Begin the next round trip in the place of one that is over."""
        self._under_way -= 1
        self._send()

    def close(self) -> None:
        """Forget what is asked for."""
        if self._timer is not None:
            self._timer.cancel()

    def _end_turn(self) -> None:
        loop = asyncio.get_running_loop()
        turn, self._turn = self._turn, []
        while self._turns and all_done(self._turns[0][1]):
            self._turns.popleft()
        self._turns.append((loop.time(), turn))
        if self._timer is None:
            self._timer = loop.call_later(self._timeout, self._expire)
        self._counts.asked += len(turn)
        self._queue.extend(turn)
        self._send()

    def _send(self) -> None:
        while self._queue and self._under_way < self._at_once:
            batch: list[Any] = []
            while self._queue and len(batch) < self._size:
                question = self._queue.popleft()
                if not question.done:  # else it waited too long in the queue
                    batch.append(question)
            if batch:
                self._under_way += 1
                self._counts.round_trips += 1
                self._begin(batch)

    def _expire(self) -> None:
        """Give up those that have waited too long, and see when to look again."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        late: list[Any] = []
        # Turns that waited for the same stall are one failure, not as many as there were turns.
        stalled = False
        while self._turns and self._turns[0][0] + self._timeout <= now:
            asked_at, turn = self._turns.popleft()
            waiting = [question for question in turn if not question.done]
            stalled = stalled or bool(waiting and asked_at >= self._failed_at)
            late += waiting
        self._timer = None
        if self._turns:
            left = self._turns[0][0] + self._timeout - now
            self._timer = loop.call_later(left, self._expire)
        self._counts.timeouts += len(late)
        if stalled:
            self.failed(f"no answer within {self._timeout * 1000:.0f} ms")
        for question in late:
            self._give(question, None)
        while self._queue and self._queue[0].done:  # while Redis stands still, nobody sends them
            self._queue.popleft()


def all_done(questions: list[Any]) -> bool:
    """Tell whether nobody waits for any of these any more."""
    for question in questions:  # noqa: SIM110 - compiled, a loop is no generator
        if not question.done:
            return False
    return True


async def called(then: Callable[[Callable[[], None]], None]) -> None:
    """Wait for what is done later; `then` is told what to call."""
    woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    then(partial(_wake, woken))
    await woken


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():  # else its check was cancelled
        woken.set_result(None)
