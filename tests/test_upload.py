"""Upload: a file under its own SHA-256, one record a version, and bytes that never change."""

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from compiler.language.draft import RecordDraft
from compiler.language.faults import Faults
from compiler.language.package_record import RECORD, written_record
from compiler.language.tree import parse
from compiler.packaging.archive import pack
from compiler.packaging.record_file import write_record
from compiler.packaging.upload import Uploaded, upload
from compiler.packaging.upload_fault import UploadError, UploadRefusedError
from compiler.storage.store import Digest, Store, open_store
from gateway.errors import StoreError

APP = "2021000000000001"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Open an empty store."""
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """Make an empty plan's folder."""
    (tmp_path / "plan").mkdir()
    return tmp_path / "plan"


def unzstd(data: bytes) -> bytes:
    """Open a zstd frame."""
    return zstandard.decompress(data)


def miniapp(
    at: Path, version: str = "1.0.0.2", app: str = APP, text: str = "", code: int | None = None
) -> Path:
    """Pack a small MiniApp; its version.code, unless given, rises with a version of digits."""
    digits = "".join(char for char in version if char.isdigit())
    root = at / f"in-{version}-{app}-{text[:9]}"
    (root / "pages").mkdir(parents=True, exist_ok=True)
    manifest = {
        "app_id": app,
        "name": "Coffee",
        "icons": [{"src": "icon.png"}],
        "pages": ["pages/index"],
        "platform_version": {"min_code": 1},
        "version": {"code": int(digits) if code is None else code, "name": version},
    }
    (root / "manifest.json").write_text(json.dumps(manifest))
    for name in ("app.js", "app.css", "pages/index.js"):
        (root / name).write_text(text)
    return pack(root, at / f"{root.name}.zip").path


def blob(at: Path, name: str = "bundle.js", data: bytes = b"x") -> Path:
    """Write a file that is no ZIP."""
    (at / name).write_bytes(data)
    return at / name


def send(package: Path, plan: Path, store: Store, /, **changed: Any) -> Uploaded:
    """Upload with the usual app and version, or others."""
    usual = {"app": APP, "version": None, "plan": plan, "store": store}
    return upload(package, **(usual | changed))


def test_the_record_is_as_documented(tmp_path: Path, plan: Path, store: Store) -> None:
    """The record has the documented members, sorted, indented, with a final newline."""
    package = miniapp(tmp_path, text="tide " * 200)
    data = package.read_bytes()
    done = send(package, plan, store)
    sha256 = hashlib.sha256(data).hexdigest()
    path = f"files/{sha256[:2]}/{sha256}.zip"
    text = (plan / "packages" / APP / "1.0.0.2.json").read_text()
    forms = [{"compression": "identity", "size": len(data), "sha256": sha256, "path": path}]
    for compression, suffix, opened in (("gzip", "gz", gzip.decompress), ("zstd", "zst", unzstd)):
        (there,) = [name for name in store.list_named("files") if name.endswith(suffix)]
        form = store.get_named(there)
        assert form is not None
        assert opened(form) == data
        name = hashlib.sha256(form).hexdigest()
        assert there == f"files/{name[:2]}/{name}.zip.{suffix}"
        forms.append({"compression": compression, "size": len(form), "sha256": name, "path": there})
    value = {
        "code": 1002,
        "format": 1,
        "size": len(data),
        "sha256": sha256,
        "forms": forms,
        "signatures": [],
    }
    assert text == json.dumps(value, indent=2, sort_keys=True) + "\n"
    assert store.get_named(path) == data
    assert (done.path, done.size, done.sha256, done.version) == (path, len(data), sha256, "1.0.0.2")
    assert (done.recorded, done.stored) == (True, True)
    assert f"commit {done.record} with the plan" in done.message


def test_the_same_again_changes_nothing(tmp_path: Path, plan: Path, store: Store) -> None:
    """A second upload of the same bytes leaves the record and the file alone, and says so."""
    package = miniapp(tmp_path)
    first = send(package, plan, store)
    before = first.record.stat().st_mtime_ns
    again = send(package, plan, store, version="1.0.0.2")
    assert (again.recorded, again.stored) == (False, False)
    assert again.message.endswith("with the same bytes: nothing changed.")
    assert again.record.stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["other", "1234"])
def test_other_bytes_of_a_version_are_refused(
    tmp_path: Path, plan: Path, store: Store, text: str
) -> None:
    """A version that has a record keeps its bytes, also against others of the same size."""
    first = send(miniapp(tmp_path, text="abcd"), plan, store)
    before, objects = first.record.read_bytes(), store.list_named()
    with pytest.raises(UploadRefusedError, match=r"a version's bytes never change\. Pack a new"):
        send(miniapp(tmp_path, text=text), plan, store)
    assert first.record.read_bytes() == before
    assert store.list_named() == objects


@pytest.mark.parametrize("version", ["1.0", "01.0.0.0", "1.0.0+build", "1"])
def test_an_equal_version_is_the_same_version(
    tmp_path: Path, plan: Path, store: Store, version: str
) -> None:
    """Another spelling of a recorded version is refused, also with the same bytes."""
    send(blob(tmp_path), plan, store, version="1.0.0")
    with pytest.raises(UploadRefusedError, match=r"equals 1\.0\.0, which has its record"):
        send(blob(tmp_path), plan, store, version=version)
    send(blob(tmp_path), plan, store, version="1.0.1")
    send(blob(tmp_path), plan, store, version="1.0.0-rc")


def test_another_store_gets_the_file_too(tmp_path: Path, plan: Path, store: Store) -> None:
    """A recorded version goes into a second store, and its record stays, signatures and all."""
    package = miniapp(tmp_path)
    record = send(package, plan, store).record
    signed = json.loads(record.read_text()) | {"signatures": ["a.b.c"]}
    record.write_text(json.dumps(signed))
    other = open_store(str(tmp_path / "other"))
    done = send(package, plan, other)
    assert (done.recorded, done.stored) == (False, True)
    assert "its file is in this store now" in done.message
    assert other.get_named(done.path) == package.read_bytes()
    assert json.loads(record.read_text()) == signed


def test_a_damaged_file_in_the_store_is_mended(tmp_path: Path, plan: Path, store: Store) -> None:
    """An upload reads the store back, and writes again what is not as it was sent."""
    package = miniapp(tmp_path)
    done = send(package, plan, store)
    data = bytearray(package.read_bytes())
    data[50] ^= 1
    store.put_named(done.path, bytes(data))
    assert send(package, plan, store).stored
    assert store.get_named(done.path) == package.read_bytes()


def test_a_store_that_lies_is_found_out(
    tmp_path: Path, plan: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the store gives back other bytes than were sent, no record is written."""
    monkeypatch.setattr(store, "digest_named", lambda _path: Digest(3, bytes(32)), raising=True)
    with pytest.raises(StoreError, match="did not keep"):
        send(miniapp(tmp_path), plan, store)
    assert not list(plan.rglob("*.json"))


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.js", ".js"),
        ("a.tar.gz", ".tar.gz"),
        ("a.TGZ", ".tgz"),
        ("vant-1.11.0", ".bin"),
        ("bundle", ".bin"),
        ("a.;rm", ".bin"),
    ],
)
def test_other_files_keep_their_extension(
    tmp_path: Path, plan: Path, store: Store, name: str, suffix: str
) -> None:
    """A file that is no ZIP keeps a plain extension; a strange one becomes .bin."""
    done = send(blob(tmp_path, name), plan, store, version="1.0")
    assert done.path.endswith(f"{done.sha256}{suffix}")
    assert store.get_named(done.path) == b"x"


def test_a_zip_is_known_by_its_bytes(tmp_path: Path, plan: Path, store: Store) -> None:
    """A package whose file is called otherwise is still a .zip in the store."""
    package = miniapp(tmp_path).rename(tmp_path / "coffee.ma")
    assert send(package, plan, store).path.endswith(".zip")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"app": ""}, "is no app id"),
    ({"app": "a/b"}, "is no app id"),
    ({"app": ".."}, "is no app id"),
    ({"app": "."}, "is no app id"),
    ({"app": "a" * 65}, "is no app id"),
    ({"app": "é"}, "is no app id"),
    ({"app": "other"}, f"is a package of '{APP}', not of other"),
    ({"version": "1.0.0.3"}, r"says in its manifest that it is version '1\.0\.0\.2', not 1\.0\.0"),
    ({"version": "1.0.0.2.0"}, "says in its manifest"),
    ({"plan": Path("/dev/null/plan")}, "There is no plan at /dev/null/plan"),
]


@pytest.mark.parametrize(("changed", "message"), WRONG)
def test_a_wrong_upload_is_refused(
    tmp_path: Path, plan: Path, store: Store, changed: dict[str, Any], message: str
) -> None:
    """Each wrong argument gives its sentence and leaves plan and store untouched."""
    with pytest.raises(UploadError, match=message):
        send(miniapp(tmp_path), plan, store, **changed)
    assert store.list_named() == []
    assert list(plan.iterdir()) == []


@pytest.mark.parametrize("version", ["", "v1", "1.0.0.0.0", "../1", "1.0\n", "1-" + "a" * 200])
def test_a_version_is_a_plan_s_version(
    tmp_path: Path, plan: Path, store: Store, version: str
) -> None:
    """A version that a plan cannot write, or no file can carry, is refused."""
    with pytest.raises(UploadError, match="is no version"):
        send(blob(tmp_path), plan, store, version=version)
    assert store.list_named() == []


def test_a_bundle_needs_its_version_named(tmp_path: Path, plan: Path, store: Store) -> None:
    """A file without a manifest does not know its version."""
    with pytest.raises(UploadError, match=r"names no version\. Give it with --version"):
        send(blob(tmp_path), plan, store)


def test_a_package_is_a_file_with_bytes(tmp_path: Path, plan: Path, store: Store) -> None:
    """A missing file, a folder and an empty file are refused, each with its mend."""
    for package, message in (
        (tmp_path / "none.zip", "none.zip cannot be read: No such file"),
        (tmp_path, "is a folder. Pack it first"),
        (blob(tmp_path, "empty.js", b""), "is empty"),
        (blob(tmp_path, "fake.zip"), "is no whole ZIP"),
        (blob(tmp_path, "cut.zip", miniapp(tmp_path).read_bytes()[:-9]), "is no whole ZIP"),
    ):
        with pytest.raises(UploadError, match=message):
            send(package, plan, store, version="1.0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (b"", "is no record"),
        (b"<<<<<<< ours\n{}", "is no record"),
        (b"[]", "is no record"),
        (b"{}", "is no record"),
        (b'{"format": 2}', "has format 2, which this Tidegate does not know"),
        (b"[" * 100_000, "is no record"),
    ],
)
def test_a_broken_record_is_never_overwritten(
    tmp_path: Path, plan: Path, store: Store, change: bytes, message: str
) -> None:
    """A record that cannot be read stops the upload: it may hide other bytes."""
    package = miniapp(tmp_path)
    record = send(package, plan, store).record
    record.write_bytes(change)
    with pytest.raises(UploadError, match=message):
        send(package, plan, store)
    assert record.read_bytes() == change


@pytest.mark.parametrize(
    "change",
    [
        {"signatures": 5},
        {"signatures": [5]},
        {"signatures": "abc"},
        {"forms": [{"compression": "br", "path": "files/x", "sha256": "ab", "size": 1}]},
        {"forms": 5},
    ],
)
def test_a_record_of_strange_members_is_no_record(
    tmp_path: Path, plan: Path, store: Store, change: dict[str, Any]
) -> None:
    """Signatures are a list of texts and compressions are known, or the upload stops there."""
    package = miniapp(tmp_path)
    record = send(package, plan, store).record
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(UploadError, match="is no record of a package"):
        send(package, plan, store)


@pytest.mark.parametrize("path", ["epochs/1.json", "files/../epochs/1.json", "blobs/aa/x"])
def test_a_record_cannot_aim_an_upload(tmp_path: Path, plan: Path, store: Store, path: str) -> None:
    """A record that names another object does not make an upload write over it."""
    package = miniapp(tmp_path)
    record = send(package, plan, store).record
    value = json.loads(record.read_text())
    value["forms"][0]["path"] = path
    record.write_text(json.dumps(value))
    with pytest.raises(UploadError, match="is no place of its bytes in files/"):
        send(package, plan, store)


def test_an_unwritable_plan_is_said(tmp_path: Path, plan: Path, store: Store) -> None:
    """When the record has no place, the sentence names it; the upload can be repeated."""
    (plan / "packages").write_bytes(b"a file in the way")
    package = miniapp(tmp_path)
    with pytest.raises(UploadError, match="cannot be read: Not a directory"):
        send(package, plan, store)
    (plan / "packages").unlink()
    assert send(package, plan, store).recorded


SIGNED: list[dict[str, Any]] = [
    {},
    {"signatures": ["a-_.b.c"]},
    {"signatures": ["a.b.c", "d.e.f"], "clients": {"android": ">=10.2.0"}},
    {"clients": {"android": ">=10.2.0 <11", "ios": "=10.1.0-rc.1"}},
]


@pytest.mark.parametrize("data", [b"x", b"tide " * 200])
@pytest.mark.parametrize("signed", SIGNED)
def test_a_record_as_written_reads_the_same_both_ways(
    tmp_path: Path, plan: Path, store: Store, data: bytes, signed: dict[str, Any]
) -> None:
    """The short way to read what upload wrote says what the long way says, and takes no less."""
    sent = send(blob(tmp_path, data=data), plan, store, version="1.0")
    write_record(sent.record, json.loads(sent.record.read_text()) | signed)
    written = sent.record.read_text()
    quick = written_record(written)
    assert quick is not None
    assert len(quick.record.forms) == (3 if len(data) > 1 else 1)
    assert quick == read_slowly(written)
    for at in range(len(written)):
        changed = written[:at] + "~" + written[at + 1 :]
        found = written_record(changed)
        assert found is None or found == read_slowly(changed)
    assert written_record(written + "\n") is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"a.b.c",\n', '"a.b.c"\n'),
        ('"d.e.f"\n', '"d.e.f",\n'),
        ('>=10.2.0"', '>=10.2.0 <1"'),
        ('>=10.2.0"', '10.2.0"'),
        ('>=10.2.0"', '>=10.2.0",\n    "android": ">=9"'),
        ("files/", "elsewhere/"),
        ('"format": 1', '"format": true'),
    ],
)
def test_a_doubtful_record_is_read_the_long_way(
    tmp_path: Path, plan: Path, store: Store, old: str, new: str
) -> None:
    """What may be a fault is left to the tree, which knows where it stands and what to say."""
    sent = send(miniapp(tmp_path, text="tide " * 200), plan, store)
    write_record(sent.record, json.loads(sent.record.read_text()) | SIGNED[2])
    written = sent.record.read_text()
    assert old in written
    assert written_record(written.replace(old, new, 1)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"clients": []},
        {"clients": "x"},
        {"clients": None},
        {"clients": {"android": 5}},
        {"signatures": "abc"},
        {"signatures": {"abc": 1}},
        {"format": True},
    ],
)
def test_a_member_of_another_kind_is_refused_both_ways(
    tmp_path: Path, plan: Path, store: Store, change: dict[str, Any]
) -> None:
    """The short way declines it, and the long way says what is wrong."""
    sent = send(blob(tmp_path), plan, store, version="1.0")
    write_record(sent.record, json.loads(sent.record.read_text()) | change)
    assert written_record(sent.record.read_text()) is None
    assert read_slowly(sent.record.read_text()) is None


def test_a_form_is_at_the_place_of_its_own_bytes(tmp_path: Path, plan: Path, store: Store) -> None:
    """Forms that name other bytes, or come twice, are refused by both ways to read a record."""
    sent = send(blob(tmp_path, data=b"tide " * 200), plan, store, version="1.0")
    value = json.loads(sent.record.read_text())
    whole, packed, _ = value["forms"]
    for forms in (
        [whole | {"path": packed["path"]}],
        [whole | {"path": whole["path"].replace("files/", "files/0/")}],
        [whole, packed, packed],
        [whole, packed | {"path": whole["path"]}],
    ):
        write_record(sent.record, value | {"forms": forms})
        assert written_record(sent.record.read_text()) is None
        assert read_slowly(sent.record.read_text()) is None


def test_a_file_that_changes_meanwhile_leaves_no_wrong_bytes(
    tmp_path: Path, plan: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent under a name that is not its own is taken away again."""
    package, put = blob(tmp_path), store.put_file

    def changing(path: str, source: Path, **named: Any) -> None:
        put(path, blob(tmp_path, "changed.js", b"y") if source == package else source, **named)

    monkeypatch.setattr(store, "put_file", changing)
    with pytest.raises(StoreError, match="changed meanwhile"):
        send(package, plan, store, version="1.0")
    assert store.list_named() == []
    assert not list(plan.rglob("*.json"))


def test_two_uploads_of_a_version_at_once_keep_its_bytes(
    tmp_path: Path, plan: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that ends after another of other bytes is refused, and leaves that record."""
    put, others = store.put_file, [blob(tmp_path, "other.js", b"other")]

    def meanwhile(*arguments: Any, **named: Any) -> None:
        if others:
            send(others.pop(), plan, store, version="1.0")
        put(*arguments, **named)

    monkeypatch.setattr(store, "put_file", meanwhile)
    with pytest.raises(UploadRefusedError, match="a version's bytes never change"):
        send(blob(tmp_path), plan, store, version="1.0")
    (record,) = plan.rglob("*.*")
    assert json.loads(record.read_text())["sha256"] == hashlib.sha256(b"other").hexdigest()


def read_slowly(text: str) -> RecordDraft | None:
    """Read a record as a tree; None if anything is wrong with it."""
    faults = Faults()
    node = parse("record.json", text, faults)
    found = RECORD.read(node, faults) if node is not None else None
    return None if faults.found else found
