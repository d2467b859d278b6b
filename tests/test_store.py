"""The store: whole objects or none, blobs under their own SHA-256, sentences for failures."""

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from compiler.storage.parallel import WINDOW
from compiler.storage.store import Store, open_store
from compiler.storage.store_failure import cause
from gateway.errors import FormatError, StoreError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Open an empty store in a folder of its own."""
    return open_store(str(tmp_path / "store"))


def blob_file(store: Store, digest: bytes) -> Path:
    """Find a blob's file, whose place is part of the contract."""
    return Path(store.name) / "blobs" / digest.hex()[:2] / digest.hex()


def test_a_blob_lies_under_its_sha256(store: Store) -> None:
    """A blob's digest is its SHA-256, its path says so, and it reads back the same."""
    digest = store.put_blob(b"tide")
    assert digest == hashlib.sha256(b"tide").digest()
    assert blob_file(store, digest).read_bytes() == b"tide"
    assert store.get_blob(digest) == b"tide"
    assert store.has_blob(digest)
    assert not store.has_blob(bytes(32))


def test_a_blob_that_is_there_is_not_rewritten(store: Store) -> None:
    """Putting the same blob again leaves its file alone."""
    digest = store.put_blob(b"tide")
    os.utime(blob_file(store, digest), (1, 1))
    store.put_blob(b"tide")
    assert blob_file(store, digest).stat().st_mtime == 1


def test_a_blob_cut_by_a_power_cut_is_written_again(store: Store) -> None:
    """A blob of another size than its bytes' is no blob that is there already."""
    digest = store.put_blob(b"tide")
    blob_file(store, digest).write_bytes(b"ti")
    store.put_blob(b"tide")
    assert store.get_blob(digest) == b"tide"


@pytest.mark.parametrize("at", [0, 1, 999])
def test_a_flipped_byte_is_never_given(store: Store, at: int) -> None:
    """A damaged blob is a FormatError that names the object."""
    digest = store.put_blob(bytes(1000))
    damaged = bytearray(1000)
    damaged[at] = 1
    blob_file(store, digest).write_bytes(damaged)
    with pytest.raises(FormatError, match=rf"{digest.hex()}.* is damaged"):
        store.get_blob(digest)


def test_a_missing_blob_is_named(store: Store) -> None:
    """A missing blob is a StoreError that names the object and the store."""
    with pytest.raises(StoreError, match=rf'{store.name} lacks "blobs/00/{"00" * 32}"'):
        store.get_blob(bytes(32))


def test_thousands_of_blobs_are_put_in_parallel(store: Store) -> None:
    """Many blobs go in and out; progress hears of each once; only new ones count as new."""
    blobs = {hashlib.sha256(data).digest(): data for data in (b"%d" % n for n in range(2000))}
    sizes: list[int] = []
    assert store.put_blobs(blobs.items(), sizes.append) == len(blobs)
    assert sorted(sizes) == sorted(len(data) for data in blobs.values())
    extra = hashlib.sha256(b"new").digest()
    sizes.clear()
    assert store.put_blobs([*blobs.items(), (extra, b"new")], sizes.append) == 1
    assert (len(sizes), sum(sizes)) == (2001, 3)
    assert dict(store.get_blobs(blobs)) == blobs
    assert store.has_blobs([*blobs, bytes(32)]) == set(blobs)
    assert {(blob.digest, blob.size) for blob in store.list_blobs()} == {
        *((digest, len(data)) for digest, data in blobs.items()),
        (extra, 3),
    }
    store.delete_blobs([*blobs, bytes(32)])
    assert [blob.digest for blob in store.list_blobs()] == [extra]


def test_a_stream_of_blobs_is_not_held_in_memory(store: Store) -> None:
    """No more than a window of blobs is taken before the first ones are finished."""
    taken, most = 0, 0

    def stream() -> Iterator[tuple[bytes, bytes]]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield hashlib.sha256(b"%d" % number).digest(), b"%d" % number

    def progress(_size: int) -> None:
        nonlocal most, done
        done += 1
        most = max(most, taken - done)

    done = 0
    store.put_blobs(stream(), progress)
    assert done == 200
    assert most <= WINDOW


def test_large_blobs_are_put_one_by_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of large blobs is never held beyond the one that is being put, and all is kept."""
    monkeypatch.setattr("compiler.storage.store._LARGE_BYTES", 100)
    blobs = [b"%d" % number * (100 if number % 2 else 1) for number in range(40)]
    held: list[int] = []
    taken = 0

    def stream() -> Iterator[tuple[bytes, bytes]]:
        nonlocal taken
        for blob in blobs:
            taken += len(blob) >= 100
            yield hashlib.sha256(blob).digest(), blob

    def progress(size: int) -> None:
        if size >= 100:
            held.append(taken - len(held))

    assert store.put_blobs(stream(), progress) == len(blobs)
    assert held == [1] * 20
    assert store.has_blobs(hashlib.sha256(blob).digest() for blob in blobs) == {
        hashlib.sha256(blob).digest() for blob in blobs
    }


def test_an_error_in_one_of_many_blobs_is_raised(store: Store) -> None:
    """When one of many puts fails, the caller hears of it as of a single one."""
    data = b"tide"
    digest = hashlib.sha256(data).digest()
    (Path(store.name) / "blobs").mkdir()
    (Path(store.name) / "blobs" / digest.hex()[:2]).write_bytes(b"a file in the way")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        store.put_blobs([(digest, data)])


def test_a_listing_tells_when_a_blob_was_written(store: Store) -> None:
    """The time in a listing is the write's, in UTC, so that gc can spare what is young."""
    store.put_blob(b"tide")
    (blob,) = store.list_blobs()
    assert abs(datetime.now(UTC) - blob.last_modified) < timedelta(minutes=1)


def test_foreign_files_among_the_blobs_are_passed_over(store: Store) -> None:
    """A list of blobs holds blobs alone, each in its own folder."""
    digest = store.put_blob(b"tide")
    folder = blob_file(store, digest).parent
    (folder / "notes.txt").write_bytes(b"x")
    (folder / ("0" * 64)).write_bytes(b"in the wrong folder")
    (folder / f"{digest.hex()}#1").write_bytes(b"left by a kill")
    assert [blob.digest for blob in store.list_blobs()] == [digest]


def test_create_named_never_overwrites(store: Store) -> None:
    """Of two creations of one name the second changes nothing and says so."""
    assert store.create_named("epochs/1.json", b"first")
    assert not store.create_named("epochs/1.json", b"second")
    assert store.get_named("epochs/1.json") == b"first"


def test_create_named_has_one_winner(store: Store) -> None:
    """Of many creations of one name at once exactly one wins, and its bytes stay."""
    for turn in range(20):
        with ThreadPoolExecutor(8) as pool:
            won = list(
                pool.map(lambda n, t=turn: store.create_named(f"race/{t}", b"%d" % n), range(8))
            )
        assert won.count(True) == 1
        assert store.get_named(f"race/{turn}") == b"%d" % won.index(True)


@pytest.fixture(params=["folder", "bucket"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Open an empty store in a folder, or one that has conditional puts as buckets have."""
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    return Store(MemoryStore(), "memory")


def test_swap_named_replaces_what_was_read(either: Store) -> None:
    """An object is replaced only if its bytes are those expected; `None` expects none."""
    assert not either.swap_named("lists/a.json", b"1", b"2")
    assert either.swap_named("lists/a.json", None, b"1")
    assert not either.swap_named("lists/a.json", None, b"2")
    assert not either.swap_named("lists/a.json", b"0", b"2")
    assert either.get_named("lists/a.json") == b"1"
    assert either.swap_named("lists/a.json", b"1", b"2")
    assert either.get_named("lists/a.json") == b"2"
    assert either.list_named() == ["lists/a.json"]


def test_swap_named_has_one_winner(either: Store) -> None:
    """Of many who replace the same bytes at once exactly one wins, and its bytes stay."""
    either.put_named("race", b"")
    before = b""
    for turn in range(20):
        with ThreadPoolExecutor(8) as pool:
            texts = [b"%d.%d" % (turn, number) for number in range(8)]
            won = list(
                pool.map(lambda text, old=before: either.swap_named("race", old, text), texts)
            )
        assert won.count(True) == 1
        before = texts[won.index(True)]
        assert either.get_named("race") == before


def test_a_swap_that_was_asked_for_twice_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A put that obstore repeats, as the answer was lost, is refused the second time; it is done.

    Somebody else's bytes are still no success, and a creation still has one winner by name.
    """
    store, put = Store(MemoryStore(), "memory"), obstore.put

    def put_twice(*given: Any, **named: Any) -> object:
        put(*given, **named)
        return put(*given, **named)

    monkeypatch.setattr(obstore, "put", put_twice)
    assert store.swap_named("lists/a", None, b"1")
    assert store.swap_named("lists/a", b"1", b"2")
    assert store.get_named("lists/a") == b"2"
    assert not store.create_named("lists/b", b"1")

    def put_late(*given: Any, **named: Any) -> object:
        put(store._backend, "lists/a", b"theirs", use_multipart=False)
        return put(*given, **named)

    monkeypatch.setattr(obstore, "put", put_late)
    assert not store.swap_named("lists/a", b"2", b"3")
    assert not store.swap_named("lists/a", None, b"3")
    assert store.get_named("lists/a") == b"theirs"


def test_an_object_in_place_of_a_folder_is_absent(store: Store) -> None:
    """As in a bucket, no object is at a folder's name or below an object's name."""
    store.put_named("a/b", b"1")
    for name in ("a", "a/b/c", "a/x"):
        assert store.get_named(name) is None
        assert store.digest_named(name) is None
        store.delete_named(name)
    assert store.list_named() == ["a/b"]


def test_a_large_file_is_put_and_measured(store: Store, tmp_path: Path) -> None:
    """A file of several parts arrives whole, and its digest is read back from the store."""
    data = random.Random(1).randbytes(12_000_000)
    source = tmp_path / "large"
    source.write_bytes(data)
    store.put_file("files/large.zip", source)
    found = store.digest_named("files/large.zip")
    assert found == (len(data), hashlib.sha256(data).digest())


@pytest.mark.parametrize(
    "name",
    [
        *("", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/./b", "a\\b", "a b", "a\nb"),
        *("a\0b", "é", "a#1", "a%2e", "blobs/aa/x", "blobs", "a" * 201, "a/" * 600 + "a"),
    ],
)
def test_names_that_could_escape_are_refused(store: Store, name: str) -> None:
    """No name leaves the store, reaches a blob, or means different things in two backends."""
    for call in (
        lambda: store.put_named(name, b""),
        lambda: store.create_named(name, b""),
        lambda: store.swap_named(name, b"", b""),
        lambda: store.get_named(name),
        lambda: store.delete_named(name),
        lambda: store.digest_named(name),
    ):
        with pytest.raises(StoreError, match="is no name for an object"):
            call()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("https://me:secret@example.com", "^No store can be at https://. Give a folder, or s3://"),
        ("S3://bucket", "^No store can be at S3://"),
        ("s3://", "names no bucket. Write s3://BUCKET/PREFIX"),
        ("s3:///x", "names no bucket"),
        ("gs://b%2e/x", "names no bucket"),
        ("s3://bucket/a//b", "is no place for a store"),
        ("s3://bucket/../b", "is no place for a store"),
        ("s3://bucket/a b", "is no place for a store"),
        ("s3://bucket/a?region=x", "is no place for a store"),
        ("s3://key:secret@bucket", "^A store's URL holds no credentials. Set AWS_ACCESS_KEY_ID"),
        (
            "az://box",
            "^The store az://box cannot be opened: there are no credentials. Set AZURE_ST",
        ),
        ("file://host/x", "names no folder"),
        ("file://", "names no folder"),
        ("", "No store is named"),
        ("  ", "No store is named"),
        ("/dev/null/x", "cannot be opened"),
        ("/dev/null", "cannot be opened"),
    ],
)
def test_a_store_that_cannot_be_opened_says_what_is_supported(where: str, message: str) -> None:
    """Whatever is no usable folder is a StoreError with a mend."""
    with pytest.raises(StoreError, match=message):
        open_store(where)


def test_a_folder_and_its_url_are_one_store(tmp_path: Path) -> None:
    """A path, a relative path and a file:// URL with escapes open the same folder."""
    folder = tmp_path / "my store"
    open_store(str(folder)).put_named("x", b"1")
    assert open_store("file://" + str(folder).replace(" ", "%20")).get_named("x") == b"1"
    assert open_store(os.path.relpath(folder)).get_named("x") == b"1"


def test_a_mistyped_store_is_not_created_for_reading(tmp_path: Path) -> None:
    """Opening for reading makes no folder, and says which one is missing."""
    with pytest.raises(StoreError, match=f"There is no store at {tmp_path}/typo"):
        open_store(str(tmp_path / "typo"), create=False)
    assert not (tmp_path / "typo").exists()


# What obstore said on a full disk and a read-only one; a test cannot fill the machine's.
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Unable to copy data to file: No space left on device (os error 28)", "disk is full"),
        ("Unable to create dir /s/x: Read-only file system (os error 30)", "mounted read-only"),
        ("Unable to open file /s/x#1: Permission denied (os error 13)", "permission is denied"),
        ("Something new\n\nDebug source:\nGeneric {", "^Something new. Check that the store"),
    ],
)
def test_a_cause_is_a_sentence_with_a_mend(text: str, sentence: str) -> None:
    """The backend's errors become short sentences without its inner structures."""
    with pytest.raises(StoreError, match=sentence):
        raise StoreError(cause(GenericError(text)))


def test_no_permission_is_said_plainly(tmp_path: Path) -> None:
    """A store that this user may not write to names the object and the right that is missing."""
    script = f"""
import os
from compiler.storage.store import open_store
store = open_store({str(tmp_path / "store")!r})
os.chmod({str(tmp_path / "store")!r}, 0o500)
if os.geteuid() == 0:
    os.seteuid(65534)
store.put_named("a/b", b"1")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert 'could not write "a/b": permission is denied. Give this user' in last


WRITER = """
import hashlib, os, sys
from pathlib import Path
from compiler.storage.store import open_store
store = open_store(sys.argv[1])
payloads = [os.urandom(8_000_000) for _ in range(3)]
objects = [hashlib.sha256(data).digest() + data for data in payloads]
source = Path(sys.argv[1] + ".file")
source.write_bytes(objects[0])
while True:
    for number, data in enumerate(objects):
        store.put_named("head", data)
        store.create_named(f"new/{os.getpid()}.{number}.{os.urandom(4).hex()}", data)
        print("ready", flush=True)
        store.put_file("file", source)
        store.put_blob(data)
        store.delete_blobs([hashlib.sha256(data).digest()])
"""


def test_a_kill_at_any_instant_leaves_no_half_object(tmp_path: Path) -> None:
    """Whenever a writer is killed, every object that can be seen is whole."""
    where = str(tmp_path / "store")
    delays = random.Random(7)
    seen = 0
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, where], cwd=ROOT, stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(delays.uniform(0.005, 0.06))
            writer.kill()
        store = open_store(where)
        for name in store.list_named():
            data = store.get_named(name)
            assert data is not None
            assert data[:32] == hashlib.sha256(data[32:]).digest(), name
            seen += 1
            if name.startswith("new/"):
                store.delete_named(name)
        for blob in list(store.list_blobs()):
            assert len(store.get_blob(blob.digest)) == blob.size == 8_000_032
            seen += 1
    assert seen >= 2 * 8
    assert open_store(where).create_named("new/after", b"x")


NAMES = ["a", "b/c", "b/d", "files/aa/x.zip", "epochs/1.json"]
DATA = st.binary(max_size=40)


class StoreModel(RuleBasedStateMachine):
    """A store behaves as two dicts: of blobs by digest, and of named objects."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = open_store(self.folder.name)
        self.blobs: dict[bytes, bytes] = {}
        self.named: dict[str, bytes] = {}

    @rule(data=DATA)
    def put_blob(self, data: bytes) -> None:
        """Put one blob."""
        self.blobs[self.store.put_blob(data)] = data

    @rule(many=st.lists(DATA, max_size=5, unique=True))
    def put_blobs(self, many: list[bytes]) -> None:
        """Put several blobs; those not there before are new."""
        pairs = {hashlib.sha256(data).digest(): data for data in many}
        assert self.store.put_blobs(pairs.items()) == len(pairs.keys() - self.blobs.keys())
        self.blobs |= pairs

    @rule(data=DATA)
    def delete_blob(self, data: bytes) -> None:
        """Delete blobs, there or not."""
        digest = hashlib.sha256(data).digest()
        gone = [digest, *list(self.blobs)[:1]]
        self.store.delete_blobs(gone)
        for one in gone:
            self.blobs.pop(one, None)

    @rule(name=st.sampled_from(NAMES), data=DATA)
    def put_named(self, name: str, data: bytes) -> None:
        """Write in place of what was there."""
        self.store.put_named(name, data)
        self.named[name] = data

    @rule(name=st.sampled_from(NAMES), data=DATA)
    def create_named(self, name: str, data: bytes) -> None:
        """Write only where nothing is."""
        assert self.store.create_named(name, data) == (name not in self.named)
        self.named.setdefault(name, data)

    @rule(name=st.sampled_from(NAMES))
    def delete_named(self, name: str) -> None:
        """Delete, there or not."""
        self.store.delete_named(name)
        self.named.pop(name, None)

    @rule()
    def reopen(self) -> None:
        """Forget everything but the folder."""
        self.store = open_store(self.folder.name)

    @invariant()
    def agrees(self) -> None:
        """Every reading method tells what the dicts tell."""
        sizes = {digest: len(data) for digest, data in self.blobs.items()}
        assert {blob.digest: blob.size for blob in self.store.list_blobs()} == sizes
        assert all(self.store.get_blob(digest) == data for digest, data in self.blobs.items())
        assert self.store.list_named() == sorted(self.named)
        assert self.store.list_named("b") == sorted(n for n in self.named if n.startswith("b/"))
        assert {name: self.store.get_named(name) for name in NAMES} == {
            name: self.named.get(name) for name in NAMES
        }

    def teardown(self) -> None:
        """Remove the folder."""
        self.folder.cleanup()


TestStoreModel = StoreModel.TestCase
TestStoreModel.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
