"""Packing: one input, one archive, byte for byte; hostile and broken input refused in sentences."""

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import socket
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.packaging import members
from compiler.packaging.archive import PackError, manifest_of, pack, version_of
from compiler.packaging.miniapp import Manifest

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("TIDEGATE_REAL") or ROOT.parent / "shared" / "real")

MANIFEST = {
    "app_id": "2021000000000001",
    "name": "Coffee",
    "icons": [{"src": "common/icon.png"}],
    "pages": ["pages/index/index"],
    "platform_version": {"min_code": 1},
    "version": {"code": 2, "name": "1.0.0.2"},
}
MINIAPP = {
    "manifest.json": json.dumps(MANIFEST).encode(),
    "app.js": b"App({})",
    "app.css": b"",
    "pages/index/index.js": b"Page({})",
    "common/icon.png": b"\x89PNG",
}


def folder(root: Path, files: dict[str, bytes], order: random.Random | None = None) -> Path:
    """Write a folder, its files in the order that `order` draws."""
    names = list(files)
    if order is not None:
        order.shuffle(names)
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(files[name])
    return root


Entry = tuple[str | tarfile.TarInfo, bytes]


def tarball(path: Path, entries: list[Entry], mode: str = "w:gz") -> Path:
    """Write a tarball of the entries as they are, hostile ones too."""
    with tarfile.open(path, mode) as tar:
        for entry, data in entries:
            info = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            if info.isreg():
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def special(name: str, kind: bytes, link: str = "") -> Entry:
    """Make a tar entry that is no file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


def faults(source: Path, target: Path, **options: str) -> tuple[str, ...]:
    """Pack what must be refused; give the sentences, having seen that nothing was written."""
    with pytest.raises(PackError) as caught:
        pack(source, target, **options)
    assert not target.exists()
    assert not list(target.parent.glob(".*.tmp"))
    assert str(caught.value)
    return caught.value.faults


# Determinism


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """Order, times, modes, umask, empty folders and the kind of source leave no trace."""
    expected = pack(folder(tmp_path / "a", MINIAPP), tmp_path / "a.zip").path.read_bytes()
    old = os.umask(0o077)
    try:
        other = folder(tmp_path / "b", MINIAPP, random.Random(3))
    finally:
        os.umask(old)
    for number, file in enumerate(sorted(other.rglob("*"))):
        os.utime(file, (number * 86_400, number * 86_400))
        file.chmod(0o755)
    (other / "empty").mkdir()
    (tmp_path / "link").symlink_to(other)
    entries: list[Entry] = [(f"package/{name}", data) for name, data in reversed(MINIAPP.items())]
    dotted: list[Entry] = [(f"./{name}", data) for name, data in MINIAPP.items()]
    for source in (
        other,
        tmp_path / "link",
        tarball(tmp_path / "npm.tgz", entries),
        tarball(tmp_path / "plain.tar", entries, "w"),
        tarball(tmp_path / "dots.tar.gz", [special(".", tarfile.DIRTYPE), *dotted]),
    ):
        assert pack(source, tmp_path / "b.zip").path.read_bytes() == expected, source


def test_the_bytes_are_pinned(tmp_path: Path) -> None:
    """A package's bytes are those of the day when the format was fixed, on every Python."""
    files = {"b/ä.txt": b"tide", "a.txt": b"", "B.txt": b"gate", "a.js": b"1", "lib/z.css": b"2"}
    packed = pack(folder(tmp_path / "in", files), tmp_path / "out.zip")
    assert packed.sha256 == "858bedb9fcb438c6c73db5ca4c1ea2aeefd20aa12335f69395a3c8260267db67"
    assert packed.size == len(packed.path.read_bytes())


def test_entries_are_stored_and_plain(tmp_path: Path) -> None:
    """Python's own reader sees stored entries, of 1980, 0644, UTF-8, ZIP 2.0."""
    files = {**MINIAPP, "common/日本.txt": b"x" * 5000, "Z.js": b"", "a.js": b"1"}
    packed = pack(folder(tmp_path / "in", files), tmp_path / "out.zip")
    with zipfile.ZipFile(packed.path) as archive:
        assert archive.testzip() is None
        infos = archive.infolist()
        assert {info.filename: archive.read(info) for info in infos} == files
        assert archive.comment == b""
    for info in infos:
        assert info.compress_type == zipfile.ZIP_STORED
        assert info.date_time == (1980, 1, 1, 0, 0, 0)
        assert info.external_attr >> 16 == 0o100644
        assert info.flag_bits == 0x800
        assert (info.create_system, info.create_version, info.extract_version) == (3, 20, 20)
        assert info.extra == b""
    assert packed.entries == len(files)
    assert packed.sha256 == hashlib.sha256(packed.path.read_bytes()).hexdigest()
    assert (packed.kind, packed.app, packed.version) == ("miniapp", MANIFEST["app_id"], "1.0.0.2")


def test_entries_stand_in_the_order_that_travels_best(tmp_path: Path) -> None:
    """Scripts are last; before that, files of one kind are together, the shorter names first."""
    expected = [
        *("ä", "LICENSE", "a/a.css", "long/b.css", "z.d.ts", "ab.json"),
        *("c.js", "z.js", "lib/a.js", "a.min.js", "b.mjs"),
    ]
    source = folder(tmp_path / "in", dict.fromkeys(sorted(expected), b""))
    with zipfile.ZipFile(pack(source, tmp_path / "out.zip").path) as archive:
        assert archive.namelist() == expected


@settings(max_examples=40, deadline=None)
@given(
    files=st.dictionaries(
        st.text(st.sampled_from("abé日 .-"), min_size=1, max_size=6).filter(
            lambda name: name not in {".", ".."}
        ),
        st.binary(max_size=200),
        min_size=1,
        max_size=6,
    ),
    seed=st.integers(0, 99),
)
def test_any_files_go_in_and_come_out(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], seed: int
) -> None:
    """A reader gets every file back; a tarball and a folder of the same files pack alike."""
    at = tmp_path_factory.mktemp("any")
    packed = pack(folder(at / "in", files, random.Random(seed)), at / "out.zip", kind="bundle")
    with zipfile.ZipFile(packed.path) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files
    entries: list[Entry] = [(f"top/{name}", data) for name, data in files.items()]
    again = pack(tarball(at / "in.tgz", entries), at / "again.zip", kind="bundle")
    assert again.sha256 == packed.sha256


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not installed")
def test_unzip_agrees(tmp_path: Path) -> None:
    """An independent tool finds nothing wrong, and unpacks the same bytes."""
    files = {**MINIAPP, "common/日本.txt": b"x" * 5000}
    packed = pack(folder(tmp_path / "in", files), tmp_path / "out.zip")
    subprocess.run(["unzip", "-tqq", packed.path], check=True)
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    subprocess.run(
        ["unzip", "-qq", packed.path, "-d", tmp_path / "back"], check=True, env=environment
    )
    for name, data in files.items():
        assert (tmp_path / "back" / name).read_bytes() == data


@pytest.mark.skipif(not REAL.is_dir(), reason="the real bundles are not beside the checkout")
@pytest.mark.parametrize("version", ["1.11.0", "1.11.6", "1.11.7"])
def test_real_bundles_are_packed(tmp_path: Path, version: str) -> None:
    """A published npm tarball packs to the files it holds, without its top folder."""
    source = REAL / f"vant-weapp-{version}.tgz"
    packed = pack(source, tmp_path / "out.zip")
    with tarfile.open(source) as tar, zipfile.ZipFile(packed.path) as archive:
        assert archive.testzip() is None
        expected = {
            info.name.removeprefix("package/"): tar.extractfile(info).read()
            for info in tar
            if info.isreg()
        }
        assert {name: archive.read(name) for name in archive.namelist()} == expected
    assert (packed.kind, packed.entries) == ("bundle", len(expected))
    assert packed.entries > 900


# What is refused


def one(name: str) -> Callable[[Path], Path]:
    """Make a tarball of one good file and one of this name."""
    return lambda at: tarball(at / "x.tgz", [("ok.js", b"1"), (name, b"2")])


def two(first: str, second: str) -> Callable[[Path], Path]:
    """Make a tarball of two files."""
    return lambda at: tarball(at / "x.tgz", [(first, b"1"), (second, b"2")])


def entry(item: Entry) -> Callable[[Path], Path]:
    """Make a tarball of one good file and this entry."""
    return lambda at: tarball(at / "x.tgz", [("ok.js", b"1"), item])


def raw(data: bytes) -> Callable[[Path], Path]:
    """Make a file that calls itself a tarball."""

    def write(at: Path) -> Path:
        (at / "x.tgz").write_bytes(data)
        return at / "x.tgz"

    return write


def whole(mode: str) -> bytes:
    """Give the bytes of a good tarball of three files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as tar:
        for name in ("a.js", "b.js", "c.js"):
            info = tarfile.TarInfo(name)
            info.size = 1000
            tar.addfile(info, io.BytesIO(random.Random(name).randbytes(1000)))
    return data.getvalue()


def flipped(data: bytes, at: int) -> bytes:
    """Change one byte."""
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


def linked(at: Path) -> Path:
    """Make a folder with a link out of it."""
    root = folder(at / "in", {"ok.js": b"1"})
    (root / "passwd").symlink_to("/etc/passwd")
    return root


def linked_folder(at: Path) -> Path:
    """Make a folder with a link to a folder."""
    root = folder(at / "in", {"ok.js": b"1"})
    (root / "more").symlink_to(at)
    return root


def piped(at: Path) -> Path:
    """Make a folder with a pipe, which a careless reader would wait for."""
    root = folder(at / "in", {"ok.js": b"1"})
    os.mkfifo(root / "pipe")
    return root


def misnamed(at: Path) -> Path:
    """Make a folder with a name that is not UTF-8."""
    root = folder(at / "in", {"ok.js": b"1"})
    (Path(os.fsdecode(os.fsencode(root) + b"/\xff.js"))).write_bytes(b"1")
    return root


def sparse(at: Path) -> Path:
    """Make a tarball whose one block claims to be a gigabyte."""
    info = tarfile.TarInfo("hole.bin")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1"}
    info.pax_headers |= {"GNU.sparse.size": str(1 << 30), "GNU.sparse.map": "0,1"}
    with tarfile.open(at / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    return at / "x.tar"


def zipped(at: Path) -> Path:
    """Make a ZIP where a tarball is wanted."""
    return pack(folder(at / "in", {"a.js": b"1"}), at / "x.zip").path


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "leaves upwards": (one("../evil.js"), '"../evil.js" leaves the bundle\'s folder'),
    "leaves midway": (one("a/../../evil.js"), "leaves the bundle's folder"),
    "leaves as a folder": (entry(special("../up", tarfile.DIRTYPE)), "leaves the bundle's folder"),
    "leaves after a dot": (one("./../evil.js"), "leaves the bundle's folder"),
    "leaves from the top": (
        lambda at: tarball(at / "x.tgz", [("../a.js", b"1"), ("../b.js", b"1")]),
        "leaves the bundle's folder",
    ),
    "absolute": (one("/etc/cron.d/evil"), '"/etc/cron.d/evil" is an absolute path'),
    "absolute on Windows": (one("C:/evil.js"), "is an absolute path"),
    "double slash": (one("a//b.js"), "has an empty or `.` part"),
    "dot inside": (one("a/./b.js"), "has an empty or `.` part"),
    "backslash": (one("a\\..\\b.js"), "has a backslash"),
    "newline": (one("a\nb.js"), r'"a\nb.js" has a control character'),
    "escape": (one("a\x1b[2Jb.js"), r'"a\x1b[2Jb.js" has a control character'),
    "C1 control": (one("a\x9bb.js"), r"has a control character"),
    "not UTF-8": (misnamed, r'"\udcff.js" is not UTF-8'),
    "long name": (one("é" * 128), "is too long"),
    "long path": (one("/".join(["d" * 200] * 30)), "is too long"),
    "case clash": (two("Readme.md", "README.md"), '"README.md" and "Readme.md" are one name'),
    "form clash": (two("caf\u00e9.js", "cafe\u0301.js"), "are one name on some phones"),
    "folding clash": (two("straße.js", "STRASSE.js"), "are one name on some phones"),
    "folder clash": (two("Lib/a.js", "lib/b.js"), '"Lib/" and "lib/" are one name'),
    "file and folder": (two("lib", "LIB/b.js"), '"lib" is a file, and a folder has its name'),
    "twice": (two("a.js", "a.js"), '"a.js" is in the archive twice'),
    "link in a folder": (linked, '"passwd" is a symbolic link'),
    "link to a folder": (linked_folder, '"more" is a symbolic link'),
    "link in a tarball": (
        entry(special("l", tarfile.SYMTYPE, "/etc/passwd")),
        '"l" is a link to "/etc/passwd"',
    ),
    "hard link": (entry(special("h", tarfile.LNKTYPE, "ok.js")), '"h" is a link to "ok.js"'),
    "device": (entry(special("null", tarfile.CHRTYPE)), '"null" is a device or pipe'),
    "pipe": (entry(special("p", tarfile.FIFOTYPE)), '"p" is a device or pipe'),
    "pipe in a folder": (piped, '"pipe" is a pipe, socket or device'),
    "sparse": (sparse, '"hole.bin" is a sparse file'),
    "bomb": (raw(gzip.compress(bytes(50_000_000))), "it is an archive bomb"),
    "ZIP": (zipped, "is a ZIP already"),
    "empty folder": (lambda at: folder(at / "in", {}), "There is no file in it"),
    "empty tarball": (lambda at: tarball(at / "x.tgz", []), "There is no file in it"),
    "empty file": (raw(b""), "is no whole tar archive"),
    "text": (raw(b"hello"), "is no whole tar archive"),
    "long text": (raw(b"hello" * 1000), "is no whole tar archive"),
    "cut gzip": (raw(whole("w:gz")[:-30]), "is damaged or cut"),
    "flipped gzip": (raw(flipped(whole("w:gz"), 800)), "is damaged or cut"),
    "gzip of nothing": (raw(b"\x1f\x8b"), "is damaged or cut"),
    "tar cut in a header": (raw(whole("w")[: 1536 + 100]), "is damaged or cut at byte 1536"),
    "tar cut between": (raw(whole("w")[:1536]), "is damaged or cut at byte 1536"),
    "tar cut in data": (raw(whole("w")[:2500]), "is no whole tar archive"),
    "flipped header": (raw(flipped(whole("w"), 1536)), "is damaged or cut at byte 1536"),
    "missing": (lambda at: at / "none", "There is no "),
    "device as source": (lambda at: Path("/dev/null"), "is neither a folder nor a file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_input_is_refused(tmp_path: Path, case: str) -> None:
    """Each broken or hostile source gives its sentence, writes nothing, and names the mend."""
    make, message = HOSTILE[case]
    found = faults(make(tmp_path), tmp_path / "out.zip")
    assert any(message in fault for fault in found), found
    assert all(fault.endswith(".") for fault in found)


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    """One run shows every fault; a flood of them is cut for the reader, not for programs."""
    names = [f"a\\{number}.js" for number in range(150)]
    found = faults(tarball(tmp_path / "x.tgz", [(name, b"") for name in names]), tmp_path / "o.zip")
    assert len(found) == 150
    assert str(PackError(found)).endswith("\n… and 50 more.")


def test_a_socket_in_the_folder_is_refused(tmp_path: Path) -> None:
    """A socket is no file."""
    root = folder(tmp_path / "in", {"ok.js": b"1"})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "s"))
        assert '"s" is a pipe, socket or device' in faults(root, tmp_path / "out.zip")[0]


def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many entries, or too many bytes together, are refused before anything is written."""
    monkeypatch.setattr(members, "MOST_ENTRIES", 5)
    monkeypatch.setattr(members, "MOST_BYTES", 100)
    many = {f"{number}.js": b"" for number in range(6)}
    large = {"a.bin": bytes(60), "b.bin": bytes(60)}
    for number, (files, message) in enumerate(((many, "over 5 entries"), (large, "120 bytes"))):
        source = folder(tmp_path / f"in{number}", files)
        assert any(message in fault for fault in faults(source, tmp_path / "out.zip"))
        packed = tarball(tmp_path / f"in{number}.tgz", list(files.items()))
        assert any(message in fault for fault in faults(packed, tmp_path / "out.zip"))
    fitting = {f"{number}.bin": bytes(20) for number in range(5)}
    assert pack(folder(tmp_path / "fits", fitting), tmp_path / "out.zip").entries == 5


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10_239), flip=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_tarball_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, at: int, flip: int, cut: bool
) -> None:
    """Whatever byte is changed or lost, packing ends in a package or in sentences."""
    data = whole("w")
    assert len(data) == 10_240
    damaged = data[:at] if cut else data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
    where = tmp_path_factory.mktemp("damaged")
    (where / "x.tar").write_bytes(damaged)
    try:
        packed = pack(where / "x.tar", where / "out.zip")
    except PackError:
        assert not (where / "out.zip").exists()
    else:
        assert packed.entries == 3


def test_the_package_may_not_lie_in_its_own_source(tmp_path: Path) -> None:
    """A package written into the packed folder would be in the next package."""
    root = folder(tmp_path / "in", {"a.js": b"1"})
    assert "lies in the folder that is packed" in faults(root, root / "out.zip")[0]


def test_a_failed_pack_leaves_the_old_package(tmp_path: Path) -> None:
    """A package that was there stays as it was when the next one is refused or not written."""
    target = pack(folder(tmp_path / "a", {"a.js": b"1"}), tmp_path / "out.zip").path
    before = target.read_bytes()
    with pytest.raises(PackError):
        pack(folder(tmp_path / "b", {}), target)
    assert target.read_bytes() == before
    with pytest.raises(PackError, match="cannot be written"):
        pack(tmp_path / "a", target / "x.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "out.zip"]


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    """A file that grows, shrinks, vanishes or becomes a link after the listing is refused."""
    root = folder(tmp_path / "in", {"a.js": b"12345"})
    with members.open_members(root) as contents:
        (member,) = contents.members
        for data in (b"1234", b"123456"):
            (root / "a.js").write_bytes(data)
            with pytest.raises(PackError, match="changed while it was being packed"):
                member.read()
        (root / "a.js").unlink()
        with pytest.raises(PackError, match="No such file"):
            member.read()
        (root / "a.js").symlink_to("/etc/hostname")
        with pytest.raises(PackError, match="cannot be read"):
            member.read()


# What a package says of itself


def test_a_miniapp_says_its_version(tmp_path: Path) -> None:
    """The version of a package is its manifest's version.name, deflated or stored."""
    packed = pack(folder(tmp_path / "in", MINIAPP), tmp_path / "out.zip")
    assert manifest_of(packed.path) == Manifest("2021000000000001", "1.0.0.2", 2)
    assert version_of(packed.path) == "1.0.0.2"
    with zipfile.ZipFile(tmp_path / "other.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", MINIAPP["manifest.json"])
    assert version_of(tmp_path / "other.zip") == "1.0.0.2"


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\5\6" + bytes(18), b"PK\3\4" + bytes(50)])
def test_what_is_no_miniapp_says_no_version(tmp_path: Path, data: bytes) -> None:
    """A file of another kind, or a broken one, has no version of its own."""
    (tmp_path / "x").write_bytes(data)
    assert version_of(tmp_path / "x") is None


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_damaged_package_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, at: int, flip: int
) -> None:
    """Whatever byte of a package is changed, reading its version gives a text or None."""
    where = tmp_path_factory.mktemp("flip")
    with zipfile.ZipFile(where / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", MINIAPP["manifest.json"])
    data = (where / "x.zip").read_bytes()
    (where / "x.zip").write_bytes(flipped_by(data, at % len(data), flip))
    assert isinstance(version_of(where / "x.zip"), str | None)


def flipped_by(data: bytes, at: int, flip: int) -> bytes:
    """Change one byte by the given bits."""
    return data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
