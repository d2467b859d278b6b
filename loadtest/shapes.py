"""Shapes: how many streets are awake at each moment of a run. Pure.

steady  all of them, always: plain Locust, so that -u, -r, -t and the web page do what they do
day     a day in the run's length: a deep night, a rise, a peak at noon and a higher one at night
storm   as steady; and whenever a new epoch is seen, every phone wakes within --wake-seconds
ramp    a tenth more every --step-seconds, until a level is broken: the breaking point
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

NAMES = ("steady", "day", "storm", "ramp")
STEPS = 10
MOST_SPAWNED = 100.0
"""Users that begin or end in a second, at most: Locust warns of more."""

Tick = tuple[int, float] | None
"""Streets that are to be awake, and how many may change a second; None: the run is over."""


def day_share(part: float) -> float:
    """Tell which share of the phones is awake at a part of the day (0: midnight, 1: the next).

    Lowest (0.15) at about 4, peaks at 12:30 and, the highest (1.0), at 20:30.
    """
    hour = 24 * part
    noon = 0.55 * math.exp(-(((hour - 12.5) / 3.2) ** 2))
    evening = 0.85 * math.exp(-(((hour - 20.5) / 2.6) ** 2))
    late = 0.85 * math.exp(-(((hour + 3.5) / 2.6) ** 2))  # yesterday's evening, after midnight
    return min(1.0, 0.15 + noon + evening + late)


@dataclass(frozen=True, slots=True)
class Day:
    """One day, pressed into `seconds`; `users` are awake at the highest peak."""

    users: int
    seconds: float

    def tick(self, elapsed: float) -> Tick:
        """Tell how many streets are to be awake after so many seconds."""
        part = elapsed / self.seconds
        if part >= 1:
            return None
        return max(1, round(self.users * day_share(part))), MOST_SPAWNED


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of a ramp came to: answers a second, and what was broken, if anything."""

    users: int
    rate: float
    broken: str = ""
    saturated: bool = False


class Ramp:
    """A tenth of the streets more, step by step, until one step breaks a level."""

    def __init__(
        self, users: int, step_seconds: float, weigh: Callable[[int, float], Step]
    ) -> None:
        """`weigh` is asked at the end of each step, with its streets and its seconds."""
        self._users = users
        self._step_seconds = step_seconds
        self._weigh = weigh
        self.steps: list[Step] = []

    def tick(self, elapsed: float) -> Tick:
        """Tell how many streets are to be awake; None after what broke, or after the last step."""
        if elapsed >= self._step_seconds * (len(self.steps) + 1):
            self.steps.append(self._weigh(self._at(len(self.steps)), self._step_seconds))
        if self.steps and (self.steps[-1].broken or len(self.steps) >= STEPS):
            return None
        return self._at(len(self.steps)), MOST_SPAWNED

    @property
    def verdict(self) -> str:
        """Say where it broke, or that it did not."""
        if not self.steps:
            return "The ramp ended before its first step was over."
        last = self.steps[-1]
        held = max((each.rate for each in self.steps if not each.broken), default=0.0)
        sentence = (
            f"Held up to {held:,.0f} checks/s; broke at {last.rate:,.0f} checks/s: {last.broken}."
            if last.broken
            else f"Not broken: held {held:,.0f} checks/s, which is all that was asked."
        )
        if last.saturated:
            sentence += " Locust itself was saturated: this is its limit, not the gateway's."
        return sentence

    def _at(self, step: int) -> int:
        return max(1, math.ceil(self._users * (step + 1) / STEPS))
