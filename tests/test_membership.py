"""The membership table and its compiler: layout, numbering, look-ups, damage; expressions."""

import random
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.diagnostic import PlanError
from compiler.lists import buckets, hash_rows
from compiler.lists.buckets import MembershipImage, bucket_pairs, build_membership
from gateway import bucket_layout, layout
from gateway.errors import FormatError
from gateway.hashing import id_hash, id_seed
from gateway.membership import ExpressionLists, MembershipTable

Lists = list[tuple[str, str, bytes]]


def text_of(*ids: str) -> bytes:
    """Give ids as ListIds.text."""
    return b"".join(sorted(f"{text}\n".encode() for text in ids))


SMALL: Lists = [
    ("staff", "user", text_of("u-1", "u-2", "Zoë")),
    ("testers", "user", text_of("u-2", "u-3")),
    ("lab", "device", text_of("u-2", "d-1")),
]
POSITIONS = {"staff": 0, "testers": 1, "lab": 5}


def sets_of(image: MembershipImage) -> layout.Sets:
    """Decode an image's membership sets."""
    return layout.decode(layout.Sets, image.blobs[image.membership["sets"]])


def sets_by_number(sets: layout.Sets) -> dict[int, tuple[int, ...]]:
    """Read the columns slowly: the indexes of the lists by the number of their set."""
    numbers, ends, members = (
        [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), 4)]
        for data in (sets["numbers"], sets["ends"], sets["members"])
    )
    return {
        number: tuple(members[start:end])
        for number, start, end in zip(numbers, [0, *ends], ends, strict=False)
    }


def one_set(number: int, bits: int = 8) -> layout.Sets:
    """Make the sets of one list `staff`: the one of this number."""
    return {
        "number_bits": bits,
        "lists": ["staff"],
        "numbers": number.to_bytes(4, "little"),
        "ends": (1).to_bytes(4, "little"),
        "members": bytes(4),
    }


ONE_BUCKET: layout.Membership = {"buckets": 1, "ids": 0, "sets": b"", "shards": [], "packs": []}


def table_of(image: MembershipImage, positions: dict[str, int] = POSITIONS) -> MembershipTable:
    """Load an image as a gateway does."""
    shards = [image.blobs[digest] for digest in image.membership["shards"]]
    return MembershipTable(image.membership, sets_of(image), shards, positions)


def lists_in(image: MembershipImage, kind: str, text: str) -> int:
    """Answer for one id as a gateway does, the filter first."""
    table, hashed = table_of(image), id_hash(text, id_seed("demo", kind))
    return table.lists_of(hashed, dict(image.buckets)[table.bucket_of(hashed)])


def test_members_are_told_by_kind_and_list() -> None:
    """An id is on the lists that name it, as that kind; users and devices of one name differ."""
    image = build_membership("demo", SMALL)
    assert image.membership["ids"] == 6
    assert lists_in(image, "user", "u-1") == 0b1
    assert lists_in(image, "user", "u-2") == 0b11
    assert lists_in(image, "user", "u-3") == 0b10
    assert lists_in(image, "user", "Zoë") == 0b1
    assert lists_in(image, "device", "u-2") == 0b100000
    assert lists_in(image, "device", "d-1") == 0b100000
    assert lists_in(image, "device", "u-1") == lists_in(image, "user", "zoë") == 0


def test_a_bucket_is_laid_out_as_the_format_says() -> None:
    """One bucket: all hashes in order, each before the number of its set, one byte wide."""
    image = build_membership("demo", SMALL)
    ((digest, bucket),) = image.buckets
    assert sets_of(image)["number_bits"] == 8
    numbers = {lists: number for number, lists in sets_by_number(sets_of(image)).items()}
    names = sets_of(image)["lists"]
    assert names == ["lab", "staff", "testers"]
    owners = {
        id_hash(text, id_seed("demo", kind)): combination
        for kind, text, combination in [
            ("user", "u-1", (1,)),
            ("user", "Zoë", (1,)),
            ("user", "u-2", (1, 2)),
            ("user", "u-3", (2,)),
            ("device", "u-2", (0,)),
            ("device", "d-1", (0,)),
        ]
    }
    wanted = b"".join(
        hashed.to_bytes(8, "big") + bytes([numbers[owners[hashed]]]) for hashed in sorted(owners)
    )
    assert bucket == wanted
    assert digest == layout.bucket_digest(wanted)


@pytest.mark.parametrize("count", [209, 417, 1457, 50_000, 300_000])
def test_every_bucket_and_word_is_what_a_slow_reading_says(count: int) -> None:
    """Digests, remainders, set numbers and filter words agree with a plain loop over the ids."""
    image = build_membership("demo", [("all", "user", text_of(*map(str, range(count))))])
    hashes = sorted(id_hash(str(number), id_seed("demo", "user")) for number in range(count))
    buckets = bucket_layout.bucket_count(count)
    (number,), bits = sets_by_number(sets_of(image)), sets_of(image)["number_bits"]
    width = bucket_layout.remainder_bits(buckets) + bits
    rows: list[list[bytes]] = [[] for _ in range(buckets)]
    words = [0] * (layout.FILTER_WORDS * buckets)
    for hashed in hashes:
        entry = (hashed << bits | number) % (1 << width)
        rows[hashed * buckets >> 64].append(entry.to_bytes(width // 8, "big"))
        words[hashed * buckets * layout.FILTER_WORDS >> 64] |= bucket_layout.filter_pattern(hashed)
    wanted = [b"".join(row) for row in rows]
    shards = [layout.decode_shard(image.blobs[digest]) for digest in image.membership["shards"]]
    packs = [bucket_layout.decode_pack(image.blobs[digest]) for digest in image.membership["packs"]]
    assert [bucket for pack in packs for bucket in pack] == wanted
    found = b"".join(found for _, found in shards)
    assert list(np.frombuffer(found, "<u8")) == words
    digests = b"".join(digests for digests, _ in shards)
    assert digests == b"".join(map(layout.bucket_digest, wanted))
    assert all(len(pack) == layout.SHARD_BUCKETS for pack in packs[:-1])


def test_an_empty_table_knows_nobody() -> None:
    """No ids: one empty bucket, which has no key, and a filter that says no to everybody."""
    for lists in ([], [("none", "user", b"")]):
        image = build_membership("demo", lists)
        table = table_of(image, {"none": 0})
        assert list(image.buckets) == []
        for hashed in (0, 1, 2**63, 2**64 - 1):
            assert not table.may_hold(hashed)
            assert table.bucket_of(hashed) == layout.EMPTY_BUCKET
            assert table.lists_of(hashed, b"") == 0


def test_the_ends_of_the_hash_space_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes 0 and 2**64 - 1, and those at every border of buckets, are kept and found."""
    buckets_wanted = 448
    edges = {0, 2**64 - 1}
    for bucket in range(1, buckets_wanted):
        first = -(-(bucket << 64) // buckets_wanted)
        edges |= {first - 1, first}
    hashes = np.array(sorted(edges) + [h + 2**53 for h in range(85_000)], np.uint64)
    hashes.sort()
    assert bucket_layout.bucket_count(len(hashes)) == buckets_wanted
    monkeypatch.setattr(buckets, "_hash_ids", lambda text, seed: [hashes[::2], hashes[1::2]])
    image = build_membership("demo", [("staff", "user", b"")])
    table, by_digest = table_of(image), dict(image.buckets)
    for hashed in edges:
        assert table.may_hold(hashed)
        assert table.lists_of(hashed, by_digest[table.bucket_of(hashed)]) == 1
    for hashed in (1, 2**64 - 2, (7 << 58) + 1):
        bucket = by_digest.get(table.bucket_of(hashed), b"")
        assert table.lists_of(hashed, bucket) == 0


def test_two_ids_of_one_hash_are_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids whose hashes meet, in one list's blocks or in two lists, share an entry and its lists."""
    given = {b"a": [[5, 7], [7, 9], [5]], b"b": [[7, 7, 11]]}
    monkeypatch.setattr(
        buckets,
        "_hash_ids",
        lambda text, seed: (np.array(block, np.uint64) for block in given[text]),
    )
    image = build_membership("demo", [("testers", "user", b"a"), ("staff", "user", b"b")])
    table, by_digest = table_of(image), dict(image.buckets)
    ((_, bucket),) = by_digest.items()
    assert image.membership["ids"] == 4
    assert len(sets_of(image)["members"]) == 4 * 4  # of one list, of the other, of both
    assert [table.lists_of(hashed, bucket) for hashed in (5, 7, 9, 11, 13)] == [2, 3, 2, 1, 0]


def test_what_waits_in_a_file_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a list's hashes wait in memory or in the temporary file, the tables are the same."""
    ids = [text_of(*(f"u-{number}" for number in range(0, 9_000, step))) for step in (1, 2, 3)]
    lists = [(f"list{at}", "user", text) for at, text in enumerate(ids)]
    wanted = build_membership("demo", lists)
    for rows in (10, 1000, 1 << 30):
        monkeypatch.setattr(hash_rows, "_WAITING_ROWS", rows)
        assert build_membership("demo", lists) == wanted


def test_a_remainder_across_two_ids_is_no_member() -> None:
    """Bytes that straddle two entries are not an id, nor do they hide one that comes after them."""
    hashes = [0x1111111111111111, 0x1122222222222222, 0x2222222222222211]
    hashes.append(int.from_bytes(hashes[2].to_bytes(8, "big")[1:] + b"\x07", "big") | 0x33 << 56)
    straddle = b"".join(each.to_bytes(8, "big") + b"\x07" for each in hashes)[23:31]
    hashes.append(int.from_bytes(straddle, "big"))
    bucket = b"".join(each.to_bytes(8, "big") + b"\x07" for each in hashes)
    shard = layout.encode_shard(layout.bucket_digest(bucket), bytes(8 * layout.FILTER_WORDS))
    table = MembershipTable(ONE_BUCKET, one_set(7), [shard], {"staff": 0})
    assert bucket.find(straddle) % 9
    assert [table.lists_of(hashed, bucket) for hashed in hashes] == [1] * 5
    for start in range(len(bucket) - 8):
        if start % 9:
            hashed = int.from_bytes(bucket[start : start + 8], "big")
            assert table.lists_of(hashed, bucket) == (1 if hashed in hashes else 0)
    other = MembershipTable(ONE_BUCKET, one_set(8), [shard], {"staff": 0})
    with pytest.raises(FormatError, match="names the membership set 7, which is not there"):
        other.lists_of(hashes[0], bucket)
    wider = MembershipTable(ONE_BUCKET, one_set(7, 16), [shard], {"staff": 0})
    with pytest.raises(FormatError, match="holds no whole id"):
        wider.lists_of(hashes[0], bucket)


def test_the_last_bits_of_a_remainder_count() -> None:
    """Ids that differ only in remainder bits that share a byte with the set number are two ids."""
    membership: layout.Membership = {**ONE_BUCKET, "buckets": 3}
    assert bucket_layout.remainder_bits(3) == 63
    numbers = {0b0: 5, 0b1: 511, 0b11: 0}
    bucket = b"".join((low << 9 | number).to_bytes(9, "big") for low, number in numbers.items())
    digests = layout.bucket_digest(bucket) + 2 * layout.EMPTY_BUCKET
    shard = layout.encode_shard(digests, bytes(3 * 8 * layout.FILTER_WORDS))
    sets: layout.Sets = {
        "number_bits": 9,
        "lists": ["a", "b"],
        "numbers": b"".join(number.to_bytes(4, "little") for number in (0, 5, 511)),
        "ends": b"".join(number.to_bytes(4, "little") for number in (1, 3, 4)),
        "members": b"".join(number.to_bytes(4, "little") for number in (1, 0, 1, 0)),
    }
    table = MembershipTable(membership, sets, [shard], {"a": 2, "b": 0})
    assert [table.lists_of(low, bucket) for low in range(5)] == [0b101, 0b100, 0, 0b1, 0]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.integers(1, 2**32))
def test_the_product_by_halves_is_the_product(hashes: list[int], count: int) -> None:
    """The numpy product agrees with whole numbers, at the ends of both ranges too."""
    hashes = [*hashes, 0, 2**32 - 1, 2**32, 2**64 - 1]
    for factor in (count, 1, 2**32):
        found = buckets._scaled(np.array(hashes, np.uint64), factor).tolist()
        assert found == [hashed * factor >> 64 for hashed in hashes]


def test_another_bucket_is_refused() -> None:
    """A bucket cut, foreign or empty is a FormatError, never an answer."""
    image = build_membership("demo", SMALL)
    table, hashed = table_of(image), id_hash("u-1", id_seed("demo", "user"))
    bucket = dict(image.buckets)[table.bucket_of(hashed)]
    for other in (b"", bucket[:-1], bucket + b"\0", bucket[:9], bytes(len(bucket))):
        with pytest.raises(FormatError, match="it has another digest"):
            table.lists_of(hashed, other)


Parts = tuple[layout.Membership, layout.Sets, list[bytes], dict[str, int]]


def good_parts() -> Parts:
    """Give the parts of a table of two shards and two sets, ready to be spoilt."""
    ids = text_of(*map(str, range(60_000)))
    image = build_membership("demo", [("staff", "user", ids), ("lab", "device", text_of("d"))])
    shards = [image.blobs[digest] for digest in image.membership["shards"]]
    return image.membership.copy(), sets_of(image), shards, {"staff": 0, "lab": 1}


def small_shard(shard: bytes) -> bytes:
    """Keep a shard's first bucket."""
    digests, words = layout.decode_shard(shard)
    return layout.encode_shard(digests[:16], words[: 8 * layout.FILTER_WORDS])


# Part, key in it, what becomes of the value there (None: it goes), and what the refusal says.
BROKEN: dict[str, tuple[int, Any, Callable[[Any], Any], str]] = {
    "no buckets": (0, "buckets", lambda _: 0, "table of 0 buckets"),
    "many buckets": (0, "buckets", lambda _: 2**27 + 1, "table of 134217729 buckets"),
    "other buckets": (0, "buckets", lambda count: count + 1, "does not hold 81 buckets"),
    "number bits": (1, "number_bits", lambda bits: bits + 1, "9 bits do not fit 320 buckets"),
    "no number bits": (1, "number_bits", lambda bits: bits - 8, "set numbers of 0 bits"),
    "many number bits": (1, "number_bits", lambda bits: bits + 32, "set numbers of 40 bits"),
    "no list": (1, "lists", lambda names: names[:1], "names no known list"),
    "half a number": (1, "numbers", lambda data: data[:-1], "`numbers` of the sets has 7 bytes"),
    "one number": (1, "numbers", lambda data: data[:-4], "1 membership sets have 2 ends"),
    "equal numbers": (1, "numbers", lambda data: data[:4] * 2, "not ascending"),
    "turned numbers": (1, "numbers", lambda data: data[4:] + data[:4], "not ascending"),
    "a wide number": (1, "numbers", lambda data: data[:-4] + b"\0\1\0\0", "ascending or wide"),
    "no members": (1, "ends", lambda data: bytes(4) + data[4:], "do not end where they should"),
    "falling ends": (1, "ends", lambda data: data[4:] * 2, "do not end where they should"),
    "a member more": (1, "members", lambda data: data + bytes(4), "do not end where they should"),
    "a member less": (1, "members", lambda data: data[:-4], "do not end where they should"),
    "half a member": (1, "members", lambda data: data[:-2], "`members` of the sets has 6 bytes"),
    "a shard less": (2, -1, lambda _: None, "1 shards do not hold all 320 buckets"),
    "a small last shard": (2, 1, small_shard, "does not hold 80 buckets"),
    "a small shard": (2, 0, small_shard, "does not hold 240 buckets"),
    "damage": (2, 0, lambda shard: shard[:-1] + bytes([shard[-1] ^ 1]), "have its checksum"),
    "an unknown list": (3, "lab", lambda _: None, "the list 'lab' has ids"),
}


@pytest.mark.parametrize("change", BROKEN)
def test_a_table_whose_parts_do_not_fit_is_refused(change: str) -> None:
    """Buckets, shards, sets and settings that contradict one another are a FormatError at load."""
    part, key, spoil, refusal = BROKEN[change]
    parts: Any = good_parts()
    value = spoil(parts[part][key])
    if value is None:
        del parts[part][key]
    else:
        parts[part][key] = value
    with pytest.raises(FormatError, match=refusal):
        MembershipTable(*parts)


def test_the_parts_of_that_table_fit() -> None:
    """The table that the cases above break is good as it is, and takes no third shard."""
    membership, sets, shards, positions = good_parts()
    MembershipTable(membership, sets, shards, positions)
    with pytest.raises(FormatError, match="does not hold 0 buckets"):
        MembershipTable(membership, sets, [*shards, shards[0]], positions)


def test_a_pack_must_be_its_shards() -> None:
    """Buckets read back from the store are held to their shard's digests."""
    one, two = (build_membership("demo", [("a", "user", text_of(text))]) for text in "xy")
    shard, pack = (one.blobs[one.membership[part][0]] for part in ("shards", "packs"))
    assert list(bucket_pairs(shard, pack)) == list(one.buckets)
    with pytest.raises(FormatError, match="its shard does not name"):
        list(bucket_pairs(shard, two.blobs[two.membership["packs"][0]]))
    with pytest.raises(FormatError, match="pack of 2 buckets is not that of its shard"):
        list(bucket_pairs(shard, pack + pack))


def test_a_long_column_is_checked_to_its_end() -> None:
    """Order and range hold over the borders of the pieces in which columns are looked at."""
    image = build_membership("demo", SMALL)
    shards = [image.blobs[digest] for digest in image.membership["shards"]]

    def load(numbers: np.ndarray, ends: np.ndarray, members: np.ndarray) -> None:
        sets: layout.Sets = {
            "number_bits": 24,
            "lists": ["staff"],
            **{  # type: ignore[typeddict-item]
                name: column.astype("<u4").tobytes()
                for name, column in (("numbers", numbers), ("ends", ends), ("members", members))
            },
        }
        MembershipTable(image.membership, sets, shards, {"staff": 0})

    plain = np.arange(10_000), np.arange(1, 10_001), np.zeros(10_000, int)
    load(*plain)
    for at in (0, 1, 4095, 4096, 8192, 9_998):
        columns = [column.copy() for column in plain]
        columns[0][at] = columns[0][at + 1]
        with pytest.raises(FormatError, match="not ascending"):
            load(*columns)
        columns = [column.copy() for column in plain]
        columns[1][at] = columns[1][at + 1]
        with pytest.raises(FormatError, match="do not end"):
            load(*columns)
        columns = [column.copy() for column in plain]
        columns[2][at + 1] = 1
        with pytest.raises(FormatError, match="no known list"):
            load(*columns)


@given(st.integers(0, 1 << 20), st.integers(1, layout.MAX_BUCKETS))
def test_set_numbers_fill_the_last_byte(count: int, number: int) -> None:
    """Remainder and set number are whole bytes, as few as give each set 16 numbers."""
    bits, kept = buckets._number_bits(count, number), bucket_layout.remainder_bits(number)
    assert (bits + kept) % 8 == 0
    assert 1 << bits >= 16 * max(count, 1)
    assert bits < 12 or 1 << (bits - 8) < 16 * max(count, 1)
    assert bits <= layout.MAX_NUMBER_BITS


def test_set_numbers_are_distinct_narrow_and_settled() -> None:
    """Numbers fit their bits, whatever the order of sets; a new set moves no more than one other.

    A byte is for up to 16 sets, two for 4,096.
    """
    every = [list(pair) for pair in combinations([f"list{number}" for number in range(95)], 2)]
    for count, bits in ((0, 8), (1, 8), (16, 8), (17, 16), (4096, 16), (4097, 24)):
        assert buckets._number_bits(count, 1) == bits
        numbers = buckets._number_sets(every[:count], bits)
        assert len(set(numbers)) == count
        assert all(0 <= number < 1 << bits for number in numbers)
    shuffled = every[:4000]
    random.Random(4).shuffle(shuffled)
    plain = dict(zip(map(tuple, every[:4000]), buckets._number_sets(every[:4000], 16), strict=True))
    again = dict(zip(map(tuple, shuffled), buckets._number_sets(shuffled, 16), strict=True))
    assert again == plain
    moved = []
    for added in every[4000:4090]:
        more = buckets._number_sets([*every[:4000], added], 16)
        moved.append(sum(a != b for a, b in zip(plain.values(), more, strict=False)))
    assert max(moved) <= 2
    assert moved.count(0) >= 80


def test_too_many_combinations_are_a_plan_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit of membership sets a push stops with a sentence, not with a full memory."""
    monkeypatch.setattr(hash_rows, "MAX_SETS", 2)
    with pytest.raises(PlanError, match="more than 2 different combinations of lists"):
        build_membership("demo", SMALL)
    build_membership("demo", SMALL[:1])


def test_progress_counts_the_ids() -> None:
    """Each phase tells its progress, upwards, and ends at all rows or at all distinct ids."""
    seen: dict[str, list[tuple[int, int]]] = {}
    image = build_membership(
        "demo", SMALL, lambda what, done, of: seen.setdefault(what, []).append((done, of))
    )
    assert seen.pop("lists: ids hashed") == [(3, 0), (5, 0), (7, 0)]
    distinct = image.membership["ids"]
    assert [told[-1] for told in seen.values()] == [(7, 7), (distinct, distinct)]
    assert all(told == sorted(told) for told in seen.values())


def expressions(**lists: tuple[str, list[str]]) -> ExpressionLists:
    """Make expression lists whose bits are their places."""
    entries: dict[str, layout.ListEntry] = {
        name: {"of": kind, "regex": regex} for name, (kind, regex) in lists.items()
    }
    return ExpressionLists(entries, {name: place for place, name in enumerate(lists)})


def test_expressions_are_searched_in_the_id_as_written() -> None:
    """Any expression of a list will do, anywhere in the id, case-sensitive, for its kind only."""
    lists = expressions(
        exact=("user", []),
        qa=("user", ["^qa-[0-9]+$", "tester"]),
        umlaut=("user", ["[äöü]", "(?i)ABC"]),
        lab=("device", ["^lab"]),
    )
    assert lists
    wanted = {"qa-7": 2, "qa-7x": 0, "my-tester-1": 2, "Tester": 0, "für": 4, "xabcx": 4}
    wanted |= {"qa-7\n": 0, "lab": 0, "": 0, "für tester": 6}
    assert {text: lists.mask("user", text) for text in wanted} == wanted
    assert lists.mask("device", "lab-1") == 8
    assert lists.mask("device", "qa-7") == 0


def test_no_expression_lists_are_false_and_match_nobody() -> None:
    """Without such lists there is nothing to ask, and asking gives nothing."""
    lists = expressions(exact=("user", []))
    assert not lists
    assert lists.mask("user", "u-1") == lists.mask("device", "d-1") == 0


def test_many_expressions_are_split_and_none_is_lost() -> None:
    """More expressions than one automaton may hold are matched in several passes, all of them."""
    many = {
        f"l{number}": ("user", [rf"^team-{number}-[\p{{L}}0-9]+-{extra}z$" for extra in "xy"])
        for number in range(300)
    }
    lists = expressions(**many)
    assert len(lists._passes["user"]) > 1
    for number in range(300):
        assert lists.mask("user", f"team-{number}-aé-{'xy'[number % 2]}z") == 1 << number
    assert lists.mask("user", "team-300-a-xz") == 0


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("(", "RE2 does not take"),
        (r"(a)\1", "RE2 does not take"),
        (r"(\pL{90}){11}", "needs over 8 MiB"),
    ],
)
def test_an_expression_that_cannot_be_matched_is_refused(expression: str, wanted: str) -> None:
    """What RE2 does not take, or not in bounded memory, is a FormatError that quotes it."""
    with pytest.raises(FormatError, match=wanted):
        expressions(bad=("user", ["^ok$", expression]))
