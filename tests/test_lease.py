"""The lease: one controller is active, another takes over within seconds, none acts too long."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compiler.commands.controlling import LEASE_TIMEOUT_SECONDS
from compiler.control.lease import LEASE_SECONDS, MARGIN_SECONDS, Lease
from controllers import Control, active, guarded, running_controls, seconds_until
from processes import RedisServer, wait_until
from publishing import KEYS, Workshop, assert_served, image_of

LONG_SECONDS = 60.0
"""A lease that Redis, whose clock nobody moves by hand, ends in the midst of no test."""


class Clock:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Give the second."""
        return self.now


class Slow:
    """A link whose answers take a while."""

    def __init__(self, link: Any, clock: Clock, seconds: float) -> None:
        self.link, self.clock, self.seconds = link, clock, seconds

    def eval(self, *arguments: Any) -> Any:
        """Run a script, and answer later."""
        answer = self.link.eval(*arguments)
        self.clock.now += self.seconds
        return answer


def test_one_holds_it_and_stops_before_another_can(workshop: Workshop) -> None:
    """Whoever asks second has to wait; the first one's time ends before it does in Redis."""
    clock = Clock()
    first, second = (
        Lease(workshop.link, KEYS.control, seconds=LONG_SECONDS, clock=clock) for _ in range(2)
    )
    for each in (first, second):
        each.keep()
    began = time.monotonic()
    first.keep()
    left: Any = workshop.link.pttl(KEYS.control)
    took = time.monotonic() - began
    assert (first.held(), second.held()) == (True, False)
    clock.now += LONG_SECONDS - MARGIN_SECONDS - 0.1
    assert first.held()
    clock.now += 0.2
    assert not first.held()
    assert left / 1000 + took > LONG_SECONDS - 0.01  # while Redis would have kept it for longer
    second.give_back()  # what is not its own
    assert workshop.link.get(KEYS.control) == first.holder.encode()
    first.give_back()
    second.keep()
    assert second.held()
    first.keep()
    assert not first.held()


def test_a_slow_answer_is_worth_less(workshop: Workshop) -> None:
    """The time counts from the question: an answer that took too long is no lease at all."""
    clock = Clock()
    for seconds, held in ((1.0, True), (2.6, False)):
        workshop.link.delete(KEYS.control)
        lease = Lease(Slow(workshop.link, clock, seconds), KEYS.control, clock=clock)  # type: ignore[arg-type]
        lease.keep()
        assert lease.held() is held


def test_without_redis_it_runs_out(server: RedisServer, workshop: Workshop) -> None:
    """A Redis that does not answer prolongs nothing, and raises nothing; then it is taken again."""
    clock = Clock()
    lease = Lease(workshop.link, KEYS.control, clock=clock)
    lease.keep()
    server.kill()
    lease.keep()
    assert lease.held()
    clock.now += LEASE_SECONDS
    assert not lease.held()
    lease.give_back()
    server.start()
    lease.keep()
    assert lease.held()


def the_active(controls: Sequence[Control]) -> Control:
    """Wait until one has the lease, and it alone says that it is active; give it."""

    def settled() -> Control | None:
        said = active(list(controls))
        found = {each: each.metric("tidegate_control_active") for each in controls}
        alone = len(said) == 1 and found == {each: float(each is said[0]) for each in controls}
        return said[0] if alone else None

    found: Control = wait_until(settled, "one is active")
    return found


def test_another_takes_over(
    workshop: Workshop, server: RedisServer, tmp_path: Path, controller_key: Path
) -> None:
    """One is active; killed, stopped, or told to end, another is soon; it does no harm.

    Who was stopped and goes on finds the lease with another one, and stands by.
    """
    workshop.push(image_of(guarded()))
    with running_controls(tmp_path, server.url, workshop.folder, controller_key, 3) as controls:
        first = the_active(controls)
        first.signal(signal.SIGKILL)
        first.wait()
        rest = [each for each in controls if each is not first]
        killed = seconds_until(lambda: active(rest), "another is active after a kill")
        second = the_active(rest)
        (third,) = (each for each in rest if each is not second)
        second.signal(signal.SIGSTOP)
        stopped = seconds_until(third.is_active, "another is active after a stop")
        workshop.link.flushall()  # the lease, too
        wait_until(lambda: third.events("redis was filled again from the store"), "it is filled")
        wait_until(lambda: workshop.link.get(KEYS.control), "the lease is taken again")
        second.signal(signal.SIGCONT)
        one = the_active(rest)
        assert one is third or third.events("standing by")  # for it hung in its turn
        assert second.metric("tidegate_control_refills_total") == 0
        one.signal(signal.SIGTERM)
        assert one.wait() == 0
        (last,) = (each for each in rest if each is not one)
        ended = seconds_until(last.is_active, "another is active after an end")
        print(f"taken over after: kill {killed:.1f} s, stop {stopped:.1f} s, end {ended:.1f} s")
        assert assert_served(workshop.link) == 1
        began = time.monotonic()
        last.signal(signal.SIGTERM)
        assert last.wait() == 0
        left = workshop.link.get(KEYS.control)
        heard = time.monotonic() - began < LEASE_TIMEOUT_SECONDS
        assert left is None or not heard  # it was given back, if Redis was there to hear it
    for each in controls:
        assert not [line for line in each.log.read_text().splitlines() if line[:9] == "Traceback"]
