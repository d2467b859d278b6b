"""The lease: one controller is active, another takes over within seconds, none acts too long."""

import signal
import time
from pathlib import Path
from typing import Any

from compiler.control.lease import LEASE_SECONDS, Lease
from controllers import active, guarded, running_controls, seconds_until
from processes import RedisServer, wait_until
from publishing import KEYS, Workshop, assert_served, image_of

TAKEN_OVER_SECONDS = 6.0
"""3 s until the lease is over, half a second until another asks, and two busy cores."""


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
    first, second = (Lease(workshop.link, KEYS.control, clock=clock) for _ in range(2))
    for each in (first, second, first):
        each.keep()
    assert (first.held(), second.held()) == (True, False)
    left: Any = workshop.link.pttl(KEYS.control)
    clock.now += LEASE_SECONDS - 0.6
    assert first.held()
    clock.now += 0.2
    assert not first.held()
    assert left / 1000 > LEASE_SECONDS - 0.4  # while Redis would have kept it for longer
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


def test_another_takes_over(
    workshop: Workshop, server: RedisServer, tmp_path: Path, controller_key: Path
) -> None:
    """One is active; killed, stopped, or told to end, another is within seconds; it does no harm.

    Who was stopped and goes on finds the lease with another one, and stands by.
    """
    workshop.push(image_of(guarded()))
    with running_controls(tmp_path, server.url, workshop.folder, controller_key, 3) as controls:
        (first,) = active(controls)
        time.sleep(1)
        assert active(controls) == [first]
        assert first.metric("tidegate_control_active") == 1
        assert sum(each.metric("tidegate_control_active") for each in controls) == 1
        first.signal(signal.SIGKILL)
        first.wait()
        rest = [each for each in controls if each is not first]
        killed = seconds_until(lambda: active(rest), "another is active after a kill")
        (second,) = active(rest)
        (third,) = (each for each in rest if each is not second)
        second.signal(signal.SIGSTOP)
        stopped = seconds_until(third.is_active, "another is active after a stop")
        workshop.link.flushall()
        wait_until(lambda: third.events("redis was filled again from the store"), "it is filled")
        second.signal(signal.SIGCONT)
        wait_until(lambda: not second.is_active(), "it stands by when it goes on")
        time.sleep(1.5)
        assert third.is_active()
        assert second.metric("tidegate_control_refills_total") == 0
        third.signal(signal.SIGTERM)
        assert third.wait() == 0
        ended = seconds_until(second.is_active, "another is active after an end")
        print(f"taken over after: kill {killed:.1f} s, stop {stopped:.1f} s, end {ended:.1f} s")
        assert max(killed, stopped) < TAKEN_OVER_SECONDS
        assert ended < 2
        assert assert_served(workshop.link) == 1
        second.signal(signal.SIGTERM)
        assert second.wait() == 0
    assert workshop.link.get(KEYS.control) is None  # it was given back
    for each in controls:
        assert "Traceback" not in each.log.read_text()
