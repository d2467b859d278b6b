"""Restoring an emptied, set back or damaged Redis from the store."""

from pathlib import Path

import pytest

from compiler.image import Image
from compiler.publication.restore import Restored, restore
from compiler.refusal import Refused
from interruption import Killed, SteppedLink, Steps, kill
from publishing import KEYS, WORKSPACE, Workshop, assert_served, image_of, plan_files


def numbered(at: int) -> Image:
    """Make an image of its own, with 600 ids."""
    files = plan_files(["1"], staff=True, check_after=at)
    return image_of(files, {"staff": [f"{at}-{each}" for each in range(600)]})


def restored(workshop: Workshop, **options: object) -> Restored:
    """Restore."""
    said = {"store": workshop.store, "link": workshop.link, "workspace": WORKSPACE, **options}
    return restore(**said)


def test_an_emptied_redis_is_filled(workshop: Workshop) -> None:
    """The same epoch, number and digest, complete; then nothing is left to do."""
    workshop.push(numbered(1))
    pushed = workshop.push(numbered(2))
    workshop.link.flushall()
    found = restored(workshop)
    assert (found.number, found.digest, found.moved) == (2, pushed.digest, True)
    assert found.buckets > 2
    assert_served(workshop.link, 2)
    again = restored(workshop)
    assert (again.blobs, again.buckets, again.moved) == (0, 0, False)
    assert workshop.push(numbered(3)).number == 3


def test_a_redis_set_back_is_brought_forward(workshop: Workshop) -> None:
    """A Redis at an older epoch gets the newest that was committed."""
    workshop.push(numbered(1))
    old = workshop.link.get(KEYS.live)
    workshop.push(numbered(2))
    workshop.link.set(KEYS.live, old)
    assert restored(workshop).moved
    assert_served(workshop.link, 2)


def test_damaged_and_missing_keys_are_replaced(workshop: Workshop) -> None:
    """Every key is read back: one with other bytes is written again, whole ones are not."""
    workshop.push(numbered(1))
    blob, bucket = min(workshop.redis_keys("blob")), min(workshop.redis_keys("bucket"))
    workshop.link.set(KEYS.blob(blob), b"rubbish")
    workshop.link.set(KEYS.bucket(bucket), b"")
    workshop.link.delete(KEYS.bucket(max(workshop.redis_keys("bucket"))))
    found = restored(workshop)
    assert (found.blobs, found.buckets, found.moved) == (1, 2, False)
    assert_served(workshop.link, 1)


def test_a_store_that_is_behind_follows(workshop: Workshop) -> None:
    """When Redis is ahead of the store, nothing is set back."""
    workshop.push(numbered(1))
    stored = workshop.store.get_named("live")
    workshop.push(numbered(2))
    workshop.store.put_named("live", stored)
    assert restored(workshop).number == 2
    assert workshop.store.get_named("live") == workshop.link.get(KEYS.live)


def test_a_foreign_redis_is_not_overwritten(workshop: Workshop, tmp_path: Path) -> None:
    """A Redis that serves another store's epoch is left as it is, also of the same number."""
    other = Workshop(tmp_path / "other", workshop.link)
    workshop.push(numbered(1))
    workshop.link.flushall()
    other.push(numbered(2))
    with pytest.raises(Refused, match="not its store"):
        restored(workshop)
    assert assert_served(workshop.link, 1) == 1
    assert workshop.link.get(KEYS.live) == other.live().pointer


def test_an_empty_store_restores_nothing(workshop: Workshop) -> None:
    """Without any epoch there is a sentence."""
    with pytest.raises(Refused, match="has no epoch to restore"):
        restored(workshop)


def test_a_killed_restore_can_be_run_again(workshop: Workshop) -> None:
    """Killed at any step, the pointer is absent or all is whole; run again, it ends."""
    workshop.push(numbered(1))
    at = 1
    while True:
        workshop.link.flushall()
        steps = Steps(at, kill)
        try:
            restored(workshop, link=SteppedLink(workshop.link, steps))
        except Killed:
            if workshop.link.get(KEYS.live) is not None:
                assert_served(workshop.link, 1)
        restored(workshop)
        assert_served(workshop.link, 1)
        if not steps.reached:
            break
        at += 1
    assert at > 20
