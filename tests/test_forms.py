"""Forms: the same bytes each time, which every ordinary tool opens within a phone's memory."""

import gzip
import hashlib
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import zstandard

from compiler.packaging.forms import WINDOW, MadeForm, identity_form, make_form
from compiler.packaging.package_file import read_package
from compiler.packaging.upload_fault import UploadError

KNOWN = b"tide and gate, " * 1000


def made(at: Path, compression: str, data: bytes = KNOWN, folder: str = "forms") -> MadeForm:
    """Make a form of a package with these bytes."""
    package = at / "package.js"
    package.write_bytes(data)
    (at / folder).mkdir(exist_ok=True)
    found = read_package(package, "app", "1.0")
    return make_form(found, compression, at / folder, lambda _size: None)


@pytest.mark.parametrize(("compression", "suffix"), [("gzip", ".js.gz"), ("zstd", ".js.zst")])
def test_a_form_is_named_by_its_own_bytes(tmp_path: Path, compression: str, suffix: str) -> None:
    """Path, size and SHA-256 of a form are those of its compressed bytes."""
    form, file = made(tmp_path, compression)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert form.path == f"files/{sha256[:2]}/{sha256}{suffix}"
    assert (form.sha256, form.size) == (sha256, file.stat().st_size)
    assert form.size < len(KNOWN)


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_the_same_package_gives_the_same_form(tmp_path: Path, compression: str) -> None:
    """Neither the folder nor the file's time or name is in a form."""
    first = made(tmp_path, compression)
    again = made(tmp_path, compression, folder="elsewhere")
    assert first.form == again.form
    assert first.file.read_bytes() == again.file.read_bytes()


def test_the_form_of_known_bytes_is_known(tmp_path: Path) -> None:
    """Whoever updates zstandard hears of it here, should it make other bytes from then on."""
    found = made(tmp_path, "zstd").form.sha256
    assert found == "a97330b9c763088c42ebf250790335a700586cc8a77ace88bf88b5899111a1d4"


def test_a_gzip_form_tells_no_time(tmp_path: Path) -> None:
    """The header has neither name nor time nor system in it."""
    data = made(tmp_path, "gzip").file.read_bytes()
    assert data[:10] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    assert gzip.decompress(data) == KNOWN


def test_a_zstd_form_is_one_checked_frame_that_a_phone_can_open(tmp_path: Path) -> None:
    """A frame knows its content's size and checksum, and its window is bounded."""
    part = random.Random(1).randbytes(1_000_000)
    data = part * 12  # further apart than a small window reaches
    form, file = made(tmp_path, "zstd", data)
    frame = zstandard.get_frame_parameters(file.read_bytes()[:32])
    assert (frame.content_size, frame.has_checksum) == (len(data), True)
    assert frame.window_size == WINDOW == 8 << 20
    assert form.size < 1_100_000
    opened = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    assert opened.decompress(file.read_bytes()) == data


@pytest.mark.parametrize(("tool", "compression"), [("zstd", "zstd"), ("gzip", "gzip")])
def test_ordinary_tools_open_a_form(tmp_path: Path, tool: str, compression: str) -> None:
    """What Debian brings gives the package back, byte for byte."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed here")
    file = made(tmp_path, compression).file
    done = subprocess.run([tool, "-dc", str(file)], capture_output=True, check=True, timeout=120)
    assert done.stdout == KNOWN


@pytest.mark.parametrize("data", [KNOWN[:-1], KNOWN + b"x", b"T" + KNOWN[1:]])
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_package_that_changes_meanwhile_is_found_out(
    tmp_path: Path, compression: str, data: bytes
) -> None:
    """A form is of the bytes that were looked at, or it is refused."""
    package = tmp_path / "package.js"
    package.write_bytes(KNOWN)
    found = read_package(package, "app", "1.0")
    package.write_bytes(data)
    with pytest.raises(UploadError, match=r"changed while it was read|cannot be compressed"):
        make_form(found, compression, tmp_path, lambda _size: None)


def test_the_identity_form_is_the_file(tmp_path: Path) -> None:
    """As it is installed, so it is offered."""
    package = tmp_path / "package.js"
    package.write_bytes(KNOWN)
    form, file = identity_form(read_package(package, "app", "1.0"))
    assert file == package
    assert form.sha256 == hashlib.sha256(KNOWN).hexdigest()
