"""Downloads that a client opens: each form, and bombs and damage in each."""

import bz2
import random
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pyrage
import pytest
import zstandard

from loadtest.client.answer import Download
from loadtest.client.fault import UnusableError
from loadtest.client.opening import make_package
from loadtest.client.trust import Trust
from stub_gateway import compressed, package, patch

OLD, NEW = package(1), package(2)
FORMS = ("identity", "gzip", "zstd", "bsdiff4", "zstd-patch")
IDENTITY = pyrage.x25519.Identity.generate()
TRUST = Trust(identities=[str(pyrage.x25519.Identity.generate()), str(IDENTITY)])
ROOT = Path(__file__).parent.parent


def travelling(form: str, *, encrypted: bool) -> bytes:
    data = patch(form, OLD, NEW) if form in ("bsdiff4", "zstd-patch") else compressed(form, NEW)
    return pyrage.encrypt(data, [IDENTITY.to_public()]) if encrypted else data


def opened(folder: Path, form: str, data: bytes, size: int, *, encrypted: bool = False) -> bytes:
    (folder / "old").write_bytes(OLD)
    (folder / "partial").write_bytes(data)
    base = "1" if form in ("bsdiff4", "zstd-patch") else None
    download = Download(("http://a/",), len(data), "", form, encrypted, base)
    made = make_package(download, folder / "partial", folder / "old", size, folder, TRUST)
    return made.read_bytes()


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_package(form: str, encrypted: bool, tmp_path: Path) -> None:
    """What travels in any form, encrypted or not, becomes the file, byte for byte."""
    data = travelling(form, encrypted=encrypted)
    assert opened(tmp_path, form, data, len(NEW), encrypted=encrypted) == NEW


@pytest.mark.parametrize(
    ("form", "encrypted"),
    [*((form, True) for form in FORMS), *((form, False) for form in FORMS[1:])],
)
def test_damage_never_harms(form: str, encrypted: bool, tmp_path: Path) -> None:
    """A byte changed, or a cut, anywhere: refused, or a file no larger than announced."""
    data = travelling(form, encrypted=encrypted)
    chance = random.Random(3)
    for _ in range(60):
        at = chance.randrange(len(data))
        for bad in (
            data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
            data[:at],
        ):
            try:
                made = opened(tmp_path, form, bad, len(NEW), encrypted=encrypted)
            except UnusableError as error:
                assert str(error)  # noqa: PT017 - either way is right
            else:
                assert len(made) <= len(NEW) + 4096


def test_an_identity_too_few_is_said(tmp_path: Path) -> None:
    """A file for other phones is refused in words."""
    data = pyrage.encrypt(b"x", [pyrage.x25519.Identity.generate().to_public()])
    with pytest.raises(UnusableError, match="No matching keys"):
        opened(tmp_path, "identity", data, 1, encrypted=True)


@pytest.mark.parametrize("form", ["bsdiff4", "zstd-patch"])
@pytest.mark.parametrize("off", [-1, 1, 10**9])
def test_a_patch_announces_the_very_size(form: str, off: int, tmp_path: Path) -> None:
    """A patch to a file of another size than the answer's is refused before it is applied."""
    with pytest.raises(UnusableError, match="another size"):
        opened(tmp_path, form, travelling(form, encrypted=False), len(NEW) + off)


@pytest.mark.parametrize("kibibytes", [17, 1024])
def test_a_long_head_of_age_costs_no_time(kibibytes: int, tmp_path: Path) -> None:
    """Over 16 KiB it is refused: age's library would take hours over a few megabytes of it."""
    head = b"age-encryption.org/v1\n-> x\n" + (b"A" * 64 + b"\n") * (kibibytes * 1024 // 65)
    for tail in (b"", b"AA\n--- " + b"A" * 43 + b"\n" + bytes(64)):
        began = time.monotonic()
        with pytest.raises(UnusableError, match="no head"):
            opened(tmp_path, "identity", head + tail, 1, encrypted=True)
        assert time.monotonic() - began < 20


ZEROS = [bytes(1 << 20)] * 100
BOMBS = """
import sys
from pathlib import Path
from loadtest.client.answer import Download
from loadtest.client.fault import UnusableError
from loadtest.client.opening import make_package
from loadtest.client.trust import Trust
folder, form = Path(sys.argv[1]), sys.argv[2]

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10

before = peak()
try:
    make_package(Download((), 0, "", form), folder / form, folder / "old", 20_000, folder, Trust())
except UnusableError as error:
    print(error)
else:
    print("opened")
print(peak() - before)
print(max([file.stat().st_size for file in folder.glob("opened")], default=0))
"""


def number(value: int) -> bytes:
    return value.to_bytes(8, "little")


def packed(packer: Any) -> bytes:
    return b"".join(map(packer.compress, ZEROS)) + packer.flush()


def bomb(form: str, *, honest: bool) -> bytes:
    """Make a few kilobytes that unpack to 100 MB, and announce so or not."""
    if form == "gzip":
        return packed(zlib.compressobj(wbits=31))
    if form == "zstd":
        return packed(zstandard.ZstdCompressor(level=1).compressobj())
    if form == "zstd-patch" and honest:
        small_window = zstandard.ZstdCompressionParameters(window_log=15, write_content_size=True)
        return zstandard.ZstdCompressor(compression_params=small_window).compress(b"".join(ZEROS))
    if form == "zstd-patch":
        whole = packed(zstandard.ZstdCompressor(level=1).compressobj())
        blocks = whole[zstandard.frame_header_size(whole) :]
        # The same blocks under a header that announces 20,000 bytes, and a window that is allowed.
        return whole[:4] + bytes([0x80, 5 << 3]) + (20_000).to_bytes(4, "little") + blocks
    block = packed(bz2.BZ2Compressor())
    size = number(100 << 20 if honest else 20_000)
    return b"BSDIFF40" + number(len(block)) + number(len(block)) + size + block * 3


@pytest.mark.parametrize(
    ("form", "honest"),
    [
        ("gzip", False),
        ("zstd", False),
        ("bsdiff4", False),
        ("bsdiff4", True),
        ("zstd-patch", False),
        ("zstd-patch", True),
    ],
)
def test_bombs_do_not_go_off(form: str, honest: bool, tmp_path: Path) -> None:
    """What unpacks to 100 MB takes neither memory nor disk of more than a little over its size."""
    (tmp_path / "old").write_bytes(OLD)
    (tmp_path / form).write_bytes(bomb(form, honest=honest))
    out = subprocess.run(
        [sys.executable, "-c", BOMBS, str(tmp_path), form],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout.splitlines()
    said, grown_mb, written = out[0], int(out[1]), int(out[2])
    assert said != "opened"
    assert grown_mb < 40
    assert written <= 20_000
