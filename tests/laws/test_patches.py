"""Law 10, first half: old package + patch = new package, byte for byte, or it is refused."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.patching.formats import (
    BSDIFF4,
    FORMATS,
    ZSTD_PATCH,
    Limits,
    apply,
    apply_checked,
    make,
)
from compiler.patching.patch_error import PatchError
from patch_shop import Shop, edited, versions
from processes import wait_until

SOAK = bool(os.environ.get("TIDEGATE_SOAK"))

PIECES = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda piece, times: piece * times, st.binary(min_size=1, max_size=9), st.integers(1, 900)
    ),
    st.builds(
        lambda seed, size: random.Random(seed).randbytes(size),
        st.integers(0, 3),
        st.integers(0, 3000),
    ),
)
FILES = st.lists(PIECES, max_size=5)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Draw an old file and a new one: equal, unrelated, or made of the same pieces."""
    pieces = draw(FILES)
    old = b"".join(pieces)
    kind = draw(st.sampled_from(["equal", "unrelated", "moved", "edited"]))
    if kind == "equal":
        return old, old
    if kind == "unrelated":
        return old, b"".join(draw(FILES))
    if kind == "moved":
        return old, b"".join(draw(st.permutations([*pieces, draw(st.binary(max_size=30))])))
    return old, edited(old, draw(st.integers(0, 99))) if old else b"new"


@pytest.mark.parametrize("format_", FORMATS)
@settings(max_examples=2000 if SOAK else 150, deadline=None)
@given(pair=pairs())
def test_old_and_patch_make_new(format_: str, pair: tuple[bytes, bytes]) -> None:
    """Whatever two files are, the patch between them gives the new one, in the limits of it."""
    old, new = pair
    patch = make(format_, old, new)
    assert apply(format_, old, patch, Limits(len(new))) == new
    if new:
        with pytest.raises(PatchError):
            apply(format_, old, patch, Limits(len(new) - 1))


def _unharmed(format_: str, old: bytes, new: bytes, patch: bytes) -> None:
    """Apply what may be damaged: it is refused, or does no harm."""
    try:
        found = apply_checked(format_, old, patch, len(new), hashlib.sha256(new).hexdigest())
    except PatchError:
        return
    assert found == new


@pytest.mark.parametrize("format_", FORMATS)
def test_a_damaged_patch_never_passes(format_: str) -> None:
    """A patch with any byte changed, cut anywhere, or longer, is refused or gives the new file."""
    old = random.Random(1).randbytes(3000) + b"text " * 400
    new = edited(old, 2)
    patch = make(format_, old, new)
    for at in range(len(patch)):
        for mask in (1, 0x80, 0xFF) if SOAK else (1 << at % 8, 0xFF):
            _unharmed(format_, old, new, patch[:at] + bytes([patch[at] ^ mask]) + patch[at + 1 :])
        with pytest.raises(PatchError):
            apply(format_, old, patch[:at], Limits(len(new)))
    with pytest.raises(PatchError):
        apply(format_, old, patch + b"x", Limits(len(new)))
    with pytest.raises(PatchError):
        apply_checked(format_, new, patch, len(new), hashlib.sha256(new).hexdigest())


@pytest.mark.parametrize(
    ("format_", "tool"),
    [
        (BSDIFF4, ["bspatch", "old", "out", "patch"]),
        (ZSTD_PATCH, ["zstd", "-q", "-d", "--patch-from=old", "patch", "-o", "out"]),
    ],
)
def test_other_tools_apply_our_patches(format_: str, tool: list[str], tmp_path: Path) -> None:
    """Debian's bspatch and zstd make the new file of the old one and our patch."""
    if shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    small = random.Random(3).randbytes(200_000)
    large = random.Random(4).randbytes(12_000_000) if SOAK else small * 2
    for old, new in (
        (small, edited(small, 1, 50)),
        (b"a" * 5000, small),
        (large, edited(large, 2)),
    ):
        (tmp_path / "old").write_bytes(old)
        (tmp_path / "patch").write_bytes(make(format_, old, new))
        (tmp_path / "out").unlink(missing_ok=True)
        subprocess.run(tool, cwd=tmp_path, check=True)
        assert (tmp_path / "out").read_bytes() == new


def test_parts_make_together_what_one_run_makes(tmp_path: Path) -> None:
    """Three parts that run at the same time leave the objects and indexes that one run leaves."""
    one, three = Shop(tmp_path / "one"), Shop(tmp_path / "three")
    for shop in (one, three):
        shop.fill(versions(9), offered="1.9")
    whole = one.patch()
    started = [three.start("--part", f"{number}/3") for number in (1, 2, 3)]
    for process in started:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert len(whole["made"]) == 2 * 8
    assert three.made() == one.made()
    assert three.patch()["made"] == []


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """After kill -9 what is indexed stays and is not made again; the end is as without the kill."""
    whole, killed = Shop(tmp_path / "whole"), Shop(tmp_path / "killed")
    for shop in (whole, killed):
        shop.fill(versions(7, 150_000), offered="1.7")
    whole.patch()
    run = killed.start("--jobs", "1")
    wait_until(lambda: (killed.index("1.7") or {}).get("patches"), "one is indexed")
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    before = {(each["from"], each["format"]) for each in killed.index("1.7")["patches"]}
    assert 0 < len(before) < 12
    made = killed.patch()["made"]
    assert {(each["from"], each["format"]) for each in made}.isdisjoint(before)
    assert len(made) + len(before) == 12
    assert killed.made() == whole.made()


def test_patches_that_do_not_save_enough_are_dropped(tmp_path: Path) -> None:
    """One of over 60 % of the smallest form is not kept, and not made again."""
    shop = Shop(tmp_path)
    packages = versions(2)
    packages["1.0"] = random.Random(99).randbytes(20_000)
    shop.fill(packages, offered="1.2")
    first = shop.patch()
    assert {each["from"] for each in first["not_worth_it"]} == {"1.0"}
    assert {each["from"] for each in first["made"]} == {"1.1"}
    index = shop.index("1.2")
    assert [each["from"] for each in index["not_worth_it"]] == ["1.0", "1.0"]
    assert [each["from"] for each in index["patches"]] == ["1.1", "1.1"]
    assert len(shop.made()) == 2 + 1
    again = shop.patch()
    assert (again["made"], again["not_worth_it"], again["known_before"]) == ([], [], 4)


HOSTILE = """
import bz2, re, struct, sys
import zstandard
from compiler.patching.formats import BSDIFF4, ZSTD_PATCH, Limits, apply, make
from compiler.patching.patch_error import PatchError

OLD, NEW = b"old bytes " * 100, b"new bytes " * 100
BOMB = bz2.compress(bytes(300_000_000))
EMPTY = bz2.compress(b"")

def number(value):
    return struct.pack("<Q", abs(value) | (1 << 63 if value < 0 else 0))

def bsdiff(control=EMPTY, diff=EMPTY, extra=EMPTY, size=1000, **said):
    lengths = (said.get("control_size", len(control)), said.get("diff_size", len(diff)), size)
    return b"BSDIFF40" + b"".join(map(number, lengths)) + control + diff + extra

def triples(*values):
    return bz2.compress(b"".join(map(number, values)))

def frame(window_log, size, data=b"hello"):
    head = bytes([0x80, (window_log - 10) << 3]) + struct.pack("<I", size)
    return b"\\x28\\xb5\\x2f\\xfd" + head + (len(data) << 3 | 1).to_bytes(3, "little") + data

ZEROS = zstandard.ZstdCompressor(level=1).compress(bytes(300_000_000))
at = ZEROS.index(struct.pack("<I", 300_000_000))
LYING = ZEROS[:at] + struct.pack("<I", 1000) + ZEROS[at + 4:]
UNSAID = zstandard.ZstdCompressor(write_content_size=False).compress(NEW)

assert apply(ZSTD_PATCH, b"", frame(10, 5), Limits(1000)) == b"hello"  # such a frame is sound
CASES = {
    "a bsdiff4 bomb in the control block": (BSDIFF4, bsdiff(control=BOMB)),
    "a bsdiff4 bomb in the diff block": (BSDIFF4, bsdiff(diff=BOMB)),
    "a bsdiff4 bomb in the extra block": (BSDIFF4, bsdiff(extra=BOMB)),
    "a huge new file": (BSDIFF4, bsdiff(size=1 << 62)),
    "a negative new file": (BSDIFF4, bsdiff(size=-1)),
    "a huge control block": (BSDIFF4, bsdiff(control_size=1 << 62)),
    "a negative control block": (BSDIFF4, bsdiff(control_size=-5)),
    "a negative diff block": (BSDIFF4, bsdiff(diff_size=-1)),
    "a huge diff block": (BSDIFF4, bsdiff(diff_size=(1 << 63) - 1)),
    "a negative count": (BSDIFF4, bsdiff(triples(-9, 0, 0))),
    "a huge count": (BSDIFF4, bsdiff(triples(1 << 62, 1 << 62, 0))),
    "a seek far away": (BSDIFF4, bsdiff(triples(0, 0, (1 << 63) - 1, 0, 0, (1 << 63) - 1))),
    "a cut triple": (BSDIFF4, bsdiff(bz2.compress(b"123"))),
    "too few bytes": (BSDIFF4, bsdiff()),
    "no bsdiff4": (BSDIFF4, b"BSDIFF41" + bytes(24)),
    "a header alone": (BSDIFF4, b"BSDIFF40"),
    "no bzip2": (BSDIFF4, bsdiff(b"not bzip2")),
    "a stream after the stream": (BSDIFF4, bsdiff(extra=EMPTY + EMPTY)),
    "a zstd bomb": (ZSTD_PATCH, ZEROS),
    "a zstd bomb that lies": (ZSTD_PATCH, LYING),
    "a frame without a size": (ZSTD_PATCH, UNSAID),
    "a window of 2 GiB": (ZSTD_PATCH, frame(31, 5)),
    "a window of 64 MiB": (ZSTD_PATCH, frame(26, 5)),
    "a size of 4 GiB": (ZSTD_PATCH, frame(10, (1 << 32) - 1)),
    "a skippable frame": (ZSTD_PATCH, b"\\x50\\x2a\\x4d\\x18\\4\\0\\0\\0abcd"),
    "two frames": (ZSTD_PATCH, frame(10, 5) * 2),
    "another's dictionary": (ZSTD_PATCH, b"\\x28\\xb5\\x2f\\xfd\\x81\\x00\\x07" + frame(10, 5)[6:]),
    "nothing": (ZSTD_PATCH, b""),
}
SAID = {
    "a negative new file": "a length is negative",
    "a negative control block": "a length is negative",
    "a negative diff block": "a length is negative",
    "a huge new file": "makes 4,611,686,018,427,387,904 bytes, where 1,000 are allowed",
    "a size of 4 GiB": "makes 4,294,967,295 bytes, where 1,000 are allowed",
    "a frame without a size": "does not say",
    "a window of 2 GiB": "needs a window of 2,147,483,648 bytes, where 2,048 are allowed",
    "a stream after the stream": "goes on after its end",
}
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # forget the peak of making the bombs
before = peak()
for name, (format_, patch) in CASES.items():
    try:
        apply(format_, OLD, patch, Limits(1000))
    except PatchError as fault:
        assert str(fault).endswith("."), fault
        assert SAID.get(name, "") in str(fault), (name, fault)
    else:
        sys.exit(f"{name} was taken")
grown = peak() - before
sys.exit(grown > 32_000 and f"took {grown} kB")
"""


def test_hostile_patches_are_refused_in_bounded_memory() -> None:
    """28 hostile patches, bombs among them, are each refused with a sentence, in 32 MB together."""
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
