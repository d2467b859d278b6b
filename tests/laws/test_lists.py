"""Law 4: lists are exact: no member missed, no stranger let in but for the stated residue.

The residue is n in 2**64 for n ids; a test that sees one has found a fault, not bad luck.
"""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.lists.buckets import MembershipImage, build_membership
from gateway import bucket_layout, layout
from gateway.errors import FormatError
from gateway.hashing import id_hash, id_seed
from gateway.membership import MembershipTable

Members = dict[str, tuple[str, set[str]]]
"""List name to kind of id and ids."""


def compiled(members: Members) -> MembershipImage:
    """Compile lists."""
    return build_membership(
        "demo",
        [
            (name, kind, b"".join(sorted(f"{text}\n".encode() for text in ids)))
            for name, (kind, ids) in members.items()
        ],
    )


class Gateway:
    """Answers as a gateway does, from blobs and buckets alone."""

    def __init__(self, image: MembershipImage) -> None:
        sets = layout.decode(layout.Sets, image.blobs[image.membership["sets"]])
        self.names = sets["lists"]
        shards = [image.blobs[digest] for digest in image.membership["shards"]]
        positions = {name: place for place, name in enumerate(self.names)}
        self.table = MembershipTable(image.membership, sets, shards, positions)
        self.redis = dict(image.buckets)

    def exact(self, kind: str, text: str) -> set[str]:
        """Name the lists of an id by its bucket alone, whatever the filter says."""
        hashed = id_hash(text, id_seed("demo", kind))
        wanted = self.table.bucket_of(hashed)
        bucket = b"" if wanted == layout.EMPTY_BUCKET else self.redis[wanted]
        mask = self.table.lists_of(hashed, bucket)
        return {name for place, name in enumerate(self.names) if mask >> place & 1}

    def likely(self, kind: str, text: str) -> bool:
        """Ask the filter."""
        return self.table.may_hold(id_hash(text, id_seed("demo", kind)))


def wanted(members: Members, kind: str, text: str) -> set[str]:
    """Name the lists of an id, slowly and obviously."""
    return {name for name, (of, ids) in members.items() if of == kind and text in ids}


TEXTS = st.text(st.characters(min_codepoint=33, codec="utf-8"), min_size=1, max_size=8)
MEMBERS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.tuples(st.sampled_from(["user", "device"]), st.sets(TEXTS, max_size=30)),
    max_size=20,
)


@settings(deadline=None)
@given(members=MEMBERS, strangers=st.lists(TEXTS, max_size=20))
def test_lists_are_exact(members: Members, strangers: list[str]) -> None:
    """For any lists and any id of either kind, the table names just the lists that hold it."""
    gateway = Gateway(compiled(members))
    asked = set(strangers).union(*(ids for _, ids in members.values()))
    for kind in ("user", "device"):
        for text in asked:
            truth = wanted(members, kind, text)
            assert gateway.exact(kind, text) == truth
            assert gateway.likely(kind, text) or not truth


@pytest.mark.parametrize("count", [0, 1, 208, 209, 417, 1457, 100_000])
def test_lists_are_exact_at_every_size(count: int) -> None:
    """No member is missed and no stranger let in, over lists of one, of all, and of other kinds.

    The filter has no false negative, and lets in at most 2 strangers of 100.
    """
    ids = [f"u-{number}" for number in range(count)]
    members: Members = {
        "all": ("user", set(ids)),
        "one": ("user", set(ids[-1:])),
        "third": ("user", set(ids[::3])),
        "devices": ("device", set(ids[: count // 2])),
    }
    gateway = Gateway(compiled(members))
    for number, text in enumerate(ids):
        truth = {"all"} | ({"one"} if number == count - 1 else set())
        truth |= {"third"} if number % 3 == 0 else set()
        assert gateway.exact("user", text) == truth
        assert gateway.likely("user", text)
        devices = {"devices"} if number < count // 2 else set()
        assert gateway.exact("device", text) == devices
        assert gateway.likely("device", text) or not devices
    strangers = [f"x-{number}" for number in range(40_000)]
    assert not any(gateway.exact("user", text) for text in strangers)
    assert sum(gateway.likely("user", text) for text in strangers) <= len(strangers) * 0.02


def test_ids_on_all_of_many_lists() -> None:
    """Every combination of ten lists, and an id on 300 lists, are told apart."""
    names = [f"list{number:03}" for number in range(300)]
    members: Members = {name: ("user", {"everywhere"}) for name in names}
    for number in range(1024):
        for place in range(10):
            if number >> place & 1:
                members[names[place]][1].add(f"u-{number}")
    gateway = Gateway(compiled(members))
    assert gateway.exact("user", "everywhere") == set(names)
    for number in range(1024):
        truth = {names[place] for place in range(10) if number >> place & 1}
        assert gateway.exact("user", f"u-{number}") == truth


@settings(deadline=None)
@given(members=MEMBERS, seed=st.integers(0, 2**32))
def test_order_changes_nothing(members: Members, seed: int) -> None:
    """The order of lists gives the same blobs, and decoding what was encoded gives it back."""
    image = compiled(members)
    shuffled = list(members.items())
    random.Random(seed).shuffle(shuffled)
    again = compiled(dict(shuffled))
    assert (image.membership, image.blobs) == (again.membership, again.blobs)
    sets = image.blobs[image.membership["sets"]]
    assert layout.encode(layout.Sets, layout.decode(layout.Sets, sets)) == sets
    for shard, pack in zip(image.membership["shards"], image.membership["packs"], strict=True):
        assert layout.encode_shard(*layout.decode_shard(image.blobs[shard])) == image.blobs[shard]
        assert (
            bucket_layout.encode_pack(bucket_layout.decode_pack(image.blobs[pack]))
            == image.blobs[pack]
        )


def test_a_flipped_byte_is_never_an_answer() -> None:
    """Whatever byte of a bucket changes, to whatever, a look-up raises FormatError."""
    gateway = Gateway(compiled({"staff": ("user", {f"u-{number}" for number in range(150)})}))
    ((digest, bucket),) = gateway.redis.items()
    draw = random.Random(6)
    hashed = id_hash("u-7", id_seed("demo", "user"))
    for place in range(len(bucket)):
        other = bytearray(bucket)
        other[place] ^= draw.randrange(1, 256)
        with pytest.raises(FormatError, match=digest.hex()):
            gateway.table.lists_of(hashed, bytes(other))


def test_ten_more_ids_write_ten_buckets() -> None:
    """Adding or removing 10 of 100,000 ids changes at most 10 buckets, and a new list no more."""
    ids = {f"u-{number}" for number in range(100_000)}
    before = dict(compiled({"staff": ("user", ids)}).buckets)
    more = ids | {f"n-{number}" for number in range(10)}
    after = dict(compiled({"staff": ("user", more)}).buckets)
    assert 1 <= len(after.keys() - before.keys()) <= 10
    assert 1 <= len(before.keys() - after.keys()) <= 10
    both: Members = {"staff": ("user", ids), "lab": ("user", set(sorted(ids)[:10]))}
    assert 1 <= len(dict(compiled(both).buckets).keys() - before.keys()) <= 10


@pytest.mark.skipif("TIDEGATE_SOAK" not in os.environ, reason="takes a minute: make soak")
def test_a_million_ids_over_two_hundred_lists() -> None:
    """The same law with a million ids, each on one to three of 200 lists."""
    draw = random.Random(8)
    owners = {
        f"u-{number}": draw.sample(range(200), draw.choice((1, 1, 1, 2, 3)))
        for number in range(1_000_000)
    }
    members: Members = {f"list{number:03}": ("user", set()) for number in range(200)}
    for text, places in owners.items():
        for place in places:
            members[f"list{place:03}"][1].add(text)
    image = compiled(members)
    gateway = Gateway(image)
    for text, places in owners.items():
        assert gateway.likely("user", text)
        assert gateway.exact("user", text) == {f"list{place:03}" for place in places}
    strangers = [f"x-{number}" for number in range(1_000_000)]
    likely = [text for text in strangers if gateway.likely("user", text)]
    assert not any(gateway.exact("user", text) for text in strangers)
    found = layout.decode(layout.Sets, image.blobs[image.membership["sets"]])
    sets = len(found["numbers"]) // 4
    print(f"\n{len(owners):,} ids, {sets:,} sets; {len(likely) / len(strangers):.2%} likely")
    assert len(likely) <= len(strangers) * 0.02
