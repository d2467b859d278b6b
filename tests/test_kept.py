"""What processes keep together in one folder: the mark, turns, images, and one copy in memory."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from epochs import WORKSPACE, Made, make_epoch
from gateway import blob_file, layout
from gateway import kept as keeping
from gateway.config import read_config
from gateway.errors import StoreError
from gateway.follower import Follower
from gateway.kept import Kept
from gateway.keys import Keys
from gateway.link import connect_async
from gateway.loading import Mark
from gateway.metrics import Metrics
from gateway.shelf import Shelf
from large_epochs import app_id, large_epoch
from processes import ROOT, RedisServer

HOLDER = """
import sys, time
from pathlib import Path
from gateway.kept import Kept
with Kept(Path(sys.argv[1])).turn(bytes(32)):
    print("mine", flush=True)
    time.sleep(600)
"""


PATIENT_SECONDS = 60.0
"""Longer than anybody waits here for what comes at all."""


def mark(number: int) -> Mark:
    """Make a mark of this number."""
    return Mark(number, number.to_bytes(32, "big"))


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run another process that has taken its turn, and hangs."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"mine\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def seconds_to_turn(kept: Kept, root: bytes = bytes(32)) -> float:
    """Tell how long one waits for a turn."""
    began = time.monotonic()
    with kept.turn(root):
        return time.monotonic() - began


def test_the_mark_never_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many write at once, and in whatever order, the highest number stays."""
    monkeypatch.setattr(keeping, "RAISING_SECONDS", PATIENT_SECONDS)  # disks may be slow
    folders = [Kept(tmp_path) for _ in range(4)]
    numbers = [7, 3, 9, 1, 5, 8, 2, 6, 4, 10] * 4
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda at: folders[at % 4].remember(mark(numbers[at])), range(40)):
            pass
    assert Kept(tmp_path).highest() == mark(10)
    assert {path.name for path in tmp_path.iterdir()} == {"highest", "raising"}


def test_a_lock_that_is_not_let_go_does_not_lower_the_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who cannot get the lock in time does not write, and says so; reading needs no lock."""
    monkeypatch.setattr(keeping, "RAISING_SECONDS", 0.1)
    kept = Kept(tmp_path)
    kept.remember(mark(2))
    with kept._locked("raising", 1.0) as mine:
        assert mine
        kept.remember(mark(1))  # nothing to write
        with pytest.raises(StoreError, match="does not let go"):
            kept.remember(mark(3))
    assert kept.highest() == mark(2)
    kept.remember(mark(3))
    assert kept.highest() == mark(3)


def test_a_hung_worker_delays_others_for_a_moment_only(
    tmp_path: Path, holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One waits for a turn as long as is said; not at all for one who was killed."""
    monkeypatch.setattr(keeping, "TURN_SECONDS", 0.3)
    kept = Kept(tmp_path)
    holder.send_signal(signal.SIGSTOP)
    assert seconds_to_turn(kept) >= 0.3
    monkeypatch.setattr(keeping, "TURN_SECONDS", PATIENT_SECONDS)
    holder.kill()
    holder.wait()
    assert seconds_to_turn(kept) < PATIENT_SECONDS


def test_nobody_waits_for_what_is_there(
    tmp_path: Path, holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once an image is there, no turn is needed."""
    monkeypatch.setattr(keeping, "TURN_SECONDS", PATIENT_SECONDS)
    made = make_epoch(1)
    kept = Kept(tmp_path)
    kept.save(made.digest, made.blobs.values())
    assert holder.poll() is None
    assert seconds_to_turn(kept, made.digest) < PATIENT_SECONDS


def test_an_unwritable_folder_costs_no_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no lock can be made one does without."""
    monkeypatch.setattr(keeping, "TURN_SECONDS", PATIENT_SECONDS)
    (tmp_path / "file").write_text("no folder")
    assert seconds_to_turn(Kept(tmp_path / "file")) < PATIENT_SECONDS


def test_an_image_gives_back_every_blob(tmp_path: Path) -> None:
    """A mapped image has exactly the blobs that were saved, and none that is damaged."""
    made = make_epoch(1, staff=("u-1",))
    kept = Kept(tmp_path)
    assert kept.load(made.digest) is None
    kept.save(made.digest, made.blobs.values())
    shelf = kept.load(made.digest)
    assert shelf is not None
    assert {digest: bytes(blob) for digest, blob in shelf.items()} == made.blobs
    assert len(shelf) == len(made.blobs)
    assert bytes(32) not in shelf
    path = kept.path(made.digest)
    assert path.stat().st_mode & 0o777 == 0o400
    whole = path.read_bytes()
    for damage in (b"", whole[:20], whole[:36], whole[:-1], whole[:99] + b"?" + whole[100:]):
        path.unlink()
        path.write_bytes(damage)
        try:
            found = kept.load(made.digest)
        except StoreError:
            continue
        assert found is not None  # what was damaged is just not there, under its digest
        assert all(layout.digest_of(blob) == digest for digest, blob in found.items())
        assert not made.blobs.keys() <= found.keys()
    other = make_epoch(2)
    path.unlink()
    with path.open("wb") as target:
        blob_file.write_file(target, other.digest, other.blobs.values())
    with pytest.raises(StoreError, match="is not the image of epoch"):
        kept.load(made.digest)


def test_older_images_go_and_newer_ones_stay(tmp_path: Path) -> None:
    """What an epoch before left, finished or not, is removed; what another one is ahead with not.

    Who has mapped a removed image keeps it.
    """
    kept = Kept(tmp_path)
    made = [make_epoch(number) for number in (1, 2, 3)]
    (tmp_path / "epoch").write_text("as a gateway before this one kept it")
    (tmp_path / ".epoch-left-by-a-killed-one").write_text("half")
    for left_behind in tmp_path.iterdir():
        os.utime(left_behind, (0, 0))
    for each in made:
        kept.save(each.digest, each.blobs.values())
        # The clock of a file system may tick slowly.
        os.utime(kept.path(each.digest), (each.number, each.number))
    old = kept.load(made[0].digest)
    kept.settle(made[1].digest)
    left = {path for path in tmp_path.iterdir() if "epoch" in path.name}
    assert left == {kept.path(each.digest) for each in made[1:]}
    assert old is not None
    assert old[made[0].digest] == made[0].blobs[made[0].digest]


@asynccontextmanager
async def worker(server: RedisServer, folder: Path) -> AsyncIterator[Follower]:
    """Start a worker's follower, polled only when a test says so."""
    config = read_config(
        {
            "TIDEGATE_WORKSPACE": WORKSPACE,
            "TIDEGATE_REDIS": server.url,
            "TIDEGATE_CACHE": str(folder),
        }
    )
    link = connect_async(config.redis, timeout_seconds=20.0)
    found = Follower(config, link, Keys(WORKSPACE), Metrics())
    try:
        await found.start()
        yield found
    finally:
        await found.close()
        await link.aclose()


def images(folder: Path) -> dict[bytes, int]:
    """Give the digests of the images in a folder, and which file each is."""
    return {
        bytes.fromhex(path.name.removeprefix("epoch-")): path.stat().st_ino
        for path in folder.glob("epoch*")
    }


def mappings(folder: Path) -> list[tuple[str, int]]:
    """Give how this process maps files of a folder (readable, shared: r--s), and which."""
    rows = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    return [(row[1], int(row[4])) for row in rows if str(folder) in row[-1]]


async def test_the_second_worker_maps_what_the_first_one_fetched(
    server: RedisServer, tmp_path: Path
) -> None:
    """With every blob gone from Redis, a second worker serves out of the first one's image."""
    made = large_epoch(1, apps=50, shards=3)
    with server.client() as client:
        client.flushall()
        made.write(client)
        async with worker(server, tmp_path) as first:
            for digest in made.blobs:
                client.delete(Keys(WORKSPACE).blob(digest))
            async with worker(server, tmp_path) as second:
                assert first.snapshot is not None
                assert second.snapshot is not None
                assert second.snapshot.number == 1
                assert second.snapshot.apps[app_id(7)] is not None
                assert mappings(tmp_path) == [("r--s", images(tmp_path)[made.digest])] * 2


async def test_only_what_changed_is_fetched(server: RedisServer, tmp_path: Path) -> None:
    """An epoch that differs in one app is completed from the image of the one before."""
    one, two = (large_epoch(number, apps=50, changed=1) for number in (1, 2))
    fresh = {digest: blob for digest, blob in two.blobs.items() if digest not in one.blobs}
    assert len(fresh) == 3  # epoch, contents, program
    with server.client() as client:
        client.flushall()
        one.write(client)
        async with worker(server, tmp_path) as found:
            client.flushall()
            Made(2, two.digest, fresh).write(client)
            assert await found._follow_safely()
            assert found.snapshot is not None
            assert found.snapshot.number == 2
            assert isinstance(found._blobs, Shelf)
    assert images(tmp_path).keys() == {two.digest}


def test_the_mark_that_stands_is_told_and_its_image_stays(tmp_path: Path) -> None:
    """A worker that lags is told who is ahead, and removes nothing of theirs."""
    ahead, behind = Kept(tmp_path), Kept(tmp_path)
    six, five, other = Mark(6, b"6" * 32), Mark(5, b"5" * 32), Mark(6, b"x" * 32)
    for mark in (six, five):
        ahead.save(mark.digest, [b"blob"])
    assert ahead.remember(six) == six
    assert behind.remember(five) == six
    assert behind.remember(other) == six
    behind.settle(five.digest)
    assert ahead.path(six.digest).exists()


async def test_no_worker_goes_below_what_another_has_served(
    server: RedisServer, tmp_path: Path
) -> None:
    """Law 7 holds among workers of a folder: no older epoch, and no other of the same number."""
    with server.client() as client:
        client.flushall()
        made = [make_epoch(4), make_epoch(5), make_epoch(6), make_epoch(6, staff=("u-1",))]
        made[0].write(client)
        async with worker(server, tmp_path) as ahead, worker(server, tmp_path) as behind:
            made[2].write(client)
            await ahead._follow_safely()
            for stale in (made[1], made[3]):
                stale.write(client)
                await behind._follow_safely()
                assert behind.snapshot is not None
                assert behind.snapshot.number == 4
            made[2].write(client)
            await behind._follow_safely()
            assert behind.snapshot.digest == made[2].digest
