"""Law: a push killed at any instant leaves the old epoch whole, or the new one; gc takes no part.

Steps of I/O are counted, and every single one is tried: killed there, or with a whole gc or a
whole push of somebody else let in. Then the same with kill -9 of a real process.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compiler.image import Image
from compiler.publication.collection import collect
from compiler.publication.publisher import publish
from gateway.pointer import decode_pointer
from interruption import Killed, SteppedLink, SteppedStore, Steps, kill
from processes import RedisServer
from publishing import (
    COFFEE,
    KEYS,
    WORKSPACE,
    Workshop,
    assert_served,
    assert_stored,
    image_of,
    plan_files,
    publisher_key,
)

IDS = [f"user-{at}" for at in range(400)]
LARGE = pytest.mark.skipif("TIDEGATE_SOAK" not in os.environ, reason="takes minutes: make soak")


def numbered(at: int) -> Image:
    """Make an image of which everything but the first package differs from any other's."""
    files = plan_files(["1", f"2.{at}"], staff=True, check_after=at)
    return image_of(files, {"staff": [f"{at}-{each}" for each in IDS]})


def assert_whole(workshop: Workshop) -> int:
    """Look that what Redis points to is complete, there and in the store; give its number."""
    number = assert_served(workshop.link)
    pointer = workshop.link.get(KEYS.live)
    assert_stored(workshop.store, decode_pointer(pointer)[1])
    return number


def stepped(workshop: Workshop, image: Image, steps: Steps) -> None:
    """Push through store and Redis that count steps."""
    publish(
        image,
        store=SteppedStore(workshop.store, steps),
        link=SteppedLink(workshop.link, steps),
        key=publisher_key(),
        workspace=WORKSPACE,
        now=workshop.now,
        force=True,
    )


def every_step(first: int, stride: int, trial: Callable[[Steps], Any], act: Any) -> int:
    """Try an action at every step, until a trial has fewer; give how many were tried."""
    at, tried = first, 0
    while True:
        steps = Steps(at, act)
        trial(steps)
        if not steps.reached:
            return tried
        at, tried = at + stride, tried + 1


def killed_push(workshop: Workshop, stride: int) -> tuple[int, int]:
    """Kill pushes at their steps; count those that left the old and the new epoch."""
    left = [0, 0]
    workshop.push(numbered(2))
    version = 10

    def trial(steps: Steps) -> None:
        nonlocal version
        version += 1
        image, before = numbered(version), workshop.live().number
        try:
            stepped(workshop, image, steps)
        except Killed:
            number = assert_whole(workshop)
            assert number in (before, before + 1)
            left[number - before] += 1
        # The next command heals; there is one epoch for this image, not two.
        healed = workshop.push(image)
        assert healed.number == before + 1
        assert assert_whole(workshop) == before + 1
        assert workshop.store.get_named("live") == workshop.live().pointer
        assert workshop.store.get_named(f"versions/{COFFEE}/2.{version}")

    every_step(1, stride, trial, kill)
    return left[0], left[1]


def test_a_killed_push_leaves_one_whole_epoch(workshop: Workshop) -> None:
    """Killed at a step, the old epoch is served whole, or the new one; pushing again heals."""
    old, new = killed_push(workshop, stride=3)
    assert old > 10
    assert new > 1


@LARGE
def test_a_killed_push_leaves_one_whole_epoch_at_every_step(workshop: Workshop) -> None:
    """The same at every single step."""
    print(killed_push(workshop, stride=1))


def collected(workshop: Workshop) -> None:
    """Collect everything that may be, as if all blobs were old."""
    collect(
        store=workshop.store,
        link=workshop.link,
        workspace=WORKSPACE,
        now=workshop.now + 7200,
        keep=1,
    )


def push_with_collections(workshop: Workshop, stride: int) -> int:
    """Let a whole gc into pushes of what is garbage; give how many steps were tried."""
    images = [numbered(1), numbered(2), numbered(3)]

    def trial(steps: Steps) -> None:
        for image in images:  # what the first needs is garbage now, in the store and in Redis
            workshop.push(image)
        stepped(workshop, images[0], steps)
        assert_whole(workshop)
        assert workshop.live().epoch["contents"] == images[0].root

    return every_step(1, stride, trial, lambda: collected(workshop))


def collections_with_push(workshop: Workshop, stride: int) -> int:
    """Let a whole push of what is garbage into a gc; give how many steps were tried."""
    images = [numbered(1), numbered(2), numbered(3)]
    for image in images:
        workshop.push(image)
    turn = 0

    def trial(steps: Steps) -> None:
        nonlocal turn
        turn += 1
        collected(workshop)  # so that every trial takes the same steps
        for back in (2, 0, 1):  # the first of them is garbage now, in the store and in Redis
            workshop.push(images[(turn + back) % 3])
        collect(
            store=SteppedStore(workshop.store, steps),
            link=SteppedLink(workshop.link, steps),  # type: ignore[arg-type]
            workspace=WORKSPACE,
            now=workshop.now + 7200,
            keep=1,
        )
        assert_whole(workshop)

    def intrude() -> None:
        workshop.push(images[(turn + 2) % 3])
        assert_whole(workshop)

    return every_step(1, stride, trial, intrude)


def test_a_collection_during_a_push_harms_neither(workshop: Workshop) -> None:
    """A whole gc at a step of a push, which reuses garbage: all that is live stays whole."""
    assert push_with_collections(workshop, stride=4) > 10


def test_a_push_during_a_collection_harms_neither(workshop: Workshop) -> None:
    """A whole push of old garbage at a step of a gc: all that is live stays whole."""
    assert collections_with_push(workshop, stride=5) > 10


@LARGE
def test_collections_and_pushes_mix_at_every_step(workshop: Workshop) -> None:
    """The same two at every single step."""
    print(push_with_collections(workshop, 1), collections_with_push(workshop, 1))


_PUSH_FOREVER = """
import sys
from pathlib import Path
from gateway.link import connect_sync, parse_url
from publishing import Workshop, image_of, plan_files

ids = [f"user-{at}" for at in range(400)]
link = connect_sync(parse_url(sys.argv[1]), timeout_seconds=20)
workshop = Workshop(Path(sys.argv[2]), link)
at = int(sys.argv[3])
while True:
    at += 1
    files = plan_files(["1", f"2.{at}"], staff=True, check_after=at % 86400)
    image = image_of(files, {"staff": [f"{at}-{each}" for each in ids]})
    print(at, flush=True)
    workshop.push(image)
"""


def killed_processes(workshop: Workshop, url: str, rounds: int) -> int:
    """Kill -9 a process that pushes and pushes; give how many epochs came to be."""
    chance = random.Random(2)
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}"}
    workshop.push(numbered(1))
    number, at = 1, 1000
    for _ in range(rounds):
        with subprocess.Popen(
            [sys.executable, "-c", _PUSH_FOREVER, url, str(workshop.folder), str(at)],
            env=environment,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            begun = process.stdout.readline() + process.stdout.readline()
            assert begun.count(b"\n") == 2, "the pushing process did not come to its second push"
            time.sleep(chance.uniform(0, 0.3))
            process.kill()
            at = max(map(int, (begun + process.stdout.read()).split()))
        at += 1
        served = assert_whole(workshop)
        assert served >= number
        number = workshop.push(numbered(at)).number
        assert number == served + 1
        assert assert_whole(workshop) == number
    return number


def test_kill_9_leaves_one_whole_epoch(workshop: Workshop, server: RedisServer) -> None:
    """A process that pushes is killed with -9 at random moments; what is live is whole."""
    assert killed_processes(workshop, server.url, rounds=3) > 4


@LARGE
def test_kill_9_often_leaves_one_whole_epoch(workshop: Workshop, server: RedisServer) -> None:
    """The same a hundred times."""
    print(killed_processes(workshop, server.url, rounds=100))
