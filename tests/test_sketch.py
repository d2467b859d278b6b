"""Sketches are Redis's own HyperLogLogs: counted and merged by a real Redis, dense and sparse."""

import os
import random
from collections.abc import Iterable
from typing import Any

import pytest
import redis as redis_client
from hypothesis import given
from hypothesis import strategies as st

from gateway.hashing import id_hash, id_seed
from gateway.reach import OLD_TURNS, Reach
from gateway.sketch import (
    _SPARSE_RANK,
    FEW,
    REGISTERS,
    Sketch,
    _dense,
    _filled,
    _ranks,
    _sparse,
    rank_of,
)
from processes import RedisServer

SPREAD = 0.0081
LARGE = 1_000_000 if "TIDEGATE_SOAK" in os.environ else 100_000
SEED = id_seed("demo", "device")
DENSE_BYTES = 16 + REGISTERS * 6 // 8


@pytest.fixture
def redis(server: RedisServer) -> Any:
    """Give a client of an empty Redis."""
    with server.client() as client:
        client.flushall()
        yield client


def subjects(numbers: Iterable[int]) -> list[int]:
    """Hash ids as a gateway does."""
    return [id_hash(f"d-{number}", SEED) for number in numbers]


def sketch_of(hashes: Iterable[int]) -> Sketch:
    """Make a sketch of subjects."""
    found = Sketch()
    for each in hashes:
        found.add(each)
    return found


@pytest.mark.parametrize("count", [0, 1, 5, 100, FEW, FEW + 1, 3_000, LARGE])
def test_redis_counts_what_was_added(redis: Any, count: int) -> None:
    """PFCOUNT of a sketch is the number of its subjects, to 5 sigma, and small ones are small."""
    value = sketch_of(subjects(range(count))).redis()
    redis.set("k", value)
    assert redis.pfcount("k") == pytest.approx(count, rel=5 * SPREAD, abs=1)
    assert len(value) == DENSE_BYTES if count > FEW else len(value) <= 16 + 3 * count + 4


def test_redis_merges_what_overlaps(redis: Any) -> None:
    """PFMERGE of sketches, large and small, counts who is in several of them once."""
    parts = [range(40_000), range(20_000, 60_000), range(59_950, 60_040), range(5)]
    for at, part in enumerate(parts):
        redis.set(f"part{at}", sketch_of(subjects(part)).redis())
        for _ in range(2):  # again: nothing changes
            redis.pfmerge("all", f"part{at}")
    together = sketch_of(subjects(range(60_040)))
    assert redis.pfcount("all") == pytest.approx(60_040, rel=5 * SPREAD)
    redis.set("once", together.redis())
    assert redis.pfcount("all") == redis.pfcount("once")
    assert redis.get("all")[16:] == together.redis()[16:]


def test_redis_writes_the_same_registers(redis: Any) -> None:
    """A small HyperLogLog that Redis itself makes dense has the bytes that ours has."""
    few = sketch_of(subjects(range(FEW))).redis()
    redis.set("few", few)
    redis.config_set("hll-sparse-max-bytes", 0)
    redis.pfmerge("dense", "few")
    redis.config_set("hll-sparse-max-bytes", 3_000)
    assert redis.get("few")[4] == 1
    assert redis.get("dense")[4] == 0
    wanted = _dense(_filled(_ranks(set(subjects(range(FEW))))))
    assert redis.get("dense")[16:] == wanted[16:]
    assert redis.pfcount("dense") == redis.pfcount("few") == pytest.approx(FEW, abs=4)


HASHES = st.sets(st.integers(0, 2**64 - 1) | st.builds(lambda n: n << 14, st.integers(0, 2**50)))


@given(hashes=HASHES, order=st.randoms(use_true_random=False))
def test_both_forms_hold_the_same(hashes: set[int], order: random.Random) -> None:
    """Order and repeats change nothing; dense and sparse, unpacked by the book, are the registers.

    Law of both encodings, read here as hyperloglog.c describes them, bit by bit.
    """
    hashes = {each & (2**64 - 1) for each in hashes}
    again = [*hashes, *hashes]
    order.shuffle(again)
    assert sketch_of(again).redis() == sketch_of(hashes).redis()
    wanted = bytearray(REGISTERS)
    for each in hashes:
        pattern = each >> 14 | 1 << 50
        rank = (pattern & -pattern).bit_length()
        assert rank_of(each) == rank
        wanted[each % REGISTERS] = max(wanted[each % REGISTERS], rank)
    registers = _filled(_ranks(hashes))
    assert registers == wanted
    bits = int.from_bytes(_dense(registers)[16:], "little")
    assert all(bits >> 6 * at & 63 == wanted[at] for at in range(0, REGISTERS, 97))
    assert [bits >> 6 * (each % REGISTERS) & 63 for each in hashes] == [
        wanted[each % REGISTERS] for each in hashes
    ]
    if max(wanted) <= _SPARSE_RANK:
        assert _unpacked(_sparse(_ranks(hashes))[16:]) == wanted
    else:
        assert len(sketch_of(hashes).redis()) == DENSE_BYTES


def _unpacked(data: bytes) -> bytearray:
    found, at = bytearray(), 0
    while at < len(data):
        byte = data[at]
        if byte & 0x80:
            found += bytes([(byte >> 2 & 31) + 1]) * ((byte & 3) + 1)
        elif byte & 0x40:
            at += 1
            found += bytes(((byte & 63) << 8 | data[at]) + 1)
        else:
            found += bytes(byte + 1)
        at += 1
    return found


def test_a_rank_that_sparse_cannot_hold_is_dense(redis: Any) -> None:
    """The highest rank there is survives, in a form in which Redis reads it."""
    redis.set("k", sketch_of([0]).redis())
    assert len(redis.get("k")) == DENSE_BYTES
    assert redis.pfcount("k") == 1
    redis.set("bad", b"HYLL\1" + bytes(10) + b"\x80\0")
    with pytest.raises(redis_client.ResponseError):
        redis.pfcount("bad")  # so Redis does look at what it reads


def test_only_what_is_new_changes_a_sketch() -> None:
    """Who asks again changes nothing, before and after the subjects are too many to be kept."""
    for count in (FEW, 20 * FEW):
        hashes = subjects(range(count))
        found = sketch_of(hashes)
        assert found.changed
        found.changed = False
        for each in hashes:
            found.add(each)
        assert not found.changed


def test_the_reach_is_bounded_and_lets_go() -> None:
    """Beyond the limit there is no room; what Redis has makes room when crowded, or when old."""
    reach = Reach(limit=4)
    held = [reach.of("a", str(at)) for at in range(6)]
    assert [each is None for each in held] == [False] * 4 + [True] * 2
    for sketch in held[:3]:
        assert sketch is not None
        sketch.add(1)
    taken = reach.take()
    assert [release for _, release, _ in taken] == ["0", "1", "2"]  # nobody is in 3, and it goes
    assert reach.of("a", "0") is held[0]
    taken[0][2].changed = taken[1][2].changed = False
    assert [release for _, release, _ in reach.take()] == ["2"]  # crowded: 0 and 1 go
    assert reach.of("a", "0") is not held[0]
    quiet = Reach(limit=4)
    kept = quiet.of("a", "r")
    assert kept is not None
    for _ in range(OLD_TURNS):
        assert quiet.take() == []
        assert quiet.of("a", "r") is kept
    quiet.take()
    assert quiet.of("a", "r") is not kept
