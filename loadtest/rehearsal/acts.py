"""What happens in the midst of a rehearsal, and when; each thing is marked for the report.

A mark is a line of JSON, `{"at": UNIX SECONDS, "text": TEXT}`, as `python -m loadtest` reads them.
Pushes and pauses are also seen in the answers, as epochs: the marks tell when they were begun.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.rehearsal import plan
from loadtest.rehearsal.stage import Stage

APART_SECONDS = 1.5
"""Between the end of one act and the next, at least: some checks fall in between."""

REDIS_KILLED, REDIS_BACK = "Redis killed", "Redis back"


@dataclass(frozen=True, slots=True)
class Act:
    """What is done at a share of the run, and its mark; `after` marks that it has come true."""

    at: float
    text: str
    play: Callable[[], object]
    after: str = ""


def release_day(stage: Stage) -> list[Act]:
    """Push, pause, kill a worker, kill Redis and start it again, push once more."""
    return [
        Act(0.15, "push", stage.push, "pushed"),
        Act(0.30, "pause", lambda: stage.tidegate("pause", *plan.PAUSED, "-m", "rehearsed")),
        Act(0.45, "worker killed", stage.kill_worker),
        Act(0.60, REDIS_KILLED, stage.kill_redis),
        Act(0.72, "Redis started", stage.start_redis, REDIS_BACK),
        Act(0.85, "push", stage.push, "pushed"),
    ]


def storm(stage: Stage) -> list[Act]:
    """Push once, and every phone wakes."""
    return [Act(0.2, "push", stage.push, "pushed")]


class Marks:
    """The file of marks; what was marked is kept, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.moments: list[tuple[float, str]] = []

    def mark(self, text: str) -> None:
        """Mark this moment."""
        self.moments.append((time.time(), text))
        with self.path.open("a") as file:
            file.write(json.dumps({"at": self.moments[-1][0], "text": text}) + "\n")

    def outage(self) -> tuple[float, float]:
        """Give when Redis was away; nothing, as (0, 0), if it never was."""
        found = {text: at for at, text in self.moments}
        return found.get(REDIS_KILLED, 0.0), found.get(REDIS_BACK, 0.0)


def perform(
    acts: Sequence[Act], marks: Marks, seconds: float, apart: float = APART_SECONDS
) -> None:
    """Play each act at its time in a run that begins now, and wait for its end. Raises Failed.

    `apart` are the seconds from the end of one to the next, at least. On a busy machine a push
    takes its time: what comes next is late then, and so is the end.
    """
    began = ended = time.monotonic()
    for act in acts:
        _wait_until(began + act.at * seconds, ended + apart)
        marks.mark(act.text)
        act.play()
        if act.after:
            marks.mark(act.after)
        ended = time.monotonic()
    _wait_until(began + seconds, ended + apart)


def _wait_until(*moments: float) -> None:
    time.sleep(max(0.0, max(moments) - time.monotonic()))
