"""Law 10 when the client is killed at any step, when the disk is full, and when it rots."""

import itertools
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cdn
from loadtest.client import Trust
from mortal import KILLED, Mortal, mortal
from phone_shop import (
    PLAIN,
    SECRET,
    SIGNED,
    Phone,
    Shop,
)
from phone_ways import FEW, SOAK, WAYS, length, phone

KILLS = 400 if SOAK else 24
SIZES = 100 if SOAK else 12


@pytest.fixture(scope="module")
def reaper() -> Iterator[Mortal]:
    """Start the process in which rounds end badly."""
    with mortal() as found:
        yield found


def told(found: Phone, **more: Any) -> dict[str, Any]:
    """Write a phone's round down for a process that will not live to its end."""
    keys = found.app in (SIGNED, SECRET) and str(found.shop.place.folder / "keys" / "dev.pub")
    return {
        "root": str(found.root),
        "gateway": found.shop.place.gateway.url,
        "phone": {"region": "near", **found.members},
        "app": found.app,
        "keys": keys or "",
        "identities": list(found.shop.trust.get(found.app, Trust()).identities),
        **more,
    }


@pytest.mark.parametrize(
    "way", FEW if SOAK else ["full, zstd", "signed, patch", "encrypted, bsdiff4"]
)
def test_a_kill_at_any_step(world: Shop, reaper: Mortal, way: str) -> None:
    """Whichever step of a round is the last, the next round ends on the target."""
    code, steps = reaper.round(**told(phone(world, way)))
    assert code == 0
    had: list[bool] = []
    for step in itertools.count(1, max(1, steps // KILLS)):
        found = phone(world, way)
        code, _ = reaper.round(**told(found, die_at=step))
        if code == 0:
            break
        assert code == KILLED
        had.append(found.version == found.before)
        found.heal()
    assert len(had) >= min(steps, KILLS) - 2
    assert had == sorted(had, reverse=True), "it went back to the old one"
    assert set(had) == {True, False}


@pytest.mark.parametrize(
    "way", FEW if SOAK else ["full, zstd", "signed, patch", "encrypted, bsdiff4"]
)
def test_two_kills(world: Shop, reaper: Mortal, way: str) -> None:
    """A round that was killed, and the one after it that is killed again, elsewhere."""
    _, steps = reaper.round(**told(phone(world, way)))
    chance = random.Random(1)
    codes: list[list[int]] = []
    for _ in range(KILLS // 4):
        found = phone(world, way)
        codes.append([])
        for _ in range(2):
            code, _ = reaper.round(**told(found, die_at=chance.randint(1, steps)))
            codes[-1].append(code)
            assert found.version in (found.before, found.target)
        found.heal()
    assert {code for pair in codes for code in pair} <= {0, KILLED}
    assert [KILLED, KILLED] in codes


@pytest.mark.parametrize("way", FEW if SOAK else ["full, zstd", "bsdiff4", "encrypted, bsdiff4"])
def test_a_full_disk(world: Shop, reaper: Mortal, way: str) -> None:
    """No file may grow over so many bytes: the client says so, and what is installed stays."""
    size = 60_000
    failed = 0
    for at in range(SIZES):
        found = phone(world, way)
        code, _ = reaper.round(**told(found, file_bytes=size * at // SIZES))
        assert code == 0
        failed += found.version == found.before
        found.heal()
    assert failed > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make small disks, of so many KiB each."""
    mounted: list[Path] = []

    def make(kilobytes: int) -> Path:
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        where = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tidegate-test", str(path)]
        done = subprocess.run(["mount", *where], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip("this user may mount no tmpfs: only RLIMIT_FSIZE makes a full disk here")
        mounted.append(path)
        return path

    yield make
    for path in mounted:
        subprocess.run(["umount", str(path)], check=True)


def test_a_small_disk(world: Shop, small_disk: Callable[[int], Path]) -> None:
    """On a disk that has too little room, then on one with enough, nothing is lost.

    Who could ask, and then had no room, reports that it failed.
    """
    told_of = 0
    for kilobytes in (4, 8, 64, 72, 80, 120, 132, 200):
        for way in ("update, zstd", "bsdiff4", "encrypted, bsdiff4"):
            app, _, accept = WAYS[way]
            room = small_disk(kilobytes)
            found = world.phone(room / "phone", app, fresh=True, accept=accept)
            try:
                shutil.copytree(world.roots / app, found.root, dirs_exist_ok=True)
            except OSError:  # it does not even hold what the phone had
                shutil.rmtree(found.root)
                found.root.mkdir()
            else:
                found.fresh = False
            found.gateway = world.gate.base
            result = found.round()
            assert result.version in (found.before, found.target)
            asked = {each.path: each.body for each in world.gate.requests}
            if "/v1/check" in asked and result.outcome == "failed":
                assert b'"event": "failed"' in asked["/v1/report"]
                told_of += 1
            moved = room.parent / f"{room.name}-{way}"
            shutil.copytree(found.root, moved)
            found.root = moved
            found.heal()
    assert told_of > 0


def test_a_flipped_byte_at_rest(world: Shop) -> None:
    """A package that rots on the disk is no longer said to be installed, and is fetched again."""
    for place in (0, 0.3, 0.999):
        found = phone(world, "update, zstd")
        held = found.held()
        assert held is not None
        data = bytearray(held.path.read_bytes())
        data[int(place * len(data))] ^= 1
        held.path.write_bytes(data)
        assert found.client().installed(PLAIN) is None
        assert found.heal().outcome == "installed"


def test_a_flipped_byte_in_what_was_fetched(world: Shop) -> None:
    """A half download that rots before it is taken up costs another one, not the target."""
    size = length(world, "full, gzip")
    for place in (0, size // 4, size // 2 - 1):
        found = phone(world, "full, gzip")
        world.proxy.fault = cdn.cut_at(size // 2)
        assert found.round().outcome == "failed"
        (partial,) = (found.root / "downloads").iterdir()
        data = bytearray(partial.read_bytes())
        data[place] ^= 1
        partial.write_bytes(data)
        found.heal()
