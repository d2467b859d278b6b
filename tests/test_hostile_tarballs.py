"""Tarballs that no ordinary tool makes, written block by block, and sources that change or hide."""

import bz2
import gzip
import lzma
import os
import tarfile
import tempfile
import time
from pathlib import Path

import pytest

from compiler.packaging import members
from compiler.packaging.archive import PackError, pack

END = bytes(1024)


def entry(name: str, data: bytes = b"", kind: bytes = b"0", size: int | None = None) -> bytes:
    """Write one member: its header, which may lie about the size, and its data."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data) if size is None else size
    header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return header + data + bytes(-len(data) % 512)


def attributes(**records: str) -> bytes:
    """Write a pax header that speaks of the next member."""
    data = b""
    for name, value in records.items():
        rest = f" {name}={value}\n".encode()
        size = next(n for n in range(len(rest), len(rest) + 12) if len(str(n)) + len(rest) == n)
        data += b"%d" % size + rest
    return entry("pax", data, b"x")


FILE = entry("ok.js", b"1")
HOSTILE: dict[str, tuple[bytes, str]] = {
    "pax header of 2 MB": (attributes(comment="x" * 2_000_000) + FILE + END, "has a header of 2,0"),
    "pax header that lies": (
        entry("pax", kind=b"x", size=8 * 10**9) + FILE + END,
        "has a header of 8,000,000,000 bytes at byte 512, where 1,048,576 are allowed",
    ),
    "pax header that lies, gzipped": (
        gzip.compress(entry("pax", kind=b"x", size=8 * 10**9) + FILE + END),
        "has a header of 8,000,000,000 bytes",
    ),
    "GNU name of 2 MB": (
        entry("././@LongLink", b"a" * 2_000_000, b"L") + FILE + END,
        "has a header of 2,0",
    ),
    "GNU link of 2 MB": (
        entry("././@LongLink", b"a" * 2_000_000, b"K") + FILE + END,
        "has a header of 2,0",
    ),
    "GNU name of 2,000 bytes": (
        entry("././@LongLink", b"a" * 2000 + b"\0", b"L") + FILE + END,
        "is too long",
    ),
    "pax headers without end": (attributes(comment="x") * 5000 + FILE + END, "recursion"),
    "pax path upwards": (attributes(path="../../evil.js") + FILE + END, "leaves the bundle's"),
    "pax path with a zero byte": (attributes(path="a\0b") + FILE + END, "has a control character"),
    "pax size below 0": (attributes(size="-5") + FILE + END, "is damaged or cut"),
    "pax size of 20 digits": (attributes(size="9" * 20) + FILE + END, "bytes by itself"),
    "pax link": (
        attributes(linkpath="/etc/passwd") + entry("l", kind=b"2") + END,
        '"l" is a link to "/etc/passwd"',
    ),
    "size of 2^60": (entry("big.bin", size=2**60) + END, "has 1,152,921,504,606,846,976 bytes"),
    "GNU sparse file": (entry("hole", b"x" * 10, b"S") + END, '"hole" is a sparse file'),
    "GNU volume": (entry("v", kind=b"V") + FILE + END, '"v" is a device or pipe'),
    "GNU part of a file": (entry("m", b"1", b"M") + FILE + END, '"m" is a device or pipe'),
    "kind that nobody knows": (entry("z", b"1", b"Z") + END, '"z" is a device or pipe'),
    "name not UTF-8": (entry("\udcffk.js", b"1") + END, r'"\udcffk.js" is not UTF-8'),
    "file called a folder": (entry("a/", kind=b"0") + FILE + END, "has an empty or `.` part"),
    "file called .": (entry(".", b"1") + END, '"." has an empty or `.` part'),
    "100,000 entries": (entry("a.js") * 100_000 + END, "There are over 20,000 entries"),
    "two archives in one": (FILE + END + bytes(8192) + FILE + END, "goes on after its end at byte"),
    "text behind the end": (FILE + END + b"x", "goes on after its end at byte 1024"),
    "no end": (FILE, "is damaged or cut at byte 1024"),
    "gzip with more behind": (gzip.compress(FILE + END) + b"more", "is damaged or cut: Not a gzip"),
    "gzip in gzip": (gzip.compress(gzip.compress(FILE + END)), "is no whole tar archive"),
    "xz": (lzma.compress(FILE + END), "Make it again, plain or with gzip"),
    "bzip2": (bz2.compress(FILE + END), "Make it again, plain or with gzip"),
    "Kelvin and K": (entry("K.js") + entry("\u212a.js") + END, "are one name on some phones"),
    "ligature": (entry("fi.js") + entry("\ufb01.js") + END, "are one name on some phones"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_tarball_is_refused(tmp_path: Path, kind: str) -> None:
    """Each kind gets a sentence of its own with a mend, for little work; nothing is written."""
    data, message = HOSTILE[kind]
    (tmp_path / "x.tgz").write_bytes(data)
    began = time.process_time()
    with pytest.raises(PackError) as refused:
        pack(tmp_path / "x.tgz", tmp_path / "out.zip")
    assert time.process_time() - began < 20
    assert any(message in fault for fault in refused.value.faults), refused.value.faults
    assert all(fault.endswith(".") for fault in refused.value.faults)
    assert [path.name for path in tmp_path.iterdir()] == ["x.tgz"]


def test_what_other_tools_add_is_taken(tmp_path: Path) -> None:
    """Long pax headers, several gzip members and zeros behind the end are ordinary."""
    for data in (
        attributes(comment="x" * 900_000) + FILE + END,
        gzip.compress(FILE) + gzip.compress(END),
        gzip.compress(FILE + END) + bytes(100),
        FILE + END + bytes(9216),
    ):
        (tmp_path / "x.tgz").write_bytes(data)
        assert pack(tmp_path / "x.tgz", tmp_path / "out.zip").entries == 1


def test_a_huge_tar_is_refused_unread(tmp_path: Path) -> None:
    """A plain tar over the limit of a whole bundle is refused by its size."""
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(FILE)
        file.truncate(members.MOST_BYTES * 2)
    with pytest.raises(PackError, match="holds over 536,870,912 bytes"):
        pack(tmp_path / "x.tar", tmp_path / "out.zip")


def test_the_source_is_not_overwritten(tmp_path: Path) -> None:
    """A package named as its own tarball is refused, by that name and by another."""
    source = tmp_path / "x.tgz"
    source.write_bytes(FILE + END)
    (tmp_path / "link.tgz").symlink_to(source)
    for target in (source, tmp_path / "link.tgz"):
        with pytest.raises(PackError, match="is what is packed"):
            pack(source, target)
    assert source.read_bytes() == FILE + END


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path) -> None:
    """Counting ends at the limit, whatever the folder holds."""
    root = tmp_path / "in"
    root.mkdir()
    (tmp_path / "a.js").write_bytes(b"1")
    for number in range(members.MOST_ENTRIES + 1):
        os.link(tmp_path / "a.js", root / f"{number}.js")  # cheaper than a file, and counted alike
    with pytest.raises(PackError, match="over 20,000 entries"):
        pack(root, tmp_path / "out.zip")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can try it as somebody else")
@pytest.mark.parametrize("hidden", ["in/a.js", "in/sub"])
def test_what_may_not_be_read_is_named(hidden: str) -> None:
    """A file or folder without the right to read it is named; no package is left."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "in/sub").mkdir(parents=True)
        (root / "in/a.js").write_bytes(b"1")
        root.chmod(0o777)
        (root / hidden).chmod(0)
        os.seteuid(65534)
        try:
            with pytest.raises(PackError, match=f"{hidden} cannot be read: Permission denied"):
                pack(root / "in", root / "out.zip")
        finally:
            os.seteuid(0)
        assert [path.name for path in root.iterdir()] == ["in"]
