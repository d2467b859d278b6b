"""The data format: golden blobs byte for byte, both ways; damaged ones refused with a reason.

A change of the format shows as a difference here. `TIDEGATE_REGOLD=1 pytest tests/test_layout.py`
writes the files anew, for a new format version and on purpose only.
"""

import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import blob_file, bucket_layout, layout
from gateway.errors import FormatError
from gateway.pointer import decode_pointer, encode_pointer

DATA = Path(__file__).parent / "data"
FORM = {"compression": "identity", "size": 9, "sha256": "ab" * 32, "path": "files/ab/x.zip"}
PATCH = {"installed": "1.0.0.1", "format": "bsdiff4", "size": 3, "sha256": "cd" * 32, "path": "x"}
PROGRAM: layout.Program = {
    "app": "2021000000000001",
    "packages": [
        {
            "version": "1.0.0.2",
            "download": "wifi",
            "install": "on_open",
            "info": b'{"entry":"/index.html"}',
            "size": 9,
            "sha256": "ab" * 32,
            "forms": [FORM],  # type: ignore[list-item]
            "encryption": {"format": "age", "key_id": "coffee-2026"},
            "patches": [PATCH],  # type: ignore[list-item]
            "signatures": [],
        }
    ],
    "versions": ["1.0.0.1", "1.0.0.2"],
    "known_releases": ["staff", "stable"],
    "halts": ["staff"],
    "withdrawn": ["1.0.0.1"],
    "releases": [{"id": "staff", "package": 0, "upgrade": "force"}],
    "schedule": {"bounds": [1_800_000_000], "cells": [b"", b"\x01"]},
    "hosts": {
        "any": b"",
        "platforms": {"android": {"bounds": ["10.2.0"], "cells": [b"", b"\x01", b"\x01"]}},
    },
    "attributes": {
        "brand": {
            "absent": b"",
            "text": {
                "exact": {"xiaomi": b"\x01"},
                "other": b"",
                "globs": [{"patterns": ["x*"], "bits": b"\x01"}],
            },
            "versions": None,
            "numbers": None,
            "bools": None,
        },
        "custom.level": {
            "absent": b"",
            "text": None,
            "versions": None,
            "numbers": {"bounds": [1, 2.5], "cells": [b"", b"\x01", b"", b"", b""]},
            "bools": [b"", b"\x01"],
        },
    },
    "lists": [{"lists": ["staff"], "not_lists": [], "bits": b"\x01"}],
    "percents": [{"rank": 0, "basis_points": 1250, "by_user": False, "key": 2**64 - 1}],
    "windows": [{"rank": 0, "by_user": False}],
}
D = bytes(range(32))
GOLDEN: dict[str, tuple[type, Any]] = {
    "program": (layout.Program, PROGRAM),
    "settings": (
        layout.Settings,
        {
            "workspace": "demo",
            "check_after": 1800,
            "cdn": [{"regions": ["*"], "bases": ["https://cdn.example.com"], "expires": 3600}],
            "placeholders": ["0", "unknown"],
            "cors": [],
            "identity": {
                "keys": {"": D, "2026": D},
                "issuer": "https://id.example.com",
                "audience": ["phones"],
                "device": "device",
            },
            "lists": {"staff": {"of": "user", "regex": []}, "qa": {"of": "user", "regex": ["^q"]}},
        },
    ),
    "sets": (
        layout.Sets,
        {
            "number_bits": 8,
            "lists": ["lab", "staff"],
            "numbers": b"\x07\0\0\0\xff\0\0\0",
            "ends": b"\x01\0\0\0\x03\0\0\0",
            "members": b"\x01\0\0\0\0\0\0\0\x01\0\0\0",
        },
    ),
    "contents": (
        layout.Contents,
        {
            "format": 2,
            "settings": D,
            "programs": {"2021000000000001": D},
            "switches": D,
            "membership": {"buckets": 1, "ids": 1, "sets": D, "shards": [D], "packs": [D]},
            "amended": {"staff": {"added": bytes(8), "removed": b""}},
            "plan": D,
        },
    ),
    "switches": (
        layout.Switches,
        {
            "schedule": {"bounds": [], "cells": [b"\x03"]},
            "hosts": {"any": b"\x03", "platforms": {}},
            "attributes": {},
            "lists": [],
            "percents": [{"rank": 0, "basis_points": 2500, "by_user": True, "key": 7}],
            "switches": [
                {
                    "key": "new-home",
                    "variants": [
                        {"name": "off", "value": b"false"},
                        {"name": "on", "value": b"true"},
                    ],
                    "default": 0,
                    "enabled": True,
                    "targeting": [
                        {"variant": 1, "split": None, "by_user": True},
                        {
                            "variant": None,
                            "split": {"key": 9, "bounds": [5000, 10_000], "variants": [1, 0]},
                            "by_user": False,
                        },
                    ],
                }
            ],
        },
    ),
    "tree": (
        layout.Tree,
        {
            "files": {"workspace.yaml": D},
            "lists": {"staff": {"digest": D, "of": "user", "count": 1, "column": "id"}},
            "patches": {"2021000000000001": D},
            "apps": {"2021000000000001": "apps/coffee.yaml"},
            "switch_apps": ["2021000000000001"],
            "overrides": [
                {"what": "withdrawn", "app": "2021000000000001", "name": "1.0.0.1", "value": "true"}
            ],
            "windows": {
                "2021000000000001/first-10k": {
                    "first": 10_000,
                    "until": 1_795_881_600,
                    "starts": None,
                    "by_user": False,
                    "state": "live",
                    "seats": D,
                    "count": 10_000,
                }
            },
        },
    ),
    "patches": (layout.Patches, {"patches": {"1.0.0.2": [PATCH]}}),
    "signed": (layout.Signed, {"epoch": b"epoch", "key": D, "signature": D + D}),
}


def _shard() -> bytes:
    return layout.encode_shard(bytes(range(32)), bytes(2 * 8 * layout.FILTER_WORDS))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    """The encoder writes these very bytes, and the decoder reads them back."""
    shape, value = GOLDEN[name]
    path = DATA / "golden" / f"{name}.tgd"
    blob = layout.encode(shape, value)
    if "TIDEGATE_REGOLD" in os.environ:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)
    golden = path.read_bytes()
    differs = next((at for at, (a, b) in enumerate(zip(blob, golden, strict=False)) if a != b), -1)
    assert blob == golden, f"{name}: first difference at offset {differs}"
    assert layout.decode(shape, golden) == value
    assert layout.encode(shape, layout.decode(shape, golden)) == golden


def _refold(value: Any) -> bytes:
    """Frame what no encoder would write: the right checksum around a wrong payload."""
    return layout._frame(b"P", layout.pack_map(value))


def _damaged() -> dict[str, tuple[bytes, str]]:
    blob = layout.encode(layout.Program, PROGRAM)
    payload = blob[16:]
    flipped = bytearray(blob)
    flipped[200] ^= 1
    return {
        "empty": (b"", "cut short"),
        "head_only_half": (blob[:9], "cut short"),
        "cut_payload": (blob[:-7], "damaged"),
        "grown": (blob + b"\0", "damaged"),
        "flipped_byte": (bytes(flipped), "damaged"),
        "foreign": (b"PK\3\4" + blob[4:], "no Tidegate blob"),
        "other_kind": (b"TGD2S" + blob[5:], "of kind 'S'"),
        "first_version": (b"TGD1" + blob[4:5] + b"\1" + blob[6:], "in data format 1, and"),
        "next_version": (b"TGD3" + blob[4:5] + b"\3" + blob[6:], "in data format 3, and"),
        "reserved_set": (blob[:6] + b"\0\1" + blob[8:], "no Tidegate blob"),
        "not_msgpack": (layout._frame(b"P", b"\xc1"), "not MessagePack"),
        "trailing": (layout._frame(b"P", payload + b"\0"), "not MessagePack"),
        "not_a_map": (_refold([]), "exactly the fields"),
        "missing_field": (_refold({**PROGRAM, "app": None}), "Program.app must be str"),
        "unknown_field": (_refold({**PROGRAM, "x": 1}), "exactly the fields"),
        "wrong_type": (_refold({**PROGRAM, "releases": {}}), "Program.releases must be list"),
        "bool_for_int": (
            _refold({**PROGRAM, "percents": [{**PROGRAM["percents"][0], "rank": True}]}),
            "rank must be int, not bool",
        ),
        "text_for_bits": (
            _refold({**PROGRAM, "hosts": {"any": "", "platforms": {}}}),
            "hosts.any must be bytes",
        ),
        "deep": (layout._frame(b"P", b"\x91" * 5000 + b"\xc0"), "not MessagePack"),
    }


@pytest.mark.parametrize("name", _damaged())
def test_damaged_blobs_are_refused(name: str) -> None:
    """Each damaged blob of the corpus is a FormatError that says what is wrong with it."""
    blob, reason = _damaged()[name]
    path = DATA / "bad" / f"{name}.tgd"
    if "TIDEGATE_REGOLD" in os.environ:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)
    with pytest.raises(FormatError, match=reason):
        layout.decode(layout.Program, path.read_bytes())


@given(st.integers(0, 2000), st.integers(1, 255))
def test_any_flipped_byte_is_noticed(at: int, mask: int) -> None:
    """No change of one byte of a blob decodes to anything."""
    blob = bytearray(layout.encode(layout.Program, PROGRAM))
    blob[at % len(blob)] ^= mask
    with pytest.raises(FormatError):
        layout.decode(layout.Program, bytes(blob))


def test_key_order_changes_no_byte() -> None:
    """A map's bytes do not depend on the order in which it was filled."""
    turned = dict(reversed(PROGRAM.items()))
    assert layout.encode(layout.Program, turned) == layout.encode(layout.Program, PROGRAM)


def test_what_does_not_fit_is_not_written() -> None:
    """The encoder holds its input to the same document as the decoder."""
    with pytest.raises(FormatError, match=r"Program\.app must be str, not int"):
        layout.encode(layout.Program, {**PROGRAM, "app": 7})


@given(st.integers(0, 2**80))
def test_bitmaps_both_ways(bits: int) -> None:
    """A bitmap is written without trailing zeros and read back as it was."""
    data = layout.encode_bits(bits)
    assert layout.decode_bits(data) == bits
    assert not data.endswith(b"\0")


def test_bitmap_order() -> None:
    """Rank 0 is the least significant bit of the first byte."""
    assert layout.encode_bits(1) == b"\x01"
    assert layout.encode_bits(1 << 9) == b"\x00\x02"


def test_shards() -> None:
    """A shard splits into its digests and words; half a bucket is refused."""
    digests, words = layout.decode_shard(_shard())
    assert digests == bytes(range(32))
    assert len(words) == 2 * 8 * layout.FILTER_WORDS
    for size in (0, 100, 271, 273):
        with pytest.raises(FormatError, match="whole buckets"):
            layout.decode_shard(layout.encode_shard(bytes(size), b""))


@given(st.lists(st.binary(max_size=40), max_size=9))
def test_packs_both_ways(buckets: list[bytes]) -> None:
    """A pack gives back its buckets, and any cut of it is refused or gives fewer."""
    pack = bucket_layout.encode_pack(buckets)
    assert bucket_layout.decode_pack(pack) == buckets
    if pack:
        with pytest.raises(FormatError, match="cut short"):
            bucket_layout.decode_pack(pack + b"\0")


@pytest.mark.parametrize("text", [b"", b"42", b"x:" + b"00" * 32, b"0:" + b"00" * 32, b"1:0011"])
def test_bad_pointers(text: bytes) -> None:
    """A pointer is a number from 1 and a whole digest, or nothing at all."""
    with pytest.raises(FormatError, match="NUMBER:DIGEST"):
        decode_pointer(text)


def test_pointers_both_ways() -> None:
    """The pointer reads as `42:<hex>`."""
    assert encode_pointer(42, D) == b"42:" + D.hex().encode()
    assert decode_pointer(encode_pointer(42, D)) == (42, D)


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_files_both_ways(blobs: list[bytes]) -> None:
    """An image file gives back its root and blobs; cut inside a blob it is refused."""
    target = io.BytesIO()
    blob_file.write_file(target, D, blobs)
    root, found = blob_file.read_file(io.BytesIO(target.getvalue()))
    assert root == D
    assert [blob for _, blob in found] == blobs
    if blobs:
        cut = io.BytesIO(target.getvalue()[:-1])
        with pytest.raises(FormatError, match="cut short"):
            list(blob_file.read_file(cut)[1])


def test_a_foreign_file_is_refused() -> None:
    """A file that does not start as one of ours is named as such."""
    with pytest.raises(FormatError, match="no Tidegate image"):
        blob_file.read_file(io.BytesIO(b"PK" * 40))


@pytest.mark.parametrize(
    ("ids", "buckets"),
    [
        *((0, 1), (1, 1), (208, 1), (209, 2), (625, 4), (208 * 7, 7), (208 * 7 + 1, 8)),
        *((208 * 8 + 1, 10), (208 * 14 + 1, 16), (1_000_000, 5120), (10_000_000, 49_152)),
    ],
)
def test_the_number_of_buckets_is_settled(ids: int, buckets: int) -> None:
    """The number of buckets follows from the number of ids alone."""
    assert bucket_layout.bucket_count(ids) == buckets


@given(st.integers(1, layout.MAX_BUCKETS * bucket_layout.BUCKET_IDS // 2))
def test_buckets_are_filled_to_four_fifths(ids: int) -> None:
    """A bucket has at most BUCKET_IDS ids on average, over 4/5 of it; counts are s * 2**k."""
    buckets = bucket_layout.bucket_count(ids)
    assert buckets <= layout.MAX_BUCKETS
    assert buckets * bucket_layout.BUCKET_IDS >= ids
    if buckets > 4:
        assert ids * 5 > buckets * bucket_layout.BUCKET_IDS * 4
    while buckets > 7:
        assert buckets % 2 == 0
        buckets //= 2


@given(st.integers(1, layout.MAX_BUCKETS), st.data())
def test_a_remainder_tells_the_hashes_of_a_bucket_apart(buckets: int, data: st.DataObject) -> None:
    """No bucket spans more hashes than its remainders can count, whatever the number of buckets."""
    bucket = data.draw(st.integers(0, buckets - 1))
    first, after = (-(-(each << 64) // buckets) for each in (bucket, bucket + 1))
    assert (first * buckets) >> 64 == ((after - 1) * buckets) >> 64 == bucket
    assert after - first <= 1 << bucket_layout.remainder_bits(buckets)
    assert bucket_layout.remainder_bits(1) == 64


def _renamed(program: Any) -> Any:
    program["app"] = program.pop("name")
    return program


def test_the_format_before_is_brought_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob of the version before is read as today's, through its upgrade; broken, it is refused.

    Kinds without an upgrade did not change. tests/test_next_format.py shows a whole upgrade.
    """
    old = {name: value for name, value in PROGRAM.items() if name != "app"} | {"name": "a"}
    before = _refold(old)
    patches = layout._frame(b"A", layout.pack_map({"patches": {}}))
    broken, another = _refold([]), _refold({**old, "x": 1})
    monkeypatch.setattr(layout, "FORMAT", layout.FORMAT + 1)
    monkeypatch.setattr(layout, "FORMATS", (layout.FORMAT - 1, layout.FORMAT))
    monkeypatch.setattr(layout, "_UPGRADES", {layout.Program: _renamed})
    assert layout.decode(layout.Program, before) == {**PROGRAM, "app": "a"}
    assert layout.decode_again(layout.Program, before) == {**PROGRAM, "app": "a"}
    assert layout.decode(layout.Patches, patches) == {"patches": {}}
    with pytest.raises(FormatError, match="not MessagePack of format 2: TypeError"):
        layout.decode(layout.Program, broken)
    with pytest.raises(FormatError, match="exactly the fields"):
        layout.decode(layout.Program, another)
